"""How the lanes of a sweep are laid out on the machine."""

from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from gdlab.core.errors import InputError, check_count, shown

CALLS_PER_RUN = 16  # how often a run comes back to the host for progress when the plan does not say


Choice: TypeAlias = Any  # a whole number or a truth value; None while it is open


class Plan(NamedTuple):
  """A layout of lanes (hyperparameters x seeds); None means: chosen for the backend, the problem and the memory.

  Under one plan a lane is the same bit for bit whatever runs beside it. Between plans it agrees to rounding; so it does
  where records are made at other steps, as the update before a record is compiled with its diagnostics.

  Attributes:
    lanes_at_once: lanes a device advances together under vmap; groups of them follow one another. 1 maps lane
      after lane, which is the fastest on a CPU for all but tiny problems.
    num_devices: local devices in use.
    steps_per_call: updates between two returns to the host, where progress is shown; rounded to whole periods
      between evaluations.
    lanes_per_block: lanes in the machine's memory at a time, rounded up to `lanes_at_once` on every device; further
      blocks follow when these are done.
    data_parallel: devices that share every batch, all that are in use: lanes then follow one another. 1 by default,
      and batches must divide by it. For models that one device is too slow for. (Lanes side by side as well would
      have to take every branch together; processes with devices of their own need not, see `executor` of `sweep`.)
    program_per_device: whether every device has a compiled copy of its own, which takes as many compilations, at
      once. XLA's matrix products on a CPU keep working memory with the program, which devices that share one hand
      to and fro between their caches. By default in long runs on a CPU; the bits were the same wherever compared.
    host_steps: whether the host makes every update by a call of its own, in place of a compiled loop over updates.
      By default where an update has a convolution and the backend is a CPU, on which XLA's convolutions are several
      times slower inside a loop than outside.
  """

  lanes_at_once: Choice = None
  num_devices: Choice = None
  steps_per_call: Choice = None
  lanes_per_block: Choice = None
  data_parallel: Choice = None
  program_per_device: Choice = None
  host_steps: Choice = None

  @property
  def shards(self) -> int:
    """Of a plan with every choice made: groups of devices with lanes of their own."""
    return self.num_devices // self.data_parallel

  @property
  def unit(self) -> int:
    """Of a plan with every choice made: how many lanes advance at a time on all devices."""
    return self.shards * self.lanes_at_once

  def fitted(self, lanes_per_block: int) -> 'Plan':
    """This plan with another block, rounded up to what fills every device evenly."""
    return self._replace(lanes_per_block=-(-lanes_per_block // self.unit) * self.unit)

  def halved(self) -> 'Plan | None':
    """A plan that needs about half the memory; None if there is none.

    Lanes at once are halved last: all else leaves every result as it is, bit for bit.
    """
    if self.lanes_per_block > self.unit:
      return self.fitted(max(self.unit, self.lanes_per_block // self.unit // 2 * self.unit))
    if self.lanes_at_once > 1:
      return self._replace(lanes_at_once=self.lanes_at_once // 2).fitted(1)
    return None


FLAGS = 'program_per_device', 'host_steps'


def check_plan(plan: Plan | None) -> Plan:
  """The plan, or an open one for None.

  Raises:
    InputError: if a choice is not a whole number >= 1, or the devices do not suffice.
  """
  plan = Plan() if plan is None else plan
  if not isinstance(plan, Plan):
    raise InputError(f'plan must be a gdlab.Plan or None, got {shown(plan)}')
  for name, value in plan._asdict().items():
    if name in FLAGS:
      if value is not None and not (np.ndim(value) == 0 and value in (False, True)):
        raise InputError(f'plan.{name} must be True, False or None, got {shown(value)}')
    elif value is not None:
      check_count(f'plan.{name}', value)
  available = jax.local_device_count()
  if plan.num_devices is not None:
    check_count('plan.num_devices', plan.num_devices, maximum=available)
  if plan.data_parallel is not None and plan.data_parallel > 1:
    check_count('plan.data_parallel', plan.data_parallel, maximum=available)
    if plan.num_devices not in (None, plan.data_parallel):
      raise InputError(
        f'plan.data_parallel must be 1 or all devices in use, {plan.num_devices}, got {plan.data_parallel}'
      )
    for name in FLAGS:
      if getattr(plan, name):
        raise InputError(f'plan.{name} must be False or None where devices share a batch, got True')
    plan = plan._replace(num_devices=plan.data_parallel, program_per_device=False, host_steps=False)
  if plan.host_steps and plan.steps_per_call not in (None, 1):
    raise InputError(
      f'plan.steps_per_call must be 1 or None where the host makes every update, got {plan.steps_per_call}'
    )
  return plan


def resolved(
  plan: Plan,
  num_lanes: int,
  num_steps: int,
  *,
  lanes_at_once: int,
  memory_lanes: int,
  program_per_device: bool = False,
  host_steps: bool = False,
) -> Plan:
  """A checked plan with the choices made that it leaves open.

  All devices are used even for few lanes (the others rest): so where lanes follow one another, the bits of a lane do
  not depend on how many there are.

  Args:
    plan: what was asked for.
    num_lanes: lanes of the sweep's program.
    num_steps: updates of every run.
    lanes_at_once: what was found best for the problem, see `autotune`.
    memory_lanes: how many lanes fit the memory.
    program_per_device: whether it pays to compile one for every device.
    host_steps: whether it pays to make every update by a call.
  """
  on_host = host_steps if plan.host_steps is None else plan.host_steps
  per_device = program_per_device if plan.program_per_device is None else plan.program_per_device
  chosen = Plan(
    lanes_at_once=plan.lanes_at_once or lanes_at_once,
    num_devices=plan.num_devices or jax.local_device_count(),
    # A host that makes every update is there for every evaluation.
    steps_per_call=1 if on_host else plan.steps_per_call or -(-num_steps // CALLS_PER_RUN),
    data_parallel=plan.data_parallel or 1,
    program_per_device=bool(on_host or per_device),
    host_steps=bool(on_host),
  )
  return chosen.fitted(min(num_lanes, plan.lanes_per_block or memory_lanes))
