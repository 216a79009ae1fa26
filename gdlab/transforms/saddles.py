r"""Perturbed gradient descent: a small random step where the gradient is small, to escape saddle points."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.argument_checks import at_most_int32
from gdlab.core.arguments import checked
from gdlab.core.branching import cond_any
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.types import Array, Key, PyTree
from gdlab.transforms.arguments import check_seed, number_or_schedule
from gdlab.transforms.drawing import draw_key, own_key, plus, standard_normals

_SALT = 0x736164


class PerturbState(NamedTuple):
  """State of `perturb_at_saddle`."""

  key: Key
  step: Array  # int32[], updates made
  last: Array  # int32[], the update (from 0) that was perturbed last; -1 before the first
  perturbations: Array  # int32[], how many there were


@checked('radius', 'grad_threshold', 'learning_rate', 'seed', min_interval=at_most_int32)
def perturb_at_saddle(
  radius: Any, grad_threshold: Any, min_interval: Any, *, learning_rate: Any = None, seed: Any = 0
) -> optax.GradientTransformationExtraArgs:
  r"""Adds a uniform draw from a ball to the update where the gradient is small.

  At update t, with $t_\text{last}$ the last one that was perturbed,

  $$\theta_{t+1} = \theta_t + u_t + \xi_t, \qquad \xi_t \sim U(\{\|\xi\| \le r\}) \text{ if }
    \|g_t\| \le g_\text{thres} \text{ and } t - t_\text{last} \ge t_\text{thres}, \text{ else } 0.$$

  The ball is over all parameters together. The transform is last in a chain, after the learning rate. The threshold
  applies to the raw gradient, passed as for Optax's line searches, `update(g, state, params, grad=g)`
  (`gdlab.algorithm` does so). If a loop cannot pass it (Flax's `TrainState`), give the preceding `learning_rate`; the
  incoming update is divided by it, which after `optax.sgd(rate)` is the gradient. With neither, `update` raises.
  `perturbed_gradient_descent` is the complete method. Under vmap the draw costs nothing while no lane needs it.

  Departure from the paper: there the step uses the gradient at the perturbed point, here the one already computed; the
  two steps differ by $\eta(\nabla f(\theta_t + \xi_t) - \nabla f(\theta_t))$. The paper's stopping criterion, no
  decrease by f_thres within t_thres steps, is left to the caller.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> descent = optax.chain(optax.sgd(0.1), perturb_at_saddle(0.01, 0.001, 10))
    >>> saddle = jnp.zeros(3)
    >>> updates, state = descent.update(saddle, descent.init(saddle), saddle, grad=saddle)
    >>> bool(0 < jnp.linalg.norm(updates) <= 0.01)
    True

  Args:
    radius: r >= 0 of the ball, in units of the parameters; 0 leaves every update unchanged.
    grad_threshold: g_thres >= 0, for the Euclidean norm over all parameters.
    min_interval: t_thres >= 0, the least number of updates between two perturbations; any real number.
    learning_rate: a number >= 0 or an Optax schedule: the rate by which the gradient was multiplied, used if `update`
      does not get `grad`. After momentum or a preconditioner, the threshold then applies to their output, not to the
      gradient; where the rate is 0, nothing is perturbed.
    seed: a whole number or a key, for plain loops; with the extra argument `key` of `update`, a new one each time, as
      `gdlab.algorithm` passes it, each run has its own noise. Two of these in one chain need different seeds.

  Returns:
    A GradientTransformationExtraArgs. A NaN gradient is not small, so it passes through unperturbed.

  Raises:
    InputError: if an argument is out of range; from `update`, with neither `grad` nor `learning_rate`.

  Source: Jin, Ge, Netrapalli, Kakade and Jordan 2017, How to escape saddle points efficiently, arXiv 1703.00887.
  """
  check_real('radius', radius, minimum=0)
  check_real('grad_threshold', grad_threshold, minimum=0)
  check_real('min_interval', min_interval, minimum=0)
  check_seed(seed)
  if learning_rate is not None:
    number_or_schedule('learning_rate', learning_rate)

  def small(updates: PyTree, grad: PyTree, step: Array) -> Array:
    if grad is not None:
      return optax.tree.norm(widened(grad)) <= grad_threshold
    if learning_rate is None:
      raise InputError(
        'perturb_at_saddle needs the gradient, update(updates, state, params, grad=gradient), or the learning rate '
        'before it, perturb_at_saddle(..., learning_rate=rate), got neither'
      )
    rate = learning_rate(step) if callable(learning_rate) else learning_rate
    return (optax.tree.norm(widened(updates)) <= grad_threshold * rate) & (rate > 0)

  def init(params: PyTree) -> PerturbState:
    # Arrays of their own: what is in a state twice cannot be donated.
    step, last, perturbations = (jnp.full((), number, jnp.int32) for number in (0, -1, 0))
    return PerturbState(own_key(seed, _SALT, params), step, last, perturbations)

  def update(
    updates: PyTree,
    state: PerturbState,
    params: PyTree = None,
    *,
    grad: PyTree = None,
    key: Key | None = None,
    **extra_args: Any,
  ) -> tuple[PyTree, PerturbState]:
    del params, extra_args
    due = (state.last < 0) | (state.step - state.last >= min_interval)
    perturb = small(updates, grad, state.step) & due
    drawing = draw_key(state.key, state.step, key)
    updates = cond_any(perturb, _plus_ball, updates, drawing, jnp.asarray(radius, float))
    return updates, PerturbState(
      state.key,
      optax.safe_increment(state.step),
      jnp.where(perturb, state.step, state.last),
      state.perturbations + perturb,
    )

  return optax.GradientTransformationExtraArgs(init, update)


def _plus_ball(updates: PyTree, key: Key, radius: Array) -> PyTree:
  """Updates plus a uniform draw from a ball: a uniform direction times r times the d-th root of a uniform number."""
  direction_key, radius_key = jax.random.split(key)
  normals = standard_normals(direction_key, updates)
  norm = optax.tree.norm(normals)
  dimension = max(1, sum(leaf.size * (1 + jnp.iscomplexobj(leaf)) for leaf in jax.tree.leaves(updates)))
  length = radius * jax.random.uniform(radius_key, dtype=jnp.result_type(float)) ** (1 / dimension)
  return plus(updates, optax.tree.scale(length / norm, normals))


@checked('learning_rate', min_interval=at_most_int32)
def perturbed_gradient_descent(
  learning_rate: Any, radius: Any, grad_threshold: Any, min_interval: Any, *, seed: Any = 0
) -> optax.GradientTransformationExtraArgs:
  r"""Perturbed gradient descent, complete: `optax.sgd`, then `perturb_at_saddle`.

  The threshold applies to the incoming gradient (or the extra argument `grad`), so plain loops need not pass anything.

  Args:
    learning_rate: eta, a number >= 0 or an Optax schedule.
    radius: r, as for `perturb_at_saddle`; 0 is gradient descent exactly.
    grad_threshold: g_thres, as for `perturb_at_saddle`.
    min_interval: t_thres, as for `perturb_at_saddle`.
    seed: as for `perturb_at_saddle`.

  Raises:
    InputError: if an argument is out of range.

  Source: Jin et al. 2017, arXiv 1703.00887, algorithm 1; constants by its theorem: `pgd_constants`.
  """
  number_or_schedule('learning_rate', learning_rate)
  chained = optax.chain(
    optax.sgd(learning_rate), perturb_at_saddle(radius, grad_threshold, min_interval, seed=seed)
  )

  def update(
    updates: PyTree, state: PyTree, params: PyTree = None, *, grad: PyTree = None, **extra_args: Any
  ) -> tuple[PyTree, PyTree]:
    grad = updates if grad is None else grad
    moved, state = chained.update(updates, state, params, grad=grad, **extra_args)
    # A traced learning rate has widened bfloat16.
    return optax.tree.cast_like(moved, updates), state

  return optax.GradientTransformationExtraArgs(chained.init, update)


class PGDConstants(NamedTuple):
  """The constants of perturbed gradient descent; the first four are arguments of `perturbed_gradient_descent`."""

  learning_rate: Any
  radius: Any
  grad_threshold: Any
  min_interval: Any
  f_threshold: Any
  chi: Any


@checked('smoothness', 'hessian_lipschitz', 'epsilon', 'dimension', 'gap', 'failure', 'c')
def pgd_constants(
  smoothness: Any,
  hessian_lipschitz: Any,
  epsilon: Any,
  *,
  dimension: Any,
  gap: Any,
  failure: Any = 0.1,
  c: Any = 0.5,
) -> PGDConstants:
  r"""The constants with which perturbed descent provably finds a second-order stationary point.

  $$\chi = 3\max\Big\{\ln\frac{d\ell\Delta}{c\,\epsilon^2\delta}, 4\Big\}, \quad \eta = \frac c\ell, \quad
    r = \frac{\sqrt c}{\chi^2}\frac\epsilon\ell, \quad g_\text{thres} = \frac{\sqrt c}{\chi^2}\epsilon, \quad
    f_\text{thres} = \frac{c}{\chi^3}\sqrt{\frac{\epsilon^3}{\rho}}, \quad
    t_\text{thres} = \frac{\chi}{c^2}\frac{\ell}{\sqrt{\rho\epsilon}}.$$

  A point with $\|\nabla f\| \le \epsilon$ and $\lambda_\text{min}(\nabla^2 f) \ge -\sqrt{\rho\epsilon}$ is found
  with probability at least $1 - \delta$ in $O(\ell\Delta\epsilon^{-2}\chi^4)$ steps.

  Example:
    >>> found = pgd_constants(2.0, 1.0, 0.01, dimension=10, gap=1.0)
    >>> found.learning_rate
    0.25

  Args:
    smoothness: ell > 0, the Lipschitz constant of the gradient.
    hessian_lipschitz: rho > 0, that of the Hessian.
    epsilon: in (0, ell^2 / rho], the gradient norm to reach.
    dimension: d >= 1, the number of parameters.
    gap: Delta > 0, a bound on the initial loss minus the minimum.
    failure: delta in (0, 1), the allowed probability of failure.
    c: in (0, 1]; the theorem holds for all c below a constant that it does not state.

  Raises:
    InputError: if an argument is out of range.

  Source: Jin et al. 2017, arXiv 1703.00887, algorithm 2 and theorem 3.
  """
  given: tuple[Any, ...] = (
    check_real('smoothness', smoothness, above=0.0),
    check_real('hessian_lipschitz', hessian_lipschitz, above=0.0),
    check_real('epsilon', epsilon, above=0.0),
    check_count('dimension', dimension, traced=True),
    check_real('gap', gap, above=0.0),
    check_real('failure', failure, above=0.0, below=1.0),
    check_real('c', c, above=0, maximum=1),
  )
  traced = any(isinstance(value, jax.core.Tracer) for value in given)
  functions: Any = (jnp.log, jnp.sqrt, jnp.maximum) if traced else (math.log, math.sqrt, max)
  log, root, larger = functions
  given = given if traced else tuple(map(float, given))
  ell, rho, eps, d, delta_f, delta, c = given
  if not any(isinstance(value, jax.core.Tracer) for value in (ell, rho, eps)) and eps > ell**2 / rho:
    raise InputError(f'epsilon must lie in (0, smoothness^2 / hessian_lipschitz = {ell**2 / rho}], got {eps}')
  # A product of logarithms' arguments would overflow float32 where epsilon is small.
  chi = 3 * larger(log(d) + log(ell) + log(delta_f) - log(c) - 2 * log(eps) - log(delta), 4)
  return PGDConstants(
    learning_rate=c / ell,
    radius=root(c) * eps / (chi**2 * ell),
    grad_threshold=root(c) * eps / chi**2,
    min_interval=chi * ell / (c**2 * root(rho * eps)),
    f_threshold=c / chi**3 * eps * root(eps / rho),
    chi=chi,
  )
