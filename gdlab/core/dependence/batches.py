"""Whether the loss of an example depends on other examples of its batch, or on the contents of padding."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.dependence.interpreter import Followed, follow, trace
from gdlab.core.dependence.labels import of_examples
from gdlab.core.dependence.observed import reaches_others
from gdlab.core.errors import InputError
from gdlab.core.types import Problem, PyTree

# Batch sizes that another axis will hardly have by chance; what needs an even, a divisible or a larger one takes
# another.
SIZES = (7, 8, 12, 16)
MOST_KEPT = 512  # answers, with the functions they are about


class Mixing(NamedTuple):
  """Which losses of a problem depend on more than their own example.

  Attributes:
    training: whether in training mode the loss of an example depends on others in its batch: batch normalisation,
      contrastive losses.
    evaluation: the same for any metric in evaluation mode.
    padding: whether in training mode the loss of a real example, or the model's state, depends on the contents of
      padding slots.
  """

  training: bool
  evaluation: bool
  padding: bool


@checked
def mixing(problem: Problem) -> Mixing:
  """Which losses of a problem mix the examples of a batch.

  `problem.loss` and `problem.metrics` are traced for a small batch, and every value is followed back to the examples
  that it can depend on; nothing is computed. Only if a program has operations that gdlab cannot trace through
  (callbacks, custom kernels), the functions are run on small batches that differ in one example. Answers are cached by
  function and shapes, so a second call is free, also inside a compiled function.

  Example:
    >>> import gdlab
    >>> mixing(gdlab.problems.digits())
    Mixing(training=False, evaluation=False, padding=False)

  Raises:
    InputError: if losses or metrics are not one number per example.
  """
  with jax.ensure_compile_time_eval():  # also where a function that is traced asks
    at = jax.eval_shape(problem.init, jax.random.key(0))
  return Mixing(
    mixes_in_training(problem, *at), mixes_in_evaluation(problem, *at), padding_reaches(problem, *at)
  )


def mixes_in_training(problem: Problem, params: PyTree, model_state: PyTree) -> bool:
  """`Mixing.training`, for parameters and model state of these shapes."""
  return _kept(_in_training, problem.loss, problem, params, model_state)[0]


def mixes_in_evaluation(problem: Problem, params: PyTree, model_state: PyTree) -> bool:
  """`Mixing.evaluation`, for parameters and model state of these shapes."""
  return _kept(_in_evaluation, problem.metrics, problem, params, model_state)[0]


def padding_reaches(problem: Problem, params: PyTree, model_state: PyTree) -> bool:
  """`Mixing.padding`, for parameters and model state of these shapes."""
  return _kept(_in_training, problem.loss, problem, params, model_state)[1]


def one_by_one(name: str, problem: Problem, params: PyTree, model_state: PyTree) -> None:
  """Raises InputError if `problem` mixes examples in training, for `name`, which treats each example alone."""
  if mixes_in_training(problem, params, model_state):
    raise InputError(
      f'{name} is of one example alone, but in problem {problem.name!r} the training loss of an example depends on the '
      'others in its batch (BatchNorm, contrastive losses): use batch_mean() and methods without per-example '
      'gradients, or a model without BatchNorm, such as one with LayerNorm or GroupNorm'
    )


def check_losses(name: str, losses: Any, size: int) -> None:
  """Raises InputError unless losses or metrics are one number per example, of shape (size,)."""
  shape = jax.tree.map(jnp.shape, losses)
  if shape != (size,):
    raise InputError(
      f'{name} must return one number per example, shape ({size},) for a batch of {size}, got shape {shape}'
    )


Answers: TypeAlias = tuple[bool, ...]
_KEPT: dict[Any, Answers] = {}  # not functools.cache: the data are no part of the key


def _kept(
  question: Callable[..., Answers], function: Callable, problem: Problem, params: PyTree, model_state: PyTree
) -> Answers:
  leaves, structure = jax.tree.flatten((params, model_state, _example(problem.train)))
  shapes = tuple((np.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)
  key = (question, function, structure, shapes, str(jnp.result_type(float)))
  if key not in _KEPT:
    if len(_KEPT) >= MOST_KEPT:
      _KEPT.clear()
    _KEPT[key] = _at_some_size(question, problem, params, model_state)
  return _KEPT[key]


def _example(train: PyTree) -> PyTree:
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), train)


def _at_some_size(
  question: Callable[..., Answers], problem: Problem, params: PyTree, model_state: PyTree
) -> Answers:
  complaint: Exception | None = None
  at = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), (params, model_state)
  )
  for size in SIZES:
    try:
      return question(problem, *at, size)
    except InputError:
      raise
    except Exception as error:  # whatever the user's model says of a batch of this size
      complaint = complaint or error
  assert complaint is not None
  raise complaint


def _in_training(problem: Problem, params: PyTree, model_state: PyTree, size: int) -> Answers:
  """Whether examples affect the losses of others, and whether padding affects those of real ones or the state."""

  def losses(params, model_state, examples, mask, key):
    losses, model_state = problem.loss(params, model_state, examples, mask, key)
    check_losses('loss', losses, size)
    return losses, model_state

  batch, key = _batch(problem, size), jax.eval_shape(lambda: jax.random.key(0))
  whole, padded = np.ones(size, bool), np.arange(size) < size - 1
  traced = trace(losses, (params, model_state, batch, whole, key))

  def followed(mask: np.ndarray) -> Followed:
    return follow(traced, (params, model_state, batch, mask, key), (0, 0, of_examples(size), 0, 0))

  def seen(doubt: frozenset[str], mask: np.ndarray | None = None) -> bool:
    return not doubt or reaches_others(losses, problem, params, model_state, size, mask)

  found = followed(whole)
  mixes = _crosses(found.labels[0], size) and seen(found.doubt)
  found, padding = followed(padded), of_examples(size)[-1]
  reached = found.labels[0][:-1], *jax.tree.leaves(found.labels[1])
  return mixes, any((labels & padding).any() for labels in reached) and seen(found.doubt, padded)


def _in_evaluation(problem: Problem, params: PyTree, model_state: PyTree, size: int) -> Answers:
  """Whether examples affect the metrics of others."""

  def metrics(params, model_state, examples, mask, key):
    found = dict(problem.metrics(params, model_state, examples))
    for name, values in found.items():
      check_losses(f'metric {name!r}', values, size)
    return found, ()

  args = params, model_state, _batch(problem, size), None, None
  found = follow(trace(metrics, args), args, (0, 0, of_examples(size), 0, 0))
  suspected = any(_crosses(labels, size) for labels in found.labels[0].values())
  return (suspected and (not found.doubt or reaches_others(metrics, problem, params, model_state, size)),)


def _batch(problem: Problem, size: int) -> PyTree:
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), problem.train)


def _crosses(labels: np.ndarray, size: int) -> bool:
  return bool((labels & ~of_examples(size)).any())
