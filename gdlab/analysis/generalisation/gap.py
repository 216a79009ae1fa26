"""The generalisation gap of every metric, with its standard error."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdlab.analysis.blocks import BLOCK
from gdlab.core.arguments import checked
from gdlab.core.dependence import mixes_in_evaluation
from gdlab.core.dtypes import widened
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import Array, Problem, PyTree


class Gap(NamedTuple):
  """The mean of a metric on the test examples minus that on the training examples.

  Attributes:
    gap: float[], test minus train.
    standard_error: float[], over the test examples.
    train: float[], the mean on the training set.
    test: float[], the mean on the test set.
  """

  gap: Array
  standard_error: Array
  train: Array
  test: Array


@checked('block_size')
def generalisation_gap(
  problem: Problem, params: PyTree, model_state: PyTree = (), *, block_size: int = BLOCK
) -> dict[str, Gap]:
  r"""Test minus train of every metric, with a standard error.

  Overfitting is a positive gap for a loss, a negative one for an accuracy. The gap is the expected metric on new
  examples minus the mean on the training set. The latter is known exactly, so the standard error is that of the test
  mean alone, $s / \sqrt{n_\text{test}}$: a larger test set reduces it, a larger training set does not. It holds for a
  test set that was not used to choose the parameters. Costs one evaluation of each set, about 1/3 gradient-equivalent
  for the training set. As a probe:
  `lambda problem, state: generalisation_gap(problem, state.params, state.model_state)['loss'].gap`.

  Args:
    problem: whose metrics and examples are used; it must have at least 2 test examples.
    params: the parameters.
    model_state: the model's other state.
    block_size: examples at once, >= 1, static under jit.

  Returns:
    Metric name -> Gap.

  Raises:
    InputError: if there are fewer than 2 test examples, `block_size` is not a whole number >= 1, or the metrics of an
      example depend on the other examples of a batch.
  """
  check_count('block_size', block_size)
  num_test = 0 if problem.test is None else jax.tree.leaves(problem.test)[0].shape[0]
  if num_test < 2:
    raise InputError(f'problem.test must hold at least 2 examples for a standard error, got {num_test}')
  train = metric_values(problem, params, model_state, problem.train, block_size)
  test = metric_values(problem, params, model_state, problem.test, block_size)

  def gap(train: Array, test: Array) -> Gap:
    means = jnp.mean(train), jnp.mean(test)
    return Gap(means[1] - means[0], jnp.std(test, ddof=1) / num_test**0.5, *means)

  return {name: gap(train[name], values) for name, values in test.items()}


def metric_values(
  problem: Problem, params: PyTree, model_state: PyTree, examples: PyTree, block_size: int
) -> dict[str, Array]:
  """Every metric of every example, float[n] in JAX's default float or wider, a block of examples at a time.

  Raises:
    InputError: if the metrics of an example depend on others, as they then have no standard error over examples.
  """
  if mixes_in_evaluation(problem, params, model_state):
    raise InputError(
      f'problem must have metrics of single examples, but those of {problem.name!r} depend on the others of a batch in '
      'evaluation mode: compare gdlab.evaluate on train and test instead'
    )
  num_examples = jax.tree.leaves(examples)[0].shape[0]
  block_size = min(block_size, num_examples)
  whole = num_examples // block_size * block_size

  def measure(piece: PyTree) -> dict[str, Array]:
    return widened(dict(problem.metrics(params, model_state, piece)), float)

  blocks = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, block_size, *leaf.shape[1:]), examples)
  found = {name: values.reshape(-1) for name, values in jax.lax.map(measure, blocks).items()}
  if whole == num_examples:
    return found
  rest = measure(jax.tree.map(lambda leaf: leaf[whole:], examples))
  return {name: jnp.concatenate([values, rest[name]]) for name, values in found.items()}
