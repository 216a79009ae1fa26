"""Four breakages of a training script that leave all shapes right, and sound relatives of two of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from gdlab.core.types import Array, Key, Problem, PyTree

CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels
FIRST_LAYER = 2  # its leaves, bias and kernel, are the first of the networks here


def with_loss(problem: Problem, loss: Callable[[Array, Array], Array]) -> Problem:
  """The problem with another loss of outputs and targets, in training and evaluation; without other metrics."""
  # Those of the adapters are dataclasses.
  training: Any = problem.loss
  evaluation: Any = problem.metrics
  return dataclasses.replace(
    problem,
    loss=dataclasses.replace(training, loss=loss),
    metrics=dataclasses.replace(evaluation, metrics=(('loss', loss),)),
  )


def softmax_twice(logits: Array, labels: Array) -> Array:
  """What a model that ends with a softmax is given when its outputs are taken for logits."""
  return CROSS_ENTROPY(jax.nn.softmax(logits), labels)


def log_softmax_twice(logits: Array, labels: Array) -> Array:
  """The same with a log-softmax, which changes nothing: the softmax of log p is p."""
  return CROSS_ENTROPY(jax.nn.log_softmax(logits), labels)


@dataclasses.dataclass(frozen=True)
class Detached:
  """A training loss that does not hand a gradient to the first layer."""

  loss: Any

  def __call__(self, params: PyTree, model_state: PyTree, examples: PyTree, mask: Array, key: Key) -> Any:
    """The loss, see `gdlab.core.types.LossFn`."""
    leaves, structure = jax.tree.flatten(params)
    leaves[:FIRST_LAYER] = map(jax.lax.stop_gradient, leaves[:FIRST_LAYER])
    return self.loss(jax.tree.unflatten(structure, leaves), model_state, examples, mask, key)


def uneven(rate: Any, first: Any) -> optax.GradientTransformation:
  """Plain descent whose first layer moves `first` times as far: not at all at 0, which is what a mask does."""

  def scale(updates: PyTree, _: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(updates)
    leaves[:FIRST_LAYER] = [leaf * first for leaf in leaves[:FIRST_LAYER]]
    return jax.tree.unflatten(structure, leaves)

  return optax.chain(optax.sgd(rate), optax.stateless(scale))
