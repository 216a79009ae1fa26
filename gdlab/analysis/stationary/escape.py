"""How long a run stays near a saddle: entry, escape and dwell times from its records."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.types import Array


class Visits(NamedTuple):
  """The visits of a series to a neighbourhood, counted in records; each attribute has the series' shape without time.

  Attributes:
    entered: int32, the record at which the first visit began; -1 if there was none.
    escaped: int32, the record at which the first visit ended; -1 if it did not end, or there was none.
    visits: int32, the number of visits.
    inside: int32, the number of records inside, over all visits.
  """

  entered: Array
  escaped: Array
  visits: Array
  inside: Array


@checked('enter', 'leave')
def saddle_visits(series: Array, *, enter: Any, leave: Any) -> Visits:
  r"""When a series enters and leaves a neighbourhood, with two thresholds, so that noise does not count as an escape.

  A visit begins when the series falls to `enter` or below and ends when it rises to `leave` or above. A NaN neither
  begins nor ends a visit. Jittable and vmappable; cost: no gradient.

  Example:
    >>> found = saddle_visits(jnp.array([3.0, 0.5, 1.5, 0.8, 2.5, 9.0]), enter=1.0, leave=2.0)
    >>> [int(number) for number in found]
    [1, 4, 1, 3]

  Args:
    series: float[..., T]: the distance from the saddle, the gradient norm, |loss - loss at the saddle|, ....
    enter: float, the neighbourhood's inner edge.
    leave: float, > `enter`, its outer edge.

  Raises:
    InputError: if the series has no axis, or the thresholds are not of that form.
  """
  check_real('enter', enter)
  check_real('leave', leave, above=-np.inf if isinstance(enter, jax.core.Tracer) else float(enter))
  values = jnp.asarray(series)
  if not values.ndim:
    raise InputError(f'series must have the shape [..., T], got the one number {shown(series)}')
  none = jnp.full(values.shape[:-1], -1, jnp.int32)
  nothing = jnp.zeros(values.shape[:-1], jnp.int32)

  def record(found: tuple[Visits, Array], now: tuple[Array, Array]) -> tuple[tuple[Visits, Array], None]:
    (before, was_in), (number, value) = found, now
    comes, goes = ~was_in & (value <= enter), was_in & (value >= leave)  # both False for NaN
    is_in = (was_in | comes) & ~goes
    return (
      Visits(
        jnp.where(comes & (before.visits == 0), number, before.entered),
        jnp.where(goes & (before.visits == 1), number, before.escaped),
        before.visits + comes.astype(jnp.int32),
        before.inside + is_in.astype(jnp.int32),
      ),
      is_in,
    ), None

  start = Visits(none, none, nothing, nothing), nothing.astype(bool)
  rows = jnp.arange(values.shape[-1], dtype=jnp.int32), jnp.moveaxis(values, -1, 0)
  return jax.lax.scan(record, start, rows)[0][0]


@checked('records', 'saddle')
def escape_times(records: xr.DataArray, *, enter: float, leave: float, saddle: Any = None) -> xr.Dataset:
  """Entry, escape and dwell time of the first visit to a saddle's neighbourhood, from the records of runs.

  A host function of what `gdlab.run` returns; cost: no gradient. The resolution is the interval between records.

  Example:
    >>> loss = xr.DataArray([5.0, 1.2, 1.1, 0.9, 0.1], dims='step', coords={'step': [0, 10, 20, 30, 40]})
    >>> times = escape_times(abs(loss - 1.0), enter=0.2, leave=0.5)
    >>> times.entered.item(), times.escaped.item(), times.dwell.item()
    (10.0, 40.0, 30.0)

  Args:
    records: dim `step` with its coordinate, and any others: a series that is small near the saddle (`grad_norm`,
      `abs(loss - value)`); or, with `saddle`, the parameters along the last dim. A NaN neither begins nor ends a visit.
    enter: the neighbourhood's inner edge, in the records' units; see `saddle_visits`.
    leave: its outer edge, > `enter`.
    saddle: float[n]; the series is then the distance from it.

  Returns:
    A Dataset with the dims of the records except `step` (and the parameters): `entered` and `escaped`, in steps, NaN
    where that did not happen; `dwell`, the time between them; for a run that had not left, the time until its last
    record that is not NaN, with `censored` True; NaN for a run that never entered; `visits`, their number.

  Raises:
    InputError: if the records have no dim `step` with a coordinate, or `saddle` does not fit them.
  """
  if not isinstance(records, xr.DataArray) or 'step' not in records.dims or 'step' not in records.coords:
    raise InputError(f'records must be a DataArray with dim and coordinate step, got {shown(records)}')
  if saddle is not None:
    point, last = np.asarray(saddle, np.float64), str(records.dims[-1])
    if last == 'step' or point.shape != (records.sizes[last],):
      raise InputError(
        f'saddle must be float[n] for records whose last dim is the n parameters, got shape {list(point.shape)} '
        f'for dims {dict(records.sizes)}'
      )
    # Without skipna a row of NaN would be at distance 0.
    records = ((records - xr.DataArray(point, dims=last)) ** 2).sum(last, skipna=False) ** 0.5
  ordered = records.transpose(..., 'step')
  found = jax.tree.map(np.asarray, saddle_visits(jnp.asarray(ordered.values), enter=enter, leave=leave))
  steps = np.asarray(ordered['step'].values, np.float64)
  numbers = ~np.isnan(ordered.values)
  last_number = numbers.shape[-1] - 1 - np.argmax(numbers[..., ::-1], axis=-1)
  came, left = found.entered >= 0, found.escaped >= 0
  entered = np.where(came, steps[found.entered], np.nan)
  escaped = np.where(left, steps[found.escaped], np.nan)
  rest = ordered.isel(step=0, drop=True)
  columns = {
    'entered': entered,
    'escaped': escaped,
    'dwell': np.where(left, escaped, steps[last_number]) - entered,
    'censored': came & ~left,
    'visits': found.visits,
  }
  return xr.Dataset({name: (rest.dims, values) for name, values in columns.items()}, rest.coords)
