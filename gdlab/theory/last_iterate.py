"""A bound on the last iterate of the subgradient method under any schedule of rates."""

from typing import Any, NamedTuple

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError
from gdlab.theory.inputs import nonnegative, positive, positive_number
from gdlab.theory.linear import Floats


class LastIterateBound(NamedTuple):
  """A bound on the excess loss $f(x_T) - f_*$, at the given rates and at the best multiple of them.

  Attributes:
    value: float[...], the bound at the given rates.
    best: float[...], the least bound over all multiples of the rates: it depends only on the schedule's shape.
    factor: float[...], the multiple that attains it.
  """

  value: Floats
  best: Floats
  factor: Floats


@checked('rates', 'distance', 'gradient_norm')
def last_iterate_bound(rates: Any, distance: float, gradient_norm: Any) -> LastIterateBound:
  r"""A bound on the last iterate of T steps $x_{t+1} = x_t - \eta_t g_t$ on a convex function, for any schedule.

  With D the distance from the start to a minimum and stochastic subgradients of
  $\mathbb E\|g_t\|^2 \le G_t^2$, for the iterate $x_T$, from which the last rate would step,

  $$\mathbb E f(x_T) - f_* \le \frac{D^2}{2 \sum_t \eta_t} + \frac{\sum_t \eta_t^2 G_t^2}{2 \sum_t \eta_t}
    + \frac12 \sum_{k < T} \frac{\eta_k}{\sum_{t > k} \eta_t}
      \frac{\sum_{t \ge k} \eta_t^2 G_t^2}{\sum_{t \ge k} \eta_t}.$$

  Multiplying the rates by c gives a/c + b c, with a the first term and b the rest at c = 1. Its minimum, at
  $c = \sqrt{a/b}$, is $2 \sqrt{a b}$.

  Example:
    >>> falling = last_iterate_bound(np.linspace(1, 0, 400, endpoint=False), 1.0, 1.0)
    >>> constant = last_iterate_bound(np.ones(400), 1.0, 1.0)
    >>> falling.best.round(4).item(), constant.best.round(4).item()
    (0.1006, 0.1375)

  Args:
    rates: eta, float[..., T] >= 0, the last of each schedule above 0.
    distance: D > 0.
    gradient_norm: G > 0, one number, or one for each step, float[T].

  Raises:
    InputError: an argument out of range.

  Source: Defazio et al. 2023, arXiv 2310.07831, theorem 10; Schaipp et al. 2025, arXiv 2501.18965.
  """
  eta, norms = nonnegative('rates', rates), positive('gradient_norm', gradient_norm)
  if eta.ndim == 0 or eta.shape[-1] == 0:
    raise InputError(f'rates must have shape [..., T] with T >= 1, got {eta.shape}')
  if (eta[..., -1] == 0).any():
    raise InputError('rates must end above 0, at the iterate that is bounded, got 0 as the last rate')
  if norms.shape not in ((), eta.shape[-1:]):
    raise InputError(
      f'gradient_norm must be one number or one per step, ({eta.shape[-1]},), got {norms.shape}'
    )
  distance = positive_number('distance', distance)
  sums, squares = _from_each_on(eta), _from_each_on((eta * norms) ** 2)
  start = distance**2 / (2 * sums[..., 0])
  ends = eta[..., :-1] / sums[..., 1:] * (squares[..., :-1] / sums[..., :-1])
  noise = squares[..., 0] / (2 * sums[..., 0]) + ends.sum(axis=-1) / 2
  return LastIterateBound(start + noise, 2 * np.sqrt(start * noise), np.sqrt(start / noise))


def _from_each_on(values: np.ndarray) -> np.ndarray:
  """The sum of each entry and all later ones, along the last axis."""
  return np.flip(np.cumsum(np.flip(values, -1), axis=-1), -1)
