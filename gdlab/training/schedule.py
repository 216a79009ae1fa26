"""When a run is recorded and evaluated, and how its updates are cut into compiled calls."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gdlab.errors import check_count
from gdlab.training.lane import Period

EVALUATIONS_PER_RUN = 50  # when `eval_every` does not say
RECORDS_PER_PERIOD = 64  # at most: a diverged run is put back by a period


class Schedule(NamedTuple):
  """The records of a run.

  Attributes:
    steps: int[T], the updates after which there is a record, 0 first.
    evaluates: bool[T], whether metrics are evaluated there.
  """

  steps: np.ndarray
  evaluates: np.ndarray

  def periods(self) -> list[range]:
    """The records (places in `steps`) of every period: up to the next evaluation, but not too many."""
    periods, first = [], 1
    for place in range(1, len(self.steps)):
      full = place - first + 1 == RECORDS_PER_PERIOD
      if self.evaluates[place] or full or place == len(self.steps) - 1:
        periods.append(range(first, place + 1))
        first = place + 1
    return periods

  def calls(self, steps_per_call: int, stops: Sequence[int] = ()) -> 'list[list[Call]]':
    """The compiled calls that make all updates, up to each of the steps `stops` and then to the end.

    All are of one shape, filled up with empty periods where need be, so that they share a program.
    """
    periods = self.periods()
    per_call = min(len(periods), max(1, round(steps_per_call * len(periods) / int(self.steps[-1]))))
    records = max(len(period) for period in periods)
    ends = [int(np.searchsorted(self.steps, stop, side='right')) for stop in (*stops, self.steps[-1])]
    stages = []
    for begin, end in itertools.pairwise([1, *ends]):
      stage = [period for period in periods if begin <= period.start < end]
      cuts = range(0, len(stage), per_call)
      stages.append([self._call(stage[cut : cut + per_call], per_call, records) for cut in cuts])
    return stages

  def _call(self, periods: Sequence[range], per_call: int, records: int) -> 'Call':
    lengths = np.zeros((per_call, records), np.int32)
    evaluates = np.zeros(per_call, bool)
    places = np.full((per_call, records), -1)
    ends = np.full(per_call, -1)
    for number, period in enumerate(periods):
      lengths[number, : len(period)] = np.diff(self.steps[period.start - 1 : period.stop])
      places[number, : len(period)] = period
      evaluates[number] = self.evaluates[period[-1]]
      ends[number] = period[-1] if evaluates[number] else -1
    return Call(Period(lengths, evaluates), places.ravel(), ends, int(lengths.sum()))


class Call(NamedTuple):
  """One compiled call.

  Attributes:
    periods: what is computed, Q periods of at most R records.
    places: int[Q * R], where each record belongs in the schedule; -1 for padding.
    ends: int[Q], where the metrics of each period belong; -1 for none.
    num_steps: updates made.
  """

  periods: Period
  places: np.ndarray
  ends: np.ndarray
  num_steps: int


def make_schedule(
  num_steps: int, eval_every: int | None, eval_steps: Sequence[int], record_every: int | None
) -> Schedule:
  """The records that `sweep` is asked for.

  Raises:
    InputError: if an argument is out of range.
  """
  num_steps = check_count('num_steps', num_steps)
  default = max(1, num_steps // EVALUATIONS_PER_RUN)
  eval_every = default if eval_every is None else check_count('eval_every', eval_every)
  record_every = eval_every if record_every is None else check_count('record_every', record_every)
  further = {check_count('eval_steps', step, minimum=0, maximum=num_steps) for step in eval_steps}
  evaluated = {*range(0, num_steps, eval_every), *further, num_steps}
  steps = np.asarray(sorted(evaluated | {*range(0, num_steps, record_every)}))
  return Schedule(steps, np.isin(steps, sorted(evaluated)))
