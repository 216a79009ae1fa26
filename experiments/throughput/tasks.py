"""The training tasks that contenders share, and the arithmetic in them."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from flax import nnx

from gdlab import problems
from gdlab.core.types import Problem

MOMENTUM = 0.9


def make(work: Mapping[str, Any]) -> tuple[Any, Problem]:
  """The model that a description of work names, and its training problem.

  `work['model']` is 'mlp' (on the digits) or 'cnn', gdlab's own, or a user's in Flax NNX, 'nnx mlp' or 'nnx cnn'. The
  CNNs are on the first `work['num_images']` images of MNIST or, where there is none (`work['images']` says so), as many
  made-up ones: the arithmetic is the same. Those are all that a CNN's runs are evaluated on; the forward passes over
  all of MNIST would take longer than the training.
  """
  loss = optax.softmax_cross_entropy_with_integer_labels
  if work['model'].endswith('mlp'):
    mlp = problems.MLP(features=tuple(work['hidden']))
    problem = problems.digits(mlp)
    if work['model'] == 'mlp':
      return mlp, problem
    user = NnxModel(functools.partial(nnx_perceptron, tuple(work['hidden'])))
    return user, problems.from_nnx(user.make, problem.train, loss, test=problem.test)
  cnn, count = problems.CNN(), work['num_images']
  if work['images'] == 'mnist':
    problem = problems.mnist(cnn)
    few = jax.tree.map(lambda leaf: leaf[:count], problem.train)
    problem = dataclasses.replace(problem, train=few, test=None)
  else:
    generator = np.random.default_rng(0)
    images = generator.random((count, 28, 28), np.float32)
    labels = generator.integers(0, 10, count).astype(np.int32)
    problem = problems.from_linen(cnn, (images, labels), loss, name='made-up images')
  if work['model'] == 'cnn':
    return cnn, problem
  return NnxModel(nnx_cnn), problems.from_nnx(nnx_cnn, problem.train, loss)


@dataclasses.dataclass(frozen=True)
class NnxModel:
  """A user's NNX module as the functions that a training loop wants, `init` and `apply` as in Linen.

  Attributes:
    make: `(rngs) -> module`.
  """

  make: Callable[[nnx.Rngs], nnx.Module]

  def init(self, key: jax.Array, inputs: jax.Array) -> dict[str, Any]:
    """Parameters, by the name 'params'."""
    del inputs
    return {'params': nnx.state(self.make(nnx.Rngs(key)), nnx.Param)}

  def apply(self, variables: Mapping[str, Any], inputs: jax.Array) -> jax.Array:
    """The module's outputs."""
    structure = nnx.graphdef(nnx.eval_shape(lambda: self.make(nnx.Rngs(0))))
    return nnx.merge(structure, variables['params'])(inputs)


def nnx_perceptron(hidden: Sequence[int], rngs: nnx.Rngs) -> nnx.Module:
  """`problems.MLP` as a user of NNX writes it."""
  layers: list[Any] = [_flat]
  for before, after in itertools.pairwise((64, *hidden, 10)):
    layers += [nnx.Linear(before, after, rngs=rngs), nnx.relu]
  return nnx.Sequential(*layers[:-1])


def nnx_cnn(rngs: nnx.Rngs) -> nnx.Module:
  """`problems.CNN` as a user of NNX writes it, on images [B, 28, 28]."""
  first, second = nnx.Conv(1, 16, (3, 3), rngs=rngs), nnx.Conv(16, 32, (3, 3), rngs=rngs)
  return nnx.Sequential(
    _with_channel, first, _pooled, second, _pooled, _flat, nnx.Linear(7 * 7 * 32, 10, rngs=rngs)
  )


def _flat(images: jax.Array) -> jax.Array:
  return images.reshape(images.shape[0], -1)


def _with_channel(images: jax.Array) -> jax.Array:
  return images.reshape(images.shape[0], 28, 28, 1)


def _pooled(images: jax.Array) -> jax.Array:
  return nnx.max_pool(nnx.relu(images), (2, 2), (2, 2))


class Perceptron(nn.Module):
  """`problems.MLP` as a user of Flax writes it: the same parameters, `nn.Dense` as it is."""

  features: Sequence[int]

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps images [B, ...] to logits [B, 10]."""
    inputs = inputs.reshape(inputs.shape[0], -1)
    for width in self.features:
      inputs = nn.relu(nn.Dense(width)(inputs))
    return nn.Dense(10)(inputs)


def images_at_hand() -> str:
  """'mnist' where GDLAB_DATA names a folder of data, else 'made-up'; nothing is downloaded for a benchmark."""
  return 'mnist' if os.environ.get('GDLAB_DATA') else 'made-up'


def flops_per_example(widths: Sequence[int]) -> int:
  r"""Floating-point operations of the matrix products of one gradient of one example in an MLP.

  For widths $n_0, \dots, n_k$ and $P = \sum_i n_{i-1} n_i$ weights, a multiplication and an addition each:
  $2P$ forward; backward $2P$ for the gradient of the weights and $2 (P - n_0 n_1)$ for that of the layers' inputs,
  which nothing asks of the first layer:

  $$6P - 2 n_0 n_1.$$

  Activations, the loss, biases and the optimizer are left out, so shares of the peak err on the low side.

  Example:
    >>> flops_per_example((64, 128, 128, 10))
    138752
  """
  weights = sum(a * b for a, b in itertools.pairwise(widths))
  return 6 * weights - 2 * widths[0] * widths[1]
