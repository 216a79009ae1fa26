"""The ledger's page: one file with its table, the forest plots, and what all of it took."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.ledger.rows import NOT_ASKED, VERDICTS, Result, Row, reason
from gdlab.claims import Finding
from gdlab.plots import forest
from gdlab.plots.style import to_svg
from gdlab.report import interval, number
from gdlab.report.templates import environment

# What an effect is measured in, by a word of its name; others have an axis of their own.
UNITS = {
  'log-log slope': 'log-log slope',
  'correlation': 'correlation',
  'share': 'share',
}  # the last that fits
THRESHOLD = re.compile(r'(?:is above|is below|at most) (-?[\d.]+(?:e-?\d+)?)')


def render(
  table: Sequence[Row],
  results: Mapping[str, Result],
  *,
  again: Sequence[Mapping[str, Any]],
  command: str,
  reports: bool = True,
) -> str:
  """The page.

  Args:
    table: its rows.
    results: of the studies.
    again: draws of claims that were asked once more: the seed, and their ids.
    command: that made it.
    reports: whether the studies' pages are beside it, to be linked.
  """
  templates = environment('experiments.ledger')
  templates.filters |= {
    'number': number,
    'reason': reason,
    'interval': lambda part: interval(part).replace(' %', '\N{NO-BREAK SPACE}%'),
  }
  listed = [row for row in table if not row.beside]
  counts, all_counts = (Counter(row.verdict for row in rows) for rows in (listed, table))
  facts = [result.facts for result in results.values()]
  facts += [draw.facts for result in results.values() for draw in result.draws]
  drawn = {
    (draw.seed, finding.id): finding
    for result in results.values()
    for draw in result.draws
    for finding in draw.findings
  }
  return templates.get_template('page.html.jinja').render(
    table=table,
    listed=listed,
    counts={verdict: counts[verdict] for verdict in VERDICTS},
    all_counts={verdict: all_counts[verdict] for verdict in VERDICTS},
    not_asked=NOT_ASKED,
    studies=[*dict.fromkeys(row.study for row in table)],
    results=results,
    forests={name: forest_of(result.sets[0]) for name, result in results.items() if result.sets[0]},
    hours=sum(each['seconds'] for each in facts) / 3600,
    again=[
      (draw['seed'], [(row, drawn.get((draw['seed'], row.id))) for row in table if row.id in draw['claims']])
      for draw in again
    ],
    command=command,
    reports=reports,
  )


def forest_of(findings: Sequence[Finding]) -> str:
  """A picture of the effects that decided the claims of a study, with the thresholds of their rules."""
  decided = [finding._replace(parts=()) for finding in findings]
  rules = {part.effect_name: part.rule for finding in findings for part in finding.parts or (finding,)}
  names = [finding.effect_name for finding in decided]
  units = {name: unit for name in names for word, unit in UNITS.items() if re.search(rf'\b{word}\b', name)}
  thresholds = {name: float(found[1]) for name in names if (found := THRESHOLD.search(rules[name]))}
  return to_svg(forest(decided, units=units, thresholds=thresholds))
