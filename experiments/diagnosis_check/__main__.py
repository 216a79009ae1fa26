"""python -m experiments.diagnosis_check --config=configs/diagnosis_check.py --workdir=DIR."""

import functools
import itertools
import pathlib
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np
import xarray as xr

import gdlab
from experiments.diagnosis_check import planted
from gdlab.core.errors import InputError, shown
from gdlab.diagnosis import Diagnosis, probes
from gdlab.host.progress import Progress
from gdlab.report import Section, Table
from gdlab.study import Config, app
from gdlab.study.graded import Story, conclude

NOTHING = 'nothing found'


class Settings(Config):
  """The configuration; see configs/diagnosis_check.py."""

  planted_set: Literal['tuning', 'tuning_2', 'tuning_3', 'checking']
  only: str


def cells(given) -> list[app.Cell]:
  """One for every case of the set."""
  config = Settings.checked(given.to_dict())
  every = [*planted.cases(planted.SETTINGS[config.planted_set])]
  chosen = [case for case in every if config.only in f'{case.kind}, {case.name}']
  if not chosen:
    kinds = ', '.join(dict.fromkeys(case.kind for case in every))
    raise InputError(
      f'only must be part of a kind or a name of a case, got {shown(config.only)}; kinds: {kinds}'
    )
  return [
    app.Cell(f'{number:02}_{case.kind.replace(" ", "_")}', functools.partial(measure, case))
    for number, case in enumerate(chosen)
  ]


def measure(case: planted.Case, *, progress: Progress) -> xr.Dataset:
  """Makes the runs of a case and diagnoses them."""
  if case.unit is not None:
    unit = case.unit()
    case = case._replace(
      grid={name: [unit * value for value in values] for name, values in case.grid.items()}
    )
  result = gdlab.sweep(
    case.problem,
    case.make_algorithm,
    case.grid,
    num_steps=case.num_steps,
    seeds=case.seeds,
    eval_every=planted.EVAL_EVERY,
    probes=probes(max_examples=case.max_examples),
    # One lane at a time, so that cases with the same shapes have the same program.
    plan=gdlab.Plan(lanes_at_once=1, lanes_per_block=1, steps_per_call=2 * planted.EVAL_EVERY),
    progress=progress,
  )
  points = itertools.product(*(range(len(values)) for values in case.grid.values()))
  diagnosed = [_diagnosed(case, result, dict(zip(case.grid, point))) for point in points]
  # The programs of all cases together would use up the memory maps of one process; they are kept on disk.
  jax.clear_caches()
  expected = [cause.value for cause in (case.cause, case.also) if cause] or [NOTHING]
  causes = itertools.chain(*(found.causes for found in diagnosed))
  named = [cause.value if cause else NOTHING for cause in causes]
  return xr.Dataset(
    {'named': ('run', named), 'right': ('run', [name in expected for name in named])},
    attrs=gdlab.provenance()
    | {
      'kind': case.kind,
      'case': case.name,
      'expected': ' or '.join(expected),
      'example': str(diagnosed[0].runs[0]),
    },
  )


def _diagnosed(case: planted.Case, result: xr.Dataset, at: Mapping[str, int]) -> Diagnosis:
  """Diagnoses the runs of one point; the rate is given where it is known, as who made the runs knows it."""
  point = {name: case.grid[name][number] for name, number in at.items()}
  rate = case.schedule(point) if case.schedule else None
  one = result.isel({name: [number] for name, number in at.items()})
  return gdlab.diagnose(one, case.problem, algorithm=case.make_algorithm, rate=rate, momentum=case.momentum)


def finish(config, results: Mapping[str, xr.Dataset], workdir: pathlib.Path) -> None:
  """Writes the page and prints the two counts."""
  faulty = [result for result in results.values() if result.attrs['kind'] != 'sound']
  sound = [result for result in results.values() if result.attrs['kind'] == 'sound']
  lead = (
    f'Planted faults whose cause is named first: {_count(faulty)}. '
    f'Sound runs in which nothing is found: {_count(sound)}.',
    f'The set is {config.planted_set!r}; thresholds were set on the sets "tuning", "tuning_2" and "tuning_3".',
  )
  rows = [
    [result.attrs['kind'], result.attrs['case'], result.attrs['expected'], _count([result]), _others(result)]
    for result in results.values()
  ]
  section = Section('By case', (), '', '', Table(('kind', 'case', 'expected', 'right', 'else named'), rows))
  story = Story('Planted faults and their diagnosis', lead, [section])
  conclude(workdir, story, (), results, module='experiments.diagnosis_check')
  for row in rows:
    print('  '.join(f'{text:{width}}' for text, width in zip(row, (12, 34, 42, 7, 0))))
  print(f'Planted faults named: {_count(faulty)}. Sound runs with nothing found: {_count(sound)}.')


def _count(results: list[xr.Dataset]) -> str:
  right = np.concatenate([np.zeros(0, bool), *(result.right.values for result in results)])
  return f'{int(right.sum())} of {len(right)}'


def _others(result: xr.Dataset) -> str:
  wrong = result.named.values[~result.right.values.astype(bool)]
  return ', '.join(f'{name} ({(wrong == name).sum()})' for name in np.unique(wrong))


if __name__ == '__main__':
  gdlab.use_compilation_cache()
  app.main(cells, finish, 'configs/diagnosis_check.py')
