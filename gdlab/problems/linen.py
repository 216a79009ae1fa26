"""Problems from Flax Linen modules."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gdlab.errors import InputError
from gdlab.problems.adapters import PerExample, batch_length, call_flags, known_flags, probe, supervised
from gdlab.problems.checks import as_examples
from gdlab.problems.linen_kinds import LinenKinds
from gdlab.types import Array, Examples, Key, Problem, PyTree


@dataclasses.dataclass(frozen=True)
class LinenModel:
  """A Linen module as pure functions; see `gdlab.problems.adapters.Model`.

  Attributes:
    module: the module.
    flags: which of the arguments of `call_flags` its call takes.
    shapes: shape and dtype of each input leaf for a batch of one example.
    structure: the tree structure of the inputs.
  """

  module: nn.Module
  flags: tuple[str, ...]
  shapes: tuple[jax.ShapeDtypeStruct, ...]
  structure: Any

  def init(self, key: Key) -> tuple[PyTree, PyTree]:
    """Initialises as `module.init(key, inputs)` does, on one example of zeros."""
    zeros = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in self.shapes]
    inputs = jax.tree.unflatten(self.structure, zeros)
    variables = dict(self.module.init(key, inputs, **call_flags(self.flags, train=False, mask=_all(inputs))))
    params = variables.pop('params', {})
    return params, variables or ()

  def train(
    self, params: PyTree, model_state: PyTree, inputs: PyTree, mask: Array, key: Key
  ) -> tuple[PyTree, PyTree]:
    """The forward pass in training mode."""
    # All of Linen's streams fall back to 'params'. The key is the first that NNX's first stream hands out in
    # gdlab.problems.nnx, so a Linen module behind nnx.bridge.ToNNX drops the same units there as here.
    rngs = {'params': jax.random.fold_in(jax.random.fold_in(key, 0), 0)}
    collections = dict(model_state)
    outputs, updated = self.module.apply(
      {'params': params, **collections},
      inputs,
      rngs=rngs,
      mutable=list(collections),
      **call_flags(self.flags, train=True, mask=mask),
    )
    return outputs, dict(updated) or ()

  def evaluate(self, params: PyTree, model_state: PyTree, inputs: PyTree) -> PyTree:
    """The forward pass in evaluation mode."""
    flags = call_flags(self.flags, train=False, mask=_all(inputs))
    return self.module.apply({'params': params, **dict(model_state)}, inputs, **flags)


def from_linen(
  module: nn.Module,
  data: Examples | tuple[PyTree, PyTree],
  loss: PerExample,
  *,
  test: Examples | tuple[PyTree, PyTree] | None = None,
  metrics: Mapping[str, PerExample] | None = None,
  name: str | None = None,
) -> Problem:
  r"""The problem of minimising the mean loss of a Flax Linen module over `data`.

  $f(\theta) = \frac1N \sum_i \ell(\mathrm{module}_\theta(x_i), y_i)$. The module is called as
  `module(inputs)`, with those of `train=`, `deterministic=`, `use_running_average=` and `mask=` that its
  `__call__` names. `mask`, bool[B], is False on padding; a module with BatchNorm hands it on in a shape that
  broadcasts (`mask[:, None]` for features [B, F]), as `gdlab.problems.MLP` does. Dropout and any other stream
  draw from the key given to `Problem.loss`. Collections other than `'params'` are the model's state.

  Example:
    >>> import flax.linen as nn, numpy as np, optax
    >>> data = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> problem = from_linen(nn.Dense(2), data, optax.softmax_cross_entropy_with_integer_labels)
    >>> problem.num_examples
    4

  Args:
    module: the module; hashable, as Linen modules are whose attributes are.
    data: the pair (inputs, targets) of N examples, each a pytree of finite arrays with leading axis N >= 1.
      Floats are converted to JAX's default float. Integer targets with one axis less than the module's output
      are class labels and must lie in its last axis.
    loss: `(outputs, targets) -> float[B]`, one number per example.
    test: held-out examples like `data`.
    metrics: further `(outputs, targets) -> float[B]` by name; `'loss'` is always reported.
    name: what reports call the problem; the module's class by default.

  Raises:
    InputError: `module` is not an instance or not hashable; the data is no such pair; a label is out of
      range; the loss or a metric is not per example.
  """
  if not isinstance(module, nn.Module):
    raise InputError(f'module must be an instance of flax.linen.Module, got {module!r}')
  train = as_examples('data', data)
  shapes, structure = jax.tree.flatten(probe(train.inputs, 1))
  flags = known_flags(inspect.signature(type(module).__call__).parameters)
  model = LinenModel(module, flags, tuple(shapes), structure)
  problem = supervised(model, train, loss, test=test, metrics=metrics, name=name or type(module).__name__)
  return dataclasses.replace(problem, kinds=LinenKinds(model))


def _all(inputs: PyTree) -> Array:
  return jnp.ones(batch_length(inputs), bool)
