"""The layout of a sweep's lanes on the machine."""

from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from gdlab.core.errors import InputError, check_count, shown

CALLS_PER_RUN = 16  # compiled calls per run, between which progress is shown, if the plan does not say


Choice: TypeAlias = Any  # a whole number or a truth value; None while it is open


class Plan(NamedTuple):
  """A layout of lanes (hyperparameters x seeds). None: chosen for the backend, the problem and the memory.

  Under a fixed plan, the results of a lane do not depend, bit for bit, on the other lanes. Between plans they agree to
  rounding; likewise between different `record_every`, because the update before a record is compiled with diagnostics.

  Attributes:
    lanes_at_once: lanes that a device advances together under vmap; groups of them run one after another. 1 maps lane
      by lane, the fastest on a CPU for all but tiny problems.
    num_devices: local devices in use.
    steps_per_call: updates per compiled call, between which progress is shown; rounded to whole periods between
      evaluations.
    lanes_per_block: lanes in device memory at a time, rounded up to a multiple of `lanes_at_once` on every device;
      blocks run one after another.
    data_parallel: devices that share every batch: 1, the default, or all in use. The batch size must be a multiple of
      it. For models too slow for one device; lanes then run one after another. (To run lanes in parallel too, use
      processes with devices of their own, see `executor` of `sweep`.)
    program_per_device: whether to compile a separate copy for every device, all at once. XLA's matrix products on a CPU
      keep working memory with the program, which devices that share a program pass back and forth between their
      caches. By default in long runs on a CPU. Results were bitwise equal wherever compared.
    host_steps: whether the host calls every update separately, instead of a compiled loop over updates. By default if
      an update contains a convolution and the backend is a CPU, where XLA's convolutions are several times slower
      inside a loop.
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
    """The number of device groups with lanes of their own, for a plan with every choice made."""
    return self.num_devices // self.data_parallel

  @property
  def unit(self) -> int:
    """The number of lanes that advance at a time on all devices, for a plan with every choice made."""
    return self.shards * self.lanes_at_once

  def fitted(self, lanes_per_block: int) -> 'Plan':
    """This plan with another block size, rounded up to fill all devices evenly."""
    return self._replace(lanes_per_block=-(-lanes_per_block // self.unit) * self.unit)

  def halved(self) -> 'Plan | None':
    """A plan that needs about half the memory; None if there is none.

    `lanes_at_once` is halved last, because only that changes the last bits of results.
    """
    if self.lanes_per_block > self.unit:
      return self.fitted(max(self.unit, self.lanes_per_block // self.unit // 2 * self.unit))
    if self.lanes_at_once > 1:
      return self._replace(lanes_at_once=self.lanes_at_once // 2).fitted(1)
    return None


FLAGS = 'program_per_device', 'host_steps'


def check_plan(plan: Plan | None) -> Plan:
  """The plan; for None one that leaves every choice open.

  Raises:
    InputError: if a choice is of the wrong type or range, there are too few devices, or choices exclude one another.
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
  """A checked plan with all open choices made.

  All devices are in the plan even if there are fewer lanes: with `lanes_at_once` 1 the results of a lane then do not
  depend, bit for bit, on the number of lanes.

  Args:
    plan: the plan given by the user.
    num_lanes: lanes of the program.
    num_steps: updates of every run.
    lanes_at_once: the best for the problem, see `autotune`.
    memory_lanes: how many lanes fit into memory.
    program_per_device: the default of that choice.
    host_steps: the default of that choice.
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
