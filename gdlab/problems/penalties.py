"""L1 and L2 penalties on the parameters of any problem."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, Key, Known, LossFn, MetricsFn, Problem, PyTree
from gdlab.problems.checks import check_problem, hashable, nonnegative

Where: TypeAlias = Callable[[str, Array], bool]  # (path, parameter array) -> whether it is penalised


@dataclasses.dataclass(frozen=True)
class Penalty:
  """l1 times the sum of |p| plus l2/2 times the sum of p^2, over the parameter arrays that `where` selects."""

  l1: float
  l2: float
  where: Where | None = None

  def __call__(self, params: PyTree) -> Array:
    """Returns float[]."""
    total = jnp.zeros(())
    for path, leaf in jax.tree.leaves_with_path(params):
      if self.is_on(path, leaf):
        # A weight of 0 is left out: 0 times an overflown square would be NaN.
        total += self.l1 * jnp.sum(jnp.abs(leaf)) if self.l1 else 0
        total += self.l2 / 2 * jnp.sum(jnp.real(leaf * jnp.conj(leaf))) if self.l2 else 0
    return total

  def is_on(self, path: Any, leaf: Array) -> bool:
    """Whether the parameter array at a path is penalised."""
    if not (self.l1 or self.l2):
      return False
    return self.where is None or bool(
      self.where(jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
    )


@dataclasses.dataclass(frozen=True)
class PenalisedLoss:
  """`Problem.loss` with the penalty added to the loss of each example."""

  loss: LossFn
  penalty: Penalty

  def __call__(
    self, params: PyTree, model_state: PyTree, examples: PyTree, mask: Array, key: Key
  ) -> tuple[Array, PyTree]:
    """Returns the losses, float[B], and the state after the forward pass."""
    losses, model_state = self.loss(params, model_state, examples, mask, key)
    return losses + self.penalty(params), model_state


@dataclasses.dataclass(frozen=True)
class PenalisedMetrics:
  """`Problem.metrics` with the penalty added to `'loss'`; other metrics are unchanged."""

  metrics: MetricsFn
  penalty: Penalty

  def __call__(self, params: PyTree, model_state: PyTree, examples: PyTree) -> dict[str, Array]:
    """Returns each metric, float[B], by name."""
    found = self.metrics(params, model_state, examples)
    return {**found, 'loss': found['loss'] + self.penalty(params)}


@dataclasses.dataclass(frozen=True)
class PenalisedKinds:
  """`Problem.kinds` in which no penalised array is inert, as the penalty depends on it."""

  kinds: Callable[[], PyTree]
  init: Callable[[Key], tuple[PyTree, PyTree]]
  penalty: Penalty

  def __call__(self) -> PyTree:
    """Returns a pytree like the parameters, of LeafKind."""
    params = jax.eval_shape(self.init, jax.random.key(0))[0]
    return jax.tree.map_with_path(
      lambda path, leaf, kind: dataclasses.replace(
        kind, inert=kind.inert and not self.penalty.is_on(path, leaf)
      ),
      params,
      self.kinds(),
    )


@checked('l1', 'l2', 'where')
def with_penalty(
  problem: Problem, *, l1: float = 0.0, l2: float = 0.0, where: Where | None = None
) -> Problem:
  r"""The problem with $\lambda_1 \lVert p \rVert_1 + \frac{\lambda_2}2 \lVert p \rVert_2^2$ added to its loss.

  It is added to the loss of each example, so every batch whose weights sum to 1 has the whole penalty. The metric
  `'loss'` includes it, also on held-out examples, so that its training mean is the function that is minimised. Where a
  parameter is 0, $\lvert p \rvert$ has the subgradient 0. Unlike weight decay, the penalty is a part of the loss, whose
  gradient an adaptive optimizer rescales (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019).

  Known: with L2 only and on all parameters, smoothness and strong convexity increase by $\lambda_2$; the box is kept;
  everything else is dropped. For ridge regression with a known minimum see the `l2` of `linear_regression` and
  `logistic_regression`.

  Example:
    >>> from gdlab.problems import quadratic
    >>> problem = with_penalty(quadratic([1.0, 3.0]), l1=0.1, l2=1.0)
    >>> problem.metrics(jnp.array([1.0, -1.0]), (), problem.train)['loss']  # 2 + 0.2 + 1
    Array([3.2], dtype=float32)

  Args:
    problem: any problem.
    l1: lambda_1 >= 0.
    l2: lambda_2 >= 0.
    where: `(path, array) -> bool`, which parameter arrays are penalised; all by default. A path is like
      'Dense_0/kernel'. Hashable, as functions are; `gdlab.problems.penalties.not_biases` leaves biases out.

  Raises:
    InputError: a negative or infinite weight; `where` is not a hashable function.
  """
  check_problem(problem)
  if where is not None:
    if not callable(where):
      raise InputError(f'where must be a function (path, array) -> bool, got {shown(where)}')
    hashable('where', where)
  penalty = Penalty(nonnegative('l1', l1), nonnegative('l2', l2), where)
  return dataclasses.replace(
    problem,
    loss=PenalisedLoss(problem.loss, penalty),
    metrics=PenalisedMetrics(problem.metrics, penalty),
    name=f'{problem.name}, penalised',
    known=_known(problem.known, penalty),
    kinds=problem.kinds and PenalisedKinds(problem.kinds, problem.init, penalty),
  )


@checked('array')
def not_biases(path: str, array: Array) -> bool:
  """For `where`: False for the arrays that Flax calls 'bias'."""
  return path.rpartition('/')[2] != 'bias'


def _known(known: Known, penalty: Penalty) -> Known:
  if not (penalty.l1 or penalty.l2):
    return known
  if penalty.l1 or penalty.where is not None:
    return Known(box=known.box)
  smoothness, convexity = known.smoothness, known.strong_convexity
  return Known(
    smoothness=None if smoothness is None else smoothness + penalty.l2,
    strong_convexity=None if convexity is None else convexity + penalty.l2,
    box=known.box,
  )
