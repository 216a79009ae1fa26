"""From a model and examples to a Problem: what the Linen and the NNX adapter have in common.

The functions of a Problem are static metadata of a pytree, so they are frozen dataclasses rather than
closures: a problem built twice from the same parts compares equal and compiles once.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from gdlab.errors import InputError
from gdlab.problems.checks import as_examples, check_alike, check_labels, default_float, hashable
from gdlab.types import Array, Examples, Key, Problem, PyTree

PerExample: TypeAlias = Callable[[PyTree, PyTree], Array]  # (outputs, targets) -> float[B]

# Shapes are checked on a batch of this size, one that another axis will hardly have by chance.
_PROBE_SIZE = 7


class Model(Protocol):
  """A Flax model as pure functions; `model_state` is `()` if it has none."""

  def init(self, key: Key) -> tuple[PyTree, PyTree]:
    """Draws `(params, model_state)`."""

  def train(
    self, params: PyTree, model_state: PyTree, inputs: PyTree, mask: Array, key: Key
  ) -> tuple[PyTree, PyTree]:
    """Returns `(outputs, model_state)` in training mode."""

  def evaluate(self, params: PyTree, model_state: PyTree, inputs: PyTree) -> PyTree:
    """Returns the outputs in evaluation mode."""


@dataclasses.dataclass(frozen=True)
class ModelInit:
  """`Problem.init` of a model."""

  model: Model

  def __call__(self, key: Key) -> tuple[PyTree, PyTree]:
    """Draws `(params, model_state)`."""
    params, model_state = self.model.init(key)

    def widen(leaf: Array) -> Array:
      # Flax fixes BatchNorm's statistics at float32, and then assigns float64 ones for float64 inputs.
      return leaf.astype(default_float()) if leaf.dtype == jnp.float32 else leaf

    return params, jax.tree.map(widen, model_state)


@dataclasses.dataclass(frozen=True)
class ModelLoss:
  """`Problem.loss` of a model: the loss of its outputs in training mode."""

  model: Model
  loss: PerExample

  def __call__(
    self, params: PyTree, model_state: PyTree, examples: Examples, mask: Array, key: Key
  ) -> tuple[Array, PyTree]:
    """Returns the losses, float[B], and the state after the forward pass."""
    # A batch split into equal parts may have a part that is padding alone. A mean over no example would be
    # NaN and spoil the gradient, so the model sees such a part unmasked, and its change of state is undone.
    real = jnp.any(mask)
    outputs, updated = self.model.train(params, model_state, examples.inputs, mask | ~real, key)
    kept = jax.tree.map(lambda new, old: jnp.where(real, new, old), updated, model_state)
    return self.loss(outputs, examples.targets), kept


@dataclasses.dataclass(frozen=True)
class ModelMetrics:
  """`Problem.metrics` of a model: functions of its outputs in evaluation mode."""

  model: Model
  metrics: tuple[tuple[str, PerExample], ...]

  def __call__(self, params: PyTree, model_state: PyTree, examples: Examples) -> dict[str, Array]:
    """Returns each metric, float[B], by name."""
    outputs = self.model.evaluate(params, model_state, examples.inputs)
    return {name: metric(outputs, examples.targets) for name, metric in self.metrics}


def call_flags(names: tuple[str, ...], *, train: bool, mask: Array) -> dict[str, Any]:
  """The arguments in `names` for one forward pass: its mode under each of its usual names, and the mask."""
  values = {'train': train, 'deterministic': not train, 'use_running_average': not train, 'mask': mask}
  return {name: values[name] for name in names}


def known_flags(parameters: Mapping[str, Any]) -> tuple[str, ...]:
  """Those of a call's parameters that `call_flags` can give."""
  flags = ('train', 'deterministic', 'use_running_average', 'mask')
  return tuple(name for name in flags if name in parameters)


def batch_length(inputs: PyTree) -> int:
  """B, the leading axis of a batch's inputs."""
  return jax.tree.leaves(inputs)[0].shape[0]


def probe(tree: PyTree, size: int = _PROBE_SIZE) -> PyTree:
  """Shapes and dtypes of a batch of `size` examples like those in `tree`."""
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), tree)


def supervised(
  model: Model,
  train: Examples,
  loss: PerExample,
  *,
  test: Any,
  metrics: Mapping[str, PerExample] | None,
  name: str,
) -> Problem:
  """Checks that model, loss, metrics and data fit together, without computing anything, and joins them.

  Args:
    model: the model as pure functions.
    train: checked training examples.
    loss: `(outputs, targets) -> float[B]`.
    test: a pair (inputs, targets) of held-out examples, or None.
    metrics: further functions like `loss`, by name; `'loss'` is taken.
    name: what reports call the problem.

  Raises:
    InputError: see `from_linen`.
  """
  test = None if test is None else as_examples('test', test)
  metrics = dict(metrics or {})
  for label, function in {'loss': loss, **metrics}.items():
    if not callable(function):
      raise InputError(f'{label} must be a function (outputs, targets) -> float[B], got {function!r}')
  if 'loss' in metrics:
    raise InputError("metrics must not hold 'loss': the problem's loss is reported under that name")
  hashable('the model', model)
  hashable('loss and metrics', (loss, *metrics.values()))

  params, model_state = jax.eval_shape(model.init, jax.random.key(0))
  batch = probe(train)
  outputs = jax.eval_shape(model.evaluate, params, model_state, batch.inputs)
  _check_targets('data', train, outputs)
  if test is not None:
    check_alike(test, train)
    _check_targets('test', test, outputs)
  for label, function in {'loss': loss, **metrics}.items():
    shape = jax.tree.map(jnp.shape, jax.eval_shape(function, outputs, batch.targets))
    if shape != (_PROBE_SIZE,):
      raise InputError(
        f'{label} must return one number per example, shape ({_PROBE_SIZE},) for a batch of {_PROBE_SIZE}, '
        f'got shape {shape}'
      )
  return Problem(
    init=ModelInit(model),
    loss=ModelLoss(model, loss),
    metrics=ModelMetrics(model, (('loss', loss), *sorted(metrics.items()))),
    name=name,
    train=train,
    test=test,
  )


def _check_targets(name: str, examples: Examples, outputs: PyTree) -> None:
  """Integer targets with one axis less than the outputs are class labels; a single class is none."""
  targets = examples.targets
  if not (isinstance(targets, jax.Array) and jnp.issubdtype(targets.dtype, jnp.integer)):
    return
  if isinstance(outputs, jax.ShapeDtypeStruct) and outputs.ndim == targets.ndim + 1 and outputs.shape[-1] > 1:
    check_labels(f'{name}.targets', targets, outputs.shape[-1])
