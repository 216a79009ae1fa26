"""Search spaces of hyperparameters: distributions, lists, and the trials drawn from them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy.stats import qmc

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown


class Distribution(NamedTuple):
  """A distribution of one hyperparameter from `low` to `high`: uniform, or uniform in the logarithm."""

  low: float
  high: float
  logarithmic: bool

  def at(self, share: float) -> float:
    """The quantile of the distribution at `share` in [0, 1]."""
    if self.logarithmic:
      return float(self.low * (self.high / self.low) ** share)
    return float(self.low + (self.high - self.low) * share)

  def share(self, value: float) -> float:
    """The share of the distribution below a value; the inverse of `at`."""
    if self.logarithmic:
      return math.log(value / self.low) / math.log(self.high / self.low)
    return (value - self.low) / (self.high - self.low)


Search: TypeAlias = Mapping[str, Distribution | Sequence[Any]]


@checked('low', 'high')
def uniform(low: float, high: float) -> Distribution:
  """A uniform distribution between two numbers.

  Raises:
    InputError: if low < high does not hold, or one is not finite.
  """
  check_real('low', low)
  return Distribution(float(low), float(check_real('high', high, above=low)), False)


@checked('low', 'high')
def log_uniform(low: float, high: float) -> Distribution:
  """A distribution between two positive numbers, uniform in the logarithm: for learning rates and other scales.

  Raises:
    InputError: if 0 < low < high does not hold, or one is not finite.
  """
  check_real('low', low, above=0)
  return Distribution(float(low), float(check_real('high', high, above=low)), True)


def check_search(arm: str, search: Any) -> None:
  """Raises InputError unless `search` maps names to distributions or lists; a pair of floats may be meant as either."""
  if not isinstance(search, Mapping):
    raise InputError(f'arms[{arm!r}].search must map hyperparameters to where to look, got {shown(search)}')
  for name, where in search.items():
    if isinstance(where, Distribution):
      continue
    if isinstance(where, str) or not np.iterable(where) or not len([*where]):
      raise InputError(
        f'arms[{arm!r}].search[{name!r}] must be gdlab.log_uniform(low, high), gdlab.uniform(low, high) or a list of '
        f'values, got {shown(where)}'
      )
    if isinstance(where, tuple) and len(where) == 2 and all(isinstance(end, float) for end in where):
      low, high = where
      raise InputError(
        f'arms[{arm!r}].search[{name!r}] must be gdlab.log_uniform({low}, {high}) or gdlab.uniform({low}, {high}) for '
        f'a range, or the list [{low}, {high}] for two values, got the pair {shown(where)}'
      )


def trials_of(search: Search, num_trials: int, seed: int) -> dict[str, list[Any]]:
  """The trials of one arm, hyperparameter -> its value in each.

  If all are lists: their product. Else `num_trials` points of a scrambled Sobol sequence, which fill the space more
  evenly than random ones: if the number is a power of 2, each of as many equal parts of one hyperparameter has one
  point. Values of a list among distributions are equally likely.

  Source: Owen 1998, Scrambling Sobol' and Niederreiter-Xing points, J. Complexity 14.
  """
  if is_grid(search):
    product = [*itertools.product(*search.values())] if search else []
    return {name: [values[place] for values in product] for place, name in enumerate(search)}
  engine = qmc.Sobol(len(search), scramble=True, rng=np.random.default_rng(seed))
  shares = engine.random_base2(math.ceil(math.log2(num_trials)))[:num_trials]
  return {
    name: [_value(where, float(share)) for share in shares[:, place]]
    for place, (name, where) in enumerate(search.items())
  }


def is_grid(search: Search) -> bool:
  """Whether all hyperparameters have lists of values."""
  return not any(isinstance(where, Distribution) for where in search.values())


def ends(search: Search, point: Mapping[str, Any], num_trials: int) -> list[str]:
  """The hyperparameters whose value in `point` is at an end of the search.

  For a list of numbers: the smallest or largest. For a distribution: in the outermost of `num_trials` equal parts.
  """
  return [name for name, where in search.items() if _at_an_end(where, point[name], num_trials)]


def _at_an_end(where: Distribution | Sequence[Any], value: Any, num_trials: int) -> bool:
  if isinstance(where, Distribution):
    share = where.share(value)
    return min(share, 1 - share) < 1 / num_trials
  numbers = [value for value in where if isinstance(value, Real)]
  truths = any(isinstance(value, bool) for value in where)
  return len(numbers) == len(where) > 1 and not truths and value in (min(numbers), max(numbers))


def _value(where: Distribution | Sequence[Any], share: float) -> Any:
  return where.at(share) if isinstance(where, Distribution) else where[int(share * len(where))]
