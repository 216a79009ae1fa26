r"""From a Flax module and examples to a Problem: what the adapters require of a module, and what they detect.

`from_linen` and `from_nnx` make the mean loss of any Flax module a Problem.

**Requirements.** The module is called as `module(inputs)` with a batch of examples along the leading axis, and its
outputs are passed to `loss(outputs, targets) -> float[B]`, one number per example. All of its randomness comes from its
own streams (Linen: `make_rng`; NNX: `rngs`), and all of its state is in its variables. Its parameters are floats or
complex numbers.

**The mode.** If the call has an argument, or the module an attribute, `train`, `training`, `is_training`,
`deterministic`, `use_running_average`, `inference` or `update_stats`, the mode is set by it; for NNX modules also by
`train()` and `eval()`. Other flags are named: `flags={'is_fitting': True}`, with the value in training, or a pair of
the values in training and in evaluation. A module with Dropout or BatchNorm whose outputs and state show that one of
them stays on or off is refused, and so is one with an unnamed boolean argument that switches on random draws or a
changing state. Naming a flag declares that whatever it leaves on or off is intended; with `flags={}` no mode is set.

**The padded batch.** A sampler pads the last batch of an epoch. If the call has an argument `mask`, it gets bool[B],
False on padding; a module with BatchNorm may pass it on (`nn.BatchNorm(...)(x, mask=mask[:, None])`). This is optional:
the traced program shows whether the loss of an example depends on other examples and on the contents of padding
(`gdlab.problems.mixing`), and if so, `gdlab.algorithm` cuts the batch to its real examples. For a call whose `mask` has
another meaning, `flags={'mask': None}` leaves it out.

**Sown values.** Values that Linen's `sow` puts into other collections, or NNX's into other types of variables, than
intermediates are either passed to the loss, `sown=('losses',)`, whose outputs are then the pair
`(outputs, {'losses': ...})`; or left out, `sown=()`. Without `sown` they are refused; intermediates are left out.

**Randomness.** In training every stream starts from the key given to `Problem.loss`. A module that draws in evaluation
too draws the same each time.

**Detected automatically:** whether losses mix examples in training, in evaluation, or through padding; whether outputs
and targets would be broadcast to pairs; class labels out of range; the kind of each parameter array (`Problem.kinds`:
kernel, bias, heads, stacked layers).

The functions of a Problem are static metadata of a pytree, so they are frozen dataclasses rather than closures: a
problem built twice from the same parts compares equal and compiles once.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from gdlab.core.dependence import Mixing as Mixing
from gdlab.core.dependence import mixing
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, Examples, Key, Problem, PyTree
from gdlab.problems import fitting
from gdlab.problems.checks import as_examples, check_alike, default_float, hashable
from gdlab.problems.flags import Flags, mode_named
from gdlab.problems.labels import check_targets
from gdlab.problems.modes import check_modes

PerExample: TypeAlias = Callable[[PyTree, PyTree], Array]  # (outputs, targets) -> float[B]
EVALUATION_KEY = 0  # for a module's draws in evaluation


class Model(Protocol):
  """A Flax model as pure functions; `model_state` is `()` if it has none."""

  @property
  def flags(self) -> Flags:
    """The arguments and attributes that set the module's mode and mask."""

  def init(self, key: Key) -> tuple[PyTree, PyTree]:
    """Draws `(params, model_state)`."""

  def train(
    self, params: PyTree, model_state: PyTree, inputs: PyTree, mask: Array, key: Key
  ) -> tuple[PyTree, PyTree]:
    """Returns `(outputs, model_state)` in training mode."""

  def evaluate(self, params: PyTree, model_state: PyTree, inputs: PyTree, key: Key | None = None) -> PyTree:
    """Returns the outputs in evaluation mode; any draws there use the key, by default a fixed one."""


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


def batch_length(inputs: PyTree) -> int:
  """B, the leading axis of a batch's inputs."""
  return jax.tree.leaves(inputs)[0].shape[0]


def check_sown(sown: Any) -> tuple[Any, ...] | None:
  """Returns the argument `sown` as a tuple, or None; raises InputError if it is neither."""
  if sown is None:
    return None
  if isinstance(sown, str) or not isinstance(sown, tuple | list):
    raise InputError(f"sown must be a tuple such as ('losses',), or () to leave all out, got {shown(sown)}")
  return tuple(sown)


def supervised(
  model: Model,
  train: Examples,
  loss: PerExample,
  *,
  test: Any,
  validation: Any,
  metrics: Mapping[str, PerExample] | None,
  name: str,
  holds: Callable[[], Collection[str]],
  kinds: Callable[[], PyTree],
) -> Problem:
  """Checks by abstract evaluation that model, loss, metrics and data fit together, and makes the Problem.

  Args:
    model: the model as pure functions.
    train: checked training examples.
    loss: `(outputs, targets) -> float[B]`.
    test: a pair (inputs, targets) of held-out examples, or None.
    validation: the same.
    metrics: further functions like `loss`, by name; not `'loss'`.
    name: of the problem, in reports.
    holds: returns which of 'Dropout' and 'BatchNorm' are in the module.
    kinds: see Problem.

  Raises:
    InputError: see `from_linen`.
  """
  held_out: dict[str, Any] = {
    place: as_examples(place, data)
    for place, data in {'test': test, 'validation': validation}.items()
    if data is not None
  }
  metrics = dict(metrics or {})
  for label, function in {'loss': loss, **metrics}.items():
    if not callable(function):
      raise InputError(f'{label} must be a function (outputs, targets) -> float[B], got {shown(function)}')
  if 'loss' in metrics:
    raise InputError("metrics must not hold 'loss': the problem's loss is reported under that name")
  hashable('the model', model)
  hashable('loss and metrics', (loss, *metrics.values()))

  given = fitting.arrays(fitting.batch_of(train.inputs, 1))
  cannot = f'module {name} cannot be initialised with inputs {given}'
  with fitting.in_one_line(cannot), mode_named(name, model.flags):
    params, model_state = jax.eval_shape(ModelInit(model), jax.random.key(0))
  fitting.check_params(params)
  at = params, model_state
  shapes = fitting.fitting_shapes(name, model, at, train, {'loss': loss, **metrics})
  size = min(shapes)
  for place, examples in held_out.items():
    check_alike(place, examples, train)
  for place, examples in {'data': train, **held_out}.items():
    check_targets(place, examples, shapes[size], loss)
  with fitting.in_one_line(f'module {name} fails in training mode'):
    check_modes(name, model, at, fitting.batch_of(train.inputs, size), holds())
  problem = Problem(
    init=ModelInit(model),
    loss=ModelLoss(model, loss),
    metrics=ModelMetrics(model, (('loss', loss), *sorted(metrics.items()))),
    name=name,
    train=train,
    kinds=kinds,
    **held_out,
  )
  with fitting.in_one_line(f'module {name} fails in training mode'):
    mixing(problem)  # kept from now on
  return problem
