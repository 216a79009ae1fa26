"""Maps of two swept hyperparameters, such as batch size and learning rate."""

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gdlab.core.errors import InputError, shown
from gdlab.plots.style import panels

MOST_NUMBERS = 81  # cells in which a number can still be read


def heat_map(
  values: xr.DataArray,
  *,
  failed: xr.DataArray | None = None,
  log: bool = True,
  label: str | None = None,
  framed: tuple[int, int] | None = None,
) -> Figure:
  """The median over seeds at every point of a grid of two hyperparameters, with failed cells marked.

  Cells have equal size whatever the values of the hyperparameters. A cell whose runs all failed is grey and crossed; if
  some failed, it shows how many (`2✗`). One cell is framed: the lowest, or `framed`. Dark is low.

  Args:
    values: dims of two hyperparameters, the first vertical and the second horizontal, and `seed` if there are several;
      such as `result.train_loss.isel(step=-1)` of a sweep. A value that is not finite counts as a failed run.
    failed: bool of the same dims, runs that failed whatever their value (`result.status == gdlab.DIVERGED`).
    log: whether colours follow the logarithm; all values must then be positive.
    label: of the values; their name by default.
    framed: row and column of the cell to frame, from 0, instead of the lowest one.

  Raises:
    InputError: if the dims are not these, every run failed, a value has no logarithm, or `framed` is not a cell.
  """
  if not isinstance(values, xr.DataArray) or len(set(values.dims) - {'seed'}) != 2:
    raise InputError(
      f'values must be a DataArray with dims (rows, columns) or with seed, got {shown(values)}'
    )
  rows, columns = (str(name) for name in values.dims if name != 'seed')
  if failed is not None:
    if set(failed.dims) - set(values.dims):
      raise InputError(f'failed must have dims among {values.dims}, got {failed.dims}')
    if failed.dtype != bool:
      raise InputError(
        f'failed must be flags, got dtype {failed.dtype}; compare the status with gdlab.DIVERGED'
      )
    try:
      # Arithmetic on DataArrays keeps what both have and drops the rest without a word.
      xr.align(values, failed, join='exact')
    except ValueError as error:
      raise InputError(f'failed must have the coordinates of values: {error}'.splitlines()[0]) from error
  finite = xr.apply_ufunc(np.isfinite, values)
  good = finite if failed is None else finite & ~failed
  kept = values.where(good).transpose(rows, columns, ...)
  table = kept if 'seed' not in kept.dims else kept.median('seed')
  failures = (~good).transpose(rows, columns, ...)
  lost = failures.sum('seed') if 'seed' in failures.dims else failures.astype(int)
  runs = values.sizes.get('seed', 1)
  if np.isnan(table).all():
    raise InputError('values must have a run that did not fail, got none')
  if log and float(table.min()) <= 0:
    raise InputError(f'values must be positive for log=True, got a minimum of {float(table.min())}')
  if framed is not None and not all(
    0 <= place < size for place, size in zip(framed, table.shape, strict=True)
  ):
    raise InputError(
      f'framed must be a cell of {table.shape[0]} rows and {table.shape[1]} columns, got {framed}'
    )
  norm = (LogNorm if log else Normalize)(float(table.min()), float(table.max()))
  colours = colormaps['cividis'].with_extremes(bad='0.85')
  ratio = table.sizes[rows] / table.sizes[columns]
  with panels(1, width=4.9, height=float(np.clip(0.9 + 3.4 * ratio, 2.4, 6))) as (figure, (axes,)):
    image = axes.imshow(table.values, cmap=colours, norm=norm, origin='lower', aspect='auto')
    for (row, column), value in np.ndenumerate(table.values):
      count = int(lost.values[row, column])
      text = '' if np.isnan(value) or table.size > MOST_NUMBERS else f'{value:.2g}'
      text += f'\n{count}✗' if 0 < count < runs else ''
      dark = not np.isnan(value) and norm(value) < 0.55
      axes.text(column, row, text, ha='center', va='center', fontsize=7, color='white' if dark else 'black')
      if count == runs:
        axes.plot(column, row, marker='x', color='0.35', markersize=9, markeredgewidth=1.6)
    row, column = framed or np.unravel_index(int(np.nanargmin(table.values)), table.shape)
    frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor='#D55E00', linewidth=2.4)
    axes.add_patch(frame)
    for axis, dim in ((axes.yaxis, rows), (axes.xaxis, columns)):
      names = [shown_number(value) for value in table[dim].values] if dim in table.coords else None
      places = np.arange(table.sizes[dim])
      every = -(-table.sizes[dim] // 12)
      axis.set_ticks(places[::every], None if names is None else names[::every])
      axis.set_label_text(dim.replace('_', ' '))
    axes.tick_params(axis='x', rotation=45)
    axes.grid(False)
    axes.spines[['right', 'top']].set_visible(True)
    figure.colorbar(image, ax=axes, label=label or str(values.name or '').replace('_', ' '))
  return figure


def shown_number(value: object) -> str:
  """A hyperparameter's value as a tick label, floats with three digits."""
  return f'{value:.3g}' if isinstance(value, (float, np.floating)) else str(value)
