"""A network small enough to plot: two parameters, real data, and every stationary point of its loss."""

import jax.numpy as jnp
import numpy as np
from scipy import optimize

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Array, Examples, Known, Problem, StationaryPoints
from gdlab.problems.analytic import FixedInit, NormalInit, PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import as_array

_BOX = 3.0  # of both parameters, in either direction


@checked('start', 'initial_scale')
def two_parameter_network(*, start: tuple[float, float] | None = None, initial_scale: float = 1.0) -> Problem:
  r"""A network of one hidden unit on real data: $\ell_i(a, b) = \frac12 (a \tanh(b x_i) - y_i)^2$.

  The 442 patients of scikit-learn's diabetes data: x is the fifth blood serum measurement (`s5`, presumably the
  logarithm of the triglycerides), y the disease's progression after a year, both standardised to mean 0 and variance 1.
  Parameters float[2], (a, b). The loss is the same at (-a, -b).

  Known: the saddle at the origin, where the Hessian's eigenvalues are $\pm c$ with $c = \frac1N \sum_i x_i y_i$;
  and the two global minima (a, b) and (-a, -b), to $10^{-12}$ in float64 from the data as stored. There are no others
  in the box $[-3, 3]^2$: at any stationary point other than the origin a is the least-squares coefficient of y on
  tanh(bx), and along that curve the loss falls to one minimum in b and then rises. Gradient flow does not leave the
  quadrants ab > 0 of the minima, so each minimum's basin contains the ball that touches an axis.

  Example:
    >>> two_parameter_network().known.stationary_points.index
    array([0, 1, 0])

  Args:
    start: initial (a, b); None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range.

  Source: the data are of B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, "Least angle regression", Annals of
  Statistics 32, 2004.
  """
  # Here, since scikit-learn takes a second to import.
  from sklearn import datasets

  initial_scale = float(check_real('initial_scale', initial_scale, above=0.0))
  if start is not None:
    if np.shape(start) != (2,):
      raise InputError(f'start must be a pair (a, b), got {shown(start)}')
    start = float(check_real('start[0]', start[0])), float(check_real('start[1]', start[1]))
  data = datasets.load_diabetes()
  x, y = data.data[:, data.feature_names.index('s5')], data.target
  train = Examples(as_array('inputs', _standardised(x)), as_array('targets', _standardised(y)))
  return Problem(
    init=NormalInit((2,), initial_scale) if start is None else FixedInit(start),
    loss=PointwiseLoss(_losses),
    metrics=PointwiseMetrics((('loss', _losses),)),
    name='two-parameter network',
    train=train,
    known=_known(np.asarray(train.inputs, np.float64), np.asarray(train.targets, np.float64)),
  )


def _losses(params: Array, examples: Examples) -> Array:
  return (params[0] * jnp.tanh(params[1] * examples.inputs) - examples.targets) ** 2 / 2


def _standardised(values: np.ndarray) -> np.ndarray:
  return (values - values.mean()) / values.std()


def _known(x: np.ndarray, y: np.ndarray) -> Known:
  b = optimize.brentq(lambda b: _slope(x, y, b), 0.1, _BOX, xtol=1e-15, rtol=1e-15)
  minimum = np.array([_coefficient(x, y, b), b])
  points = np.stack([-minimum, np.zeros(2), minimum])
  values = np.array([np.mean((a * np.tanh(b * x) - y) ** 2) / 2 for a, b in points])
  eigenvalues = np.array([np.linalg.eigvalsh(_hessian(x, y, *point)) for point in points])
  radius = minimum.min()
  stationary = StationaryPoints(
    params=points,
    values=values,
    eigenvalues=eigenvalues,
    index=(eigenvalues < 0).sum(axis=1),
    basin=np.array([radius, 0.0, radius]),
    complete=np.bool_(True),
  )
  box = np.array([[-_BOX, _BOX]] * 2)
  return Known(minimum, values[2], stationary_points=stationary, box=box)


def _coefficient(x: np.ndarray, y: np.ndarray, b: float) -> float:
  """The best a for this b."""
  hidden = np.tanh(b * x)
  return hidden @ y / (hidden @ hidden)


def _slope(x: np.ndarray, y: np.ndarray, b: float) -> float:
  """The derivative in b of the loss at the best a."""
  hidden, a = np.tanh(b * x), _coefficient(x, y, b)
  return np.mean((a * hidden - y) * a * (1 - hidden**2) * x)


def _hessian(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
  hidden = np.tanh(b * x)
  residual, slope = a * hidden - y, (1 - hidden**2) * x
  mixed = np.mean(slope * (a * hidden + residual))
  # The second derivative of tanh(bx) in b is -2 tanh(bx) (1 - tanh(bx)^2) x^2.
  last = np.mean((a * slope) ** 2 - 2 * a * residual * hidden * slope * x)
  return np.array([[np.mean(hidden**2), mixed], [mixed, last]])
