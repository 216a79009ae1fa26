"""How the lanes of a sweep are laid out on the machine."""

import os
from typing import NamedTuple

import jax

from gdlab.errors import InputError, check_count, shown


class Plan(NamedTuple):
  """A layout of lanes (hyperparameters x seeds); None means: chosen by rule for the backend.

  Attributes:
    lanes_at_once: lanes a device advances together under vmap; blocks of them follow one another. 1 maps
      lane after lane, which is the fastest on a CPU.
    num_devices: local devices that share the lanes.
    steps_per_call: updates between two returns to the host, where progress is shown; rounded to whole
      record intervals.
  """

  lanes_at_once: int | None = None
  num_devices: int | None = None
  steps_per_call: int | None = None


CALLS_PER_RUN = 16  # how often a run comes back to the host for progress when the plan does not say


class Layout(NamedTuple):
  """A plan with every choice made; fields as in `Plan`."""

  lanes_at_once: int
  num_devices: int
  steps_per_call: int


def resolve(plan: Plan | None, num_lanes: int, num_steps: int) -> Layout:
  """Makes the choices that a plan leaves open.

  Raises:
    InputError: if a choice is not a whole number >= 1, or more devices are asked for than there are.
  """
  plan = Plan() if plan is None else plan
  if not isinstance(plan, Plan):
    raise InputError(f'plan must be a gdlab.Plan or None, got {shown(plan)}')
  for name, value in plan._asdict().items():
    if value is not None:
      check_count(f'plan.{name}', value)
  available = jax.local_device_count()
  if plan.num_devices is not None and plan.num_devices > available:
    raise InputError(f'plan.num_devices must be a whole number in [1, {available}], got {plan.num_devices}')
  num_devices = plan.num_devices or min(available, num_lanes)
  lanes_per_device = -(-num_lanes // num_devices)
  by_rule = 1 if jax.default_backend() == 'cpu' else lanes_per_device
  return Layout(
    lanes_at_once=plan.lanes_at_once or by_rule,
    num_devices=num_devices,
    steps_per_call=plan.steps_per_call or -(-num_steps // CALLS_PER_RUN),
  )


def use_all_cores() -> int:
  """Gives JAX one CPU device per core, so that lanes run side by side. Call it before anything computes.

  Returns:
    The number of cores.

  Raises:
    InputError: if JAX has already started its backend, when it is too late.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  try:
    jax.config.update('jax_num_cpu_devices', cores)
  except RuntimeError as error:
    raise InputError('use_all_cores() must be called before JAX computes anything') from error
  return cores
