"""The figures of a comparison's page."""

from collections.abc import Sequence
from numbers import Real
from typing import TypeAlias

import numpy as np
from matplotlib.figure import Figure

from gdlab.comparison.answer import Comparison
from gdlab.comparison.arm_result import ArmResult
from gdlab.comparison.verdicts import Outcome
from gdlab.core.metrics import large_is_good
from gdlab.plots.pieces import MIDDLE, band, quantiles
from gdlab.plots.style import COLOURS, LINES, MARKERS, panels

MARKS = {
  Outcome.BETTER: ('o', COLOURS[2]),
  Outcome.WORSE: ('X', COLOURS[1]),
  Outcome.EQUIVALENT: ('s', COLOURS[0]),
  Outcome.UNDECIDED: ('D', '0.4'),
}
CLOCK_LABELS = {
  'updates': 'updates',
  'examples': 'examples',
  'gradient_evaluations': 'per-example gradients',
  'seconds': 'seconds, without evaluations',
}


Line: TypeAlias = tuple[np.ndarray, np.ndarray]  # times and values, both float[seed, record]
Case: TypeAlias = tuple[str, ArmResult, str, np.ndarray]  # arm, its results, hyperparameter, values


def words(name: str) -> str:
  """A variable's name in words."""
  return name.replace('_', ' ')


def effects(answer: Comparison) -> Figure:
  """All effects on one axis, as they have one unit, with the margin shaded."""
  rows, question = answer.verdicts, answer.question
  with panels(1, width=8.4, height=0.42 * len(rows) + 1.3) as (figure, (axes,)):
    none = 1.0 if question.ratio else 0.0
    low, high = (
      (1 / (1 + question.margin), 1 + question.margin)
      if question.ratio
      else (-question.margin, question.margin)
    )
    axes.axvspan(low, high, color='0.9', linewidth=0, label='within the margin')
    axes.axvline(none, color='black', linewidth=0.8)
    seen = set()
    for place, row in enumerate(rows):
      mark, colour = MARKS[row.verdict]
      label = None if row.verdict in seen else str(row.verdict)
      seen.add(row.verdict)
      axes.plot([row.effect.low, row.effect.high], [-place] * 2, color=colour, linewidth=2)
      axes.plot([row.effect.estimate], [-place], mark, color=colour, markersize=7, linestyle='', label=label)
    several = len(answer.problems) > 1
    names = [
      f'{row.arm}, equal {words(row.budget)}' + (f', {row.problem}' if several else '') for row in rows
    ]
    axes.set_yticks([-place for place in range(len(rows))], names)
    sense = 'right' if question.largest else 'left'
    what = 'over' if question.ratio else 'minus'
    axes.set(
      xlabel=f'{words(question.graded)}, arm {what} {answer.baseline} (better to the {sense})',
      ylim=(0.6 - len(rows), 0.6),
    )
    axes.grid(axis='y', visible=False)
    figure.legend(loc='outside upper left', ncols=5, fontsize=9)
  return figure


def curves(answer: Comparison, problem: str) -> Figure:
  """The graded metric of every arm on each clock: the runs of each budget on the clock of that budget.

  A panel that differs from an earlier one by the unit of its clock alone is left out.
  """
  name, drawn = answer.question.graded, list[tuple[str, str, list[Line]]]()
  for budget, clock in _clocks(answer):
    lines = [_line(arm, budget, clock, name, problem) for arm in answer.arms.values()]
    if not any(_same_but_for_the_unit(lines, earlier) for _, _, earlier in drawn):
      drawn.append((budget, clock, lines))
  with panels(len(drawn), width=10.2 / max(3, len(drawn)), height=3.3) as (figure, places):
    for axes, (budget, clock, lines) in zip(places, drawn, strict=True):
      logarithmic = not answer.question.largest
      for number, (label, (times, values)) in enumerate(zip(answer.arms, lines, strict=True)):
        logarithmic &= bool((values > 0).all() | np.isnan(values).any())
        band(axes, times, values, label, number)
        axes.lines[-1].set_linestyle(LINES[number % len(LINES)])
      axes.set(
        xlabel=CLOCK_LABELS[clock],
        title=f'budget: {words(budget)}',
        yscale='log' if logarithmic else 'linear',
      )
    places[0].set_ylabel(words(name))
    figure.legend(*places[0].get_legend_handles_labels(), loc='outside upper left', ncols=5, fontsize=9)
  return figure


def _clocks(answer: Comparison) -> list[tuple[str, str]]:
  """Pairs of a budget and a clock: each budget on its own clock, then the first one on the others."""
  kinds = [*answer.budgets]
  further = ['updates', 'examples', *(['seconds'] if answer.seconds else [])]
  return [(kind, kind) for kind in kinds] + [(kinds[0], clock) for clock in further if clock not in kinds]


def _line(arm: ArmResult, budget: str, clock: str, name: str, problem: str) -> Line:
  """A metric of an arm's runs where it was measured, after the start."""
  values = arm.curve(budget, problem).transpose('seed', 'step', ...)[name].values.astype(float)
  times = arm.clock(budget, clock, problem)
  seen = np.isfinite(values).any(axis=0) & (times > 0).all(axis=0)
  return times[:, seen], values[:, seen]


def _same_but_for_the_unit(lines: Sequence[Line], others: Sequence[Line]) -> bool:
  """Whether the lines have the same values, at times that differ by one factor."""
  pairs = [*zip(lines, others, strict=True)]
  if not all(np.array_equal(line[1], other[1], equal_nan=True) for line, other in pairs):
    return False
  factors = np.concatenate([(line[0] / other[0]).ravel() for line, other in pairs])
  return bool(np.allclose(factors, factors[:1], rtol=1e-6, atol=0))


def tuning(answer: Comparison, problem: str, budget: str) -> list[Figure]:
  """The metric of every trial over the hyperparameter: a panel for each arm and hyperparameter, four in a row."""
  cases: list[Case] = []
  for name, arm in answer.arms.items():
    key = (problem, name)
    if key in answer.tuning:
      for hyperparameter, column in answer.entries[key].trials.items():
        if all(isinstance(value, Real) for value in column) and len({*column}) > 1:
          cases.append((name, arm, hyperparameter, np.asarray(column, float)))
  return [_tried(answer, problem, budget, cases[first : first + 4]) for first in range(0, len(cases), 4)]


def _tried(answer: Comparison, problem: str, budget: str, cases: Sequence[Case]) -> Figure:
  with panels(len(cases), width=10.2 / max(2, len(cases)), height=3.1) as (figure, places):
    for number, (axes, (name, arm, hyperparameter, values)) in enumerate(zip(places, cases, strict=True)):
      metric = arm.trials(budget, problem).values
      order = np.argsort(values)
      failed = np.isnan(metric).any(axis=1)[order]
      x, metric = values[order], metric[order]
      colour = COLOURS[[*answer.arms].index(name) % len(COLOURS)]
      with np.errstate(invalid='ignore'):
        low, middle, high = quantiles(metric.T, MIDDLE)
      axes.errorbar(
        x[~failed],
        middle[~failed],
        yerr=np.maximum([middle - low, high - middle], 0)[:, ~failed],
        color=colour,
        marker=MARKERS[number % len(MARKERS)],
        linestyle='',
        markersize=4,
      )
      for place in x[failed]:
        axes.axvline(place, color='0.6', linewidth=0.8, linestyle=':')
      axes.axvline(arm.best(budget, problem)[hyperparameter], color=colour, linewidth=1, linestyle='--')
      positive = bool((middle[~failed] > 0).all())
      spread = x.max() / x.min() if x.min() > 0 else 1.0
      axes.set(
        title=name,
        xlabel=words(hyperparameter),
        xscale='log' if spread > 20 else 'linear',
        yscale='log' if positive and not large_is_good(answer.metric, answer.large) else 'linear',
      )
    places[0].set_ylabel(f'{words(answer.metric)}, tuning seeds')
  return figure


def best_of(answer: Comparison, problem: str, budget: str) -> Figure | None:
  """The expected metric of the best of k trials, for each arm."""
  with panels(1, width=9.2, height=3.1) as (figure, (axes,)):
    for number, (name, arm) in enumerate(answer.arms.items()):
      if (problem, name) in answer.tuning:
        expected = arm.best_of(budget, problem)
        seen = np.isfinite(expected)
        axes.plot(
          np.arange(1, expected.size + 1)[seen],
          expected[seen],
          color=COLOURS[number % len(COLOURS)],
          linestyle=LINES[number % len(LINES)],
          label=name,
        )
    if not axes.lines:
      return None
    axes.set(xlabel='trials', ylabel=f'expected {words(answer.metric)} of the best')
    axes.legend()
  return figure


def profile(answer: Comparison, budget: str) -> Figure:
  """For each arm the share of problems on which it is within a factor of the best arm there."""
  factors, shares = answer.profile(budget)
  with panels(1, width=9.2, height=3.1) as (figure, (axes,)):
    for number, (name, share) in enumerate(shares.items()):
      axes.step(
        factors,
        share,
        where='post',
        color=COLOURS[number % len(COLOURS)],
        linestyle=LINES[number % len(LINES)],
        label=name,
      )
    axes.set(
      xlabel=f'{"1 - " if answer.question.largest else ""}{words(answer.question.graded)}, over that of the best arm',
      ylabel='share of problems',
      ylim=(-0.03, 1.03),
      xscale='log',
    )
    axes.legend()
  return figure
