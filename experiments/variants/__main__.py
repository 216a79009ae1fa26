"""python -m experiments.variants --config=configs/variants.py --workdir=DIR."""

import functools
import pathlib
import shlex
import sys

import ml_collections
import rich
import rich.box
import rich.console
import rich.table

from experiments import app
from experiments.variants import arms, claims, exact, report, special
from experiments.variants import clock as clocks
from experiments.variants.study import Results, Study
from gdlab.claims import Finding, write_claims
from gdlab.report import Table

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
  problem = arms.make_problem(config)
  arms.check(config, problem.num_examples)
  made = [app.Cell('timing', functools.partial(clocks.timing, config, problem))]
  for size in arms.arms(config, problem.num_examples):
    tuning = functools.partial(arms.tuning, config, problem, size)
    arm = functools.partial(arms.arm, config, problem, size)
    made += [
      app.Cell(f'tuning_b{size}', tuning, needs=('timing',), divisible=True),
      app.Cell(f'arm_b{size}', arm, needs=('timing', f'tuning_b{size}'), divisible=True),
    ]
  special_ones = [
    app.Cell(name, functools.partial(measure, config, problem)) for name, measure in SPECIAL.items()
  ]
  return made + special_ones


def finish(config: ml_collections.ConfigDict, results: Results, workdir: pathlib.Path) -> None:
  """Grades the claims and writes the report."""
  stored = Study(config, results)
  findings = claims.grade_all(stored)
  with app.replacing(workdir / 'claims.json') as path:
    write_claims(path, findings)
  command = shlex.join(['python', '-m', 'experiments.variants', *sys.argv[1:]])
  with app.replacing(workdir / 'report.html') as path:
    path.write_text(report.render(stored, findings, command), encoding='utf-8')
  _show(report.summary(stored), findings)
  print(f'\nReport: {workdir / "report.html"}')


def _show(summary: Table, findings: list[Finding]) -> None:
  """Prints the table and the verdicts."""
  console = rich.console.Console(width=max(120, rich.get_console().width))
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
  for head in summary.heads:
    table.add_column(head.replace(' ', '\n'), no_wrap=True)
  for row in summary.rows:
    table.add_row(*row)
  verdicts = rich.table.Table('claim', 'verdict', 'value', 'effect', box=rich.box.SIMPLE_HEAD)
  for finding in findings:
    verdicts.add_row(finding.id, str(finding.verdict), report.number(finding.effect), finding.effect_name)
  console.print(table, verdicts)


if __name__ == '__main__':
  app.main(cells, finish, 'configs/variants.py')
