"""python -m experiments.saddles --config=configs/saddles.py --workdir=DIR."""

import functools
import pathlib

import ml_collections

from experiments.saddles import chain, claims, critical, growth, race, report, training
from experiments.saddles.checks import check
from experiments.saddles.study import Results, Study
from gdlab.study import app, graded


def cells(config: ml_collections.ConfigDict) -> list[app.Cell]:
  """What is measured: searches, races from saddles, exits with a law, chains, training."""
  check(config)
  part = functools.partial
  made = [app.Cell('saddles', part(critical.saddles, config))]
  made += [
    app.Cell(f'fields_{size}', part(critical.fields, config, size)) for size in config.fields.dimensions
  ]
  made += [
    app.Cell(f'networks_{size}', part(critical.networks, config, size)) for size in config.search.widths
  ]
  made += [
    app.Cell(start.name, part(race.race, config, start), needs=('saddles',)) for start in race.starts(config)
  ]
  made += [app.Cell('timing', part(race.timing, config), needs=('saddles',), alone=True)]
  made += [
    app.Cell(f'quadratic_{case}', part(growth.quadratic, config, case))
    for case in range(len(config.growth.cases))
  ]
  made += [app.Cell('scales', part(growth.scales, config)), app.Cell('noisy', part(growth.noisy, config))]
  made += [
    app.Cell(f'curved_{name}', part(growth.curved, config, name), needs=('saddles',))
    for name in ('pca', 'network')
  ]
  made += [
    app.Cell(
      'chain_plain', part(chain.chain, config, config.chain.dimension, ('plain', 'perturbed', 'Langevin'))
    ),
    app.Cell('chain_noisy', part(chain.chain, config, config.chain.long, ('perturbed', 'Langevin'))),
  ]
  made += [app.Cell(training.cell_name(arm), part(training.training, config, arm)) for arm in training.ARMS]
  return made


def finish(config: ml_collections.ConfigDict, results: Results, workdir: pathlib.Path) -> None:
  """Grades the claims with each set of seeds and writes the report."""
  first, second = (Study(config, results, seed) for seed in config.first_seeds)
  findings, again = (graded.grade_all(claims.CLAIMS, study) for study in (first, second))
  graded.conclude(
    workdir,
    report.tell(first, findings),
    findings,
    results,
    module='experiments.saddles',
    again=again,
    tables=(report.races(first),),
  )


if __name__ == '__main__':
  app.main(cells, finish, 'configs/saddles.py')
