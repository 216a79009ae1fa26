"""What is concluded from the times: ratios, and whether they meet the targets.

A ratio is the median of its quotients round by round: what slows a minute slows both sides of a quotient.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Times: TypeAlias = Mapping[str, np.ndarray]  # microseconds per update and lane, by contender and round

# Of the house's issue on the engine, for 2 CPU cores: the least, or the most, that each ratio may be.
AT_LEAST = {
  ('python loop', 1): 7.0,
  ('python loop', 32): 2.4,
  ('python loop', 256): 1.5,
  ('jit(vmap)', 1): 3.0,
  ('jit(vmap)', 32): 2.4,
  ('jit(vmap)', 256): 2.3,
  ('jit(vmap), NNX', 1): 2.5,
  ('jit(vmap), NNX', 32): 2.2,
  ('jit(vmap), NNX', 256): 2.2,
  ('PyTorch eager', 1): 30.0,
  ('PyTorch eager', 32): 6.0,
  ('PyTorch eager', 256): 2.0,
  ('share of peak', 32): 0.45,
  ('share of peak', 256): 0.65,
}
CNN_AT_LEAST = 1.8
USERS_CNN_AT_LEAST = 1.0
RECORDED_AT_MOST = {1: 1.12, 32: 1.1, 256: 1.1}  # over a bare loop with the same evaluations
RESHUFFLE_AT_MOST = 1.1
LANES_AT_MOST = 1.15
LANES_FLAT_FROM = 64
MEMORY_AT_MOST = 1.5
SAVES_AT_MOST, RESUME_AT_MOST = 1.03, 10.0  # of the time without checkpoints; seconds


class Ratio(NamedTuple):
  """A quotient that has a target, or could have one.

  Attributes:
    name: what is compared.
    batch_size: at which batch size; 0 where several lane counts are compared.
    us: microseconds per update and lane of the first of the two, None where it is no time.
    value: the median of numerator / denominator over the rounds.
    numerator: its median, in the unit that both have.
    denominator: its median, in the unit that both have.
    sense: '>=' or '<=' the target.
    target: None where the issue sets none.
  """

  name: str
  batch_size: int
  us: float | None
  value: float
  numerator: float
  denominator: float
  sense: str
  target: float | None

  @property
  def verdict(self) -> str:
    """'met', 'missed', or '-' where there is no target."""
    if self.target is None:
      return '-'
    met = self.value >= self.target if self.sense == '>=' else self.value <= self.target
    return 'met' if met else 'missed'


def quotient(
  name: str,
  batch_size: int,
  numerator: np.ndarray | float,
  denominator: np.ndarray | float,
  *,
  at_least: float | None = None,
  at_most: float | None = None,
  us: np.ndarray | None = None,
) -> Ratio:
  """The ratio of two numbers, or of two for each round, against its target."""
  sense, target = ('<=', at_most) if at_most is not None else ('>=', at_least)
  value, above, below = (
    float(np.median(each)) for each in (np.divide(numerator, denominator), numerator, denominator)
  )
  time = None if us is None else float(np.median(us))
  return Ratio(name, batch_size, time, value, above, below, sense, target)


def of_batch_size(batch_size: int, us: Times, flops: int, peak: np.ndarray) -> list[Ratio]:
  """The ratios at one batch size.

  Args:
    batch_size: B.
    us: what the contenders took.
    flops: operations per example, see `tasks.flops_per_example`.
    peak: the machine's operations per second, by round.
  """
  ratios = []
  for name in ('python loop', 'python loop, fused', 'jit(vmap)', 'PyTorch eager'):
    if name in us:
      target = AT_LEAST.get((name.removesuffix(', fused'), batch_size))
      ratios.append(quotient(name, batch_size, us[name], us['gdlab'], at_least=target, us=us[name]))
  target, reached = AT_LEAST.get(('share of peak', batch_size)), flops * batch_size / us['gdlab'] * 1e6
  ratios.append(quotient('share of peak', batch_size, reached, peak, at_least=target, us=us['gdlab']))
  if 'gdlab, NNX' in us:
    name, ours, theirs = 'jit(vmap), NNX', us['gdlab, NNX'], us['jit(vmap), NNX']
    ratios.append(
      quotient(name, batch_size, theirs, ours, at_least=AT_LEAST.get((name, batch_size)), us=theirs)
    )
  recorded, bare = us['gdlab recorded'], us['bare loop']
  name, same = 'recorded / bare with the same evaluations', us['bare loop, evaluated']
  most = RECORDED_AT_MOST.get(batch_size)
  ratios.append(quotient(name, batch_size, recorded, same, at_most=most, us=recorded))
  alone = us['gdlab recorded, not evaluated']
  ratios.append(quotient('recorded / bare, no evaluations', batch_size, alone, bare, us=alone))
  return ratios


def of_samplers(batch_size: int, us: Times) -> list[Ratio]:
  """Reshuffling over drawing with replacement in every plan."""
  ratios = []
  for plan in ('lane after lane', 'all lanes at once'):
    ours, theirs = us[f'reshuffle, {plan}'], us[f'with replacement, {plan}']
    name = f'reshuffle / with replacement, {plan}'
    ratios.append(quotient(name, batch_size, ours, theirs, at_most=RESHUFFLE_AT_MOST, us=ours))
  return ratios


def of_lanes(lanes: Sequence[int], us: Sequence[float]) -> list[Ratio]:
  """How flat the time per lane is from `LANES_FLAT_FROM` lanes on: its largest value over its smallest."""
  many = [value for count, value in zip(lanes, us) if count >= LANES_FLAT_FROM]
  if len(many) < 2:
    return []
  return [quotient('time per lane, most / least', 0, max(many), min(many), at_most=LANES_AT_MOST)]


def of_memory(facts: Mapping[str, Any]) -> list[Ratio]:
  """Memory that one more lane takes over what it has to hold."""
  needed = facts['held_bytes_per_lane'] + facts['recorded_bytes_per_lane']
  return [quotient('memory per lane / needed', 0, facts['bytes_per_lane'], needed, at_most=MEMORY_AT_MOST)]


def of_saves(facts: Mapping[str, Any]) -> list[Ratio]:
  """The time with checkpoints over that without, and the seconds until a sweep goes on over one second."""
  return [
    quotient('with checkpoints / without', 0, facts['with'], facts['without'], at_most=SAVES_AT_MOST),
    quotient('seconds until a sweep goes on', 0, np.asarray(facts['resume']), 1.0, at_most=RESUME_AT_MOST),
  ]
