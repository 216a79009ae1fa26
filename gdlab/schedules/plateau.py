"""A learning rate reduced when a validation metric stops improving."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown, unknown_name
from gdlab.core.metrics import large_is_good
from gdlab.core.types import Array, PyTree
from gdlab.schedules.numbers import floats


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlateauRule:
  """The hyperparameters of `reduce_on_plateau`, float[] each, and its metric."""

  factor: Array
  patience: Array
  min_scale: Array
  cooldown: Array
  rtol: Array
  atol: Array
  metric: str = dataclasses.field(metadata={'static': True})
  largest: bool = dataclasses.field(metadata={'static': True})


class PlateauState(NamedTuple):
  """The state of `reduce_on_plateau`.

  Attributes:
    scale: float[], the factor of the updates.
    best: float[], the best value so far; its negative if larger is better.
    plateau_count: int32[], observations without improvement since the best one or the last reduction.
    cooldown_count: int32[], coming observations that will not be counted.
    rule: the hyperparameters.
  """

  scale: Array
  best: Array
  plateau_count: Array
  cooldown_count: Array
  rule: PlateauRule

  def observe(self, metrics: Mapping[str, Array]) -> 'PlateauState':
    """The state after one more evaluation; raises InputError if its metric is missing."""
    rule = self.rule
    if rule.metric not in metrics:
      raise unknown_name('metric', rule.metric, metrics)
    value = jnp.asarray(metrics[rule.metric], self.best.dtype)
    value = -value if rule.largest else value
    # The sign makes the threshold lie below the best value where that is negative too.
    improved = value < (1 - rule.rtol * jnp.sign(self.best)) * self.best - rule.atol
    count = jnp.where(improved, 0, self.plateau_count + 1)
    resting = self.cooldown_count > 0
    due = ~resting & (count >= rule.patience)
    return self._replace(
      scale=jnp.where(due, jnp.maximum(self.scale * rule.factor, rule.min_scale), self.scale),
      best=jnp.where(improved, value, self.best),
      plateau_count=jnp.where(resting | due, 0, count),
      cooldown_count=jnp.where(
        due, jnp.ceil(rule.cooldown).astype(jnp.int32), jnp.maximum(self.cooldown_count - 1, 0)
      ),
    )


@checked('factor', 'patience', 'metric', 'min_scale', 'cooldown', 'rtol', 'atol')
def reduce_on_plateau(
  factor: Any = 0.1,
  patience: Any = 10,
  *,
  metric: str = 'test_loss',
  largest: bool | None = None,
  min_scale: Any = 0.0,
  cooldown: Any = 0,
  rtol: Any = 1e-4,
  atol: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
  r"""Multiplies the updates by a scale that is reduced when a metric of the evaluations stops improving.

  An evaluation's value $v$ improves on the best one $v^*$ if $v < v^* - \rho\,|v^*| - \alpha$. After `patience`
  consecutive evaluations without improvement the scale is multiplied by `factor`, down to `min_scale`; the next
  `cooldown` evaluations are then not counted. NaN is not an improvement. The rule is that of
  `optax.contrib.reduce_on_plateau`, which takes a value at every update; this one takes the metrics of evaluations,
  from `gdlab.run` or `observe`, and each number may be a tracer. The evaluation before the first update sets the first
  best value.

  Updates keep their dtype; a NaN in a gradient is passed on and does not affect the state.

  Example:
    >>> import optax, gdlab
    >>> optimizer = optax.chain(optax.sgd(0.1), reduce_on_plateau(0.5, patience=2, metric='train_loss'))
    >>> sgd = gdlab.algorithm(sampler=gdlab.sampling.single(), optimizer=optimizer)
    >>> problem = gdlab.problems.quadratic([1.0, 0.1], noise=1.0)
    >>> scale = lambda problem, state: optax.tree.get(state.optimizer, 'scale')
    >>> result = gdlab.run(problem, sgd, num_steps=500, seeds=1, eval_every=10, probes={'scale': scale})
    >>> bool(result.scale[0, -1] < 0.1)
    True

  Args:
    factor: in (0, 1), of one reduction.
    patience: evaluations without improvement, >= 1.
    metric: the name of the metric, as `gdlab.evaluate` returns it.
    largest: whether larger is better; by default only for an accuracy, a metric whose name ends with 'accuracy'.
    min_scale: in [0, 1], the smallest scale.
    cooldown: evaluations, >= 0.
    rtol: $\rho$ in [0, 1), the required relative improvement.
    atol: $\alpha$ >= 0, the required absolute improvement.

  Raises:
    InputError: if an argument is out of range; at an evaluation without that metric.

  Source: `optax.contrib.reduce_on_plateau`, after PyTorch's `ReduceLROnPlateau`.
  """
  check_real('factor', factor, above=0, below=1)
  check_real('patience', patience, minimum=1)
  check_real('min_scale', min_scale, minimum=0, maximum=1)
  check_real('cooldown', cooldown, minimum=0)
  check_real('rtol', rtol, minimum=0, below=1)
  check_real('atol', atol, minimum=0)
  if not isinstance(metric, str):
    raise InputError(f'metric must be the name of a metric such as test_loss, got {shown(metric)}')

  large = large_is_good(metric) if largest is None else largest

  def init(params: PyTree) -> PlateauState:
    del params
    scale_by, wait, smallest, rest, relative, absolute = floats(
      factor, patience, min_scale, cooldown, rtol, atol
    )
    return PlateauState(
      scale=jnp.ones_like(scale_by),
      best=jnp.full_like(scale_by, jnp.inf),
      plateau_count=jnp.zeros((), jnp.int32),
      cooldown_count=jnp.zeros((), jnp.int32),
      rule=PlateauRule(scale_by, wait, smallest, rest, relative, absolute, metric, large),
    )

  def update(
    updates: PyTree, state: PlateauState, params: PyTree = None, **extra_args: Any
  ) -> tuple[PyTree, PlateauState]:
    del params, extra_args
    return jax.tree.map(lambda leaf: (leaf * state.scale).astype(leaf.dtype), updates), state

  return optax.GradientTransformationExtraArgs(init, update)
