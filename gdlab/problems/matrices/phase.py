"""Phase retrieval: a vector from squares of finitely or infinitely many random linear measurements."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Array, Examples, Known, Problem, StationaryPoints
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import default_float, moderate, real_vector
from gdlab.problems.matrices import spectra
from gdlab.problems.starts import array_start


class Signal(NamedTuple):
  """The unknown vector, one per example."""

  signal: Array  # float[N, d]


@checked('num_measurements', 'seed')
def phase_retrieval(
  signal: Any, *, num_measurements: int, seed: int = 0, start: Any = None, initial_scale: float = 1.0
) -> Problem:
  r"""Recovery of a vector, up to its sign, from squares of random linear measurements, without noise.

  $\ell_i(x) = \frac14\left((a_i^\top x)^2 - y_i\right)^2$, $y_i = (a_i^\top x^*)^2$, $a_i \sim N(0, I)$. The
  expectation over measurements is `population_phase_retrieval`, whose stationary points are all known; with more than
  about $d \log^3 d$ measurements the finite sum has no spurious local minimum either, with high probability.

  Known, for the finite sum: the minima $\pm x^*$ with value 0 and Hessian $\frac2N\sum_i y_i a_i a_i^\top$,
  and the maximum x = 0 with Hessian $-\frac1N\sum_i y_i a_i a_i^\top$.

  Example:
    >>> problem = phase_retrieval([1.0, 0.0, 0.0], num_measurements=50)
    >>> problem.num_examples, problem.known.stationary_points.index
    (50, array([0, 0, 3]))

  Args:
    signal: x*, float[d], not 0.
    num_measurements: N >= 1.
    seed: of the measurements.
    start: initial x, float[d]; None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Sun, Qu, Wright 2018, A Geometric Analysis of Phase Retrieval, arXiv 1602.06664 (there complex).
  """
  truth = _signal(signal)
  num_measurements = check_count('num_measurements', num_measurements)
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  # Rounded as they will be stored, so that the truth is that of the stored data.
  vectors = rng.standard_normal((num_measurements, len(truth))).astype(default_float())
  exact = vectors.astype(np.float64)
  targets = (exact @ truth) ** 2
  curvatures = np.linalg.eigvalsh((exact * targets[:, None]).T @ exact / num_measurements)
  # Semidefinite, and singular where there are fewer measurements than dimensions.
  floor = len(truth) * np.finfo(float).eps * curvatures[-1]
  curvatures = np.where(curvatures > floor, curvatures, 0.0)
  points = spectra.stationary_points(
    [truth, -truth, np.zeros_like(truth)],
    [0.0, 0.0, np.mean(targets**2) / 4],
    [2 * curvatures, 2 * curvatures, -curvatures],
    complete=False,
  )
  return Problem(
    init=array_start(start, initial_scale, truth.shape),
    loss=PointwiseLoss(_losses),
    metrics=PointwiseMetrics((('loss', _losses),)),
    name='phase retrieval',
    train=Examples(jnp.asarray(vectors), jnp.asarray(targets, default_float())),
    known=Known(params=truth, value=np.float64(0), stationary_points=points),
  )


@checked
def population_phase_retrieval(signal: Any, *, start: Any = None, initial_scale: float = 1.0) -> Problem:
  r"""Phase retrieval from infinitely many Gaussian measurements, whose landscape is known entirely.

  The mean of `phase_retrieval`'s loss over $a \sim N(0, I)$,

  $$f(x) = \tfrac14\left(3\lVert x\rVert^4 + 3\lVert x^*\rVert^4 - 2\lVert x\rVert^2\lVert x^*\rVert^2
    - 4\langle x, x^*\rangle^2\right).$$

  With $s = \lVert x^*\rVert^2$, its stationary points and their Hessian's eigenvalues are

  - the minima $\pm x^*$, f = 0: 6s along $x^*$ and 2s;
  - the saddles $x \perp x^*$, $\lVert x\rVert^2 = s/3$, $f = \frac23 s^2$: -2s along $x^*$, 2s along x, else
    0;
  - the maximum 0, $f = \frac34 s^2$: -3s along $x^*$ and -s.

  Known: all of these, but only one saddle: the others are its rotations about $x^*$.

  Example:
    >>> population_phase_retrieval([0.0, 2.0]).known.stationary_points.values
    array([ 0.      ,  0.      , 10.666667, 12.      ])

  Args:
    signal: x*, float[d], not 0.
    start: initial x, float[d]; None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Sun, Qu, Wright 2018, A Geometric Analysis of Phase Retrieval, arXiv 1602.06664 (there complex).
  """
  truth = _signal(signal)
  return Problem(
    init=array_start(start, initial_scale, truth.shape),
    loss=PointwiseLoss(_population_losses),
    metrics=PointwiseMetrics((('loss', _population_losses),)),
    name='population phase retrieval',
    train=Signal(jnp.asarray(truth[None], default_float())),
    known=Known(params=truth, value=np.float64(0), stationary_points=_population_points(truth)),
  )


def _losses(params: Array, examples: Examples) -> Array:
  return ((examples.inputs @ params) ** 2 - examples.targets) ** 2 / 4


def _population_losses(params: Array, examples: Signal) -> Array:
  ours, sought = jnp.sum(params**2), jnp.sum(examples.signal**2, axis=1)
  return (3 * ours**2 + 3 * sought**2 - 2 * ours * sought) / 4 - (examples.signal @ params) ** 2


def _population_points(truth: np.ndarray) -> StationaryPoints:
  size, square = len(truth), truth @ truth
  minimum = square * np.array([6.0] + [2.0] * (size - 1))
  maximum = -square * np.array([3.0] + [1.0] * (size - 1))
  params, values, eigenvalues = [truth, -truth], [0.0, 0.0], [minimum, minimum]
  if size > 1:
    # Of the unit vectors the one nearest to orthogonal, made so.
    across = np.eye(size)[np.argmin(np.abs(truth))]
    across = across - truth * (across @ truth) / square
    params.append(across / np.linalg.norm(across) * np.sqrt(square / 3))
    values.append(2 / 3 * square**2)
    eigenvalues.append(square * np.array([-2.0, 2.0] + [0.0] * (size - 2)))
  return spectra.stationary_points(
    [*params, np.zeros(size)], [*values, 3 / 4 * square**2], [*eigenvalues, maximum], complete=True
  )


def _signal(signal: Any) -> np.ndarray:
  vector = real_vector('signal', signal)
  if not vector.any():
    raise InputError(f'signal must be numbers that are not all 0, got {shown(signal)}')
  moderate('the norm of signal', float(np.linalg.norm(vector)))
  return vector
