"""Where a run first stopped being finite, by repeating it update by update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.core.arguments import checked
from gdlab.core.errors import check_count
from gdlab.core.objective import ascent, batch_loss, batch_losses
from gdlab.core.types import Algorithm, Array, Problem, State, Streams


class NonFinite(NamedTuple):
  """The first update of a run that is not finite.

  Attributes:
    step: the update, counted from 1.
    loss: the batch's loss before it.
    previous_loss: the batch's loss one update earlier; NaN at the first.
    first_loss: the batch's loss before the first update.
    leaf: the first leaf whose gradient is not finite; '' where all are finite and only the update is not.
    bad_leaves: number of leaves whose gradient is not finite.
    num_leaves: number of all leaves.
    examples: indices of the training examples in the batch whose loss is not finite.
  """

  step: int
  loss: float
  previous_loss: float
  first_loss: float
  leaf: str
  bad_leaves: int
  num_leaves: int
  examples: tuple[int, ...]


Replay = Callable[[Streams | Array], NonFinite | None]


@checked
def first_nonfinite(
  problem: Problem, algorithm: Algorithm, streams: Streams | Array, *, max_steps: int
) -> NonFinite | None:
  """Repeats a run until an update is not finite, and checks that update's gradient leaf by leaf.

  A host function, at the cost of the run up to there and one more gradient. For a user's own loop, pass the key that
  was given to `algorithm.init`.

  Example:
    >>> import jax, optax, gdlab
    >>> problem = gdlab.problems.quadratic([1.0, 0.1])
    >>> descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(1e15))
    >>> gdlab.diagnosis.first_nonfinite(problem, descent, jax.random.key(0), max_steps=10).step
    2

  Args:
    problem: the problem of the run.
    algorithm: the algorithm of the run.
    streams: the key, or the streams, of the run.
    max_steps: most updates to repeat, >= 1.

  Returns:
    The first update at which the loss, or the norm of the gradient, the update or the parameters is not finite, which
    is the criterion of `gdlab.run`; None if there is none.

  Raises:
    InputError: if `max_steps` is not a whole number >= 1.
  """
  return replayer(problem, algorithm, max_steps=max_steps)(streams)


def replayer(problem: Problem, algorithm: Algorithm, *, max_steps: int) -> Replay:
  """`first_nonfinite` for many runs of one algorithm: a function of their streams, compiled once."""
  check_count('max_steps', max_steps)

  @jax.jit
  def advanced(streams: Any, problem: Problem) -> tuple[State, Array, Array, Array]:
    start = algorithm.init(streams, problem)
    nothing = jnp.full((), jnp.nan)

    def goes_on(carry):
      state, _, bad, *_ = carry
      return ~bad & (state.step < max_steps)

    def advance(carry):
      state, _, _, first, last = carry
      moved, info = algorithm.step(state, problem)
      bad = ~jnp.isfinite(info.loss + info.grad_norm + info.update_norm + info.param_norm)
      first = jnp.where(state.step == 0, info.loss, first)
      return moved, state, bad, first, jnp.where(bad, last, info.loss)

    begin = (start, start, jnp.zeros((), bool), nothing, nothing)
    _, before, bad, first, last = jax.lax.while_loop(goes_on, advance, begin)
    return before, bad, first, last

  @jax.jit
  def looked_at(state: State, problem: Problem) -> tuple[Array, Array, Array, Array]:
    batch, _ = algorithm.sampler.sample(state.sampler)
    key = jax.random.fold_in(state.key, state.step)

    def loss(params):
      return batch_losses(problem, params, state.model_state, batch, key)

    (value, (losses, _)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)])
    return value, finite, batch.indices, ~jnp.isfinite(losses)

  def replay(streams: Streams | Array) -> NonFinite | None:
    with jax.debug_key_reuse(False):  # keys pass through a loop unused; the checker takes that for use
      before, bad, first, last = advanced(streams, problem)
      if not bad:
        return None
      value, finite, indices, wrong = looked_at(before, problem)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(before.params)]
    leaves = [path for path, good in zip(paths, np.asarray(finite)) if not good]
    return NonFinite(
      step=int(before.step) + 1,
      loss=float(value),
      previous_loss=float(last),
      first_loss=float(first),
      leaf=leaves[0] if leaves else '',
      bad_leaves=len(leaves),
      num_leaves=len(paths),
      examples=tuple(sorted({int(i) for i in np.asarray(indices)[np.asarray(wrong)]})),
    )

  return replay


def first_alignment(problem: Problem, algorithm: Algorithm, streams: Streams | Array) -> float:
  """The cosine of the first update of a run and the gradient of its batch: -1 for plain descent.

  A host function, at the cost of one update and one gradient.
  """

  @jax.jit
  def aligned(streams: Any, problem: Problem) -> Array:
    state = algorithm.init(streams, problem)
    batch, _ = algorithm.sampler.sample(state.sampler)
    key = jax.random.fold_in(state.key, state.step)
    derivative = jax.grad(lambda params: batch_loss(problem, params, state.model_state, batch, key)[0])
    gradient = ascent(derivative(state.params))
    moved, _ = algorithm.step(state, problem)
    way = optax.tree.sub(moved.params, state.params)
    return jnp.real(optax.tree.vdot(way, gradient)) / (optax.tree.norm(way) * optax.tree.norm(gradient))

  with jax.debug_key_reuse(False):  # the step uses the keys as well, on purpose
    return float(aligned(streams, problem))
