"""What studies of claims share: the effects of a claim, its grading, and how a study ends."""

import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import rich
import rich.box
import rich.console
import rich.table
import xarray as xr

from gdlab import claims
from gdlab.claims import Claim, Finding, Rule, write_claims
from gdlab.report import Section, Table, number, page
from gdlab.results.datasets import DIVERGED
from gdlab.statistics import Interval
from gdlab.study.workdir import replacing


class Effect(NamedTuple):
  """One number that a claim stands or falls with, and how it is measured from the stored results of a study."""

  name: str
  rule: Rule
  measure: Callable[[Any], Interval]


class Asked(NamedTuple):
  """A claim as a study asks it: the statement, and one effect for each part of it."""

  statement: str
  effects: tuple[Effect, ...]


class Gradable(Protocol):
  """Stored results, as one set of seeds saw them."""

  def conditions(self, claim: str) -> str:
    """Under which problem, model and settings a claim was tested, in words."""
    ...


class Story(NamedTuple):
  """What a page tells before its verdicts: a title, the question in a few sentences, and the pictures."""

  title: str
  lead: Sequence[str]
  sections: Sequence[Section]


def grade_all(asked: Mapping[str, Asked], study: Gradable) -> list[Finding]:
  """Applies every claim's rule to the stored results.

  The seeds behind a finding are the least number of values behind any effect, those left out included.
  """
  return [_graded(name, claim, study) for name, claim in asked.items()]


def _graded(name: str, claim: Asked, study: Gradable) -> Finding:
  intervals = {effect.name: effect.measure(study) for effect in claim.effects}
  return claims.grade(
    Claim(name, claim.statement, {effect.name: effect.rule for effect in claim.effects}),
    intervals,
    num_seeds=min(interval.num + interval.excluded for interval in intervals.values()),
    conditions=study.conditions(name),
  )


def conclude(
  workdir: pathlib.Path,
  story: Story,
  findings: Sequence[Finding],
  results: Mapping[str, xr.Dataset],
  *,
  module: str,
  again: Sequence[Finding] = (),
  replication: str = 'on other seeds, with the same tuning and data',
  tables: Sequence[Table] = (),
) -> None:
  """Writes `claims.json` if there are claims, the figures and `report.html`, and prints the verdicts.

  Args:
    workdir: the study's folder.
    story: what the page tells.
    findings: the graded claims.
    results: all cells, for the facts at the end of the page.
    module: of the command that reproduces it, such as 'experiments.variants'; '' for the file that was started.
    again: the same claims graded with seeds of their own, written to `replication.json`.
    replication: what these differ in, in words.
    tables: printed above the verdicts.
  """
  if findings:
    with replacing(workdir / 'claims.json') as path:
      write_claims(path, findings)
  if again:
    with replacing(workdir / 'replication.json') as path:
      write_claims(path, again)
  figures = workdir / 'figures'
  for section in story.sections:
    if section.svg:
      with replacing(figures / f'{_slug(section.heading)}.svg') as path:
        path.write_text(section.svg, encoding='utf-8')
  text = page(
    story.title,
    lead=story.lead,
    sections=story.sections,
    findings=findings,
    again=again,
    replication=replication,
    facts=facts(results),
    command=command(module),
  )
  with replacing(workdir / 'report.html') as path:
    path.write_text(text, encoding='utf-8')
  _show(tables, findings, again)
  print(f'\nReport: {workdir / "report.html"}')


def command(module: str = '') -> str:
  """What started this process: `python -m MODULE ...`, or of a file."""
  return shlex.join(['python', *(['-m', module] if module else [sys.argv[0]]), *sys.argv[1:]])


def facts(results: Mapping[str, xr.Dataset]) -> Table:
  """Where results come from: revision, machine, versions, failed runs and seconds."""
  attributes: dict[str, Any] = {}
  for result in results.values():
    attributes = dict(result.attrs) | attributes
  names = ['git_revision', 'device', 'plan_num_devices', 'plan_lanes_at_once']
  names += sorted(name for name in attributes if name.startswith('version_'))
  loads = [result.attrs['load_average'] for result in results.values() if 'load_average' in result.attrs]
  wall = sum(result.attrs['cell_wall_time_s'] for result in results.values())
  rows = [[name.replace('_', ' '), str(attributes[name])] for name in names if name in attributes]
  diverged = sum(
    int((result.status.isel(step=-1) == DIVERGED).sum()) for result in results.values() if 'status' in result
  )
  return Table(
    ('fact', 'value'),
    [
      *rows,
      *([['load of the machine when cells began, highest', f'{max(loads):.1f}']] if loads else []),
      ['runs that diverged, tuning included', str(diverged)],
      ['seconds of all cells', f'{wall:.0f}'],
    ],
  )


def _slug(heading: str) -> str:
  return re.sub(r'\W+', '_', heading.lower()).strip('_')


def _show(tables: Sequence[Table], findings: Sequence[Finding], again: Sequence[Finding]) -> None:
  console = rich.console.Console(width=max(160, rich.get_console().width))  # tables are wide
  for content in tables:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for head in content.heads:
      table.add_column(head.replace(' ', '\n'), no_wrap=True)
    for row in content.rows:
      table.add_row(*row)
    console.print(table)
  if not findings:
    return
  heads = ('claim', 'verdict', *(('other seeds',) if again else ()), 'value', 'effect')
  verdicts = rich.table.Table(*heads, box=rich.box.SIMPLE_HEAD)
  others = {finding.id: (str(finding.verdict),) for finding in again}
  for finding in findings:
    other = others.get(finding.id, ())
    verdicts.add_row(finding.id, str(finding.verdict), *other, number(finding.effect), finding.effect_name)
  console.print(verdicts)
