"""Regression on a stream of examples whose target drifts."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Problem, State
from gdlab.problems.checks import as_array, nonnegative, real_array
from gdlab.problems.regression import linear_regression

# (random generator, number of examples, number of weights) -> float[N, d]
Path: TypeAlias = Callable[[np.random.Generator, int, int], np.ndarray]


class DriftingExamples(NamedTuple):
  """Examples in the order of their arrival."""

  inputs: Array  # float[N, d]
  targets: Array  # float[N]
  optima: Array  # float[N, d], the true weights when example i arrives


@checked('features', 'path', 'noise_std', 'seed')
def drifting_regression(
  features: Any, path: Path, *, noise_std: float = 0.0, seed: int = 0, initial_scale: float = 1.0
) -> Problem:
  r"""Least squares on a stream: example i arrives at time i, when the true weights are $w^*_i$.

  $\ell_i(w) = \frac12 (x_i^\top w - y_i)^2$ with $y_i = x_i^\top w^*_i + \sigma \varepsilon_i$ and standard normal
  $\varepsilon_i$. The inputs are the rows of `features` in a random order; the examples are stored in the order of
  arrival, which `gdlab.sampling.sequential` keeps. Known exactly: the moving optimum, which is part of the data,
  `problem.train.optima[i]`, and the reference of `TrackingError`; and the fixed weights that are best in hindsight for
  the whole stream, `problem.known`.

  Example:
    >>> features = np.random.default_rng(0).normal(size=(100, 3))
    >>> problem = drifting_regression(features, random_walk(0.1), noise_std=0.5)
    >>> problem.train.optima.shape
    (100, 3)

  Args:
    features: float[N, d].
    path: how the true weights move: `random_walk(...)`, `rotation(...)`, or any such function.
    noise_std: sigma >= 0, the standard deviation of the targets' noise.
    seed: >= 0, of the order, the path and the noise.
    initial_scale: > 0; weights start at N(0, initial_scale^2), drawn with the run's init stream.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: B. Widrow and S. D. Stearns, "Adaptive Signal Processing", 1985, chapter 6 (descent that tracks).
  """
  noise_std = nonnegative('noise_std', noise_std)
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  if not callable(path):
    raise InputError(f'path must be a function such as random_walk(0.1), got {shown(path)}')
  inputs = real_array('features', features)
  if inputs.ndim != 2 or not inputs.size:
    raise InputError(f'features must have shape [N, d] with N, d >= 1, got {inputs.shape}')
  inputs = inputs[rng.permutation(len(inputs))]
  optima = real_array('what path returns', path(rng, *inputs.shape))
  if optima.shape != inputs.shape:
    raise InputError(f'path must return weights of shape {inputs.shape}, got {optima.shape}')
  targets = np.sum(inputs * optima, axis=1) + noise_std * rng.standard_normal(len(inputs))
  problem = linear_regression(inputs, targets, initial_scale=initial_scale)
  train = DriftingExamples(problem.train.inputs, problem.train.targets, as_array('optima', optima))
  return dataclasses.replace(problem, name='drifting regression', train=train)


@checked('step', 'start')
def random_walk(step: float, *, start: Any = None) -> Path:
  r"""A random walk of the weights: $w^*_i = w^*_{i-1} + s \xi_i$ from $w^*_{-1}$, with standard normal $\xi_i$.

  Args:
    step: s >= 0, the standard deviation of each weight's step; 0 for a constant target.
    start: $w^*_{-1}$, float[d] or one number for all; drawn from N(0, I) by default.

  Raises:
    InputError: a negative step, or a start that is not finite; when the stream is built, a start of another shape.
  """
  step = nonnegative('step', step)
  first = None if start is None else real_array('start', start)

  def path(rng: np.random.Generator, num_examples: int, size: int) -> np.ndarray:
    steps = step * rng.standard_normal((num_examples, size))
    if first is not None and first.shape not in ((), (size,)):
      raise InputError(f'start must have shape ({size},), one number per feature, got {first.shape}')
    return (rng.standard_normal(size) if first is None else first) + np.cumsum(steps, axis=0)

  return path


@checked('period', 'radius')
def rotation(period: float, *, radius: float = 1.0) -> Path:
  r"""Weights on a circle: $w^*_i = \rho (u \cos\varphi_i + v \sin\varphi_i)$ with $\varphi_i = 2 \pi i/T$.

  u and v are orthonormal and random, so d >= 2.

  Args:
    period: T > 0, in examples.
    radius: rho > 0.

  Raises:
    InputError: an argument out of range; when the stream is built, fewer than two features.
  """
  period = float(check_real('period', period, above=0.0))
  radius = float(check_real('radius', radius, above=0.0))

  def path(rng: np.random.Generator, num_examples: int, size: int) -> np.ndarray:
    if size < 2:
      raise InputError(f'features must have at least 2 columns for a rotation, got {size}')
    plane = np.linalg.qr(rng.standard_normal((size, 2)))[0]
    angles = 2 * np.pi * np.arange(num_examples) / period
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T

  return path


@dataclasses.dataclass(frozen=True)
class TrackingError:
  r"""A probe for `gdlab.run`: $\lVert w - w^*_i \rVert^2$ with i the last example that has arrived.

  For runs with `gdlab.sampling.sequential(batch_size)`, without `drop_remainder`. Before the first update i = 0.

  Attributes:
    batch_size: examples per update, >= 1.
  """

  batch_size: int = 1

  def __post_init__(self) -> None:
    check_count('batch_size', self.batch_size)

  def __call__(self, problem: Problem, state: State) -> Array:
    """Returns float[]."""
    if not isinstance(problem.train, DriftingExamples):
      raise InputError(f'problem must be a drifting_regression, got examples {shown(type(problem.train))}')
    count = problem.num_examples
    update = jnp.maximum(state.step - 1, 0) % -(-count // self.batch_size)
    last = jnp.where(state.step == 0, 0, jnp.minimum((update + 1) * self.batch_size, count) - 1)
    return jnp.sum((state.params - problem.train.optima[last]) ** 2)
