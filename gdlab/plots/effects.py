"""The forest plot: the effects of many claims with their intervals and verdicts."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab.claims import Finding, Part, Verdict
from gdlab.core.errors import InputError, shown
from gdlab.plots.style import COLOURS, panels

MARKS = {
  Verdict.SUPPORTED: ('o', COLOURS[2]),
  Verdict.CONTRADICTED: ('X', COLOURS[1]),
  Verdict.INCONCLUSIVE: ('D', '0.4'),
}
ROW = 0.6  # inches


def forest(findings: Sequence[Finding], *, thresholds: Mapping[str, float] | None = None) -> Figure:
  """One row for each effect of each claim: estimate, interval, verdict, and the threshold it was held against.

  Effects of claims have units of their own, so every row has its own scale, from the lower to the upper end of its
  interval (and the threshold); what the numbers are is written beside it. Verdicts differ in mark and colour: a green
  dot supported, an orange cross contradicted, a grey diamond inconclusive. An arrow stands for an end without bound.

  Args:
    findings: as `gdlab.claims.grade` gives them or `gdlab.claims.read_claims` reads them; at least one.
    thresholds: effect name -> a threshold of its rule, drawn as a dotted line.

  Raises:
    InputError: if there is no finding or something else is among them.
  """
  findings = list(findings) if isinstance(findings, Sequence) else []
  if not findings or not all(isinstance(finding, Finding) for finding in findings):
    raise InputError(f'findings must be a sequence of at least one Finding, got {shown(findings)}')
  rows = [(finding.id, part) for finding in findings for part in finding.parts or [finding]]
  with panels(1, width=4.9, height=ROW * len(rows) + 0.5) as (figure, (axes,)):
    for place, (name, part) in enumerate(rows):
      repeated = place and rows[place - 1][0] == name
      _row(axes, -place, '' if repeated else name, part, (thresholds or {}).get(part.effect_name))
    for verdict, (marker, colour) in MARKS.items():
      if any(part.verdict == verdict for _, part in rows):
        axes.plot([], [], marker, color=colour, markersize=7, linestyle='', label=verdict.value)
    axes.set(xlim=(-0.22, 1.7), ylim=(0.5 - len(rows), 0.75))
    axes.set_axis_off()
    figure.legend(loc='outside lower center', ncols=3, fontsize=9)
  return figure


def _row(axes: Axes, y: float, name: str, part: Finding | Part, threshold: float | None) -> None:
  marker, colour = MARKS[part.verdict]
  known = [part.effect, part.ci_low, part.ci_high] + ([] if threshold is None else [threshold])
  finite = [value for value in known if math.isfinite(value)]
  middle, reach = (min(finite) + max(finite)) / 2 if finite else 0.0, np.ptp(finite) if finite else 0.0
  reach = reach or max(abs(middle), 1.0)

  def place(value: float) -> float:
    """Where on the row: its numbers take the middle 80 %, what is infinite ends at the border."""
    return float(np.clip(0.5 + 0.8 * (value - middle) / reach, 0, 1))

  axes.plot([0, 1], [y, y], color='0.88', linewidth=1, zorder=0)
  if threshold is not None:
    axes.plot([place(threshold)] * 2, [y - 0.28, y + 0.16], color='black', linestyle=':', linewidth=1.2)
  low, high = place(part.ci_low), place(part.ci_high)
  axes.plot([low, high], [y, y], color=colour, linewidth=2.4, solid_capstyle='butt')
  for end, value, arrow in ((low, part.ci_low, '<'), (high, part.ci_high, '>')):
    axes.plot(end, y, '|' if math.isfinite(value) else arrow, color=colour, markersize=7, markeredgewidth=1.6)
  if math.isfinite(part.effect):
    axes.plot(place(part.effect), y, marker, color=colour, markersize=9)
  axes.text(-0.05, y, name, ha='right', va='center', fontsize=10, fontweight='bold')
  axes.text(0, y + 0.2, _short(part.effect_name), ha='left', va='bottom', fontsize=8.5, color='0.3')
  axes.text(1.04, y, _numbers(part), ha='left', va='center', fontsize=8.5)


def _short(text: str) -> str:
  return text if len(text) <= 58 else f'{text[:57]}…'


def _numbers(part: Finding | Part) -> str:
  effect, low, high = (
    f'{value:.3g}'.replace('inf', '∞') if not math.isnan(value) else 'none'
    for value in (part.effect, part.ci_low, part.ci_high)
  )
  return effect if part.confidence == 1 else f'{effect} [{low}, {high}]'
