"""The types that the parts exchange: NamedTuples of arrays, NamedTuples of pure functions, and aliases.

One update of gradient descent is four choices that vary independently,

    sampler -> estimator -> optimizer -> apply,

and each is a NamedTuple of pure functions whose state is carried explicitly. Nothing here computes anything.

Shapes: N examples in the training set, B slots in a batch.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
PyTree: TypeAlias = Any

SPLITS = (
  'train',
  'validation',
  'test',
)  # the sets of examples that a Problem may have, by the names of its fields


class Batch(NamedTuple):
  """Which examples one update sees. The estimate of the mean loss is the sum of weights[i] * loss[indices[i]].

  A slot with weight 0 is padding: it keeps the shape fixed, is not counted as an example and does not contribute to the
  gradient.
  """

  indices: Array  # int32[B]
  weights: Array  # float[B], JAX's default float type


class Streams(NamedTuple):
  """The three independent random streams of one run; each can be held fixed while another varies."""

  init: Key  # the initial parameters
  order: Key  # which examples are drawn when
  noise: Key  # everything else: Dropout, injected noise


class Sampler(NamedTuple):
  """A strategy for drawing the examples of each update.

  Attributes:
    init: `(key, num_examples) -> state`. Raises InputError if the sampler does not fit `num_examples`.
    sample: `(state) -> (Batch, state)`; jit-, vmap- and scan-compatible, with the same shapes at every step.
    updates_per_epoch: `(num_examples) -> int`, how many updates make one pass over the data.
    update: `(state, batch, EstimateInfo) -> state`, called after the gradient estimate on the drawn batch; None for
      samplers that do not adapt.
    sizes: `(num_examples) -> (n, ...)`, the possible numbers of real examples in a batch, which come before the
      padding; None if any number is possible. Problems whose losses padding affects need it.
  """

  init: Callable[[Key, int], PyTree]
  sample: Callable[[PyTree], tuple[Batch, PyTree]]
  updates_per_epoch: Callable[[int], int]
  update: 'Callable[[PyTree, Batch, EstimateInfo], PyTree] | None' = None
  sizes: Callable[[int], tuple[int, ...]] | None = None


class Examples(NamedTuple):
  """Supervised data: inputs and targets; every leaf has a leading axis of the same length N."""

  inputs: PyTree
  targets: PyTree


class LossFn(Protocol):
  """Per-example training loss and the model's state after the forward pass.

  `mask` is bool[B], False on padding: models that mix examples (BatchNorm) must leave padding out.
  Returns `(losses float[B], model_state)`.
  """

  def __call__(
    self, params: PyTree, model_state: PyTree, examples: PyTree, mask: Array, key: Key
  ) -> tuple[Array, PyTree]: ...


class MetricsFn(Protocol):
  """Per-example metrics in evaluation mode: a mapping from name to float[B]; `'loss'` is always there."""

  def __call__(self, params: PyTree, model_state: PyTree, examples: PyTree) -> Mapping[str, Array]: ...


class StationaryPoints(NamedTuple):
  """Points where the gradient of a loss is zero, K of them, for d parameters.

  Attributes:
    params: a pytree like the parameters, every leaf with a leading axis K.
    values: float[K], the loss there.
    eigenvalues: float[K, d], those of the Hessian, ascending.
    index: int[K], the number of negative eigenvalues: 0 at a minimum, d at a maximum.
    basin: float[K], the radius of a ball around a minimum from which gradient flow leads to it; 0 elsewhere.
    complete: bool[], whether there are no other stationary points in `Known.box`, or anywhere if that is None; up to
      the problem's stated symmetry.
  """

  params: PyTree
  values: Any
  eigenvalues: Any
  index: Any
  basin: Any
  complete: Any


class Known(NamedTuple):
  """What is known exactly about a problem's training loss f; None for what is not.

  Attributes:
    params: a global minimiser.
    value: the minimum of f.
    smoothness: L, the largest eigenvalue of the Hessian anywhere.
    strong_convexity: mu, the smallest one anywhere.
    stationary_points: see StationaryPoints.
    box: float[d, 2], the lowest and highest value of each parameter in the region of interest.
  """

  params: PyTree = None
  value: Any = None
  smoothness: Any = None
  strong_convexity: Any = None
  stationary_points: StationaryPoints | None = None
  box: Any = None


@dataclasses.dataclass(frozen=True)
class LeafKind:
  """The kind of one array of the parameters, given by the module that owns it; a leaf of `Problem.kinds()`.

  Axes are counted from 0. Those that are neither stacked nor outputs are inputs, over which a unit sums.

  Attributes:
    kind: 'kernel', 'bias', 'scale', 'embedding', or 'other' if the module does not say.
    outputs: the axes of output units (filters): (1,) for a Dense kernel [in, out], (1, 2) for an attention query
      [in, heads, head_dim], (0, 1) for its bias.
    stacked: the axes of copies of one layer (`nn.scan`, `nnx.vmap`).
    inert: whether no loss depends on the array, by construction: the bias of attention keys, which cancels in softmax.
  """

  kind: str
  outputs: tuple[int, ...]
  stacked: tuple[int, ...] = ()
  inert: bool = False


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Problem:
  """A training problem: minimise the mean over `train` of the per-example loss.

  A pytree whose leaves are the data and whose structure holds the functions: pass a problem to a compiled function as
  an argument, and its data does not become a constant of the program.

  Attributes:
    init: `(key) -> (params, model_state)`; `model_state` is `()` for models without any.
    loss: the per-example training loss, see LossFn.
    metrics: the per-example metrics in evaluation mode, see MetricsFn.
    name: the name in reports.
    train: pytree of training examples; every leaf has the leading axis N.
    test: the same for held-out examples, or None.
    known: what is known exactly about the training loss.
    kinds: `() -> pytree like the parameters`, a LeafKind for every array; None if unknown.
    validation: a second set of held-out examples, or None. Methods and hyperparameters are chosen on it, so that `test`
      serves the final measurement only; `gdlab.problems.split` takes it from `train`.
  """

  init: Callable[[Key], tuple[PyTree, PyTree]] = dataclasses.field(metadata={'static': True})
  loss: LossFn = dataclasses.field(metadata={'static': True})
  metrics: MetricsFn = dataclasses.field(metadata={'static': True})
  name: str = dataclasses.field(metadata={'static': True})
  train: PyTree
  test: PyTree = None
  known: Known = dataclasses.field(default=Known())
  kinds: Callable[[], PyTree] | None = dataclasses.field(default=None, metadata={'static': True})
  validation: PyTree = None

  @property
  def num_examples(self) -> int:
    """N, the number of training examples."""
    return jax.tree.leaves(self.train)[0].shape[0]

  def __repr__(self) -> str:
    parts = [f'{split}: {_described(getattr(self, split))}' for split in SPLITS]
    return f'Problem({", ".join([repr(self.name), *(part for part in parts if not part.endswith("None"))])})'


def _described(examples: PyTree) -> str:
  """The number of examples and their shapes: `4 examples of float32[4] and int32[]`."""
  leaves = jax.tree.leaves(examples)
  if not leaves or not all(getattr(leaf, 'shape', ()) for leaf in leaves):
    return 'None' if examples is None else f'{len(leaves)} leaves'
  count = leaves[0].shape[0]
  kinds = [f'{leaf.dtype}{list(leaf.shape[1:])}' for leaf in leaves]
  return f'{count} example{"s" if count != 1 else ""} of {" and ".join(kinds[:4])}{" ..." if len(kinds) > 4 else ""}'


class EstimateInfo(NamedTuple):
  """By-products of one gradient estimate.

  Attributes:
    loss: float[], the batch's estimate of the mean loss at the parameters before the update.
    model_state: the model's state after the forward pass (BatchNorm's statistics).
    gradient_evaluations: int32[], the number of per-example gradients computed, padding not counted.
    losses: float[B], the loss of each slot before the update, or None if the estimator does not compute them.
    gradients: per-example gradients, leaves [B, ...], or None if the estimator does not compute them.
  """

  loss: Array
  model_state: PyTree
  gradient_evaluations: Array
  losses: Array | None = None
  gradients: PyTree = None


class Estimator(NamedTuple):
  """A rule that turns a batch into a gradient.

  Attributes:
    init: `(problem, params) -> state`.
    estimate: `(state, problem, params, model_state, batch, key) -> (gradient, state, EstimateInfo)`.
    stacked: whether `gradient` holds one gradient per slot of the batch, leaves [B, ...], for optimizers that take
      per-example gradients.
  """

  init: Callable[[Problem, PyTree], PyTree]
  estimate: Callable[[PyTree, Problem, PyTree, PyTree, Batch, Key], tuple[PyTree, PyTree, EstimateInfo]]
  stacked: bool = False


class State(NamedTuple):
  """All that the next step needs."""

  step: Array  # int32[], updates made so far
  params: PyTree
  model_state: PyTree
  optimizer: PyTree
  estimator: PyTree
  sampler: PyTree
  key: Key  # the noise stream; step t uses fold_in(key, t)


class Info(NamedTuple):
  """Diagnostics of one step, not needed by the next. Norms are Euclidean over all parameters.

  Only the estimator's gradient evaluations are counted, not those of the optimizer itself (line searches, L-BFGS); see
  `gdlab.algorithm`.
  """

  loss: Array  # float[], the batch's mean loss before the update
  grad_norm: Array  # of the gradient estimate
  update_norm: Array  # of what was added to the parameters
  param_norm: Array  # of the parameters after the update
  examples: Array  # int32[], examples drawn (padding not counted)
  gradient_evaluations: Array  # int32[], per-example gradients computed by the estimator


class Algorithm(NamedTuple):
  """A composed method, for a plain Python loop or for `gdlab.run`.

  Attributes:
    init: `(key_or_streams, problem, params=None) -> State`.
    step: `(state, problem) -> (State, Info)`.
    sampler: the sampler it was composed of (for epoch counts).
    observe: `(state, metrics) -> State`, called after an evaluation with its metrics, name -> float[] as
      `gdlab.evaluate` returns them. Leaves that do not change are the same objects, and so cost nothing. None if the
      method does not use metrics.
    evaluated: `(state, problem) -> (params, model_state)`, the parameters at which the method is evaluated, see
      `evaluate_at` of `gdlab.algorithm`; None for those of the state.
  """

  init: Callable[..., State]
  step: Callable[[State, Problem], tuple[State, Info]]
  sampler: Sampler
  observe: Callable[[State, Mapping[str, Array]], State] | None = None
  evaluated: Callable[[State, Problem], tuple[PyTree, PyTree]] | None = None
