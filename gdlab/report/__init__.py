"""Reports: one self-contained HTML page that presents a study to readers who have not seen its code."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from gdlab.claims import Finding, Part
from gdlab.core.argument_checks import array
from gdlab.core.arguments import checked
from gdlab.report.templates import environment


class Table(NamedTuple):
  """A table: column heads, and rows of formatted cells."""

  heads: Sequence[str]
  rows: Sequence[Sequence[str]]


class Section(NamedTuple):
  """A part of the page.

  Attributes:
    heading: its title.
    text: paragraphs of plain text.
    svg: a picture as an `<svg>` element, or ''.
    caption: the caption of the picture.
    table: a table, or None.
  """

  heading: str
  text: Sequence[str] = ()
  svg: str = ''
  caption: str = ''
  table: Table | None = None


@checked
def page(
  title: str,
  *,
  lead: Sequence[str],
  sections: Sequence[Section],
  findings: Sequence[Finding],
  facts: Table,
  command: str,
  again: Sequence[Sequence[Finding]] = (),
) -> str:
  """Renders a report.

  Args:
    title: the title of the page.
    lead: the question and the result, in a few sentences.
    sections: pictures, tables and text, in order.
    findings: the graded claims.
    facts: the provenance of the results (versions, machine, plan).
    command: the command that reproduces it.
    again: the same claims for every repeat with other seeds, shown next to the first.

  Returns:
    The HTML of a page that needs no other file.
  """
  templates = environment('gdlab.report')
  templates.filters |= {
    'number': number,
    'slug': slug,
    'interval': interval,
    'same': lambda finding: same_verdicts(finding, again),
    'fragile': lambda finding: fragile(finding, again),
  }
  return templates.get_template('page.html.jinja').render(
    title=title,
    lead=lead,
    sections=sections,
    findings=findings,
    facts=facts,
    command=command,
    again=[{finding.id: finding for finding in repeat} for repeat in again],
  )


@checked(value=array(ndim=0, finite=False))
def number(value: float) -> str:
  """Three significant figures, trailing zeros kept; NaN is 'not measured'."""
  if math.isnan(value):
    return 'not measured'
  return '0' if value == 0 else f'{value:#.3g}'.rstrip('.')


@checked
def interval(part: Finding | Part) -> str:
  """The interval of a finding or of a part of one, in words: its ends, or that there is none."""
  if part.confidence == 1:  # one number, or all of a set
    text = (
      'exactly' if part.ci_low == part.ci_high else f'[{number(part.ci_low)}, {number(part.ci_high)}] exactly'
    )
  elif math.isinf(part.ci_low) and math.isinf(part.ci_high):
    text = 'no interval'
  else:
    text = f'[{number(part.ci_low)}, {number(part.ci_high)}] at {100 * part.confidence:.4g} %'
  runs = 'run' if part.excluded == 1 else 'runs'
  return text + (f', {part.excluded} {runs} without a value' if part.excluded else '')


@checked
def fragile(finding: Finding, again: Sequence[Sequence[Finding]]) -> bool:
  """Whether the verdict differs in any repeat of the study."""
  return any(
    other.verdict is not finding.verdict for repeat in again for other in repeat if other.id == finding.id
  )


@checked
def same_verdicts(finding: Finding, again: Sequence[Sequence[Finding]]) -> str:
  """The number of repeats of the study with the same verdict, as '3 of 3'; '' without repeats."""
  verdicts = [other.verdict for repeat in again for other in repeat if other.id == finding.id]
  return f'{sum(verdict is finding.verdict for verdict in verdicts)} of {len(verdicts)}' if verdicts else ''


@checked
def slug(heading: str) -> str:
  """A section's heading as its anchor on the page and the name of its figure's file."""
  return re.sub(r'\W+', '_', heading.lower()).strip('_')
