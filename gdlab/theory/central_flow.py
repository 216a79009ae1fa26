"""The central flow: the path of full-batch descent, averaged over its oscillation at the edge of stability.

In JAX, unlike the rest of the package: it differentiates a given loss and runs for many seeds at once under `vmap`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdlab.core.argument_checks import tree
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.types import Array, Key, PyTree

_FIRST_PRODUCTS = 100  # power iterations before the flow begins
_SHIFT = 0.5  # times the sharpness: eigenvalues above -2 times it are not taken for the largest


class CentralFlow(NamedTuple):
  r"""The flow at R + 1 times, the start and the end among them.

  Attributes:
    updates: int[R + 1], the time t, counted in updates of descent.
    params: like the parameters with the leading axis R + 1, w(t).
    sharpness: float[R + 1], S(w), the largest eigenvalue of the Hessian.
    variance: float[R + 1], sigma^2, the mean square of descent's distance from w; 0 below the edge.
    loss: float[R + 1], L(w).
    mean_loss: float[R + 1], $L(w) + \sigma^2/\eta$, the loss of descent averaged over its oscillation.
  """

  updates: Array
  params: PyTree
  sharpness: Array
  variance: Array
  loss: Array
  mean_loss: Array


@checked('learning_rate', 'num_updates', 'record_every', 'substeps', params=tree(finite=True))
def central_flow(
  loss: Callable[[PyTree], Array],
  params: PyTree,
  learning_rate: Any,
  key: Key,
  *,
  num_updates: int,
  record_every: int = 1,
  substeps: int = 4,
) -> CentralFlow:
  r"""The time average of gradient descent with rate $\eta$ where at most one direction is at the edge of stability.

  Below the edge, $S < 2/\eta$, it is the gradient flow. At the edge descent oscillates along the top eigenvector u with
  variance $\sigma^2$, which lowers the sharpness just as fast as descent raises it, so that S stays at $2/\eta$:

  $$\frac{dw}{dt} = -\eta \left[\nabla L + \tfrac12 \sigma^2 \nabla S\right], \qquad
    \sigma^2 = \frac{2 \langle -\nabla L, \nabla S \rangle}{\|\nabla S\|^2} \text{ where } S = 2/\eta
    \text{ and this is positive, else } 0.$$

  Euler steps of 1/`substeps` of an update, with the variance for which each of them ends with S at most $2/\eta$ to
  first order. Each step corrects the error of the one before, so the error is proportional to the step size. From a
  start above the edge S falls to it in one step, where descent itself may diverge. The flow leaves out descent's
  discretisation error along directions that do not oscillate, and does not keep a second eigenvalue at $2/\eta$.

  Each step costs about four gradients: one gradient differentiated twice along u gives the Hessian product for the
  power iteration and the gradient of S. No loop's length depends on values, so under `jax.vmap` no lane waits for
  another.

  Example:
    >>> import jax
    >>> def edge(w, rate=0.1, a=0.3, b=2.0):
    ...   return 0.5 * (2 / rate + b * w['y']) * w['x'] ** 2 - a * w['y']
    >>> start = {'x': jnp.array(0.0), 'y': jnp.array(-1.0)}
    >>> flow = central_flow(edge, start, 0.1, jax.random.key(0), num_updates=60, record_every=30)
    >>> flow.sharpness.round(2).tolist(), flow.variance.round(2).tolist()  # the variance is 2a/b
    ([18.0, 19.8, 20.0], [0.0, 0.0, 0.3])

  Args:
    loss: L, `(params) -> float[]`, three times differentiable.
    params: the start, a pytree of floats, in whose dtype everything is computed.
    learning_rate: eta > 0, a number that may be traced.
    key: for the random start of the power iteration for u.
    num_updates: length of the flow in updates of descent, >= 1.
    record_every: updates between records; divides num_updates.
    substeps: Euler steps per update, >= 2: with one the flow itself would oscillate.

  Raises:
    InputError: an argument out of range.

  Source: Cohen et al. 2024, arXiv 2410.24206; without its quadratic program, which one direction does not need.
  """
  check_real('learning_rate', learning_rate, above=0.0)
  check_count('record_every', record_every)
  check_count('substeps', substeps, minimum=2)
  if check_count('num_updates', num_updates) % record_every:
    raise InputError(f'record_every must divide num_updates ({num_updates}), got {record_every}')
  flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, params))
  if not jnp.issubdtype(flat.dtype, jnp.floating):
    raise InputError(f'params must be floats, got {flat.dtype}')
  rate = jnp.asarray(learning_rate, flat.dtype)
  gradient = jax.grad(lambda flat: loss(unravel(flat)))
  step_size = rate / substeps

  def product(w: Array, u: Array) -> tuple[Array, Array]:
    """The gradient and H u."""
    return jax.jvp(gradient, (w,), (u,))

  def look(w: Array, u: Array) -> tuple[Array, Array, Array, Array]:
    """The velocity over -eta, H u, S and the variance."""
    (slope, image), (_, rise) = jax.jvp(lambda w: product(w, u), (w,), (u,))
    sharpness, square = u @ image, rise @ rise
    needed = (sharpness - 2 / rate) / step_size - rise @ slope
    variance = jnp.where(square > 0, 2 * jnp.maximum(needed, 0) / jnp.where(square > 0, square, 1), 0)
    return slope + variance / 2 * rise, image, sharpness, variance

  def followed(u: Array, image: Array) -> Array:
    """One power iteration, with a shift so that no negative eigenvalue is found."""
    moved = image + _SHIFT * jnp.abs(u @ image) * u
    norm = jnp.linalg.norm(moved)
    return jnp.where(norm > 0, moved / jnp.where(norm > 0, norm, 1), u)

  def step(_: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
    w, u = at
    velocity, image, *_rest = look(w, u)
    return w - step_size * velocity, followed(u, image)

  def record(at: tuple[Array, Array]) -> tuple[Array, ...]:
    w, u = at
    _, _, sharpness, variance = look(w, u)
    value = loss(unravel(w))
    return w, sharpness, variance, value, value + variance / rate

  def advance(at: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    at = jax.lax.fori_loop(0, record_every * substeps, step, at)
    return at, record(at)

  random = jax.random.normal(key, flat.shape, flat.dtype)
  random = jax.lax.fori_loop(
    0, _FIRST_PRODUCTS, lambda _, u: followed(u, product(flat, u)[1]), random / jnp.linalg.norm(random)
  )
  first = (flat, random)
  _, later = jax.lax.scan(advance, first, None, length=num_updates // record_every)
  path, *numbers = (
    jnp.concatenate([one[None], rest]) for one, rest in zip(record(first), later, strict=True)
  )
  return CentralFlow(jnp.arange(len(path)) * record_every, jax.vmap(unravel)(path), *numbers)
