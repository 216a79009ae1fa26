"""A process that says what checkpoints cost a sweep, and how soon a sweep that was ended goes on."""

import contextlib
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

import gdlab
from experiments.throughput import tasks
from gdlab.host.checkpoints import Folder


class Ended(Exception):
  """In place of the end of the process."""


def build(work: Mapping[str, Any]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
  """Nothing to time from outside: the notes hold the seconds of every round with and without, and of going on."""
  _, problem = tasks.make(work)
  optimizer = optax.sgd(work['learning_rate'], momentum=tasks.MOMENTUM)
  algorithm = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(work['batch_size']), optimizer=optimizer)

  def seconds(**options: Any) -> float:
    begun = time.perf_counter()
    gdlab.run(problem, algorithm, **({'num_steps': work['num_steps'], 'seeds': work['num_lanes']} | options))
    return time.perf_counter() - begun

  with tempfile.TemporaryDirectory() as scratch:
    for folder in (None, pathlib.Path(scratch, 'warm')):  # compiles
      seconds(seeds=2, progress=False, checkpoint=folder)
    found: dict[str, list[float]] = {'without': [], 'with': []}
    for number in range(work['num_rounds']):
      folder = pathlib.Path(scratch, str(number))
      found['without'].append(seconds(progress=False))
      found['with'].append(seconds(progress=False, checkpoint=folder))
      found.setdefault('bytes', []).append(sum(file.stat().st_size for file in folder.iterdir()))
      shutil.rmtree(folder)
    found['resume'] = [_resumed(seconds, pathlib.Path(scratch, 'ended'))]
  return {}, {name: json.dumps(values) for name, values in found.items()}


def _resumed(seconds: Callable[..., float], folder: pathlib.Path) -> float:
  """Seconds from the call to the first updates that are made anew, with everything compiled anew."""

  def end(done: int, total: int) -> None:
    if done > total / 8:
      raise Ended

  try:
    seconds(checkpoint=folder, checkpoint_every=1.0, progress=end)
  except Ended:
    jax.clear_caches()
  else:
    raise RuntimeError('the sweep was not ended; raise config.saves.num_steps')
  kept = Folder(folder)
  saved = [kept.latest(name, arrays=False) for name in kept.names()]
  known = sum(each.about['lanes'] * each.step for each in saved if each is not None)
  started, first = time.perf_counter(), list[float]()

  def note(done: int, total: int) -> None:
    if done > known:
      first.append(time.perf_counter() - started)
      raise Ended

  with contextlib.suppress(Ended):
    seconds(checkpoint=folder, checkpoint_every=1.0, progress=note)
  return first[0]
