"""From paired runs to verdicts: better, worse, equivalent or undecided, for all rows of a comparison at once."""

import enum
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gdlab.core.errors import InputError
from gdlab.statistics import Interval
from gdlab.statistics.joint import joint_intervals


class Outcome(enum.StrEnum):
  """The verdict of a comparison on an arm relative to the baseline."""

  BETTER = 'better'
  WORSE = 'worse'
  EQUIVALENT = 'equivalent'
  UNDECIDED = 'undecided'


class Row(NamedTuple):
  """An arm against the baseline, on one problem, where one budget ends.

  Attributes:
    problem: its name.
    budget: its kind: 'updates', 'examples', 'gradient_evaluations' or 'seconds'.
    arm: its name.
    verdict: an Outcome.
    effect: arm minus baseline, or arm over baseline, with its simultaneous interval.
    mean: of the graded metric over the arm's runs.
    baseline_mean: of the graded metric over the baseline's runs.
    updates: of the arm within the budget.
    baseline_updates: of the baseline within the budget.
    num_seeds: number of pairs of runs.
    failed: number of the arm's runs that failed.
    baseline_failed: number of the baseline's runs that failed.
    remark: a further note, or ''.
  """

  problem: str
  budget: str
  arm: str
  verdict: Outcome
  effect: Interval
  mean: float
  baseline_mean: float
  updates: int
  baseline_updates: int
  num_seeds: int
  failed: int
  baseline_failed: int
  remark: str = ''


class Question(NamedTuple):
  """How effects are judged; see `gdlab.compare`.

  Attributes:
    graded: the metric.
    largest: whether larger is better.
    margin: the smallest effect that matters.
    ratio: whether effects are ratios.
    confidence: of all verdicts together.
  """

  graded: str
  largest: bool
  margin: float
  ratio: bool
  confidence: float

  def effects(self, arm: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """The effect of every pair, float[S]: the difference, or the logarithm of the ratio."""
    if not self.ratio:
      return arm - baseline
    if min(arm.min(), baseline.min()) <= 0:
      raise InputError(
        f"effect must be 'difference' where {self.graded} is not always positive, got 'ratio' and a value of "
        f'{min(arm.min(), baseline.min()):.3g}'
      )
    return np.log(arm) - np.log(baseline)

  def judge(self, low: float, high: float) -> Outcome:
    """The verdict of an interval, on the scale of `effects`."""
    margin = np.log1p(self.margin) if self.ratio else self.margin
    if -margin < low and high < margin:
      return Outcome.EQUIVALENT
    if low > 0:
      return Outcome.BETTER if self.largest else Outcome.WORSE
    if high < 0:
      return Outcome.WORSE if self.largest else Outcome.BETTER
    return Outcome.UNDECIDED


def despite_failures(outcome: Outcome, failed: int, baseline_failed: int, num_seeds: int) -> Outcome:
  """The verdict where the values of failed runs are made up.

  The side with more failed runs is neither better nor equivalent, and nothing is decided if most runs of both failed.
  """
  most_of_both = 2 * min(failed, baseline_failed) > num_seeds
  arm_lost = most_of_both or failed > baseline_failed
  baseline_lost = most_of_both or failed < baseline_failed
  denied = {
    Outcome.BETTER: arm_lost,
    Outcome.WORSE: baseline_lost,
    Outcome.EQUIVALENT: arm_lost or baseline_lost,
  }
  return Outcome.UNDECIDED if denied.get(outcome) else outcome


def judge_all(
  effects: np.ndarray,
  varies: Sequence[bool],
  question: Question,
  significance: float,
  selection: np.ndarray | float = 0.0,
) -> list[tuple[Outcome, Interval, str]]:
  """The verdict of every row, the interval it is based on, and a remark.

  Args:
    effects: float[seed, row].
    varies: for each row, whether the runs of either arm differ between seeds.
    question: how they are judged.
    significance: the probability of any error that this look may spend.
    selection: float[row], the variance of each effect due to the choice of trials.
  """
  found = []
  intervals = joint_intervals(effects, confidence=1 - significance, selection=selection)
  for column, differ, interval in zip(effects.T, varies, intervals, strict=True):
    outcome, remark = question.judge(interval.low, interval.high), ''
    if not column.any():
      # Two arms that make the same updates are no evidence that different ones would do as well.
      outcome, remark = Outcome.UNDECIDED, 'both arms give the same numbers to the last bit'
    elif np.ptp(column) == 0 and differ:
      outcome, remark = Outcome.UNDECIDED, 'all differences are equal, which says nothing of their spread'
    elif np.ptp(column) == 0:
      remark = 'all seeds give the same numbers: nothing is random here'
    ends = np.exp(interval[:3]) if question.ratio else interval[:3]
    estimate, low, high = map(float, ends)
    found.append((outcome, interval._replace(estimate=estimate, low=low, high=high), remark))
  return found
