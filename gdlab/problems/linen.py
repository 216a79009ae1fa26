"""Problems from Flax Linen modules."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, Examples, Key, Problem, PyTree
from gdlab.problems.adapters import (
  EVALUATION_KEY,
  ModelInit,
  PerExample,
  batch_length,
  check_sown,
  supervised,
)
from gdlab.problems.checks import as_examples
from gdlab.problems.fast_layers import with_fast_layers
from gdlab.problems.fitting import batch_of
from gdlab.problems.flags import Flags, find_flags
from gdlab.problems.linen_kinds import LinenKinds


@dataclasses.dataclass(frozen=True)
class LinenModel:
  """A Linen module as pure functions; see `gdlab.problems.adapters.Model`.

  Attributes:
    module: the module.
    flags: the arguments and attributes that set its mode and mask.
    shapes: shape and dtype of each input leaf for a batch of one example.
    structure: the tree structure of the inputs.
    sown: sown collections that the loss gets in addition to the outputs.
    left_out: sown collections that are left out.
  """

  module: nn.Module
  flags: Flags
  shapes: tuple[jax.ShapeDtypeStruct, ...]
  structure: Any
  sown: tuple[str, ...] = ()
  left_out: tuple[str, ...] = ()

  def init(self, key: Key) -> tuple[PyTree, PyTree]:
    """Initialises as `module.init(key, inputs)` does, on one example of zeros."""
    zeros = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in self.shapes]
    inputs = jax.tree.unflatten(self.structure, zeros)
    module, arguments = self._told(train=False, mask=_all(inputs))
    variables = dict(module.init(key, inputs, **arguments))
    params = variables.pop('params', {})
    kept = {name: value for name, value in variables.items() if name not in (*self.sown, *self.left_out)}
    return params, kept or ()

  def train(
    self, params: PyTree, model_state: PyTree, inputs: PyTree, mask: Array, key: Key
  ) -> tuple[PyTree, PyTree]:
    """The forward pass in training mode."""
    # All of Linen's streams fall back to 'params'. The key is the first that NNX's first stream hands out in
    # gdlab.problems.nnx, so a Linen module behind nnx.bridge.ToNNX drops the same units there as here.
    rngs = {'params': jax.random.fold_in(jax.random.fold_in(key, 0), 0)}
    collections = dict(model_state)
    module, arguments = self._told(train=True, mask=mask)
    with with_fast_layers():
      outputs, updated = module.apply(
        {'params': params, **collections},
        inputs,
        rngs=rngs,
        mutable=[*collections, *self.sown],
        **arguments,
      )
    updated = dict(updated)
    sown = {name: updated.pop(name, {}) for name in self.sown}
    return (outputs, sown) if self.sown else outputs, updated or ()

  def evaluate(self, params: PyTree, model_state: PyTree, inputs: PyTree, key: Key | None = None) -> PyTree:
    """The forward pass in evaluation mode."""
    module, arguments = self._told(train=False, mask=_all(inputs))
    rngs = {'params': jax.random.key(EVALUATION_KEY) if key is None else key}
    variables = {'params': params, **dict(model_state)}
    with with_fast_layers():
      if not self.sown:
        return module.apply(variables, inputs, rngs=rngs, **arguments)
      outputs, sown = module.apply(variables, inputs, rngs=rngs, mutable=list(self.sown), **arguments)
    return outputs, {name: sown.get(name, {}) for name in self.sown}

  def _told(self, *, train: bool, mask: Array) -> tuple[nn.Module, dict[str, Any]]:
    attributes = self.flags.set(train=train)
    module = self.module.clone(**attributes) if attributes else self.module
    return module, self.flags.call(train=train, mask=mask)


@checked('module', 'data', 'validation', 'test', 'sown')
def from_linen(
  module: nn.Module,
  data: Examples | tuple[PyTree, PyTree],
  loss: PerExample,
  *,
  test: Examples | tuple[PyTree, PyTree] | None = None,
  validation: Examples | tuple[PyTree, PyTree] | None = None,
  metrics: Mapping[str, PerExample] | None = None,
  name: str | None = None,
  flags: Mapping[str, Any] | None = None,
  sown: Sequence[str] | None = None,
) -> Problem:
  r"""The problem of minimising the mean loss of a Flax Linen module over `data`.

  $f(\theta) = \frac1N \sum_i \ell(\mathrm{module}_\theta(x_i), y_i)$. Collections other than `'params'` are the model's
  state. Requirements of the module, how its mode is set, and what is detected: `gdlab.problems.adapters`.

  Example:
    >>> import flax.linen as nn, numpy as np, optax
    >>> data = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> problem = from_linen(nn.Dense(2), data, optax.softmax_cross_entropy_with_integer_labels)
    >>> problem
    Problem('Dense', train: 4 examples of float32[4] and int32[])

  Args:
    module: the module; its attributes must be hashable (lists become tuples, dictionaries frozen ones).
    data: the pair (inputs, targets) of N examples, each a pytree of finite arrays with leading axis N >= 1.
      Floats are converted to JAX's default float. Integer targets with one axis less than the module's output
      are class labels and must lie in its last axis.
    loss: `(outputs, targets) -> float[B]`, one number per example.
    test: held-out examples like `data`.
    validation: further held-out examples like `data`, to choose methods and hyperparameters on.
    metrics: further `(outputs, targets) -> float[B]` by name; `'loss'` is always reported.
    name: of the problem, in reports; the module's class by default.
    flags: arguments or attributes that set the mode, in addition to the usual names, name -> value in training; `{}`
      sets none.
    sown: collections of sown values that the loss gets, as `loss((outputs, {collection: values}), targets)`; `()`
      leaves all out.

  Raises:
    InputError: `module` is not an instance or not hashable; the data are not such a pair; a label is out of range; the
      loss or a metric is not per example, or pairs outputs with the targets of other examples by broadcasting; Dropout
      or BatchNorm has one mode only; values are sown and `sown` is None.
  """
  if not isinstance(module, nn.Module):
    raise InputError(f'module must be an instance of flax.linen.Module, got {shown(module)}')
  train = as_examples('data', data)
  shapes, structure = jax.tree.flatten(batch_of(train.inputs, 1))
  name = name or type(module).__name__
  module = _frozen(module, {})
  own = {name: getattr(module, name, None) for name in _fields(module)}
  told = find_flags(flags, type(module).__call__, own)
  model = LinenModel(module, told, tuple(shapes), structure)
  model = _with_sown(model, check_sown(sown), name)
  return supervised(
    model,
    train,
    loss,
    test=test,
    validation=validation,
    metrics=metrics,
    name=name,
    holds=lambda: _holds(model),
    kinds=LinenKinds(model),
  )


def _all(inputs: PyTree) -> Array:
  return jnp.ones(batch_length(inputs), bool)


def _fields(module: nn.Module) -> list[str]:
  """The names of a module's own attributes."""
  return [field.name for field in dataclasses.fields(module) if field.name not in ('parent', 'name')]


def _frozen(value: Any, made: dict[int, Any]) -> Any:
  """A module whose attributes have tuples instead of lists and frozen dictionaries, so that it is hashable."""
  if isinstance(value, list | tuple) and not hasattr(value, '_fields'):
    entries = tuple(_frozen(entry, made) for entry in value)
    same = isinstance(value, tuple) and all(new is old for new, old in zip(entries, value, strict=True))
    return value if same else entries
  if isinstance(value, dict):
    return FrozenDict({key: _frozen(entry, made) for key, entry in value.items()})
  if isinstance(value, nn.Module) and value.scope is None:
    before = {name: getattr(value, name) for name in _fields(value) if hasattr(value, name)}
    after = {name: _frozen(entry, made) for name, entry in before.items()}
    changed = {name: after[name] for name in after if after[name] is not before[name]}
    # A module that is there twice is one module, whose parameters are shared.
    return made.setdefault(id(value), value.clone(**changed) if changed else value)
  return value


def _holds(model: LinenModel) -> set[str]:
  """Which of Dropout and BatchNorm are in the module."""
  found: set[str] = set()
  with nn.intercept_methods(looking(found)):
    # A function of its own: of one that has been traced before JAX remembers the result, and nothing is called.
    jax.eval_shape(lambda key: model.init(key), jax.random.key(0))
  return found


def looking(found: set[str]) -> Callable[..., Any]:
  """An interceptor for `nn.intercept_methods` that adds Dropout and BatchNorm to `found` where they are called."""

  def look(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    rate = (
      getattr(module, 'rate', 0) if isinstance(module, nn.Dropout) else getattr(module, 'dropout_rate', 0)
    )
    if isinstance(module, nn.Dropout | nn.MultiHeadDotProductAttention) and rate > 0:
      found.add('Dropout')
    if isinstance(module, nn.BatchNorm):
      found.add('BatchNorm')
    return method(*args, **kwargs)

  return look


def _with_sown(model: LinenModel, sown: tuple[Any, ...] | None, name: str) -> LinenModel:
  """The model with its sown collections separated from its state."""
  try:
    found = [name for name in _sown(model) if name != 'perturbations']
  except Exception:  # it does not fit its inputs, which is said in words further on
    return model
  if unknown := [collection for collection in sown or () if collection not in (*found, 'intermediates')]:
    raise InputError(
      f'sown must name collections that module {name} sows, {sorted(found)}, got {shown(unknown[0])}'
    )
  if found and sown is None:
    raise InputError(
      f'module {name} sows values into {found[0]!r}: give sown=({found[0]!r},) to hand them to the loss, as '
      'loss((outputs, sown), targets), or sown=() to leave them out'
    )
  handed = sown or ()
  return dataclasses.replace(
    model, sown=handed, left_out=tuple(collection for collection in found if collection not in handed)
  )


def _sown(model: LinenModel) -> list[str]:
  """The collections that a forward pass does not need: `sow` does nothing where it cannot store."""
  params, model_state = jax.eval_shape(ModelInit(model), jax.random.key(0))
  inputs = jax.tree.unflatten(model.structure, model.shapes)
  key, mask = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((1,), bool)

  def needs(name: str) -> bool:
    others = {other: value for other, value in dict(model_state).items() if other != name}
    try:
      jax.eval_shape(model.train, params, others, inputs, mask, key)
      jax.eval_shape(model.evaluate, params, others, inputs)
    except Exception:  # Flax's own, for variables that it cannot make
      return True
    return False

  return [name for name in dict(model_state) if not needs(name)]
