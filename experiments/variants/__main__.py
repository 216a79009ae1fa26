"""python -m experiments.variants --config=configs/variants.py --workdir=DIR."""

import functools
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
from experiments.variants.study import Study
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


def num_cells(config: ml_collections.ConfigDict) -> int:
  """How many cells the study has: the clock, two for every arm, and the special ones."""
  return 1 + 2 * (len(config.batch_sizes) + 1) + len(SPECIAL)


def study(config: ml_collections.ConfigDict, workdir: app.Workdir) -> None:
  """Measures every cell, grades the claims and writes the report."""
  problem = arms.make_problem(config)
  arms.check(config, problem.num_examples)
  clock = workdir.cell('timing', functools.partial(clocks.timing, config, problem))
  results = {'timing': clock}
  for size in arms.arms(config, problem.num_examples):
    tune = functools.partial(arms.tuning, config, problem, clock, size)
    tuned = results[f'tuning_b{size}'] = workdir.cell(f'tuning_b{size}', tune)
    run = functools.partial(arms.arm, config, problem, clock, tuned, size)
    results[f'arm_b{size}'] = workdir.cell(f'arm_b{size}', run)
  for name, measure in SPECIAL.items():
    results[name] = workdir.cell(name, functools.partial(measure, config, problem))

  stored = Study(config, results)
  findings = claims.grade_all(stored)
  with workdir.replacing('claims.json') as path:
    write_claims(path, findings)
  command = shlex.join(['python', '-m', 'experiments.variants', *sys.argv[1:]])
  with workdir.replacing('report.html') as path:
    path.write_text(report.render(stored, findings, command), encoding='utf-8')
  _show(report.summary(stored), findings)
  print(f'\nReport: {workdir.path / "report.html"}')


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
  app.main(study, 'configs/variants.py', num_cells)
