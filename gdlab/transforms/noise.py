"""Gaussian noise: Langevin dynamics at a temperature, and annealed gradient noise."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Array, Key, PyTree
from gdlab.transforms.arguments import check_seed, number_or_schedule, spread_prefix
from gdlab.transforms.drawing import draw_key, own_key, plus_normals

_LANGEVIN_SALT, _GRADIENT_SALT = 0x6C616E, 0x616E6E


class NoiseState(NamedTuple):
  """State of the transforms that add noise at every update."""

  key: Key
  step: Array  # int32[], updates made


@checked('temperature', 'learning_rate', 'preconditioner', 'seed')
def langevin_noise(
  temperature: Any, learning_rate: Any, *, preconditioner: PyTree = None, seed: Any = 0
) -> optax.GradientTransformationExtraArgs:
  r"""Adds the noise that turns gradient descent into Langevin dynamics at a temperature.

  Last in a chain, after the learning rate, it adds $\sqrt{2\alpha_t T_t P}\, n_t$ to the update, $n_t \sim N(0, I)$.
  With the gradient preconditioned by P as well,

  $$\theta_{t+1} = \theta_t - \alpha P \nabla U(\theta_t) + \sqrt{2\alpha T P}\, n_t,$$

  whose stationary density tends to one proportional to $e^{-U/T}$ as $\alpha \to 0$. For $U = \frac h2 \theta^2$ its
  variance is exactly $\frac{T}{h(1 - \alpha P h/2)}$. The preconditioner acts only on the noise: scale the gradient by
  P earlier in the chain. With mini-batch gradients, which add their own noise, this is SGLD.

  Example:
    >>> import optax
    >>> rate = 0.01
    >>> langevin = optax.chain(optax.sgd(rate), langevin_noise(0.1, rate, seed=3))

  Args:
    temperature: T >= 0, in units of the loss, or a schedule `(count) -> T`; 0 is gradient descent exactly.
    learning_rate: alpha >= 0, that of the chain, or its schedule.
    preconditioner: P, the diagonal, with entries >= 0: a pytree prefix of the parameters, of scalars or arrays of the
      leaf's shape. None for 1.
    seed: a whole number or a key, for plain loops; with the extra argument `key` of `update`, a new one each time, as
      `gdlab.algorithm` passes it, each run has its own noise. Two of these in one chain need different seeds.

  Returns:
    A GradientTransformationExtraArgs. Noise is drawn in at least float32 and the sum rounded to the dtype of the
    updates. A NaN update stays NaN; a schedule with a value below 0 gives NaN.

  Raises:
    InputError: if an argument is out of range; from `init`, if the preconditioner does not fit the parameters.

  Source: Welling and Teh 2011, Bayesian learning via stochastic gradient Langevin dynamics; Li et al. 2016, arXiv
    1512.07666, for preconditioners.
  """
  number_or_schedule('temperature', temperature)
  number_or_schedule('learning_rate', learning_rate)
  factors = 1.0 if preconditioner is None else preconditioner
  for factor in jax.tree.leaves(factors):
    _check_factor(factor)
  check_seed(seed)

  def init(params: PyTree) -> NoiseState:
    spread_prefix('preconditioner', factors, params)
    return NoiseState(own_key(seed, _LANGEVIN_SALT, params), jnp.zeros((), jnp.int32))

  def update(
    updates: PyTree, state: NoiseState, params: PyTree = None, *, key: Key | None = None, **extra_args: Any
  ) -> tuple[PyTree, NoiseState]:
    del params, extra_args
    scale = 2 * _at(learning_rate, state.step) * _at(temperature, state.step)
    spread = spread_prefix('preconditioner', factors, updates)
    deviations = jax.tree.map(lambda factor: jnp.sqrt(scale * jnp.asarray(factor)), spread)
    drawing = draw_key(state.key, state.step, key)
    updates = plus_normals(updates, drawing, deviations)
    return updates, NoiseState(state.key, optax.safe_increment(state.step))

  return optax.GradientTransformationExtraArgs(init, update)


@checked('eta', 'gamma', 'seed')
def annealed_gradient_noise(eta: Any, gamma: Any, *, seed: Any = 0) -> optax.GradientTransformationExtraArgs:
  r"""Adds Gaussian noise to the gradient, of variance $\sigma_t^2 = \frac{\eta}{(1+t)^\gamma}$ at update t = 0, 1, ...

  First in a chain, because the noise is added to the gradient. The distribution is that of `optax.add_noise`, whose key
  is fixed when it is built: every lane of a vmap gets the same noise. Here the extra argument `key` of `update` gives
  each run its own.

  Args:
    eta: variance of the first update's noise, >= 0; the paper uses 0.01, 0.3 or 1. With 0 there is exactly no noise.
    gamma: exponent of the decay, >= 0; the paper uses 0.55.
    seed: a whole number or a key, for plain loops without `key`. Two of these in one chain need different seeds.

  Returns:
    A GradientTransformationExtraArgs; dtypes and NaN as for `langevin_noise`.

  Raises:
    InputError: if an argument is out of range.

  Source: Neelakantan et al. 2015, Adding gradient noise improves learning for very deep networks, arXiv 1511.06807.
  """
  check_real('eta', eta, minimum=0)
  check_real('gamma', gamma, minimum=0)
  check_seed(seed)

  def init(params: PyTree) -> NoiseState:
    return NoiseState(own_key(seed, _GRADIENT_SALT, params), jnp.zeros((), jnp.int32))

  def update(
    updates: PyTree, state: NoiseState, params: PyTree = None, *, key: Key | None = None, **extra_args: Any
  ) -> tuple[PyTree, NoiseState]:
    del params, extra_args
    deviation = jnp.sqrt(eta / (1.0 + state.step) ** gamma)
    deviations = jax.tree.map(lambda _: deviation, updates)
    updates = plus_normals(updates, draw_key(state.key, state.step, key), deviations)
    return updates, NoiseState(state.key, optax.safe_increment(state.step))

  return optax.GradientTransformationExtraArgs(init, update)


def _at(value: Any, count: Array) -> Any:
  return value(count) if callable(value) else value


def _check_factor(factor: Any) -> None:
  if isinstance(factor, jax.core.Tracer):
    return
  array = np.asarray(factor)
  # Not dtype.kind: NumPy has no kind for bfloat16.
  real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
  if not real or not (np.isfinite(array) & (array >= 0)).all():
    raise InputError(f'preconditioner must hold finite real numbers >= 0, got {shown(factor)}')
