"""A study of a few seconds for the tests of how studies run: python tests/study/tiny_study.py --workdir=DIR.

STALL=name and STALL_FILE=path in the environment make the first process that comes to that cell write its id to the
file and compute for ever.
"""

import contextlib
import functools
import json
import os
import pathlib
import sys
import time

import jax
import ml_collections
import numpy as np
import optax
import xarray as xr

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # run by its path, it finds its own folder only

import gdlab
from gdlab.core.errors import InputError
from gdlab.study import app


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.num_seeds = 5
  config.fails = ''
  return config


def cells(config) -> list[app.Cell]:
  measures = {'start': start, 'runs': runs, 'tail': tail, 'last': last}
  needs = {'runs': ('start',), 'tail': ('runs',), 'last': ('start',)}
  return [
    app.Cell(name, functools.partial(_measured, measure, config), needs.get(name, ()), alone=name == 'start')
    for name, measure in measures.items()
  ]


def _measured(measure, config, *results, **options):
  if measure.__name__ == os.environ.get('STALL'):
    with contextlib.suppress(FileExistsError), open(os.environ['STALL_FILE'], 'x') as file:
      file.write(f'{os.getpid()}\n')
      file.flush()
      _compute_for_ever()
  if measure.__name__ == config.fails:
    raise InputError('this cell\nfails')
  return measure(config, *results, **options)


def _compute_for_ever():
  """A compiled loop, in which the other processes are left some of the cores."""

  def pause(x):
    time.sleep(0.02)
    return x

  def body(x):
    return jax.pure_callback(pause, jax.ShapeDtypeStruct((), np.float32), x * 0.5)

  jax.block_until_ready(jax.jit(lambda x: jax.lax.while_loop(lambda x: x >= 0, body, x))(1.0))


def start(config, progress) -> xr.Dataset:
  return xr.Dataset({'rate': ('point', [0.1, 0.2, 0.4])})


def runs(config, start: xr.Dataset, progress) -> xr.Dataset:
  problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.3, num_examples=16)
  return gdlab.sweep(
    problem,
    _sgd,
    {'learning_rate': start.rate.values.tolist()},
    num_steps=40,
    seeds=config.num_seeds,
    eval_every=20,
    progress=progress,
  ).assign_attrs(mark='kept')


def _sgd(learning_rate):
  return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.sgd(learning_rate))


def tail(config, runs: xr.Dataset, progress) -> xr.Dataset:
  return runs.train_loss.isel(step=-1).mean('seed').to_dataset(name='loss')


def last(config, start: xr.Dataset, progress) -> xr.Dataset:
  return xr.Dataset({'sum': np.sum(start.rate)})


def finish(config, results, workdir: pathlib.Path) -> None:
  with app.replacing(workdir / 'claims.json') as path:
    path.write_text(json.dumps({'loss': results['tail'].loss.values.tolist(), 'cells': list(results)}))
  print('finished')


if __name__ == '__main__':
  app.main(cells, finish, __file__)
