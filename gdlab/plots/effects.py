"""The forest plot: the effects of many claims with their intervals and verdicts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gdlab.claims import Finding, Part, Verdict
from gdlab.core.errors import InputError, shown
from gdlab.plots.style import COLOURS, panels

MARKS = {
  Verdict.SUPPORTED: ('o', COLOURS[2]),
  Verdict.CONTRADICTED: ('X', COLOURS[1]),
  Verdict.NO_DIFFERENCE: ('s', COLOURS[0]),
  Verdict.MIXED: ('P', COLOURS[3]),
  Verdict.INCONCLUSIVE: ('D', '0.4'),
}
ROW = 0.6  # inches


def forest(
  findings: Sequence[Finding],
  *,
  thresholds: Mapping[str, float] | None = None,
  units: Mapping[str, str] | None = None,
) -> Figure:
  """One row for each effect of each claim: estimate, interval, verdict, and the threshold of its rule.

  Rows of one unit share a scale above a common axis, so that their lengths can be compared. Every other row has its own
  scale, from the lower to the upper end of its interval (and the threshold), with the numbers next to it. Verdicts
  differ in marker and colour: a green dot supported, an orange cross contradicted, a blue square no difference, a plus
  mixed, a grey diamond inconclusive. An arrow marks an infinite end.

  Args:
    findings: from `gdlab.claims.grade` or `gdlab.claims.read_claims`; at least one.
    thresholds: effect name -> a threshold of its rule, drawn as a dotted line.
    units: effect name -> its unit, such as 'points of accuracy'; effects of one unit share an axis.

  Raises:
    InputError: if there is no finding, or an entry is not a Finding.
  """
  findings = list(findings) if isinstance(findings, Sequence) else []
  if not findings or not all(isinstance(finding, Finding) for finding in findings):
    raise InputError(f'findings must be a sequence of at least one Finding, got {shown(findings)}')
  thresholds, units = thresholds or {}, units or {}
  rows = [(finding.id, part) for finding in findings for part in finding.parts or [finding]]
  groups: dict[Any, list[tuple[str, Part | Finding]]] = {}
  for place, row in enumerate(rows):
    groups.setdefault(units.get(row[1].effect_name, place), []).append(row)
  height = sum(len(group) + 0.9 * isinstance(unit, str) for unit, group in groups.items())
  with panels(1, width=4.9, height=ROW * height + 0.5) as (figure, (axes,)):
    y, last = 0.0, ''
    for unit, group in groups.items():
      scale = _Scale([value for _, part in group for value in _numbers_of(part, thresholds)])
      for name, part in group:
        _row(axes, y, '' if name == last else name, part, thresholds.get(part.effect_name), scale)
        y, last = y - 1, name
      if isinstance(unit, str):
        _axis(axes, y + 0.5, unit, scale)
        y -= 0.9
    for verdict, (marker, colour) in MARKS.items():
      if any(part.verdict == verdict for _, part in rows):
        axes.plot([], [], marker, color=colour, markersize=7, linestyle='', label=verdict.value)
    axes.set(xlim=(-0.22, 1.7), ylim=(0.5 - height, 0.75))
    axes.set_axis_off()
    figure.legend(loc='outside lower center', ncols=3, fontsize=9)
  return figure


class _Scale:
  """The positions of numbers in a row: finite ones in the middle 80 %, infinite ones at the border."""

  def __init__(self, numbers: Sequence[float]):
    finite = [value for value in numbers if math.isfinite(value)]
    self.low, self.high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    self._middle = (self.low + self.high) / 2
    self._reach = (self.high - self.low) or max(abs(self._middle), 1.0)

  def __call__(self, value: float) -> float:
    return float(np.clip(0.5 + 0.8 * (value - self._middle) / self._reach, 0, 1))


def _numbers_of(part: Finding | Part, thresholds: Mapping[str, float]) -> list[float]:
  """All numbers of a row: estimate, interval, and threshold."""
  return [part.effect, part.ci_low, part.ci_high] + (
    [thresholds[part.effect_name]] if part.effect_name in thresholds else []
  )


def _axis(axes: Axes, y: float, unit: str, scale: _Scale) -> None:
  """The axis of the rows above it."""
  axes.plot([0, 1], [y, y], color='black', linewidth=0.8)
  for value in MaxNLocator(4).tick_values(scale.low, scale.high):
    if 0 < scale(value) < 1:
      axes.plot([scale(value)] * 2, [y, y - 0.08], color='black', linewidth=0.8)
      axes.text(scale(value), y - 0.12, f'{value:g}', ha='center', va='top', fontsize=8)
  axes.text(0.5, y - 0.5, unit, ha='center', va='top', fontsize=8.5)


def _row(
  axes: Axes, y: float, name: str, part: Finding | Part, threshold: float | None, place: _Scale
) -> None:
  marker, colour = MARKS[part.verdict]
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
