"""Schedules whose every number may be a tracer, a rate that learns from evaluations, and rules for batch sizes.

Optax has schedules of these shapes for concrete numbers. These can be swept, in `gdlab.sweep` or under any `jax.vmap`,
without a new compilation, and go wherever Optax takes a schedule.
"""

from gdlab.schedules.cycles import cosine_one_cycle, one_cycle, warmup
from gdlab.schedules.decay import cosine, exponential_per_epoch, linear, robbins_monro, step_decay
from gdlab.schedules.observing import observe
from gdlab.schedules.plateau import PlateauRule, PlateauState, reduce_on_plateau
from gdlab.schedules.scaling import AdamScaling, adam_scaling, linear_scaling, square_root_scaling

__all__ = [
  'AdamScaling',
  'PlateauRule',
  'PlateauState',
  'adam_scaling',
  'cosine',
  'cosine_one_cycle',
  'exponential_per_epoch',
  'linear',
  'linear_scaling',
  'observe',
  'one_cycle',
  'reduce_on_plateau',
  'robbins_monro',
  'square_root_scaling',
  'step_decay',
  'warmup',
]
