"""The rows of the ledger: what is said, and what every set of seeds of its study has found."""

import math
import pathlib
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gdlab.claims import Finding, Part, Verdict
from gdlab.core.errors import InputError
from gdlab.report import fragile, interval, number, same_verdicts, slug
from gdlab.study import Study

SAID = pathlib.Path(__file__).with_name('claims.toml')
NOT_ASKED = 'not asked yet'
VERDICTS = (*map(str, Verdict), NOT_ASKED)
# What is said of the part whose effect is shown, after how many hold.
OTHERS = {Verdict.MIXED: ' and this one does not', Verdict.INCONCLUSIVE: ' and this one is not settled'}


class Draw(NamedTuple):
  """What a study has found of claims that were drawn and asked once more.

  Attributes:
    folder: its name in that of the ledger.
    seed: of the draw.
    findings: on seeds that no other set has.
    facts: as `studies.facts` has them.
  """

  folder: str
  seed: int
  findings: Sequence[Finding]
  facts: Mapping[str, Any]


class Result(NamedTuple):
  """What a study has found.

  Attributes:
    study: with its sections.
    folder: its working directory, of the study's name in that of the ledger.
    sets: the findings of every set of seeds, the first of which gives the verdicts.
    facts: as `studies.facts` has them.
    current: whether configuration and sources are still those that it was found with.
    draws: of its claims.
  """

  study: Study
  folder: pathlib.Path
  sets: Sequence[Sequence[Finding]]
  facts: Mapping[str, Any]
  current: bool
  draws: Sequence[Draw] = ()

  def sections(self, claim: str) -> list[dict[str, str]]:
    """The sections of its page that are about a claim: heading, place, and figure or ''; paths from the ledger's."""
    page, found = (self.folder / 'report.html').read_text(encoding='utf-8'), []
    for heading in self.study.sections_on(claim):
      anchor = slug(heading)
      if f'id="{anchor}"' in page:  # and not left out by the configuration
        figure = self.folder / 'figures' / f'{anchor}.svg'
        place = f'{self.folder.name}/report.html#{anchor}'
        shown = f'{self.folder.name}/figures/{figure.name}' if figure.is_file() else ''
        found.append({'heading': heading, 'place': place, 'figure': shown})
    return found


class Row(NamedTuple):
  """A claim, asked or not.

  Attributes:
    study: that asks it.
    beside: the id of the claim that one of our own stands beside, else ''.
    texts: in how many teaching texts it was found.
    papers: of a claim from the research literature, words and arXiv number.
    finding: of the first set of seeds; None where it was not asked.
    again: the same of every other set, those of draws at the end.
    current: as of the study's `Result`.
    sections: as `Result.sections` has them.
  """

  id: str
  statement: str
  study: str
  beside: str = ''
  texts: int = 0
  papers: Sequence[Sequence[str]] = ()
  finding: Finding | None = None
  again: Sequence[Finding] = ()
  current: bool = True
  sections: Sequence[Mapping[str, str]] = ()

  @property
  def verdict(self) -> str:
    """In words."""
    return str(self.finding.verdict) if self.finding else NOT_ASKED

  @property
  def fragile(self) -> bool:
    """Whether another set of seeds has another verdict."""
    return self.finding is not None and fragile(self.finding, [self.again])

  @property
  def same(self) -> str:
    """In how many other sets the verdict is the same."""
    return same_verdicts(self.finding, [[other] for other in self.again]) if self.finding else ''

  @property
  def found(self) -> str:
    """What was found, in one sentence."""
    if self.finding is None:
      return f'{NOT_ASKED.capitalize()}.'
    finding = self.finding
    premises = {part.effect_name for part in finding.parts if part.rule.startswith('a premise')}
    parts = [part for part in finding.parts if part.effect_name not in premises]
    held = sum(part.verdict is Verdict.SUPPORTED for part in parts)
    words = str(finding.verdict).capitalize()
    shown = next((part for part in finding.parts if part.effect_name == finding.effect_name), None)
    if shown and shown.effect_name in premises:
      words += ', for a premise was not shown to hold'
    elif len(parts) > 1:
      share = f'{held} of {len(parts)}' if held < len(parts) else 'both' if held == 2 else f'all {held}'
      words += f', {share} parts hold'
      words += OTHERS.get(finding.verdict, '')
    value = 'was not measured' if math.isnan(finding.effect) else f'is {number(finding.effect)}'
    words += f': {finding.effect_name} {value} {interval(finding)}'
    if finding.confidence < 1:  # not of every value there is
      num = shown.num if shown else finding.num_seeds
      words += f' from {num} {"seed" if num == finding.num_seeds else "value"}{"s" * (num != 1)}'
    words += f'; the same verdict in {self.same} repeats' if self.again else '; not repeated'
    return f'{words}, fragile.' if self.fragile else f'{words}.'

  def plain(self) -> dict[str, Any]:
    """As JSON has it: the keys of a finding, null where there is none, and those of the ledger."""
    finding = _plain(self.finding) if self.finding else dict.fromkeys(Finding._fields)
    own = ('id', 'statement', 'verdict', 'study', 'beside', 'texts', 'fragile', 'same', 'found', 'current')
    return finding | {
      **{name: getattr(self, name) for name in own},
      'papers': [[*paper] for paper in self.papers],
      'sections': [*self.sections],
      'asked_as': self.finding.statement if self.finding else None,
      'repeats': [_plain(other) for other in self.again],
    }


def reason(part: Part | Finding) -> str:
  """Why a part is inconclusive whose interval would decide its rule, in words; else ''."""
  if part.verdict is not Verdict.INCONCLUSIVE or part.confidence == 1:
    return ''
  if part.excluded:
    return 'a run without a value leaves it open'
  return 'equal values say nothing about chance' if part.ci_low == part.ci_high else ''


def _plain(finding: Finding) -> dict[str, Any]:
  def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
      key: None if isinstance(value, float) and not math.isfinite(value) else value
      for key, value in values.items()
    }

  return finite(finding._asdict()) | {'parts': [finite(part._asdict()) for part in finding.parts]}


def said() -> dict[str, dict[str, Any]]:
  """The claims as they are commonly said, by id."""
  return tomllib.loads(SAID.read_text(encoding='utf-8'))


def rows(claims: Mapping[str, Mapping[str, Any]], results: Mapping[str, Result]) -> list[Row]:
  """One row for every claim in its order, and below it those of our own beside it, such as V10a for V10.

  What neither is on the list nor stands beside one that is comes at the end.

  Raises:
    InputError: if a study has graded a claim of another's.
  """
  made = {name: Row(id=name, **claim) for name, claim in claims.items()}
  for study, result in results.items():
    first, *others = [*result.sets, *(draw.findings for draw in result.draws)]
    for finding in first:
      above = '' if finding.id in claims else re.sub(r'[a-z]+$', '', finding.id)
      row = made.get(finding.id) or Row(finding.id, finding.statement, study, beside=above)
      if row.study != study or row.finding:
        raise InputError(f'claim {finding.id} must be of one study, and is of {row.study} and {study}')
      made[finding.id] = row._replace(
        finding=finding,
        again=[other for repeat in others for other in repeat if other.id == finding.id],
        current=result.current,
        sections=result.sections(finding.id) or result.sections(above or finding.id),
      )
  places = {name: place for place, name in enumerate(claims)}
  return sorted(
    made.values(), key=lambda row: (places.get(row.beside or row.id, len(places)), row.beside, row.id)
  )


def draw(table: Sequence[Row], count: int, seed: int) -> list[str]:
  """The ids of claims drawn at random of those on the list that were asked."""
  asked = sorted(row.id for row in table if row.finding and not row.beside)
  return random.Random(seed).sample(asked, min(count, len(asked)))
