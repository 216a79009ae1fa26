"""Gradient noise of a chosen law, for any problem."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Key, LossFn, Problem, PyTree
from gdlab.problems.checks import check_problem, hashable, nonnegative, real_array

# Apart from the numbers of slices and examples, by which estimators fold keys.
_NOISE, _CURVATURE = 0x6E6F6973, 0x63757276


class Noise(Protocol):
  """A law of the noise of one example's gradient; frozen and hashable.

  Returns `count` independent draws, float[count, d] with mean 0, for d raveled parameters. `loss` is the
  problem's own loss of one example, `(params) -> float[]`.
  """

  def __call__(self, key: Key, params: PyTree, count: int, loss: Callable[[PyTree], Array]) -> Array: ...


@checked('noise', 'num_examples')
def with_noise(problem: Problem, noise: Noise, *, num_examples: int = 1024) -> Problem:
  r"""The problem with independent noise added to the gradient of every example.

  $\ell_i(\theta) + \xi_i^\top(\theta - \mathrm{stop}(\theta))$: the losses and the Hessian are unchanged and
  the gradient of example i is $\nabla\ell_i + \xi_i$, with $\xi_i$ independent between the slots of a batch,
  steps, runs and slices of a micro-batched estimate. So the noise of the gradient of B equally weighted
  examples has covariance $\Sigma/B$, whatever the sampler, and it is new in every epoch. Metrics, validation and
  test data and what is known are those of `problem`.

  The noise comes from the key given to `Problem.loss`, the run's noise stream at that step: evaluations with the same
  key, as in a line search, have the same noise.

  Example:
    >>> import jax, gdlab
    >>> bowl = gdlab.problems.quadratic([1.0, 10.0])
    >>> problem = with_noise(bowl, isotropic(0.1))
    >>> problem.num_examples, problem.name
    (1024, 'quadratic with noise')

  Args:
    problem: any problem; if it has a single example, that is repeated `num_examples` times.
    noise: `isotropic`, `gaussian`, `hessian_noise`, `heavy_tailed`, `state_dependent`, or any other Noise.
    num_examples: >= 1; ignored if the problem has several examples.

  Raises:
    InputError: an argument out of range, or noise that does not fit the problem's parameters.
  """
  check_problem(problem)
  num_examples = check_count('num_examples', num_examples)
  if not callable(noise):
    raise InputError(f'noise must be a law such as isotropic(0.1), got {shown(noise)}')
  hashable('noise', noise)
  train = problem.train
  if problem.num_examples == 1:
    train = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_examples, *leaf.shape[1:])), train)
  elif isinstance(noise, HessianNoise):
    raise InputError(
      f'hessian_noise needs a problem with one example, whose Hessian is that of the mean loss, '
      f'got {problem.name!r} with {problem.num_examples}'
    )
  noisy = dataclasses.replace(
    problem, loss=NoisyLoss(problem.loss, noise), name=f'{problem.name} with noise', train=train
  )
  jax.eval_shape(_trial, noisy, jax.random.key(0))
  return noisy


@dataclasses.dataclass(frozen=True)
class NoisyLoss:
  """A problem's loss plus a term of value 0 whose gradient is noise."""

  loss: LossFn
  noise: Noise

  def __call__(
    self, params: PyTree, model_state: PyTree, examples: PyTree, mask: Array, key: Key
  ) -> tuple[Array, PyTree]:
    """Returns the losses, float[B], whose values have no noise, and the new state."""

    def one_loss(params: PyTree) -> Array:
      one = jax.tree.map(lambda leaf: leaf[:1], examples)
      one_key = jax.random.fold_in(key, _CURVATURE)
      return self.loss(params, model_state, one, jnp.ones(1, bool), one_key)[0][0]

    # The noise's key is a fold of the problem's own, which so draws what it would draw without noise.
    noise_key = jax.random.fold_in(key, _NOISE)
    draws = self.noise(noise_key, jax.lax.stop_gradient(params), mask.shape[0], one_loss)
    losses, model_state = self.loss(params, model_state, examples, mask, key)
    flat, _ = ravel_pytree(params)
    if draws.shape != (mask.shape[0], flat.size):
      raise InputError(f'noise must have shape {(mask.shape[0], flat.size)}, got {draws.shape}')
    nothing = flat - jax.lax.stop_gradient(flat)
    noise = jnp.matmul(
      jax.lax.stop_gradient(draws).astype(flat.dtype), nothing, precision=jax.lax.Precision.HIGHEST
    )
    return losses + noise.astype(losses.dtype), model_state


@dataclasses.dataclass(frozen=True)
class Isotropic:
  """See `isotropic`."""

  variance: float

  def __call__(self, key: Key, params: PyTree, count: int, loss: Callable[[PyTree], Array]) -> Array:
    """Draws float[count, d]."""
    flat, _ = ravel_pytree(params)
    return np.sqrt(self.variance).astype(flat.dtype) * jax.random.normal(key, (count, flat.size), flat.dtype)


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
  """See `gaussian`."""

  factor: tuple[tuple[float, ...], ...]  # A with A A^T = Sigma

  def __call__(self, key: Key, params: PyTree, count: int, loss: Callable[[PyTree], Array]) -> Array:
    """Draws float[count, d]."""
    flat, _ = ravel_pytree(params)
    if flat.size != len(self.factor):
      raise InputError(
        f'covariance must have shape {(flat.size, flat.size)}, for {flat.size} parameters, '
        f'got {(len(self.factor), len(self.factor))}'
      )
    normal = jax.random.normal(key, (count, flat.size), flat.dtype)
    return _times(normal, jnp.asarray(self.factor, flat.dtype).T)


@dataclasses.dataclass(frozen=True)
class HessianNoise:
  """See `hessian_noise`."""

  scale: float

  def __call__(self, key: Key, params: PyTree, count: int, loss: Callable[[PyTree], Array]) -> Array:
    """Draws float[count, d]."""
    flat, unravel = ravel_pytree(params)
    hessian = jax.hessian(lambda flat: loss(unravel(flat)))(flat)
    eigenvalues, vectors = jnp.linalg.eigh(hessian)
    deviations = jnp.sqrt(self.scale * jnp.abs(eigenvalues))
    normal = jax.random.normal(key, (count, flat.size), flat.dtype)
    return _times(normal * deviations[None], vectors.T)


@dataclasses.dataclass(frozen=True)
class StableNoise:
  """See `heavy_tailed`."""

  alpha: float
  scale: float

  def __call__(self, key: Key, params: PyTree, count: int, loss: Callable[[PyTree], Array]) -> Array:
    """Draws float[count, d]."""
    flat, _ = ravel_pytree(params)
    shape, dtype = (count, flat.size), flat.dtype
    angle_key, wait_key, sign_key = jax.random.split(key, 3)
    # Not 0, and in the middle of the lowest cell of the generator's grid.
    least = jnp.finfo(dtype).eps / 2
    # The angle to pi/2: its sine is the cosine of the angle to 0, without cancellation and never negative.
    rest = np.pi / 2 * jax.random.uniform(angle_key, shape, dtype, least, 1.0)
    angle, cosine = np.pi / 2 - rest, jnp.sin(rest)
    wait = -jnp.log(jax.random.uniform(wait_key, shape, dtype, least, 1.0))
    alpha = self.alpha
    # |1 - alpha| <= 1, so that this cosine is the larger one but for rounding.
    other = jnp.maximum(jnp.cos((1 - alpha) * angle), cosine)
    size = jnp.sin(alpha * angle) / cosine ** (1 / alpha) * (other / wait) ** ((1 - alpha) / alpha)
    return self.scale * size * jax.random.rademacher(sign_key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class StateDependent:
  """See `state_dependent`."""

  deviation: Callable[[PyTree], PyTree]

  def __call__(self, key: Key, params: PyTree, count: int, loss: Callable[[PyTree], Array]) -> Array:
    """Draws float[count, d]."""
    flat, _ = ravel_pytree(params)
    deviations, _ = ravel_pytree(self.deviation(params))
    if deviations.shape not in {(1,), flat.shape}:
      raise InputError(
        f'deviation must return one number or one for each of the {flat.size} parameters, '
        f'got {deviations.size}'
      )
    normal = jax.random.normal(key, (count, flat.size), flat.dtype)
    return normal * deviations[None].astype(flat.dtype)


@checked('variance')
def isotropic(variance: float) -> Noise:
  r"""Normal noise with covariance $\sigma^2 I$.

  Args:
    variance: sigma^2 >= 0, of every coordinate of one example's gradient.

  Raises:
    InputError: if it is out of range.
  """
  return Isotropic(nonnegative('variance', variance))


@checked('covariance')
def gaussian(covariance: Any) -> Noise:
  r"""Normal noise with covariance $\Sigma$, the same at all parameters.

  Args:
    covariance: Sigma, float[d, d], symmetric and positive semidefinite to rounding, for d raveled parameters.
      It is a constant of the compiled program, so d should be at most a few hundred.

  Raises:
    InputError: if it is not such a matrix; from `with_noise`, if d is not the number of parameters.
  """
  matrix = real_array('covariance', covariance)
  if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
    raise InputError(f'covariance must be a square matrix, got {shown(covariance)}')
  eigenvalues, vectors = np.linalg.eigh(matrix)
  # float32's epsilon: a covariance that was computed in it is welcome.
  rounding = len(matrix) * np.finfo(np.float32).eps * np.abs(matrix).max()
  if np.abs(matrix - matrix.T).max() > rounding or eigenvalues[0] < -rounding:
    raise InputError(f'covariance must be symmetric and positive semidefinite, got {shown(covariance)}')
  factor = vectors * np.sqrt(np.maximum(eigenvalues, 0))
  return GaussianNoise(tuple(map(tuple, factor.tolist())))


@checked('scale')
def hessian_noise(scale: float) -> Noise:
  r"""Normal noise with covariance proportional to the Hessian, $\Sigma(\theta) = c\,|\nabla^2 f(\theta)|$.

  $|\cdot|$ takes the absolute values of the eigenvalues. Mini-batch noise has about this covariance near a minimum of a
  negative log-likelihood. The dense Hessian and its eigenvectors are computed at every step, which is practical up to a
  few hundred parameters.

  Args:
    scale: c >= 0.

  Raises:
    InputError: if it is out of range; from `with_noise`, if the problem has several examples.

  Source: Zhu et al. 2019, The Anisotropic Noise in Stochastic Gradient Descent, arXiv 1803.00195; Xie et al.
    2021, arXiv 2002.03495.
  """
  return HessianNoise(nonnegative('scale', scale))


@checked('alpha', 'scale')
def heavy_tailed(alpha: float, scale: float) -> Noise:
  r"""Independent symmetric alpha-stable noise in every coordinate.

  Its law is $\mathbb E\, e^{it\xi} = e^{-|\sigma t|^\alpha}$. The mean of B draws has scale
  $\sigma B^{1/\alpha-1}$: for alpha < 2, where the variance is infinite, larger batches reduce the noise less than
  $B^{-1/2}$, and for alpha <= 1 not at all. At alpha = 2 it is $N(0, 2\sigma^2)$, at 1 the Cauchy law.

  Drawn by the method of Chambers, Mallows and Stuck. The resolution of the uniform generator cuts the tail off near
  $10^{7/\alpha}$ sigma in float32 and $10^{16/\alpha}$ in float64.

  Args:
    alpha: in (0, 2]; below 0.25 the largest draws overflow in float32.
    scale: sigma >= 0.

  Raises:
    InputError: an argument out of range.

  Source: Chambers, Mallows, Stuck 1976, A Method for Simulating Stable Random Variables; Simsekli, Sagun,
    Gurbuzbalaban 2019, A Tail-Index Analysis, arXiv 1901.06053.
  """
  return StableNoise(float(check_real('alpha', alpha, above=0, maximum=2)), nonnegative('scale', scale))


@checked('deviation')
def state_dependent(deviation: Callable[[PyTree], PyTree]) -> Noise:
  r"""Normal noise, independent between coordinates, whose standard deviation is a function of the parameters.

  Args:
    deviation: `(params) -> float[]`, or one number per parameter in a pytree like params; a hashable
      function. To build a problem again without compiling again, pass the same function object.

  Raises:
    InputError: if it is not a function; from `with_noise`, if it does not fit the parameters.
  """
  if not callable(deviation):
    raise InputError(f'deviation must be a function of the parameters, got {shown(deviation)}')
  hashable('deviation', deviation)
  return StateDependent(deviation)


def _times(draws: Array, matrix: Array) -> Array:
  # On a GPU the default precision would cut the draws to ten bits.
  return jnp.matmul(draws, matrix, precision=jax.lax.Precision.HIGHEST)


def _trial(problem: Problem, key: Key) -> Array:
  """One loss, evaluated for its shapes only, so that noise that does not fit is refused when the problem is built."""
  init_key, loss_key = jax.random.split(key)
  params, model_state = problem.init(init_key)
  one = jax.tree.map(lambda leaf: leaf[:1], problem.train)
  return problem.loss(params, model_state, one, jnp.ones(1, bool), loss_key)[0]
