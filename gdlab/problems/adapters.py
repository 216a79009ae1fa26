r"""From a Flax module and examples to a Problem: what the adapters ask of a module, and what they find out.

`from_linen` and `from_nnx` make the mean loss of any Flax module a Problem.

**Asked of the module.** It is called as `module(inputs)` with a batch of examples along the leading axis, and its
outputs go to `loss(outputs, targets) -> float[B]`, one number per example. All of its randomness comes from its own
streams (Linen: `make_rng`; NNX: `rngs`), and all that it stores is in its variables. Its parameters are floats, or
complex numbers.

**The mode.** Where its call, or the module itself as an attribute, has `train`, `training`, `is_training`,
`deterministic`, `use_running_average`, `inference` or `update_stats`, it is told the mode by these; NNX modules also by
`train()` and `eval()`. Others are named: `flags={'is_fitting': True}`, with the value in training, or a pair of the
values in training and in evaluation. A module with Dropout or BatchNorm whose outputs and state show that one of them
stays on or off is refused, and so is one with a boolean argument that nobody named and that switches on draws or a
changing state. Naming a flag says that what it leaves on or off is meant; `flags={}` says that the module is told
nothing.

**The padded batch.** A sampler pads the last batch of an epoch. Where the call has `mask`, it is given bool[B], False
on padding; a module with BatchNorm may hand it on (`nn.BatchNorm(...)(x, mask=mask[:, None])`). No module has to:
whether the loss of an example depends on others, and on what padding holds, is read off the traced program
(`gdlab.problems.mixing`), and where it does, `gdlab.algorithm` cuts the batch to its real examples. A call whose `mask`
means something else is given none by `flags={'mask': None}`.

**Sown values.** What Linen's `sow` puts into collections of one's own, and NNX's into types of variables of one's own,
is either handed to the loss, `sown=('losses',)`: then its outputs are the pair `(outputs, {'losses': ...})`; or left
out, `sown=()`. Where nothing is said, intermediates are left out, and all others are refused.

**Randomness.** In training every stream starts from the key given to `Problem.loss`. A module that draws in evaluation
too draws the same each time.

**Found out without being told:** whether losses mix examples in training, in evaluation, or through padding; whether
outputs and targets would be broadcast to pairs; class labels out of range; what each array of the parameters is
(`Problem.kinds`: kernel, bias, heads, stacked layers).

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
from gdlab.problems.flags import Flags
from gdlab.problems.labels import check_targets
from gdlab.problems.modes import check_modes

PerExample: TypeAlias = Callable[[PyTree, PyTree], Array]  # (outputs, targets) -> float[B]
EVALUATION_KEY = 0  # of what a module draws in evaluation


class Model(Protocol):
  """A Flax model as pure functions; `model_state` is `()` if it has none."""

  @property
  def flags(self) -> Flags:
    """What the module is told of the mode and the padding."""

  def init(self, key: Key) -> tuple[PyTree, PyTree]:
    """Draws `(params, model_state)`."""

  def train(
    self, params: PyTree, model_state: PyTree, inputs: PyTree, mask: Array, key: Key
  ) -> tuple[PyTree, PyTree]:
    """Returns `(outputs, model_state)` in training mode."""

  def evaluate(self, params: PyTree, model_state: PyTree, inputs: PyTree, key: Key | None = None) -> PyTree:
    """Returns the outputs in evaluation mode; what is random even there draws from the key, by default a fixed one."""


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
  """Returns what is said of sown values as a tuple, None where nothing is; raises InputError if it is neither."""
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
  """Checks that model, loss, metrics and data fit together, without computing anything, and joins them.

  Args:
    model: the model as pure functions.
    train: checked training examples.
    loss: `(outputs, targets) -> float[B]`.
    test: a pair (inputs, targets) of held-out examples, or None.
    validation: the same.
    metrics: further functions like `loss`, by name; `'loss'` is taken.
    name: what reports call the problem.
    holds: gives 'Dropout' and 'BatchNorm', as far as they are in the module.
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
  with fitting.in_one_line(f'module {name} cannot be initialised with inputs {given}'):
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
