"""Problems from Flax NNX modules.

Parameters and state are taken out of the module as plain dictionaries of arrays, so that a run is a pure function.
`gdlab.to_flax` puts them back into a module; `nnx.update(module, params, dict(model_state))` puts them into any other
module of the same structure.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

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
from gdlab.problems.fast_layers import make_fast, with_fast_layers
from gdlab.problems.fitting import batch_of, in_one_line
from gdlab.problems.flags import Flags, find_flags
from gdlab.problems.linen import looking
from gdlab.problems.nnx_kinds import NnxKinds

# The model's state: what is neither trained nor random. What a call sows is caught and is not among it.
_STATE = nnx.Not(nnx.Any(nnx.Param, nnx.RngState))


@dataclasses.dataclass(frozen=True)
class NnxModel:
  """An NNX module as pure functions; see `gdlab.problems.adapters.Model`.

  Attributes:
    make_module: `(rngs) -> module`.
    flags: the arguments and attributes that set its mode and mask.
    graphdef: the module's structure.
    streams: shapes and dtypes of its random streams, a nested dictionary.
    sown: types of sown variables that the loss gets in addition to the outputs.
    left_out: types of sown variables that are left out.
  """

  make_module: Callable[[nnx.Rngs], nnx.Module]
  flags: Flags
  graphdef: Any
  streams: PyTree = dataclasses.field(compare=False)  # a dictionary has no hash; the graphdef determines it
  sown: tuple[type[nnx.Variable], ...] = ()
  left_out: tuple[type[nnx.Variable], ...] = ()

  def init(self, key: Key) -> tuple[PyTree, PyTree]:
    """Initialises as `make_module(nnx.Rngs(key))` does."""
    module = self.make_module(nnx.Rngs(key))
    return nnx.to_pure_dict(nnx.state(module, nnx.Param)), _state(module)

  def train(
    self, params: PyTree, model_state: PyTree, inputs: PyTree, mask: Array, key: Key
  ) -> tuple[PyTree, PyTree]:
    """The forward pass in training mode, every random stream restarted from the key."""
    module = self._merge(params, model_state, key)
    outputs = self._called(module, inputs, train=True, mask=mask)
    return outputs, _state(module)

  def evaluate(self, params: PyTree, model_state: PyTree, inputs: PyTree, key: Key | None = None) -> PyTree:
    """The forward pass in evaluation mode. By default a module that is random even there always draws the same."""
    module = self._merge(params, model_state, jax.random.key(EVALUATION_KEY) if key is None else key)
    return self._called(module, inputs, train=False, mask=jnp.ones(batch_length(inputs), bool))

  def module_with(self, params: PyTree, model_state: PyTree) -> nnx.Module:
    """A module with these values, in evaluation mode."""
    module = self.make_module(nnx.Rngs(0))
    nnx.update(module, params, dict(model_state))
    self._set_mode(module, train=False)
    return module

  def _called(self, module: nnx.Module, inputs: PyTree, *, train: bool, mask: Array) -> PyTree:
    self._set_mode(module, train=train)
    arguments = self.flags.call(train=train, mask=mask)
    make_fast(module)
    with with_fast_layers():
      if not (self.sown or self.left_out):
        return module(inputs, **arguments)  # type: ignore[operator]
      found = nnx.capture(module, *self.sown)(inputs, **arguments)
    if not self.sown:
      return found
    outputs, *sown = found
    return outputs, {
      kind.__name__: nnx.to_pure_dict(state) for kind, state in zip(self.sown, sown, strict=True)
    }

  def _set_mode(self, module: nnx.Module, *, train: bool) -> None:
    if self.flags.given != 'none':
      module.train() if train else module.eval()
    for _, part in nnx.iter_modules(module):
      for name, value in self.flags.set(train=train).items():
        if hasattr(part, name):
          setattr(part, name, value)

  def _merge(self, params: PyTree, model_state: PyTree, key: Key) -> Any:
    # Without copy=True the variables belong to the trace they were made in, and BatchNorm's and Dropout's
    # updates of them raise inside jax.grad.
    return nnx.merge(self.graphdef, params, dict(model_state), _restarted(self.streams, key), copy=True)


@checked('make_module', 'data', 'validation', 'test', 'sown')
def from_nnx(
  make_module: Callable[[nnx.Rngs], nnx.Module],
  data: Examples | tuple[PyTree, PyTree],
  loss: PerExample,
  *,
  test: Examples | tuple[PyTree, PyTree] | None = None,
  validation: Examples | tuple[PyTree, PyTree] | None = None,
  metrics: Mapping[str, PerExample] | None = None,
  name: str | None = None,
  flags: Mapping[str, Any] | None = None,
  sown: Sequence[type[nnx.Variable]] | None = None,
) -> Problem:
  r"""The problem of minimising the mean loss of a Flax NNX module over `data`.

  $f(\theta) = \frac1N \sum_i \ell(\mathrm{module}_\theta(x_i), y_i)$. The parameters are the module's `nnx.Param`s;
  its other variables (BatchNorm's statistics, your own) are the model's state. Requirements of the module, how its mode
  is set, and what is detected: `gdlab.problems.adapters`.

  Parameters and state are nested dictionaries of arrays; `gdlab.to_flax` puts them back into a module.

  Example:
    >>> import numpy as np, optax
    >>> from flax import nnx
    >>> data = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> make_module = lambda rngs: nnx.Linear(4, 2, rngs=rngs)
    >>> problem = from_nnx(make_module, data, optax.softmax_cross_entropy_with_integer_labels)
    >>> params, model_state = problem.init(jax.random.key(0))
    >>> sorted(params), model_state
    (['bias', 'kernel'], ())

  Args:
    make_module: makes the module, with all of its randomness from the given `nnx.Rngs`. To build a problem again
      without compiling again, pass the same function object.
    data: as for `from_linen`.
    loss: as for `from_linen`.
    test: held-out examples like `data`.
    validation: further held-out examples like `data`, to choose methods and hyperparameters on.
    metrics: further `(outputs, targets) -> float[B]` by name; `'loss'` is always reported.
    name: of the problem, in reports; the module's class by default.
    flags: as for `from_linen`.
    sown: types of variables whose sown values the loss gets, as `loss((outputs, {type's name: values}), targets)`;
      `()` leaves all out.

  Raises:
    InputError: `make_module` is not a function that returns an NNX module, or the module's static attributes
      are not hashable; else as for `from_linen`.
  """
  if isinstance(make_module, nnx.Module) or not callable(make_module):
    raise InputError(f'make_module must be a function (nnx.Rngs) -> nnx.Module, got {shown(make_module)}')
  if isinstance(make_module, nn.Module):
    raise InputError(
      f'make_module must make an nnx.Module, got the Linen module {type(make_module).__name__}: use from_linen'
    )
  train = as_examples('data', data)
  with in_one_line('make_module must make the module from nnx.Rngs alone'):
    module = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))
  if not isinstance(module, nnx.Module):
    raise InputError(f'make_module must return an nnx.Module, got {shown(module)}')
  name = name or type(module).__name__
  # Behind the bridge the call takes anything, and hands it on to that of the Linen module.
  called = module.to_nnx__module if isinstance(module, nnx.bridge.ToNNX) else module
  told = find_flags(flags, type(called).__call__, _attributes(module))
  streams = nnx.to_pure_dict(nnx.state(module, nnx.RngState))
  model = NnxModel(make_module, told, nnx.graphdef(module), streams)
  model = _with_sown(model, check_sown(sown), train, name)
  return supervised(
    model,
    train,
    loss,
    test=test,
    validation=validation,
    metrics=metrics,
    name=name,
    holds=lambda: _holds(module, model, train),
    kinds=NnxKinds(make_module),
  )


def _attributes(module: nnx.Module) -> dict[str, Any]:
  """Attributes that may be flags, of the module and its submodules, except those that `train()` and `eval()` set."""
  set_by_nnx = ('deterministic', 'use_running_average')
  return {
    name: value
    for _, part in nnx.iter_modules(module)
    for name, value in vars(part).items()
    if isinstance(value, bool | int | float | str) and name not in set_by_nnx
  }


def _holds(module: nnx.Module, model: NnxModel, train: Examples) -> set[str]:
  """Which of Dropout and BatchNorm are in the module, or in Linen modules behind the bridge."""
  found: set[str] = set()
  for _, part in nnx.iter_modules(module):
    rate = getattr(part, 'rate', 0) if isinstance(part, nnx.Dropout) else getattr(part, 'dropout_rate', 0)
    if isinstance(part, nnx.Dropout | nnx.MultiHeadAttention) and rate > 0:
      found.add('Dropout')
    if isinstance(part, nnx.BatchNorm):
      found.add('BatchNorm')
  if any(isinstance(part, nnx.bridge.ToNNX) for _, part in nnx.iter_modules(module)):
    with nn.intercept_methods(looking(found)):
      params, model_state = jax.eval_shape(lambda key: model.init(key), jax.random.key(0))
      inputs = batch_of(train.inputs)
      jax.eval_shape(lambda *args: model.evaluate(*args), params, model_state, inputs)
  return found


def _with_sown(model: NnxModel, sown: tuple[Any, ...] | None, train: Examples, name: str) -> NnxModel:
  """The model with its sown variables separated from its state."""
  found = _sown(model, train)
  if unknown := [kind for kind in sown or () if kind not in found]:
    known = [kind.__name__ for kind in found]
    raise InputError(
      f'sown must name types of variables that module {name} sows, {known}, got {shown(unknown[0])}'
    )
  asked = [kind for kind in found if not issubclass(kind, nnx.Intermediate)]
  if asked and sown is None:
    kind = asked[0].__name__
    raise InputError(
      f'module {name} sows values of type {kind}: give sown=({kind},) to hand them to the loss, as '
      'loss((outputs, sown), targets), or sown=() to leave them out'
    )
  left_out = tuple(kind for kind in found if kind not in (sown or ()))
  return dataclasses.replace(model, sown=sown or (), left_out=left_out)


def _sown(model: NnxModel, train: Examples) -> list[type[nnx.Variable]]:
  """The types of the variables that a training pass adds to the module."""
  found: list[type[nnx.Variable]] = []

  def look(params, model_state, inputs, mask, key):
    module = model._merge(params, model_state, key)
    before = {path for path, _ in nnx.to_flat_state(nnx.state(module))}
    model._called(module, inputs, train=True, mask=mask)
    added = [variable for path, variable in nnx.to_flat_state(nnx.state(module)) if path not in before]
    found.extend(dict.fromkeys(type(variable) for variable in added))
    return ()

  inputs = batch_of(train.inputs)
  mask = jax.ShapeDtypeStruct((batch_length(inputs),), bool)
  with warnings.catch_warnings():
    warnings.simplefilter(
      'ignore', DeprecationWarning
    )  # sowing without nnx.capture: what is sown is not known yet
    try:
      params, model_state = jax.eval_shape(ModelInit(model), jax.random.key(0))
      jax.eval_shape(look, params, model_state, inputs, mask, jax.eval_shape(lambda: jax.random.key(0)))
    except Exception:  # it does not fit its inputs, which is said in words further on
      return []
  return found


def _state(module: nnx.Module) -> PyTree:
  return nnx.to_pure_dict(nnx.state(module, _STATE)) or ()


def _restarted(streams: PyTree, key: Key) -> PyTree:
  """The random streams with counters at 0 and keys that differ from stream to stream."""
  leaves, treedef = jax.tree.flatten(streams)
  restarted, position = [], 0
  for leaf in leaves:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      stream_key = jax.random.fold_in(key, position)
      restarted.append(jax.random.split(stream_key, leaf.shape) if leaf.shape else stream_key)
      position += 1
    else:
      restarted.append(jnp.zeros(leaf.shape, leaf.dtype))
  return jax.tree.unflatten(treedef, restarted)
