"""P1-P3: what an update costs in operations and in memory, half precision, and the work shared by devices."""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from flax import linen as nn

from experiments.practice import seen
from experiments.practice.study import practice
from gdlab import problems
from gdlab.core.errors import InputError
from gdlab.core.types import Problem

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLASSES = 10


class Perceptron(nn.Module):
  """A perceptron as it is usually written: weights in float32, products in `dtype`, the loss in float32 again.

  Its `fault`, if any, is one that leaves all shapes right.
  """

  features: Sequence[int]
  dtype: Any = jnp.float32
  activation: Callable = nn.relu
  fault: str = ''

  @nn.compact
  def __call__(self, inputs):
    """Maps images [B, ...] to logits [B, 10]."""
    x = inputs.reshape(len(inputs), -1)
    bias = nn.initializers.constant(-30.0 if self.fault == 'dead' else 0.0)
    for number, width in enumerate(self.features):
      x = self.activation(nn.Dense(width, dtype=self.dtype, bias_init=bias)(x))
      x = jax.lax.stop_gradient(x) if self.fault == 'frozen' and not number else x
    x = nn.Dense(CLASSES, dtype=self.dtype)(0 * x if self.fault == 'blind' else x)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return nn.softmax(x) if self.fault == 'softmax' else x


@functools.cache
def _divided(model: nn.Module, num_train: int, num_validation: int) -> Problem:
  return problems.split(problems.digits(model), validation=num_validation, train=num_train)


def digits(model: nn.Module, config: Any, seed: int) -> Problem:
  """The digits divided anew for a seed."""
  return problems.redraw(_divided(model, config.num_train, config.num_validation), seed)


def widened(problem: Problem, count: int | None = None) -> Problem:
  """Its training data in float64, or so many of them."""
  wide = lambda leaf: leaf[:count].astype(float) if leaf.dtype.kind == 'f' else leaf[:count]
  return jax.tree.map(wide, dataclasses.replace(problem, validation=None, test=None))


def start(model: nn.Module, batch_size: int) -> tuple:
  """Parameters, images and labels, of zeros as what is counted does not depend on values; and a loss of these."""
  images, labels = jnp.zeros((batch_size, 8, 8)), jnp.zeros(batch_size, jnp.int32)
  params, cross_entropy = (
    model.init(jax.random.key(0), images),
    optax.softmax_cross_entropy_with_integer_labels,
  )
  return (params, images, labels), lambda params, *data: cross_entropy(
    model.apply(params, data[0]), data[1]
  ).mean()


def compiled(model: nn.Module, batch_size: int, whole: bool) -> Any:
  """The forward pass, or the whole update of plain descent, as XLA has compiled it."""
  given, loss = start(model, batch_size)
  update = lambda params, *data: jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params, *data))
  return jax.jit(update if whole else loss).lower(*given).compile()


def operations(model: nn.Module, batch_size: int, whole: bool) -> float:
  """Floating point operations by XLA's own count."""
  return float(compiled(model, batch_size, whole).cost_analysis()['flops'])


def kept_bytes(model: nn.Module, batch_size: int) -> int:
  """Bytes that the forward pass keeps for the backward pass and that grow with the batch: its activations."""
  (params, *data), loss = start(model, batch_size)
  _, backward = jax.vjp(lambda params: loss(params, *data), params)
  kept = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(backward) if leaf.shape[:1] == (batch_size,)}
  return sum(kept.values())


def seconds(call: Callable) -> float:
  """That a call takes until its results are there."""
  started = time.perf_counter()
  jax.block_until_ready(call())
  return time.perf_counter() - started


def law(layers: Sequence[int], batch_size: int) -> tuple[int, int]:
  """By hand, of layers of so many units: M, and the operations of products and of the subtraction of the gradient.

  A product takes 2 B operations for each weight, forward, for the weight's gradient, and to hand the gradient on,
  which the first layer need not do.
  """
  weights = [a * b for a, b in itertools.pairwise(layers)]
  parameters = sum(weights) + sum(layers[1:])
  return parameters, 2 * batch_size * (3 * sum(weights) - weights[0]) + 2 * parameters


@practice.cell(once=True)
def counts(config, *, progress):
  """Operations by XLA's count, of perceptrons by depth, width and batch size, and of a network of convolutions."""
  rows: list[tuple] = []
  every = [*itertools.product(seen.DEPTHS, seen.WIDTHS, seen.SIZES)]
  for depth, width, size in every:
    counted = [operations(Perceptron((width,) * depth), size, whole) for whole in (False, True)]
    rows.append((depth, size, *law((64, *(width,) * depth, CLASSES), size), *counted))
    progress(len(rows), len(every))
  model, size = problems.CNN(seen.CHANNELS), seen.SIZES[-1]
  weights = sum(leaf.size for leaf in jax.tree.leaves(start(model, 1)[0][0]))
  names = 'depth', 'batch_size', 'parameters', 'law', 'forward', 'update'
  columns = {name: ('network', values) for name, values in zip(names, np.transpose(rows), strict=True)}
  return xr.Dataset(columns | {'shared': operations(model, size, True) / (6 * weights * size)})


@practice.cell(once=True)
def memory(config, *, progress):
  """Bytes of activations, and of all that the compiled update keeps beside its arguments, by precision."""
  found = []
  for done, activation in enumerate(seen.ACTIVATIONS, 1):
    models = [Perceptron(seen.LAYERED, each, getattr(nn, activation)) for each in seen.DTYPES.values()]
    programs = (compiled(model, seen.MEASURED, True) for model in models)
    temporary = [program.memory_analysis().temp_size_in_bytes for program in programs]
    found.append(([kept_bytes(model, seen.MEASURED) for model in models], temporary))
    progress(done, len(seen.ACTIVATIONS))
  columns = zip(('kept', 'temporary'), np.swapaxes(found, 0, 1), strict=True)
  coords = {'activation': [*seen.ACTIVATIONS], 'dtype': [*seen.DTYPES]}
  return xr.Dataset({name: ([*coords], values) for name, values in columns}, coords)


@practice.cell()
def shards(config, *, progress):
  """Errors of gradients that devices share, measured in a process that has four of them."""
  given = {'config': config.model_dump(), 'ids': config.few_ids}
  command = [sys.executable, '-m', 'experiments.practice.shards', json.dumps(given)]
  environment = os.environ | {'JAX_NUM_CPU_DEVICES': '4', 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
  if done.returncode:
    raise InputError(f'the process that shares batches failed: {done.stderr.strip()[-200:]}')
  progress(1, 1)
  return xr.Dataset.from_dict(json.loads(done.stdout.splitlines()[-1]))
