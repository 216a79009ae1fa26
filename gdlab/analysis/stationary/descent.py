"""From a start to a root of the gradient: damped least squares on the gradient's norm, then Newton's method."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse import linalg

from gdlab.analysis.stationary.local import Gradient, Local, look, newton_step
from gdlab.core.types import Array

DENSE = 64  # up to so many parameters a step is solved by the Hessian's eigenvectors
_BASIS = 50  # vectors of the Krylov space between restarts
_SHORT = 1e-7  # length of a Newton step, relative to 1 + |x|, after which one more is made


class Descent(NamedTuple):
  """The state of a search."""

  x: Array  # the best point so far
  local: Local | Array  # what is known there; beyond DENSE parameters the gradient alone
  trial: Array  # the point to look at next
  step: Array  # int32[], points looked at
  damping: Array  # relative to the squared curvature along the gradient
  scale: Array  # the largest such curvature met
  newton: Array  # bool[], whether Newton's method has taken over
  length: Array  # of the last Newton step
  short: Array  # int32[], short Newton steps made
  last: Array  # int32[], the step at which Newton's method ends
  going: Array


def descend(
  gradient: Gradient, start: Array, tol: Any, reach: Any, max_steps: int, newton_steps: int
) -> Descent:
  r"""Lowers $\frac12\lVert\nabla f\rVert^2$ by Levenberg-Marquardt steps, then by Newton steps.

  $\delta = (H^2 + \mu I)^{-1} H g$, with a damping $\mu$ relative to the curvature along g, reduced on success.
  Newton's method takes over at a gradient norm of `tol` or when no damped step succeeds, and continues while it lowers
  the gradient by ever shorter steps. The search ends beyond the distance `reach` from the start.
  """
  look_at = functools.partial(look, gradient) if start.size <= DENSE else gradient
  zero, no = jnp.zeros((), start.dtype), jnp.bool_(False)
  nothing = jax.tree.map(
    lambda leaf: jnp.full(leaf.shape, jnp.inf, leaf.dtype), jax.eval_shape(look_at, start)
  )

  def advance(state: Descent) -> Descent:
    seen = look_at(state.trial)
    before, after = (jnp.linalg.norm(_gradient(local)) for local in (state.local, seen))
    better = after < before  # False for NaN
    x = jnp.where(better, state.trial, state.x)
    local = jax.tree.map(lambda new, old: jnp.where(better, new, old), seen, state.local)
    norm = jnp.minimum(after, before)
    damping = jnp.maximum(jnp.where(better, state.damping / 8, state.damping * 4), 1e-16)
    stuck = (damping > 1e8) | (better & (after > (1 - 1e-12) * before))
    newton = state.newton | stuck | (norm <= tol) | (state.step >= max_steps)
    delta, curvature = _step(gradient, x, local, damping, newton)
    length = jnp.linalg.norm(delta)
    # Newton's method is given up where a step fails, or where steps no longer shrink: on the way to infinity.
    fails = state.newton & (~better | (length > 0.95 * state.length))
    short = state.short + (state.newton & (state.length <= _SHORT * (1 + jnp.linalg.norm(x))))
    last = jnp.where(newton & ~state.newton, state.step + newton_steps, state.last)
    going = ~fails & (short < 2) & (state.step < last) & (norm > 0) & (jnp.linalg.norm(x - start) <= reach)
    return Descent(
      x,
      local,
      x - delta,
      state.step + 1,
      damping,
      jnp.maximum(state.scale, curvature),
      newton,
      jnp.where(newton, length, jnp.inf),
      short,
      last,
      going & jnp.isfinite(norm) & jnp.isfinite(delta).all(),
    )

  ends = jnp.int32(max_steps + newton_steps)
  begin = Descent(
    start, nothing, start, jnp.int32(0), zero + 1e-3, zero, no, zero + jnp.inf, jnp.int32(0), ends, ~no
  )
  return jax.lax.while_loop(lambda state: state.going, advance, begin)


def _gradient(local: Local | Array) -> Array:
  return local.gradient if isinstance(local, Local) else local


def _step(
  gradient: Gradient, x: Array, local: Local | Array, damping: Array, newton: Array
) -> tuple[Array, Array]:
  """The step, damped or Newton's, and the curvature |Hg|/|g| that the damping is relative to."""
  g = _gradient(local)
  size = jnp.linalg.norm(g)
  per_size = 1 / jnp.where(size > 0, size, 1)
  if isinstance(local, Local):
    along = local.vectors.T @ g
    curvature = jnp.linalg.norm(local.values * along) * per_size
    squares = jnp.square(local.values) + damping * jnp.square(curvature)
    damped = local.vectors @ (local.values / jnp.where(squares > 0, squares, 1) * along)
    return jnp.where(newton, newton_step(local.values, local.vectors, g), damped), curvature

  def product(vector: Array) -> Array:
    return jax.jvp(gradient, (x,), (vector,))[1]

  target = product(g)
  curvature = jnp.linalg.norm(target) * per_size
  shift = damping * jnp.square(curvature)

  def with_damping() -> Array:
    return linalg.cg(lambda v: product(product(v)) + shift * v, target, tol=1e-3, maxiter=_BASIS)[0]

  def without() -> Array:
    return linalg.gmres(product, g, tol=1e-10, restart=_BASIS, maxiter=4, solve_method='incremental')[0]

  return jax.lax.cond(newton, without, with_damping), curvature
