"""Problems from Flax NNX modules.

Parameters and state leave the module as plain dictionaries of arrays, so that a run is a pure function. They
go back into any module of the same kind with Flax's own function:

    module = make_module(nnx.Rngs(0))
    nnx.update(module, params, dict(model_state))
    module.eval()
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gdlab.errors import InputError
from gdlab.problems.adapters import PerExample, batch_length, call_flags, known_flags, supervised
from gdlab.problems.checks import as_examples
from gdlab.problems.nnx_kinds import NnxKinds
from gdlab.types import Array, Examples, Key, Problem, PyTree

# What is neither trained nor random nor a by-product of one call.
_STATE = nnx.Not(nnx.Any(nnx.Param, nnx.RngState, nnx.Intermediate))


@dataclasses.dataclass(frozen=True)
class NnxModel:
  """An NNX module as pure functions; see `gdlab.problems.adapters.Model`.

  Attributes:
    make_module: `(rngs) -> module`.
    flags: which of the arguments of `call_flags` its call takes.
    graphdef: the module's structure.
    streams: shapes and dtypes of its random streams, a nested dictionary.
  """

  make_module: Callable[[nnx.Rngs], nnx.Module]
  flags: tuple[str, ...]
  graphdef: Any
  streams: PyTree = dataclasses.field(compare=False)  # a dictionary has no hash; the graphdef determines it

  def init(self, key: Key) -> tuple[PyTree, PyTree]:
    """Initialises as `make_module(nnx.Rngs(key))` does."""
    module = self.make_module(nnx.Rngs(key))
    return nnx.to_pure_dict(nnx.state(module, nnx.Param)), _state(module)

  def train(
    self, params: PyTree, model_state: PyTree, inputs: PyTree, mask: Array, key: Key
  ) -> tuple[PyTree, PyTree]:
    """The forward pass in training mode, every random stream started afresh from the key."""
    module = self._merge(params, model_state, key)
    module.train()
    outputs = module(inputs, **call_flags(self.flags, train=True, mask=mask))
    return outputs, _state(module)

  def evaluate(self, params: PyTree, model_state: PyTree, inputs: PyTree) -> PyTree:
    """The forward pass in evaluation mode. A module that is random even there always draws the same."""
    module = self._merge(params, model_state, jax.random.key(0))
    module.eval()
    mask = jnp.ones(batch_length(inputs), bool)
    return module(inputs, **call_flags(self.flags, train=False, mask=mask))

  def _merge(self, params: PyTree, model_state: PyTree, key: Key) -> Any:
    # Without copy=True the variables belong to the trace they were made in, and BatchNorm's and Dropout's
    # updates of them raise inside jax.grad.
    return nnx.merge(self.graphdef, params, dict(model_state), _restarted(self.streams, key), copy=True)


def from_nnx(
  make_module: Callable[[nnx.Rngs], nnx.Module],
  data: Examples | tuple[PyTree, PyTree],
  loss: PerExample,
  *,
  test: Examples | tuple[PyTree, PyTree] | None = None,
  metrics: Mapping[str, PerExample] | None = None,
  name: str | None = None,
) -> Problem:
  r"""The problem of minimising the mean loss of a Flax NNX module over `data`.

  $f(\theta) = \frac1N \sum_i \ell(\mathrm{module}_\theta(x_i), y_i)$. The parameters are the module's
  `nnx.Param`s; its other variables (BatchNorm's statistics, your own) are the model's state. The module is
  set to training or evaluation mode with its `train()` and `eval()` and called as `module(inputs)`, with
  those of `train=`, `deterministic=`, `use_running_average=` and `mask=` that its `__call__` names. `mask`,
  bool[B], is False on padding; a module with BatchNorm hands it on in a shape that broadcasts
  (`mask[:, None]` for features [B, F]). Every call restarts the module's random streams from the key given
  to `Problem.loss`.

  Parameters and state are nested dictionaries of arrays; `nnx.update(module, params, dict(model_state))` puts
  them back into a module.

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
    make_module: makes the module, all of its randomness from the given `nnx.Rngs`. Give the same function,
      not an equal one, to build a problem again without compiling again.
    data: as for `from_linen`.
    loss: as for `from_linen`.
    test: held-out examples like `data`.
    metrics: further `(outputs, targets) -> float[B]` by name; `'loss'` is always reported.
    name: what reports call the problem; the module's class by default.

  Raises:
    InputError: `make_module` is not a function that returns an NNX module, or the module's static attributes
      are not hashable; else as for `from_linen`.
  """
  if isinstance(make_module, nnx.Module) or not callable(make_module):
    raise InputError(f'make_module must be a function (nnx.Rngs) -> nnx.Module, got {make_module!r}')
  train = as_examples('data', data)
  module = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))
  if not isinstance(module, nnx.Module):
    raise InputError(f'make_module must return an nnx.Module, got {module!r}')
  flags = known_flags(inspect.signature(type(module).__call__).parameters)
  streams = nnx.to_pure_dict(nnx.state(module, nnx.RngState))
  model = NnxModel(make_module, flags, nnx.graphdef(module), streams)
  problem = supervised(model, train, loss, test=test, metrics=metrics, name=name or type(module).__name__)
  return dataclasses.replace(problem, kinds=NnxKinds(make_module))


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
