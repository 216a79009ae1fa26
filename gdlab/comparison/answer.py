"""The result of a comparison, and its extension by further seeds."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gdlab.comparison.arm_result import ArmResult, Key
from gdlab.comparison.arms import Entry
from gdlab.comparison.measuring import How, Runs, measure, more
from gdlab.comparison.verdicts import Outcome, Question, Row, despite_failures, judge_all
from gdlab.core.errors import InputError, check_count
from gdlab.statistics.joint import spent


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
  """The answer of `gdlab.compare`.

  Attributes:
    verdicts: a Row for each arm except the baseline, for each problem and budget.
    problems: their names.
    baseline: the arm with which the others are compared.
    budgets: kind -> amount.
    question: the graded metric, and how effects are judged.
    metric: by which trials are chosen.
    large: further metrics for which larger is better, without the names of their sets.
    seconds: (problem, arm) -> float[trial], of an update; empty without a budget in seconds.
    num_seeds: number of grading seeds so far.
    most_seeds: the limit of `extend`.
  """

  verdicts: tuple[Row, ...]
  problems: tuple[str, ...]
  baseline: str
  budgets: Mapping[str, Any]
  question: Question
  metric: str
  large: tuple[str, ...]
  seconds: Mapping[Key, np.ndarray]
  num_seeds: int
  most_seeds: int
  first_seed: int
  failed: float | None
  entries: Mapping[Key, Entry]
  ends: Mapping[Key, np.ndarray]
  tuning: Mapping[Key, Runs]
  likely: Mapping[Key, tuple[Mapping[int, float], ...]]
  graded: Mapping[Key, Runs]
  how: How

  @property
  def chosen(self) -> dict[Key, tuple[int, ...]]:
    """(problem, arm) -> the chosen trial for each budget."""
    return {key: tuple(next(iter(shares)) for shares in budgets) for key, budgets in self.likely.items()}

  @property
  def arms(self) -> 'dict[str, ArmResult]':
    """The arms by name."""
    return {name: ArmResult(self, name) for name in dict.fromkeys(arm for _, arm in self.entries)}

  def __repr__(self) -> str:
    return as_text(self.verdicts)

  def extend(self, seeds: int | None = None) -> 'Comparison':
    """The comparison with further seeds, added until every row is decided or there are `most_seeds`.

    Every look has its own share of the error, see `gdlab.statistics.spent`, so that the chance of any wrong verdict
    stays at most 1 - `confidence`. Verdicts of earlier looks do not change.

    Args:
      seeds: the number of seeds at the next and only look; by default each look doubles it.

    Raises:
      InputError: if there are `most_seeds` already, or `seeds` is out of range.
    """
    if self.most_seeds == self.num_seeds:
      raise InputError(
        f'most_seeds must be given to gdlab.compare and be above {self.num_seeds}, as the number of looks must be '
        'known before the first: without it, that look uses the whole probability of error'
      )
    least, most = self.num_seeds + 1, self.most_seeds
    goal = most if seeds is None else check_count('seeds', seeds, minimum=least, maximum=most)
    answer = self
    while answer.num_seeds < goal and any(row.verdict is Outcome.UNDECIDED for row in answer.verdicts):
      count = goal if seeds is not None else min(goal, 2 * answer.num_seeds)
      answer = answer._with(count)
    return answer

  def report(self, path: str | os.PathLike[str], *, title: str = '') -> pathlib.Path:
    """Writes the answer as one self-contained HTML page, and returns its path.

    Args:
      path: the file; an existing one is replaced.
      title: of the page; by default the arms' names.
    """
    from gdlab.comparison import page  # pictures are slow to import, and it needs this module

    others = [name for name in self.arms if name != self.baseline]
    return page.write(self, path, title or f'{", ".join(others)} against {self.baseline}')

  def profile(self, budget: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    r"""The performance profile over all problems: how often an arm is within a factor of the best arm.

    With $r_{pa}$ the mean graded metric of arm a on problem p over that of the best arm there,
    $\rho_a(\tau)$ is the share of problems with $r_{pa} \le \tau$. A metric for which larger is better is replaced by
    1 minus the metric.

    Returns:
      `(factors, shares)`: every tau at which a share changes, from 1 on, and for each arm its shares there.

    Raises:
      InputError: if a mean is not positive, as it then has no ratio.

    Source: Dolan and More 2002, Benchmarking optimization software with performance profiles, Math. Prog. 91.
    """
    means = np.asarray(
      [
        [float(arm.final(budget, problem=problem).mean()) for problem in self.problems]
        for arm in self.arms.values()
      ]
    )
    means = 1 - means if self.question.largest else means
    if means.min() <= 0:
      raise InputError(
        f'a profile needs positive values of {self.question.graded}, got a mean of {means.min():.3g}'
      )
    ratios = means / means.min(axis=0)
    factors = np.unique(np.append(ratios, 1.0))
    shares = (ratios[:, :, None] <= factors).mean(axis=1)
    return factors, dict(zip(self.arms, shares, strict=True))

  def _with(self, count: int) -> 'Comparison':
    ids = range(self.first_seed + self.num_seeds, self.first_seed + count)
    graded = {
      key: more(
        runs, measure(graded_name(key, ids), self.entries[key], self.ends[key], [*runs.places], ids, self.how)
      )
      for key, runs in self.graded.items()
    }
    return judged(dataclasses.replace(self, graded=graded, num_seeds=count), self.num_seeds)


def graded_name(key: Key, ids: range) -> str:
  """The name under which graded runs are stored."""
  return f'graded {key[0]} {key[1]} {ids.start}-{ids.stop - 1}'


def judged(comparison: Comparison, before: int) -> Comparison:
  """The comparison with the verdicts of one look; earlier decisions do not change.

  Args:
    comparison: with its runs.
    before: the number of seeds at the look before this, 0 at the first.
  """
  question, base = comparison.question, comparison.baseline
  cases = [
    (problem, budget, arm)
    for problem in comparison.problems
    for budget in comparison.budgets
    for arm in comparison.arms
    if arm != base
  ]
  found = [_over_choices(comparison, arm, budget, problem) for problem, budget, arm in cases]
  pairs, selection = [pair for pair, _ in found], np.asarray([variance for _, variance in found])
  effects = np.stack([question.effects(*pair) for pair in pairs], axis=1)
  varies = [bool(np.ptp(pair, axis=1).any()) for pair in pairs]
  level = spent(1 - question.confidence, comparison.num_seeds, before, comparison.most_seeds)
  rows = []
  for number, (outcome, effect, remark) in enumerate(judge_all(effects, varies, question, level, selection)):
    if before and comparison.verdicts[number].verdict is not Outcome.UNDECIDED:
      rows.append(comparison.verdicts[number])
      continue
    problem, budget, arm = cases[number]
    failed, base_failed = (comparison.arms[name].num_failed(budget, problem) for name in (arm, base))
    remarks = [remark]
    if comparison.failed is None:
      judged_anew = despite_failures(outcome, failed, base_failed, comparison.num_seeds)
      if judged_anew is not outcome:
        remarks.append(f'{outcome} only by the values that stand for failed runs')
      outcome = judged_anew
    if failed or base_failed:
      remarks.append(f'failed runs: {failed}, of the baseline {base_failed}')
    rows.append(
      Row(
        problem=problem,
        budget=budget,
        arm=arm,
        verdict=outcome,
        effect=effect,
        mean=float(pairs[number][0].mean()),
        baseline_mean=float(pairs[number][1].mean()),
        updates=comparison.arms[arm].updates(budget, problem),
        baseline_updates=comparison.arms[base].updates(budget, problem),
        num_seeds=comparison.num_seeds,
        failed=failed,
        baseline_failed=base_failed,
        remark='; '.join(filter(None, remarks)),
      )
    )
  return dataclasses.replace(comparison, verdicts=tuple(rows))


def _pair(comparison: Comparison, arm: str, budget: str, problem: str, trials: Sequence[int]) -> np.ndarray:
  """The graded values of an arm and the baseline at these trials, float[2, seed].

  A failed run never counts as better than its partner that did not fail.
  """
  arms = [comparison.arms[name] for name in (arm, comparison.baseline)]
  both = [*zip(arms, trials, strict=True)]
  values = np.stack([own.final_of(trial, budget, problem=problem).values for own, trial in both])
  if comparison.failed is None:
    worse = np.minimum if comparison.question.largest else np.maximum
    lost = [own.failures(budget, problem, trial) for own, trial in both]
    values = np.stack([np.where(lost[k], worse(values[k], values[1 - k]), values[k]) for k in range(2)])
  return values


def _over_choices(comparison: Comparison, arm: str, budget: str, problem: str) -> tuple[np.ndarray, float]:
  """The values of `_pair` at the chosen trials, and the variance of the mean effect over the likely choices."""
  likely = [comparison.arms[name].likely(budget, problem) for name in (arm, comparison.baseline)]
  weights, means, made = [], [], None
  for (ours, share), (theirs, other) in itertools.product(*(shares.items() for shares in likely)):
    pair = _pair(comparison, arm, budget, problem, (ours, theirs))
    made = pair if made is None else made
    weights.append(share * other)
    means.append(comparison.question.effects(*pair).mean())
  assert made is not None
  weighted = np.asarray(weights) / sum(weights) if sum(weights) else np.ones(1)
  return made, float(np.sum(weighted * (means - np.sum(weighted * means)) ** 2))


def as_text(rows: tuple[Row, ...]) -> str:
  """The verdicts as a table of text lines."""
  heads: tuple[str, ...] = (
    'problem',
    'budget',
    'arm',
    'verdict',
    'effect',
    'interval',
    'updates',
    'failed',
    'seeds',
  )
  cells: list[tuple[str, ...]] = [
    (
      row.problem,
      row.budget,
      row.arm,
      str(row.verdict),
      f'{row.effect.estimate:.3g}',
      f'[{row.effect.low:.3g}, {row.effect.high:.3g}]',
      f'{row.updates}, {row.baseline_updates}',
      f'{row.failed}, {row.baseline_failed}',
      str(row.num_seeds),
    )
    for row in rows
  ]
  if any(row.remark for row in rows):
    heads, cells = (*heads, 'remark'), [(*cell, row.remark) for cell, row in zip(cells, rows, strict=True)]
  widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
  return '\n'.join(
    '  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (heads, *cells)
  )
