"""Every schedule of the package with arguments in range, and its values; shared by the tests of schedules."""

import jax
import jax.numpy as jnp

from gdlab import schedules


def stepped(initial, factor, first, second):
  return schedules.step_decay(initial, factor, boundaries=(first, second))


def stepped_every(initial, factor, every):
  return schedules.step_decay(initial, factor, every=every)


def smooth(initial, factor, updates_per_epoch):
  return schedules.exponential_per_epoch(initial, factor, updates_per_epoch, staircase=False)


def warmed(peak, decay_steps, final, num_warmup_steps, start):
  return schedules.warmup(schedules.cosine(peak, decay_steps, final), num_warmup_steps, start)


# name -> (maker, argument -> (a value, another one))
RATES = {
  'robbins_monro': (
    schedules.robbins_monro,
    {'initial': (0.3, 0.7), 'exponent': (0.75, 1.0), 'offset': (4.0, 9.0)},
  ),
  'step_decay': (
    stepped,
    {'initial': (0.3, 0.7), 'factor': (0.1, 0.5), 'first': (5.0, 9.0), 'second': (12.0, 7.0)},
  ),
  'step_decay_every': (
    stepped_every,
    {'initial': (0.3, 0.7), 'factor': (0.1, 0.5), 'every': (5.0, 3.0)},
  ),
  'exponential_per_epoch': (
    schedules.exponential_per_epoch,
    {'initial': (0.3, 0.7), 'factor': (0.9, 0.5), 'updates_per_epoch': (5.0, 3.0)},
  ),
  'exponential_per_epoch_smooth': (
    smooth,
    {'initial': (0.3, 0.7), 'factor': (0.9, 0.5), 'updates_per_epoch': (5.0, 3.0)},
  ),
  'linear': (schedules.linear, {'initial': (0.3, 0.7), 'num_steps': (20.0, 11.0), 'final': (0.1, 0.9)}),
  'cosine': (schedules.cosine, {'initial': (0.3, 0.7), 'num_steps': (20.0, 11.0), 'final': (0.1, 0.9)}),
  'constant_then_linear': (
    schedules.constant_then_linear,
    {'initial': (0.3, 0.7), 'num_steps': (20.0, 11.0), 'cooldown': (0.25, 0.6), 'final': (0.1, 0.9)},
  ),
  'warmup': (
    warmed,
    {
      'peak': (0.3, 0.7),
      'decay_steps': (15.0, 11.0),
      'final': (0.1, 0.0),
      'num_warmup_steps': (7.0, 0.0),
      'start': (0.05, 0.9),
    },
  ),
  'one_cycle': (
    schedules.one_cycle,
    {
      'peak': (0.4, 0.7),
      'num_steps': (20.0, 11.0),
      'peak_at': (0.3, 0.6),
      'return_at': (0.85, 0.7),
      'initial_divisor': (25.0, 4.0),
      'final_divisor': (1e4, 10.0),
    },
  ),
  'cosine_one_cycle': (
    schedules.cosine_one_cycle,
    {
      'peak': (0.4, 0.7),
      'num_steps': (20.0, 11.0),
      'peak_at': (0.3, 0.6),
      'initial_divisor': (25.0, 4.0),
      'final_divisor': (1e4, 10.0),
    },
  ),
}


def first_values(name):
  """The first value of every argument."""
  return {argument: pair[0] for argument, pair in RATES[name][1].items()}


def along(schedule, length=26, dtype=jnp.int32):
  """The schedule's values at counts 0 to length - 1."""
  return jax.vmap(schedule)(jnp.arange(length, dtype=dtype))
