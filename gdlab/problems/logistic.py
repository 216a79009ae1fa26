"""Logistic regression, binary and multiclass, with its minimiser by Newton's method."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.types import Array, Examples, Known, Problem
from gdlab.problems.analytic import NormalInit, PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import as_pair, as_rows, check_alike, check_labels, nonnegative


@dataclasses.dataclass(frozen=True)
class LogisticLoss:
  """Cross-entropy plus l2/2 times the squared norm; weights [d] for two classes, [d, C] for more."""

  l2: float

  def __call__(self, params: Array, examples: Examples) -> Array:
    """Returns float[B]."""
    logits = examples.inputs @ params
    if params.ndim == 1:
      losses = optax.sigmoid_binary_cross_entropy(logits, examples.targets.astype(logits.dtype))
    else:
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, examples.targets)
    return losses + self.l2 / 2 * jnp.sum(params**2)


@checked('features', 'labels', 'l2', 'num_classes', 'initial_scale')
def logistic_regression(
  features: Any,
  labels: Any,
  *,
  l2: float,
  num_classes: int | None = None,
  test: Any = None,
  validation: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""Logistic regression with a known minimum.

  Two classes, w in R^d: $\ell_i(w) = \log(1 + e^{z_i}) - y_i z_i + \frac\lambda2 \lVert w \rVert^2$ with
  $z_i = x_i^\top w$. C > 2 classes, W in R^{d x C}:
  $\ell_i(W) = \log \sum_c e^{z_{ic}} - z_{i y_i} + \frac\lambda2 \lVert W \rVert^2$ with $z_i = W^\top x_i$.

  Known: $\mu = \lambda$ (approached far from 0); $L = \lambda_{\max}(X^\top X/N)/4 + \lambda$ for two
  classes, attained at w = 0; for more classes, with 1/2 instead of 1/4, an upper bound (Böhning, "Multinomial logistic
  regression algorithm", 1992); where lambda > 0, the minimiser and minimum by Newton's method in float64. Where
  lambda = 0 these are None, as separable data have no minimiser. A Newton step solves with the dense Hessian, which
  is practical up to a few thousand weights.

  Args:
    features: float[N, d]; an intercept is a column of ones.
    labels: int[N] in [0, num_classes).
    l2: lambda >= 0.
    num_classes: C >= 2; the largest label + 1 by default.
    test: held-out (features, labels).
    validation: further held-out (features, labels), to choose methods and hyperparameters on.
    initial_scale: > 0; weights start at N(0, initial_scale^2), drawn with the run's init stream.

  Raises:
    InputError: an argument out of range, of the wrong shape or dtype, or not finite.
  """
  l2 = nonnegative('l2', l2)
  initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  train = _with_labels(as_rows((features, labels), 'features', 'labels'), 'labels')
  if num_classes is None:
    num_classes = max(2, int(train.targets.max()) + 1)
  num_classes = check_count('num_classes', num_classes, minimum=2)
  check_labels('labels', train.targets, num_classes)
  held_out: dict[str, Any] = {}
  for name, data in {'test': test, 'validation': validation}.items():
    if data is not None:
      rows = as_rows(as_pair(name, data), f'{name}.inputs', f'{name}.targets')
      held_out[name] = _with_labels(rows, f'{name}.targets')
      check_alike(name, held_out[name], train)
      check_labels(f'{name}.targets', held_out[name].targets, num_classes)
  loss, size = LogisticLoss(l2), train.inputs.shape[1]
  return Problem(
    init=NormalInit((size,) if num_classes == 2 else (size, num_classes), initial_scale),
    loss=PointwiseLoss(loss),
    metrics=PointwiseMetrics((('loss', loss), ('accuracy', _hits))),
    name='logistic regression',
    train=train,
    known=_solve(np.asarray(train.inputs, np.float64), np.asarray(train.targets), num_classes, l2),
    **held_out,
  )


def _hits(params: Array, examples: Examples) -> Array:
  logits = examples.inputs @ params
  predictions = logits > 0 if params.ndim == 1 else jnp.argmax(logits, axis=-1)
  return (predictions == examples.targets).astype(logits.dtype)


def _solve(features: np.ndarray, labels: np.ndarray, num_classes: int, l2: float) -> Known:
  count, size = features.shape
  largest = np.linalg.eigvalsh(features.T @ features / count)[-1]
  smoothness = largest / (4 if num_classes == 2 else 2) + l2
  if l2 == 0:
    return Known(smoothness=smoothness, strong_convexity=np.float64(0))
  # Two classes are the softmax with logits (0, z): one free column of weights.
  free = 1 if num_classes == 2 else num_classes
  onehot = np.eye(num_classes)[labels]

  def probabilities(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits = features @ weights.reshape(size, free)
    logits = np.pad(logits, ((0, 0), (num_classes - free, 0)))
    return special.softmax(logits, axis=1), special.log_softmax(logits, axis=1)

  def gradient(weights: np.ndarray) -> np.ndarray:
    residuals = (probabilities(weights)[0] - onehot)[:, -free:]
    return (features.T @ residuals / count).ravel() + l2 * weights

  def hessian(weights: np.ndarray) -> np.ndarray:
    p = probabilities(weights)[0][:, -free:]
    blocks = np.zeros((size, free, size, free))
    for a in range(free):
      for b in range(free):
        curvature = p[:, a] * ((a == b) - p[:, b])
        blocks[:, a, :, b] = features.T @ (curvature[:, None] * features) / count
    return blocks.reshape(size * free, size * free) + l2 * np.eye(size * free)

  weights = _newton(gradient, hessian, np.zeros(size * free))
  value = -np.mean(probabilities(weights)[1][np.arange(count), labels]) + l2 / 2 * weights @ weights
  shaped = weights if num_classes == 2 else weights.reshape(size, free)
  return Known(shaped, value, smoothness, np.float64(l2))


def _newton(
  gradient: Callable[[np.ndarray], np.ndarray], hessian: Callable[[np.ndarray], np.ndarray], point: np.ndarray
) -> np.ndarray:
  """Newton's method on a strongly convex function, to rounding.

  The step is halved until the gradient's norm falls: the norm falls along the Newton direction, and unlike the value it
  can be compared down to the minimum. Ends when no step lowers it.
  """
  slope = gradient(point)
  while True:
    step = np.linalg.solve(hessian(point), slope)
    for halvings in range(30):
      trial = point - step / 2**halvings
      trial_slope = gradient(trial)
      if np.linalg.norm(trial_slope) < (1 - 1e-4 / 2**halvings) * np.linalg.norm(slope):
        point, slope = trial, trial_slope
        break
    else:
      return point


def _with_labels(examples: Examples, name: str) -> Examples:
  if not jnp.issubdtype(examples.targets.dtype, jnp.integer):
    raise InputError(f'{name} must have an integer dtype, got {examples.targets.dtype}')
  return examples._replace(targets=examples.targets.astype(jnp.int32))
