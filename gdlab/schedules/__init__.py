"""Schedules whose every number may be a tracer, a rate that learns from evaluations, and rules for batch sizes.

Optax has schedules of these shapes for concrete numbers. These can be swept, in `gdlab.sweep` or under any `jax.vmap`,
without a new compilation, and go wherever Optax takes a schedule.

| schedule or rule | the rate |
|---|---|
| `robbins_monro(initial, exponent, offset)` | falls as a power of time |
| `step_decay(initial, factor, boundaries or every)` | multiplied by a factor at steps |
| `exponential_per_epoch(initial, factor, updates_per_epoch)` | multiplied by a factor every epoch |
| `linear(initial, num_steps)` | on a straight line |
| `cosine(initial, num_steps)` | on half a cosine |
| `constant_then_linear(initial, num_steps, cooldown)` | constant, then on a line to the end |
| `warmup(schedule, num_warmup_steps)` | rises to any schedule's first value, which then begins |
| `one_cycle(peak, num_steps)` | up and down on straight lines |
| `cosine_one_cycle(peak, num_steps)` | up and down on cosines |
| `reduce_on_plateau(factor, patience)` | a transform: updates shrink when a validation metric stops improving |
| `linear_scaling(rate, factor)` | times the growth of the batch (SGD) |
| `square_root_scaling(rate, factor)` | times its root |
| `adam_scaling(rate, ...)` | with both betas, epsilon and the steps (Adam) |

`observe` tells the parts of an optimizer's state that listen what an evaluation found.
"""

from gdlab.schedules.cycles import cosine_one_cycle, one_cycle, warmup
from gdlab.schedules.decay import (
  constant_then_linear,
  cosine,
  exponential_per_epoch,
  linear,
  robbins_monro,
  step_decay,
)
from gdlab.schedules.observing import observe
from gdlab.schedules.plateau import PlateauRule, PlateauState, reduce_on_plateau
from gdlab.schedules.scaling import AdamScaling, adam_scaling, linear_scaling, square_root_scaling

__all__ = [
  'AdamScaling',
  'PlateauRule',
  'PlateauState',
  'adam_scaling',
  'constant_then_linear',
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
