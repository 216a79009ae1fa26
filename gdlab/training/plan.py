"""How the lanes of a sweep are laid out on the machine."""

from typing import NamedTuple

import jax

from gdlab.errors import InputError, check_count, shown


class Plan(NamedTuple):
  """A layout of lanes (hyperparameters x seeds); None means: chosen for the backend, the problem and the memory.

  Under one plan a lane is the same bit for bit whatever runs beside it. Between plans it agrees to rounding.

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
      have to take every branch together; processes with devices of their own need not, see `part` of `sweep`.)
    program_per_device: whether every device has a compiled copy of its own, which takes as many compilations, at
      once. XLA's matrix products on a CPU keep working memory with the program, which devices that share one hand
      to and fro between their caches. By default in long runs on a CPU; the bits were the same wherever compared.
  """

  lanes_at_once: int | None = None
  num_devices: int | None = None
  steps_per_call: int | None = None
  lanes_per_block: int | None = None
  data_parallel: int | None = None
  program_per_device: bool | None = None


CALLS_PER_RUN = 16  # how often a run comes back to the host for progress when the plan does not say


class Layout(NamedTuple):
  """A plan with every choice made; fields as in `Plan`."""

  lanes_at_once: int
  num_devices: int
  steps_per_call: int
  lanes_per_block: int
  data_parallel: int
  program_per_device: bool = False

  @property
  def shards(self) -> int:
    """Groups of devices with lanes of their own."""
    return self.num_devices // self.data_parallel

  def fitted(self, lanes_per_block: int) -> 'Layout':
    """This layout with another block, rounded up to what fills every device evenly."""
    unit = self.shards * self.lanes_at_once
    return self._replace(lanes_per_block=-(-lanes_per_block // unit) * unit)

  def halved(self) -> 'Layout | None':
    """A layout that needs about half the memory; None if there is none.

    Lanes at once are halved last: all else leaves every result as it is, bit for bit.
    """
    unit = self.shards * self.lanes_at_once
    if self.lanes_per_block > unit:
      return self.fitted(max(unit, self.lanes_per_block // unit // 2 * unit))
    if self.lanes_at_once > 1:
      return self._replace(lanes_at_once=self.lanes_at_once // 2).fitted(1)
    return None


def check_plan(plan: Plan | None) -> Plan:
  """The plan, or an open one for None.

  Raises:
    InputError: if a choice is not a whole number >= 1, or the devices do not suffice.
  """
  plan = Plan() if plan is None else plan
  if not isinstance(plan, Plan):
    raise InputError(f'plan must be a gdlab.Plan or None, got {shown(plan)}')
  for name, value in plan._asdict().items():
    if name == 'program_per_device':
      if value not in (None, False, True):
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
    if plan.program_per_device:
      raise InputError('plan.program_per_device must be False or None where devices share a batch, got True')
    plan = plan._replace(num_devices=plan.data_parallel, program_per_device=False)
  return plan


def resolve(
  plan: Plan,
  num_lanes: int,
  num_steps: int,
  *,
  lanes_at_once: int,
  memory_lanes: int,
  program_per_device: bool = False,
) -> Layout:
  """Makes the choices that a checked plan leaves open.

  All devices are used even for few lanes (the others rest): so where lanes follow one another, the bits of a lane do
  not depend on how many there are.

  Args:
    plan: what was asked for.
    num_lanes: lanes of the sweep's program.
    num_steps: updates of every run.
    lanes_at_once: what was found best for the problem, see `choose`.
    memory_lanes: how many lanes fit the memory.
    program_per_device: whether it pays to compile one for every device.
  """
  layout = Layout(
    lanes_at_once=plan.lanes_at_once or lanes_at_once,
    num_devices=plan.num_devices or jax.local_device_count(),
    steps_per_call=plan.steps_per_call or -(-num_steps // CALLS_PER_RUN),
    lanes_per_block=0,
    data_parallel=plan.data_parallel or 1,
    program_per_device=bool(
      program_per_device if plan.program_per_device is None else plan.program_per_device
    ),
  )
  return layout.fitted(min(num_lanes, plan.lanes_per_block or memory_lanes))
