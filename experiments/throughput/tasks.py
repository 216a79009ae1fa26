"""The training tasks that contenders share, and the arithmetic in them."""

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from gdlab import problems
from gdlab.core.types import Problem

MOMENTUM = 0.9


def make(work: Mapping[str, Any]) -> tuple[nn.Module, Problem]:
  """The model that a description of work names, and its training problem.

  `work['model']` is 'mlp' (on the digits) or 'cnn', on the first `work['num_images']` images of MNIST or, where
  there is none (`work['images']` says so), as many made-up ones: the arithmetic is the same. Those are all that
  the CNN's runs are evaluated on; the forward passes over all of MNIST would take longer than the training.
  """
  if work['model'] == 'mlp':
    mlp = problems.MLP(features=tuple(work['hidden']))
    return mlp, problems.digits(mlp)
  cnn, count = problems.CNN(), work['num_images']
  if work['images'] == 'mnist':
    problem = problems.mnist(cnn)
    few = jax.tree.map(lambda leaf: leaf[:count], problem.train)
    return cnn, dataclasses.replace(problem, train=few, test=None)
  generator = np.random.default_rng(0)
  images = generator.random((count, 28, 28), np.float32)
  labels = generator.integers(0, 10, count).astype(np.int32)
  loss = optax.softmax_cross_entropy_with_integer_labels
  return cnn, problems.from_linen(cnn, (images, labels), loss, name='made-up images')


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
  return 3 * forward_flops(widths) - 2 * widths[0] * widths[1]


def forward_flops(widths: Sequence[int]) -> int:
  """Floating-point operations of the matrix products of one forward pass of one example: 2P, see above."""
  return 2 * sum(a * b for a, b in itertools.pairwise(widths))


def num_evaluated() -> int:
  """Images of the digits that one evaluation looks at: those trained on and those held out."""
  problem = problems.digits()
  return sum(len(split.targets) for split in (problem.train, problem.test) if split is not None)
