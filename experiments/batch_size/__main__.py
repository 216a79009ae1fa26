"""python -m experiments.batch_size --config=configs/batch_size.py --workdir=DIR."""

import functools
import pathlib

import ml_collections

from experiments.batch_size import arms, benches, checks, claims, growth, report, sharpness, steps
from experiments.batch_size import clock as clocks
from experiments.batch_size.study import Results, Study
from gdlab.study import app, graded


def cells(config: ml_collections.ConfigDict) -> list[app.Cell]:
  """The clock; of every arm its tuning and its runs; end points; steps to a target; growing batches."""
  checks.check(config)
  made = benches.benches(config)
  clean = made['clean']
  found = [app.Cell('clock', functools.partial(clocks.clock, config, clean), alone=True)]
  for bench in made.values():
    found += [cell for arm in bench.arms for cell in _arm_cells(config, bench, arm)]
  found += _step_cells(config, clean)
  return found + _growth_cells(config, made[config.growth.bench])


def _arm_cells(config, bench: benches.Bench, arm: benches.Arm) -> list[app.Cell]:
  name = f'{bench.name}_{arm.name}'
  tuning, run = (functools.partial(measure, config, bench, arm) for measure in (arms.tuning, arms.arm))
  if not arms.sharp(config, bench):
    return [
      app.Cell(f'tuning_{name}', functools.partial(tuning, None)),
      app.Cell(f'arm_{name}', functools.partial(run, None), needs=(f'tuning_{name}',)),
    ]
  needs = ('clock', f'tuning_{name}')
  ends = functools.partial(arms.end_points, config, bench, arm)
  return [
    app.Cell(f'tuning_{name}', tuning, needs=('clock',)),
    app.Cell(f'arm_{name}', run, needs=needs),
    app.Cell(f'ends_{name}', ends, needs=needs),
    app.Cell(
      f'sharpness_{name}', functools.partial(sharpness.measure, config, bench), needs=(f'ends_{name}',)
    ),
  ]


def _step_cells(config, bench: benches.Bench) -> list[app.Cell]:
  sizes, base = config.steps.batch_sizes, f'search_b{config.steps.base}'
  found = [
    app.Cell(f'search_b{size}', functools.partial(steps.tuning, config, bench, size)) for size in sizes
  ]
  found += [
    app.Cell(
      f'steps_b{size}', functools.partial(steps.arm, config, bench, size), needs=(f'search_b{size}', base)
    )
    for size in sizes
  ]
  found += [
    app.Cell(
      f'scales_b{size}', functools.partial(steps.scales, config, bench, size), needs=(f'search_b{size}',)
    )
    for size in (config.steps.base, max(sizes))
  ]
  return found + [
    app.Cell(f'adam_b{size}', functools.partial(steps.adam, config, bench, size))
    for size in config.adam.batch_sizes
  ]


def _growth_cells(config, bench: benches.Bench) -> list[app.Cell]:
  tunings = ('tuning_decay', 'tuning_growth')
  ways = {'decay': growth.decay, 'growth': growth.growth}
  searches = {'decay': growth.decay_tuning, 'growth': growth.growth_tuning}
  return [
    *(app.Cell(f'tuning_{name}', functools.partial(way, config, bench)) for name, way in searches.items()),
    *(app.Cell(name, functools.partial(way, config, bench), needs=tunings) for name, way in ways.items()),
  ]


def finish(config: ml_collections.ConfigDict, results: Results, workdir: pathlib.Path) -> None:
  """Grades the claims with both sets of seeds and writes the report of the first."""
  first, second = (Study(config, results, seed) for seed in config.first_seeds)
  findings, again = (graded.grade_all(claims.CLAIMS, study) for study in (first, second))
  graded.conclude(
    workdir,
    report.tell(first, findings),
    findings,
    results,
    module='experiments.batch_size',
    again=again,
    tables=(report.summary(first, 'clean'), report.summary(first, 'noisy')),
  )


if __name__ == '__main__':
  app.main(cells, finish, 'configs/batch_size.py')
