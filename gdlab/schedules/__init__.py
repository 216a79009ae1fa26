"""Schedules with traceable hyperparameters, a rate that depends on evaluations, and scaling rules for batch sizes.

Optax has schedules of these shapes for concrete numbers. The numbers of these can be swept, in `gdlab.sweep` or under
any `jax.vmap`, without a new compilation. They can be used wherever Optax takes a schedule.

| schedule or rule | the rate |
|---|---|
| `robbins_monro(initial, exponent, offset)` | falls as a power of time |
| `step_decay(initial, factor, boundaries or every)` | multiplied by a factor at steps |
| `exponential_per_epoch(initial, factor, updates_per_epoch)` | multiplied by a factor every epoch |
| `linear(initial, num_steps)` | linear decay |
| `cosine(initial, num_steps)` | half a cosine |
| `constant_then_linear(initial, num_steps, cooldown)` | constant, then linear to the end |
| `warmup(schedule, num_warmup_steps)` | linear up to any schedule's first value, then that schedule |
| `one_cycle(peak, num_steps)` | up and down on straight lines |
| `cosine_one_cycle(peak, num_steps)` | up and down on cosines |
| `reduce_on_plateau(factor, patience)` | a transform: reduced when a validation metric stops improving |
| `linear_scaling(rate, factor)` | multiplied by the growth of the batch (SGD) |
| `square_root_scaling(rate, factor)` | multiplied by its square root |
| `adam_scaling(rate, ...)` | with both betas, epsilon and the number of steps (Adam) |

`observe` passes the metrics of an evaluation to the parts of an optimizer's state that use them.
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
