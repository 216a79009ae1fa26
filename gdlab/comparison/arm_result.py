"""One arm of a comparison: its chosen hyperparameters and its runs."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from gdlab.comparison.search import ends
from gdlab.core.errors import InputError, check_real, unknown_name
from gdlab.core.metrics import large_is_good
from gdlab.core.types import PyTree
from gdlab.results.datasets import RUNNING, TRIAL
from gdlab.results.kept import kept_params
from gdlab.statistics import first_crossing
from gdlab.statistics.crossings import Crossing

if TYPE_CHECKING:
  from gdlab.comparison.answer import Comparison

Key = tuple[str, str]  # problem and arm


class Window(NamedTuple):
  """The trials close to the best one: a measure of a method's sensitivity to its hyperparameters.

  Attributes:
    share: their share of all trials, including the best one.
    ranges: hyperparameter -> lowest and highest value among them, if these are numbers.
  """

  share: float
  ranges: dict[str, tuple[float, float]]


class ArmResult:
  """One arm of a comparison: its chosen hyperparameters and its runs.

  Every method takes the budget's kind and, if there are several problems, the problem's name.
  """

  def __init__(self, comparison: 'Comparison', name: str):
    self._comparison, self.name = comparison, name

  def best(self, budget: str, problem: str | None = None) -> dict[str, Any]:
    """The hyperparameters that were chosen on the tuning seeds."""
    key, place = self._place(budget, problem)
    return self._comparison.entries[key].point(self._comparison.chosen[key][place])

  def at_an_end(self, budget: str, problem: str | None = None) -> list[str]:
    """The hyperparameters whose chosen value is at an end of the search: a wider search may find better ones."""
    key, _ = self._place(budget, problem)
    entry = self._comparison.entries[key]
    return ends(entry.search, self.best(budget, problem), entry.num_trials)

  def final(self, budget: str, variable: str | None = None, problem: str | None = None) -> xr.DataArray:
    """A variable where the budget ends, float[seed]; by default the graded metric.

    For a run that failed (it diverged, or the value is not finite) it is the value before the first update; for the
    graded metric, the comparison's `failed` if given.
    """
    key, place = self._place(budget, problem)
    return self.final_of(self._comparison.chosen[key][place], budget, variable, problem)

  def final_of(
    self, trial: int, budget: str, variable: str | None = None, problem: str | None = None
  ) -> xr.DataArray:
    """`final` of another trial that was run with the grading seeds; see `likely`."""
    key, place = self._place(budget, problem)
    name, runs = self._variable(key, variable), self._comparison.graded[key]
    values = runs.at(trial, place, name)
    start = runs.curve(trial, place)[name].isel(step=0).astype(float)
    given = self._comparison.failed
    return values.fillna(start if given is None or name != self._comparison.question.graded else given)

  def updates(self, budget: str, problem: str | None = None) -> int:
    """The updates of a graded run within the budget."""
    key, place = self._place(budget, problem)
    return int(self._comparison.ends[key][self._comparison.chosen[key][place], place])

  def likely(self, budget: str, problem: str | None = None) -> Mapping[int, float]:
    """Trial -> the probability that resampled tuning seeds choose it, if at least 5 %; the chosen one is the first."""
    key, place = self._place(budget, problem)
    return self._comparison.likely[key][place]

  def failures(self, budget: str, problem: str | None = None, trial: int | None = None) -> np.ndarray:
    """Which graded runs failed, bool[seed], of the chosen trial or another one."""
    key, place = self._place(budget, problem)
    trial = self._comparison.chosen[key][place] if trial is None else trial
    runs = self._comparison.graded[key]
    return runs.at(trial, place, self._comparison.question.graded).isnull().values

  def num_failed(self, budget: str, problem: str | None = None) -> int:
    """How many of the graded runs failed."""
    return int(self.failures(budget, problem).sum())

  def curve(self, budget: str, problem: str | None = None) -> xr.Dataset:
    """The graded runs up to the budget's end, with dims (seed, step)."""
    key, place = self._place(budget, problem)
    return self._comparison.graded[key].curve(self._comparison.chosen[key][place], place)

  def steps_to(
    self,
    target: float,
    budget: str,
    variable: str | None = None,
    *,
    clock: str = 'updates',
    problem: str | None = None,
  ) -> Crossing:
    """When each graded run first reached a target; runs that did not within the budget are censored.

    Args:
      target: the value to reach, from above; from below for an accuracy and other metrics of `largest`.
      budget: its kind.
      variable: the metric; by default the graded one.
      clock: 'updates', 'examples', 'gradient_evaluations' or 'seconds' (without evaluations).
      problem: its name, if there are several.

    Raises:
      InputError: an unknown name, or no seconds were measured.
    """
    key, _ = self._place(budget, problem)
    name, curve = self._variable(key, variable), self.curve(budget, problem).transpose('seed', 'step', ...)
    sign = -1 if large_is_good(name, self._comparison.large) else 1
    seen = np.isfinite(curve[name].values).any(axis=0)  # where metrics are evaluated
    times = self.clock(budget, clock, problem)[:, seen]
    going = (curve.status.values == RUNNING)[:, seen]
    # A run that has diverged reaches nothing: its clock stands still.
    last = np.where(going, times, 0).max(axis=1, keepdims=True)
    return first_crossing(
      np.where(going, times, last),
      np.where(going, sign * curve[name].values[:, seen], np.nan),
      sign * float(check_real('target', target)),
    )

  def clock(self, budget: str, clock: str, problem: str | None = None) -> np.ndarray:
    """The time of every record of the graded runs, float[seed, step]."""
    key, place = self._place(budget, problem)
    curve = self.curve(budget, problem).transpose('seed', 'step', ...)
    steps = np.broadcast_to(curve.step.values.astype(float), curve.status.shape)
    if clock == 'updates':
      return steps
    if clock == 'seconds':
      if key not in self._comparison.seconds:
        raise InputError("clock must not be 'seconds' where no budget is in seconds, as none were measured")
      return steps * self._comparison.seconds[key][self._comparison.chosen[key][place]]
    if clock not in ('examples', 'gradient_evaluations'):
      raise unknown_name('clock', clock, ('updates', 'examples', 'gradient_evaluations', 'seconds'))
    return curve[clock].values.astype(float)

  def trials(self, budget: str, problem: str | None = None) -> xr.DataArray:
    """The metric of every trial where the budget ends, float[trial, tuning seed]; NaN where runs failed."""
    key, place = self._place(budget, problem)
    if key not in self._comparison.tuning:
      raise InputError(f'arm {self.name!r} has no hyperparameters, so it has no trials')
    entry, runs = self._comparison.entries[key], self._comparison.tuning[key]
    values = [runs.at(trial, place, self._comparison.metric) for trial in range(entry.num_trials)]
    return xr.concat(values, TRIAL, coords='minimal', compat='override').assign_coords(
      {name: (TRIAL, column) for name, column in entry.trials.items()}
    )

  def window(self, budget: str, *, within: float | None = None, problem: str | None = None) -> Window:
    """The trials whose mean metric over the tuning seeds is within `within` of the best one.

    Args:
      budget: at whose end.
      within: a difference, or with `effect='ratio'` a relative one; by default the margin of the comparison.
      problem: its name, if there are several.
    """
    question = self._comparison.question
    margin = question.margin if within is None else check_real('within', within, minimum=0)
    means = self._means(budget, problem)
    best = means.min()
    limit = best + abs(best) * margin if question.ratio else best + margin
    good = np.flatnonzero((means <= limit) & np.isfinite(means))
    entry = self._comparison.entries[self._place(budget, problem)[0]]
    ranges = {}
    for name, column in entry.trials.items():
      numbers = [column[trial] for trial in good]
      if all(isinstance(number, Real) for number in numbers) and numbers:
        ranges[name] = min(numbers), max(numbers)
    return Window(good.size / means.size, ranges)

  def best_of(self, budget: str, problem: str | None = None) -> np.ndarray:
    r"""The expected metric of the best of k trials, for k = 1 ... n: the value of each further trial.

    Of k trials drawn from the n without replacement the i-th best of all is the best with probability
    $\binom{n-i}{k-1} / \binom nk$. A trial with failed runs counts as the worst that did not fail. The metric is on the
    tuning seeds, so that of the best is optimistic by selection (the graded runs are not).

    Returns:
      float[trials].

    Source: Dodge et al. 2019, Show your work, arXiv 1909.03004, section 3, without replacement.
    """
    means = self._means(budget, problem)
    finite = means[np.isfinite(means)]
    if not finite.size:
      return np.full(means.size, np.nan)
    ordered = np.sort(np.where(np.isfinite(means), means, finite.max()))
    count = ordered.size
    chances = [
      [math.comb(count - place, k - 1) / math.comb(count, k) for place in range(1, count + 1)]
      for k in range(1, count + 1)
    ]
    return self._sign * (np.asarray(chances) @ ordered)

  def speedup(self, budget: str, problem: str | None = None) -> float:
    """The factor by which the baseline needs more of the budget than this arm for the same mean graded metric.

    From when the mean curve of the arm that ends ahead first reaches the other arm's end: above 1 if this arm is ahead,
    below 1 if the baseline is. It uses the curves as they are: a method whose schedule ends with the budget would be
    faster with a schedule for the shorter run. Infinite or 0 if the curve starts at that value.
    """
    names = self.name, self._comparison.baseline
    arms = [self._comparison.arms[name] for name in names]
    sign = -1 if self._comparison.question.largest else 1
    ends = [sign * float(arm.final(budget, problem=problem).mean()) for arm in arms]
    if ends[0] == ends[1]:
      return 1.0
    ahead = int(ends[1] < ends[0])
    curve = arms[ahead].curve(budget, problem)[self._comparison.question.graded].transpose('seed', 'step')
    mean = sign * curve.values.astype(float).mean(axis=0)
    clock = arms[ahead].clock(budget, budget, problem).mean(axis=0)
    reached = np.flatnonzero(mean <= ends[1 - ahead])
    if not reached.size:
      return 1.0
    factor = clock[-1] / clock[reached[0]] if clock[reached[0]] > 0 else np.inf
    return float(1 / factor if ahead else factor)

  def params(self, seed: int, budget: str, problem: str | None = None) -> tuple[PyTree, PyTree]:
    """The parameters and the model's state of a graded run, for a comparison with `keep='params'`.

    Raises:
      InputError: if they were not kept, the seed was not graded, or the run continued beyond this budget.
    """
    key, place = self._place(budget, problem)
    runs, trial = self._comparison.graded[key], self._comparison.chosen[key][place]
    number, end = runs.places[trial, place]
    if seed not in (ids := runs.result.seed.values.tolist()):
      raise InputError(f'seed must be one of those graded, {ids[0]} to {ids[-1]}, got {seed}')
    last = int(runs.result.updates.isel({TRIAL: number, 'step': -1}).max())
    if last > end:
      raise InputError(
        f'parameters are kept at the end of a run, which went on from {end} to {last} updates for another budget'
      )
    return kept_params(
      self._comparison.entries[key].problem, runs.result.isel({TRIAL: number}).sel(seed=seed)
    )

  @property
  def _sign(self) -> int:
    return -1 if large_is_good(self._comparison.metric, self._comparison.large) else 1

  def _means(self, budget: str, problem: str | None) -> np.ndarray:
    """The mean metric of every trial, with the sign for which smaller is better; infinite where a run failed."""
    values = self._sign * self.trials(budget, problem).values
    return np.where(np.isnan(values).any(axis=1), np.inf, np.nan_to_num(values).mean(axis=1))

  def _place(self, budget: str, problem: str | None) -> tuple[Key, int]:
    names, kinds = self._comparison.problems, [*self._comparison.budgets]
    if budget not in kinds:
      raise unknown_name('budget', str(budget), kinds)
    if problem is None and len(names) > 1:
      raise InputError(f'problem must be one of {", ".join(names)}, as there are several')
    if problem is not None and problem not in names:
      raise unknown_name('problem', str(problem), names)
    return (problem or names[0], self.name), kinds.index(budget)

  def _variable(self, key: Key, variable: str | None) -> str:
    name = self._comparison.question.graded if variable is None else variable
    if name not in self._comparison.graded[key].result:
      raise unknown_name('variable', str(name), map(str, self._comparison.graded[key].result.data_vars))
    return name
