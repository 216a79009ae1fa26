"""Digits of very unequal frequency, like the classes of natural data."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Array, Problem, State
from gdlab.problems.checks import nonnegative, real_array
from gdlab.problems.images import digits

NUM_CLASSES = 10


@checked('exponent', 'order', 'seed')
def imbalanced_digits(
  model: nn.Module | Callable[[nnx.Rngs], nnx.Module] | None = None,
  exponent: float = 1.0,
  *,
  order: Sequence[int] = tuple(range(NUM_CLASSES)),
  seed: int = 0,
) -> Problem:
  r"""The digits of `digits` with heavy-tailed class frequencies in training; the test set is unchanged.

  The training set has $\max(1, \mathrm{round}(n r^{-s}))$ images of the class of rank r = 1, ..., 10, with n the size
  of the smallest class of `digits`: at s = 0 all classes are equally frequent, at s = 1 the law is Zipf's, as for
  words.
  Images are drawn without replacement and keep their order. The test set is balanced, so test accuracy is nearly the
  mean over classes; `gdlab.problems.imbalanced.class_accuracy` is a probe for the accuracy of each class.

  Args:
    model: as for `digits`.
    exponent: s >= 0.
    order: the digits from the most to the least frequent, each once.
    seed: >= 0, of the draw of images.

  Raises:
    InputError: an argument out of range; `model` as for `digits`.

  Source: F. Kunstner, A. Milligan, R. Yadav, M. Schmidt and A. Bietti, "Heavy-tailed class imbalance and why Adam
  outperforms gradient descent on language models", NeurIPS 2024.
  """
  exponent = nonnegative('exponent', exponent)
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  places = real_array('order', order)
  if places.shape != (NUM_CLASSES,) or sorted(places) != list(range(NUM_CLASSES)):
    raise InputError(f'order must hold each of 0, ..., 9 once, got {shown(order)}')
  problem = digits(model)
  labels = np.asarray(problem.train.targets)
  largest = np.bincount(labels, minlength=NUM_CLASSES).min()
  kept = []
  for rank, digit in enumerate(order, 1):
    with np.errstate(over='ignore'):
      count = max(1, round(largest / np.float64(rank) ** exponent))
    kept.append(rng.choice(np.flatnonzero(labels == digit), size=count, replace=False))
  indices = np.sort(np.concatenate(kept))
  return dataclasses.replace(
    problem, name='imbalanced digits', train=jax.tree.map(lambda leaf: leaf[indices], problem.train)
  )


@checked
def class_accuracy(problem: Problem, state: State) -> Array:
  """Accuracy on the test images of each digit, float[10]: a probe for `gdlab.run`.

  Args:
    problem: a problem on digits with a test set and the metric 'accuracy'.
    state: the run's state.
  """
  targets = getattr(problem.test, 'targets', None)
  if targets is None or not jnp.issubdtype(jnp.result_type(targets), jnp.integer):
    raise InputError(f'problem must have test images with a label each, got {shown(problem)}')
  hits = problem.metrics(state.params, state.model_state, problem.test)['accuracy']
  of_class = jax.nn.one_hot(problem.test.targets, NUM_CLASSES, dtype=hits.dtype)
  return hits @ of_class / jnp.sum(of_class, axis=0)
