"""The records of runs: when they are made, how the updates are divided into compiled calls, and the results."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gdlab.core.errors import check_count
from gdlab.results.datasets import RUNNING, STOPPED
from gdlab.training.lane import COUNT_BASE

EVALUATIONS_PER_RUN = 50  # when `eval_every` does not say
RECORDS_PER_PERIOD = 64  # at most: a diverged run is reset to the start of its period
COUNTS = ('examples', 'gradient_evaluations')


class Chunk(NamedTuple):
  """The updates of one compiled call: Q periods of at most R records, both padded.

  A period ends with an evaluation, or with its 64th record.

  Attributes:
    lengths: int32[Q, R], updates up to each record; 0 on padding.
    evaluates: bool[Q], whether metrics are evaluated at the end of each period.
    places: int[Q, R], where each record belongs among all; -1 on padding.
    ends: int[Q], where the metrics of each period belong; -1 for none.
  """

  lengths: np.ndarray
  evaluates: np.ndarray
  places: np.ndarray
  ends: np.ndarray

  @property
  def num_steps(self) -> int:
    """Updates made."""
    return int(self.lengths.sum())


class Records:
  """The records of L lanes: made at steps int[T], 0 first; metrics are evaluated where `evaluates` bool[T] says so.

  Values have axes [L, T, ...]; missing ones are NaN, or 0 for whole numbers.
  """

  def __init__(self, steps: np.ndarray, evaluates: np.ndarray, num_lanes: int):
    self.steps, self.evaluates, self.num_lanes = steps, evaluates, num_lanes
    self.kept: dict[str, np.ndarray] = {}  # of the ends of the runs, with axes [L, ...]
    self._values: dict[str, np.ndarray] = {}

  @property
  def num_steps(self) -> int:
    """Updates of every run."""
    return int(self.steps[-1])

  def stages(self, stops: Sequence[int] = ()) -> list[range]:
    """The numbers of the periods up to each of the steps `stops`, and then to the end."""
    ends = [int(np.searchsorted(self.steps, stop, side='right')) for stop in (*stops, self.num_steps)]
    begins = [period.start for period in self.periods]
    return [
      range(*(int(np.searchsorted(begins, place)) for place in pair))
      for pair in itertools.pairwise([1, *ends])
    ]

  def chunks(self, steps_per_call: int, stops: Sequence[int] = ()) -> list[list[Chunk]]:
    """The compiled calls that make all updates, up to each of the steps `stops` and then to the end."""
    size = self.periods_per_call(steps_per_call)
    return [
      [
        self.chunk(steps_per_call, range(begin, min(begin + size, stage.stop)))
        for begin in range(stage.start, stage.stop, size)
      ]
      for stage in self.stages(stops)
    ]

  def chunk(self, steps_per_call: int, numbers: range) -> Chunk:
    """The compiled call for some periods; all calls are padded to one shape, so that they share a program."""
    records = max(len(period) for period in self.periods)
    return self._chunk(
      self.periods[numbers.start : numbers.stop], self.periods_per_call(steps_per_call), records
    )

  def periods_per_call(self, steps_per_call: int) -> int:
    """The number of periods in a compiled call."""
    return min(len(self.periods), max(1, round(steps_per_call * len(self.periods) / self.num_steps)))

  def made(self, num_periods: int) -> int:
    """The number of records after `num_periods` periods, including that of step 0."""
    return self.periods[num_periods - 1].stop if num_periods else 1

  def put_initial(self, members: np.ndarray, slots: np.ndarray, metrics: Mapping[str, Any]) -> None:
    """Stores metrics before the first update, with axes [slot, ...], of the lanes `members` in `slots`."""
    for name, values in metrics.items():
      self._write(name, members, np.zeros(1, int), _on_host(name, values)[slots][:, None])

  def put(self, members: np.ndarray, slots: np.ndarray, chunk: Chunk, results: tuple[Any, Any]) -> None:
    """Stores the results of a call: records with axes [slot, Q, R] and metrics with axes [slot, Q, ...]."""
    records, metrics = results
    places = chunk.places.ravel()
    kept, evaluated = places >= 0, chunk.ends >= 0
    for name, values in records.items():
      flat = _on_host(name, values)[slots].reshape(len(slots), -1)
      self._write(name, members, places[kept], flat[:, kept])
    for name, values in metrics.items():
      self._write(name, members, chunk.ends[evaluated], _on_host(name, values)[slots][:, evaluated])

  def keep(self, members: np.ndarray, slots: np.ndarray, named: Mapping[str, Any]) -> None:
    """Stores final values, with axes [slot, ...]."""
    for name, values in named.items():
      found = _on_host(name, values)[slots]
      self.kept.setdefault(name, np.zeros((self.num_lanes, *found.shape[1:]), found.dtype))[members] = found

  def stop(self, members: np.ndarray, place: int) -> None:
    """Marks running lanes as stopped after the record at `place`; they have no later records."""
    status = self._values['status'][members, place]
    self._values['status'][members, place + 1 :] = np.where(status == RUNNING, STOPPED, status)[:, None]
    self._values['updates'][members, place + 1 :] = self._values['updates'][members, place, None]

  def rows(self, members: np.ndarray, made: int) -> dict[str, np.ndarray]:
    """The first `made` records of some lanes, with axes [lane, record, ...]."""
    return {name: values[members, :made] for name, values in self._values.items()}

  def put_rows(self, members: np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
    """Stores the first records of some lanes, as returned by `rows`."""
    for name, values in rows.items():
      self._write(name, members, np.arange(values.shape[1]), values)

  def column(self, name: str, place: int) -> np.ndarray:
    """One record of all lanes, [L]; NaN if there is none."""
    if name not in self._values:
      return np.full(self.num_lanes, np.nan)
    return self._values[name][:, place]

  def names(self) -> list[str]:
    """The names of what is recorded so far."""
    return list(self._values)

  def totals(self) -> dict[str, np.ndarray]:
    """All records, with counts accumulated since step 0 (in place)."""
    return {
      name: np.cumsum(values, axis=1, out=values) if name in COUNTS else values
      for name, values in self._values.items()
    }

  def _write(self, name: str, members: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
    """Stores values with axes [lane, place, ...]."""
    if name not in self._values:
      missing = np.nan if values.dtype.kind in 'fc' else 0
      shape = (self.num_lanes, len(self.steps), *values.shape[2:])
      self._values[name] = np.full(shape, missing, values.dtype)
    self._values[name][np.ix_(members, places)] = values

  @functools.cached_property
  def periods(self) -> list[range]:
    """The records (indices into `steps`) of every period: up to the next evaluation, at most `RECORDS_PER_PERIOD`."""
    periods, first = [], 1
    for place in range(1, len(self.steps)):
      full = place - first + 1 == RECORDS_PER_PERIOD
      if self.evaluates[place] or full or place == len(self.steps) - 1:
        periods.append(range(first, place + 1))
        first = place + 1
    return periods

  def _chunk(self, periods: Sequence[range], per_call: int, records: int) -> Chunk:
    lengths = np.zeros((per_call, records), np.int32)
    evaluates = np.zeros(per_call, bool)
    places = np.full((per_call, records), -1)
    ends = np.full(per_call, -1)
    for number, period in enumerate(periods):
      lengths[number, : len(period)] = np.diff(self.steps[period.start - 1 : period.stop])
      places[number, : len(period)] = period
      evaluates[number] = self.evaluates[period[-1]]
      ends[number] = period[-1] if evaluates[number] else -1
    return Chunk(lengths, evaluates, places, ends)


def records_factory(
  eval_every: int | None, eval_steps: Sequence[int], record_every: int | None, *, ends_differ: bool = False
) -> Callable[[int, int], Records]:
  """A function `(num_steps, num_lanes) -> Records` that makes the empty records for the arguments of `sweep`.

  With `ends_differ` a run may end before some of `eval_steps`.

  Raises:
    InputError: if an argument is out of range.
  """
  for name, value in (('eval_every', eval_every), ('record_every', record_every)):
    if value is not None:
      check_count(name, value)

  def make(num_steps: int, num_lanes: int) -> Records:
    num_steps = check_count('num_steps', num_steps)
    evaluate = max(1, num_steps // EVALUATIONS_PER_RUN) if eval_every is None else eval_every
    most = None if ends_differ else num_steps
    further = {check_count('eval_steps', step, minimum=0, maximum=most) for step in eval_steps}
    further = {step for step in further if step <= num_steps}
    evaluated = {*range(0, num_steps, evaluate), *further, num_steps}
    steps = np.asarray(sorted(evaluated | {*range(0, num_steps, record_every or evaluate)}))
    return Records(steps, np.isin(steps, sorted(evaluated)), num_lanes)

  return make


def _on_host(name: str, values: Any) -> np.ndarray:
  """A record in types that NumPy and NetCDF have: counts as int64, half precision as float32."""
  array = np.asarray(values)
  if name in COUNTS:
    return array[..., 0].astype(np.int64) * COUNT_BASE + array[..., 1]
  return (
    array.astype(np.float32) if jnp.issubdtype(array.dtype, jnp.floating) and array.itemsize < 4 else array
  )
