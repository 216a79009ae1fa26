"""python -m experiments.variants --config=configs/variants.py --workdir=DIR."""

import functools
import pathlib

import ml_collections

from experiments.variants import arms, checks, claims, exact, report, special
from experiments.variants import clock as clocks
from experiments.variants.study import Results, Study
from gdlab.study import app, graded

SPECIAL = {
  'identities': exact.identities,
  'counts': exact.counts,
  'noise': exact.noise,
  'convex': exact.convex,
  'smoothness': special.smoothness,
  'floor': special.floor,
  'stream': special.stream,
  'paths': special.paths,
}


def cells(config: ml_collections.ConfigDict) -> list[app.Cell]:
  """The clock, two cells for every arm, and the special ones."""
  checks.check(config)
  problem = arms.make_problem(config)
  checks.check_sizes(config, problem.num_examples)
  made = [app.Cell('timing', functools.partial(clocks.timing, config, problem), alone=True)]
  for size in arms.arms(config, problem.num_examples):
    tuning = functools.partial(arms.tuning, config, problem, size)
    arm = functools.partial(arms.arm, config, problem, size)
    made += [
      app.Cell(f'tuning_b{size}', tuning, needs=('timing',)),
      app.Cell(f'arm_b{size}', arm, needs=('timing', f'tuning_b{size}')),
    ]
  special_ones = [
    app.Cell(name, functools.partial(measure, config, problem)) for name, measure in SPECIAL.items()
  ]
  return made + special_ones


def finish(config: ml_collections.ConfigDict, results: Results, workdir: pathlib.Path) -> None:
  """Grades the claims and writes the report."""
  stored = Study(config, results)
  findings = graded.grade_all(claims.CLAIMS, stored)
  graded.conclude(
    workdir,
    report.tell(stored, findings),
    findings,
    results,
    module='experiments.variants',
    tables=(report.summary(stored),),
  )


if __name__ == '__main__':
  app.main(cells, finish, 'configs/variants.py')
