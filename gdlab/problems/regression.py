"""Linear regression, with its normal-equation solution."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import check_real
from gdlab.core.types import Array, Examples, Known, Problem
from gdlab.problems.analytic import NormalInit, PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import as_pair, as_rows, check_alike, default_float, nonnegative


@dataclasses.dataclass(frozen=True)
class RidgeLoss:
  """Half the squared residual plus l2/2 times the squared norm of the weights."""

  l2: float

  def __call__(self, params: Array, examples: Examples) -> Array:
    """Returns float[B]."""
    residuals = examples.inputs @ params - examples.targets
    return residuals**2 / 2 + self.l2 / 2 * jnp.sum(params**2)


@checked('features', 'l2', 'initial_scale')
def linear_regression(
  features: Any,
  targets: Any,
  *,
  l2: float = 0.0,
  test: Any = None,
  validation: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""Least squares or ridge regression with a known minimum.

  $\ell_i(w) = \frac12 (x_i^\top w - y_i)^2 + \frac{\lambda}{2} \lVert w \rVert^2$. Known, in float64 from the
  data as stored: the minimiser, which solves $(X^\top X/N + \lambda I) w = X^\top y/N$ (the one of least norm if
  there are many), the minimum, and L and mu, the extreme eigenvalues of $X^\top X/N + \lambda I$. The metric
  `'loss'` includes the ridge term, so that its training mean is the function that is minimised.

  Example:
    >>> problem = linear_regression([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], [1.0, 3.0, 5.0])
    >>> problem.known.params.round(6)
    array([1., 2.])

  Args:
    features: float[N, d]; an intercept is a column of ones.
    targets: float[N].
    l2: lambda >= 0.
    test: held-out (features, targets).
    validation: further held-out (features, targets), to choose methods and hyperparameters on.
    initial_scale: > 0; weights start at N(0, initial_scale^2), drawn with the run's init stream.

  Raises:
    InputError: an argument out of range, of the wrong shape or not finite.
  """
  l2 = nonnegative('l2', l2)
  initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  train = _with_float_targets(as_rows((features, targets), 'features', 'targets'))
  held_out: dict[str, Any] = {}
  for name, data in {'test': test, 'validation': validation}.items():
    if data is not None:
      rows = as_rows(as_pair(name, data), f'{name}.inputs', f'{name}.targets')
      held_out[name] = _with_float_targets(rows)
      check_alike(name, held_out[name], train)
  loss = RidgeLoss(l2)
  return Problem(
    init=NormalInit((train.inputs.shape[1],), initial_scale),
    loss=PointwiseLoss(loss),
    metrics=PointwiseMetrics((('loss', loss),)),
    name='linear regression',
    train=train,
    known=_solve(np.asarray(train.inputs, np.float64), np.asarray(train.targets, np.float64), l2),
    **held_out,
  )


def _solve(features: np.ndarray, targets: np.ndarray, l2: float) -> Known:
  """The normal equations, solved as stacked least squares, which does not square the condition number."""
  count, size = features.shape
  # Without the zero rows the least-squares problem is the same; they are left out where l2 = 0.
  rows = [features / np.sqrt(count), np.sqrt(l2) * np.eye(size)] if l2 else [features / np.sqrt(count)]
  right = np.concatenate([targets / np.sqrt(count), np.zeros(size if l2 else 0)])
  params = np.linalg.lstsq(np.concatenate(rows), right, rcond=None)[0]
  value = np.mean((features @ params - targets) ** 2) / 2 + l2 / 2 * params @ params
  curvatures = np.linalg.eigvalsh(features.T @ features / count) + l2
  return Known(params, value, curvatures[-1], max(curvatures[0], np.float64(l2)))


def _with_float_targets(examples: Examples) -> Examples:
  return examples._replace(targets=examples.targets.astype(default_float()))
