"""Metrics over a whole data set, in blocks that bound memory use."""

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.dependence import check_losses, mixes_in_evaluation
from gdlab.core.dtypes import widened
from gdlab.core.types import SPLITS, Array, Problem, PyTree

BLOCK = 2048  # examples evaluated at once at most; larger buys no speed on the machines measured
CPU_BYTES = (
  2**18
)  # of inputs at once on a CPU: then the activations of a small CNN stay in its cache (3x faster)


@checked
def evaluate(problem: Problem, params: PyTree, model_state: PyTree = ()) -> dict[str, Array]:
  """The mean of every metric over the training set and, if there are any, the validation and test sets.

  Args:
    problem: the data and the metrics.
    params: parameters to evaluate at.
    model_state: the model's other state.

  Returns:
    `{'train_loss': float[], 'test_loss': float[], ...}`, one entry per metric and data set (`train`, `validation`,
    `test`).
  """
  values: dict[str, Array] = {}
  for split in SPLITS:
    examples = getattr(problem, split)
    if examples is not None:
      means = mean_metrics(problem, params, model_state, examples)
      values |= {f'{split}_{name}': mean for name, mean in means.items()}
  return values


def mean_metrics(problem: Problem, params: PyTree, model_state: PyTree, examples: PyTree) -> dict[str, Array]:
  """The mean of every metric over `examples`, computed block by block.

  Metrics that mix examples (contrastive losses) are computed on all examples as one batch.
  """
  num_examples = jax.tree.leaves(examples)[0].shape[0]
  whole = mixes_in_evaluation(problem, params, model_state)
  num_blocks = 1 if whole else -(-num_examples // block_size(examples))
  block = -(-num_examples // num_blocks)  # equal blocks, so that hardly an example is computed twice

  def sums(number):
    # The last block is moved back to end with the data, and what it has in common with its neighbour is left out.
    first = jnp.minimum(number * block, num_examples - block)
    piece = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, block), examples)
    fresh = first + jnp.arange(block) >= number * block
    metrics = problem.metrics(params, model_state, piece)
    for name, values in metrics.items():
      check_losses(f'metric {name!r}', values, block)
    return {name: jnp.sum(jnp.where(fresh, widened(values, float), 0)) for name, values in metrics.items()}

  if block == num_examples:
    totals = sums(0)
  else:
    per_block = jax.lax.map(sums, jnp.arange(num_blocks))
    totals = {name: jnp.sum(values) for name, values in per_block.items()}
  return {name: total / num_examples for name, total in totals.items()}


def block_size(examples: PyTree) -> int:
  """How many examples are evaluated at once: at most `BLOCK`, on a CPU also at most `CPU_BYTES` of them."""
  if jax.default_backend() != 'cpu':
    return BLOCK
  num_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(examples))
  num_examples = jax.tree.leaves(examples)[0].shape[0]
  return max(1, min(BLOCK, CPU_BYTES * num_examples // max(1, num_bytes)))
