"""python -m experiments.minima --config=configs/minima.py --workdir=DIR."""

import functools
import pathlib

import ml_collections

from experiments.minima import (
  between,
  checks,
  claims,
  clock,
  dose,
  kramers,
  networks,
  report,
  tables,
  valleys,
)
from experiments.minima.conditions import Graded
from experiments.minima.study import Results
from gdlab.study import app, graded


def cells(config: ml_collections.ConfigDict) -> list[app.Cell]:
  """All measurements, in an order in which they can be made."""
  checks.check(config)
  partial = functools.partial
  made = [
    app.Cell('clock', partial(clock.timing, config), alone=True),
    app.Cell('leave_poor', partial(valleys.crossings, config, 'tilted', True, True)),
    app.Cell('leave_poor_reshuffled', partial(valleys.crossings, config, 'tilted', True)),
    app.Cell('leave_good', partial(valleys.crossings, config, 'tilted', False, True)),
    app.Cell('leave_sharp', partial(valleys.crossings, config, 'sharp', False)),
    app.Cell('leave_sharp_replaced', partial(valleys.crossings, config, 'sharp', False, True)),
  ]
  made += [
    app.Cell(f'escape_b{size}', partial(kramers.escape, config, size)) for size in config.escape.batch_sizes
  ]
  for section in ('dose', 'dose_network'):
    made += [
      app.Cell(f'{section}_tuning', partial(dose.tuning, config, section)),
      app.Cell(section, partial(dose.dose, config, section), needs=(f'{section}_tuning',)),
    ]
  made += [
    app.Cell('trap_tuning', partial(networks.trap_tuning, config)),
    app.Cell('trap', partial(networks.trap, config), needs=('trap_tuning',)),
    app.Cell('rescue', partial(networks.rescue, config), needs=('trap_tuning',)),
  ]
  for width in config.widths.hidden:
    runs = f'width_{width}'
    made += [
      app.Cell(f'{runs}_tuning', partial(networks.width_tuning, config, width)),
      app.Cell(runs, partial(networks.width_runs, config, width), needs=(f'{runs}_tuning',)),
      app.Cell(f'lines_{width}', partial(between.lines, config, width), needs=(runs,)),
      app.Cell(f'ensembles_{width}', partial(between.ensembles, config, width), needs=(runs,)),
    ]
  return made


def finish(config: ml_collections.ConfigDict, results: Results, workdir: pathlib.Path) -> None:
  """Grades the claims with each set of seeds and writes the report."""
  first, second = (Graded(config, results, seed) for seed in config.first_seeds)
  findings, again = (graded.grade_all(claims.CLAIMS, study) for study in (first, second))
  graded.conclude(
    workdir,
    report.tell(first, findings),
    findings,
    results,
    module='experiments.minima',
    again=again,
    tables=(tables.summary(first),),
  )


if __name__ == '__main__':
  app.main(cells, finish, 'configs/minima.py')
