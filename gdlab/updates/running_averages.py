r"""Re-estimates the running averages in a model's state: batch normalisation's statistics at given parameters.

A running average is updated by $s \leftarrow m s + (1 - m) b$ with the batch's statistic $b$. A forward pass from
$s = 0$ gives $(1 - m) b$, one from another $s$ then gives $m$; so $b$ is known to rounding for any momentum. (A
derivative does not help: modules stop gradients there.) The estimate is the mean of $b$ over the training data.

Source: Izmailov et al. 2018, Averaging weights leads to wider optima, arXiv 1803.05407, section 3.2.
"""

import jax
import jax.numpy as jnp

from gdlab.core.evaluation import block_size
from gdlab.core.types import Array, Key, Problem, PyTree

_TOLERANCE = 1e-3  # of a momentum that is to be one number


def reestimated(problem: Problem, params: PyTree, model_state: PyTree, key: Key) -> PyTree:
  """The model's state with every running average replaced by the mean of the batch statistics over the training data.

  Args:
    problem: its training examples are split into equal batches, as large as in evaluations; the last one overlaps the
      one before if necessary.
    params: the parameters at which to compute the averages.
    model_state: the model's state.
    key: randomness of the forward pass in training mode (Dropout).

  Returns:
    A state like it. Leaves that are not running averages (counters, keys, power iterations) are unchanged.
  """
  leaves, structure = jax.tree.flatten(model_state)
  places = [place for place, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
  if not places:
    return model_state
  num_examples = problem.num_examples
  num_blocks = -(-num_examples // block_size(problem.train))
  block = -(-num_examples // num_blocks)

  def put(values: list[Array]) -> PyTree:
    filled = list(leaves)
    for place, value in zip(places, values, strict=True):
      filled[place] = value
    return jax.tree.unflatten(structure, filled)

  def found(number: Array) -> tuple[list[Array], list[Array]]:
    """The batch's statistic for each leaf, and whether the leaf is a running average."""
    first = jnp.minimum(number * block, num_examples - block)
    piece = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, block), problem.train)

    def after(values: list[Array]) -> list[Array]:
      _, new = problem.loss(
        params, put(values), piece, jnp.ones(block, bool), jax.random.fold_in(key, number)
      )
      new_leaves = jax.tree.leaves(new)
      return [new_leaves[place] for place in places]

    base = after([jnp.zeros_like(leaves[place]) for place in places])
    # Of the size of what was found, so that the difference has its digits.
    sizes = [1 + jnp.max(jnp.abs(leaf), initial=0) for leaf in base]
    straight = [jnp.full_like(leaf, size) for leaf, size in zip(base, sizes, strict=True)]
    # Another direction, so that a leaf that depends on others or on all of itself does not pass for an average.
    turned = [
      (size * jnp.cos(place + jnp.arange(leaf.size, dtype=float))).reshape(leaf.shape).astype(leaf.dtype)
      for place, leaf, size in zip(places, base, sizes, strict=True)
    ]
    batch, is_average = [], []
    for old, size, first_new, second_new, direction in zip(
      base, sizes, after(straight), after(turned), turned, strict=True
    ):
      tolerance = max(_TOLERANCE, 4 * float(jnp.finfo(old.dtype).eps))
      momenta = (first_new - old) / size
      momentum = jnp.mean(momenta)
      is_one = jnp.all(jnp.abs(momenta - momentum) <= tolerance)
      is_own = jnp.all(jnp.abs(second_new - old - momentum * direction) <= tolerance * size)
      inside = (momentum > -tolerance) & (momentum < 1 - tolerance)
      is_average.append(is_one & is_own & inside)
      batch.append(old / (1 - jnp.where(inside, momentum, 0)))
    return batch, is_average

  batches, averages = jax.lax.map(found, jnp.arange(num_blocks))
  new = [
    jnp.where(jnp.all(is_average), jnp.mean(batch, axis=0), leaves[place]).astype(leaves[place].dtype)
    for place, batch, is_average in zip(places, batches, averages, strict=True)
  ]
  return put(new)
