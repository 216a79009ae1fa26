"""Shared parts of studies: the effects of a claim, its grading and the end of a study."""

import functools
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import rich
import rich.box
import rich.console
import rich.table
import xarray as xr

from gdlab import claims
from gdlab.claims import Claim, Finding, Rule, Verdict, write_claims
from gdlab.core.errors import InputError
from gdlab.report import Section, Table, fragile, number, page, same_verdicts, slug
from gdlab.results.datasets import DIVERGED
from gdlab.statistics import Interval
from gdlab.statistics import simultaneous as joint_confidence
from gdlab.study.cells import Unmeasured
from gdlab.study.workdir import replacing

CONFIDENCE = 0.95
ROUNDING = 1e-12


class Effect(NamedTuple):
  """One effect that a claim depends on, and how it is computed from the stored results of a study."""

  name: str
  rule: Rule
  measure: Callable[[Any], Interval]


class Asked(NamedTuple):
  """A claim of a study: the statement, and one effect for each part of it."""

  statement: str
  effects: tuple[Effect, ...]


class Gradable(Protocol):
  """The stored results of one set of seeds."""

  def conditions(self, claim: str) -> str:
    """The problem, model and settings under which a claim was tested, in words."""
    ...

  def with_confidence(self, confidence: float) -> Self:
    """The same results, for effects whose intervals must have this confidence."""
    ...


class Story(NamedTuple):
  """The content of a page before its verdicts: a title, the question in a few sentences, and the sections."""

  title: str
  lead: Sequence[str]
  sections: Sequence[Section]


def grade_all(
  asked: Mapping[str, Asked], study: Gradable, *, confidence: float = CONFIDENCE
) -> list[Finding]:
  """Applies every claim's rules to the stored results.

  The verdicts of a claim's parts hold at once, see `simultaneous`. `jointly` is the verdict if those of all claims are
  to hold at once, by Bonferroni's correction. The seeds behind a finding are the least number of values behind any
  effect that is left to chance, or behind any if none is, those left out included.
  """
  return [
    _graded(name, claim, study, confidence)._replace(
      jointly=_graded(name, claim, study, joint_confidence(confidence, len(asked))).verdict
    )
    for name, claim in asked.items()
  ]


def _graded(name: str, claim: Asked, study: Gradable, confidence: float) -> Finding:
  intervals = simultaneous(claim.effects, study, confidence)
  by_chance = [each for each in intervals.values() if each.confidence < 1] or [*intervals.values()]
  return claims.grade(
    Claim(name, claim.statement, {effect.name: effect.rule for effect in claim.effects}),
    intervals,
    num_seeds=min(interval.num + interval.excluded for interval in by_chance),
    conditions=study.conditions(name),
  )


def unmeasured(asked: Mapping[str, Asked], study: Gradable) -> set[str]:
  """The cells that claims read and that are not there; no effect comes to more than the first of those it reads."""
  found = set[str]()
  for name, claim in asked.items():
    reads: list[Callable[[], Any]] = [functools.partial(study.conditions, name)]
    reads += [functools.partial(effect.measure, study) for effect in claim.effects]
    for read in reads:
      try:
        read()
      except Unmeasured as error:
        found |= error.names
  return found


def simultaneous(effects: Sequence[Effect], study: Gradable, confidence: float) -> dict[str, Interval]:
  r"""Intervals of the parts of a claim whose verdicts hold simultaneously, by Holm's method.

  All m parts are measured with confidence $1 - \alpha/m$. Parts that are decided by their rule keep their interval; the
  k others are measured again with $1 - \alpha/k$, until no further one is decided.

  Raises:
    InputError: if an effect's interval has less than the required confidence.

  Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6.
  """
  found: dict[str, Interval] = {}
  waiting = list(effects)
  while waiting:
    level = joint_confidence(confidence, len(waiting))
    view = study.with_confidence(level)
    measured = {effect.name: effect.measure(view) for effect in waiting}
    if low := [name for name, interval in measured.items() if interval.confidence < level - ROUNDING]:
      raise InputError(
        f'effect {low[0]!r} must have an interval of the confidence {level:.4g} that view.confidence asks for, got '
        f'{measured[low[0]].confidence:.4g}'
      )
    found |= measured
    left = [effect for effect in waiting if effect.rule.judge(measured[effect.name]) is Verdict.INCONCLUSIVE]
    if len(left) == len(waiting):
      break
    waiting = left
  return {effect.name: found[effect.name] for effect in effects}


def conclude(
  workdir: pathlib.Path,
  story: Story,
  findings: Sequence[Finding],
  results: Mapping[str, xr.Dataset],
  *,
  module: str,
  again: Sequence[Sequence[Finding]] = (),
  tables: Sequence[Table] = (),
) -> None:
  """Writes `claims.json` if there are claims, the figures and `report.html`, and prints the verdicts.

  Args:
    workdir: the study's folder.
    story: the content of the page before the verdicts.
    findings: the graded claims.
    results: all cells, for the facts at the end of the page.
    module: the module in the command that reproduces it, such as 'experiments.variants'; '' for the script itself.
    again: the same claims for every repeat of the study, written to `claims-1.json`, `claims-2.json`, ...
    tables: printed above the verdicts.
  """
  for repeat, graded in enumerate((findings, *again)):
    if graded:
      with replacing(workdir / (f'claims-{repeat}.json' if repeat else 'claims.json')) as path:
        write_claims(path, graded)
  figures = workdir / 'figures'
  for section in story.sections:
    if section.svg:
      with replacing(figures / f'{slug(section.heading)}.svg') as path:
        path.write_text(section.svg, encoding='utf-8')
  listed = sorted(findings, key=_by_number)
  text = page(
    story.title,
    lead=story.lead,
    sections=story.sections,
    findings=listed,
    again=again,
    facts=facts(results),
    command=command(module),
  )
  with replacing(workdir / 'report.html') as path:
    path.write_text(text, encoding='utf-8')
  _show(tables, listed, again)
  print(f'\nReport: {workdir / "report.html"}')


def _by_number(finding: Finding) -> list[Any]:
  """Sorts L2 before L12, and P1 before P1a, in whatever order they were registered."""
  parts = re.split(r'(\d+)', finding.id)  # words and numbers in turn
  return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def command(module: str = '') -> str:
  """The command that started this process: `python -m MODULE ...` or `python FILE ...`."""
  return shlex.join(['python', *(['-m', module] if module else [sys.argv[0]]), *sys.argv[1:]])


def facts(results: Mapping[str, xr.Dataset]) -> Table:
  """The provenance of results: revision, machine, versions, failed runs and seconds."""
  attributes: dict[str, Any] = {}
  for result in results.values():
    attributes = dict(result.attrs) | attributes
  names = ['git_revision', 'device', 'plan_num_devices', 'plan_lanes_at_once']
  names += sorted(name for name in attributes if name.startswith('version_'))
  loads = [result.attrs['load_average'] for result in results.values() if 'load_average' in result.attrs]
  wall = sum(result.attrs['cell_wall_time_s'] for result in results.values())
  rows = [[name.replace('_', ' '), str(attributes[name])] for name in names if name in attributes]
  # The last of every run: cells that keep some records of each have them along `record`, others their ends alone.
  statuses = [result.status for result in results.values() if 'status' in result]
  ends = [status.isel(step=-1, record=-1, missing_dims='ignore') for status in statuses]
  diverged = sum(int((status == DIVERGED).sum()) for status in ends)
  return Table(
    ('fact', 'value'),
    [
      *rows,
      *([['load of the machine when cells began, highest', f'{max(loads):.1f}']] if loads else []),
      ['runs that diverged, tuning included', str(diverged)],
      ['seconds of all cells', f'{wall:.0f}'],
    ],
  )


def _show(tables: Sequence[Table], findings: Sequence[Finding], again: Sequence[Sequence[Finding]]) -> None:
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
  verdicts = rich.table.Table('claim', 'verdict', 'repeats', 'value', 'effect', box=rich.box.SIMPLE_HEAD)
  for finding in findings:
    same = same_verdicts(finding, again) + (', fragile' if fragile(finding, again) else '')
    verdicts.add_row(finding.id, str(finding.verdict), same, number(finding.effect), finding.effect_name)
  console.print(verdicts)
