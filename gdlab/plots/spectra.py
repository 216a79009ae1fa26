"""Spectra: eigenvalues as a histogram, and their density with its interval."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from gdlab.core.errors import InputError, check_count, check_real
from gdlab.plots.inputs import numbers
from gdlab.plots.style import COLOURS, panels


def eigenvalue_histogram(eigenvalues: npt.ArrayLike, *, num_bins: int = 60, rounding: float = 0.0) -> Figure:
  """A histogram of eigenvalues; counts on a logarithmic scale, negative ones in another colour and hatched.

  Args:
    eigenvalues: float[d], all of them, as from a dense Hessian.
    num_bins: number of bins of equal width.
    rounding: eigenvalues at most this large in absolute value have no certain sign and count as zero: for a Hessian in
      float32 about 1e-5 of the largest.

  Raises:
    InputError: if they are not finite numbers, `num_bins` < 1, or the rounding is negative.
  """
  values = numbers('eigenvalues', eigenvalues, (1,), finite=True)
  check_count('num_bins', num_bins)
  check_real('rounding', rounding, minimum=0)
  values = np.where(np.abs(values) <= rounding, 0.0, values)
  # Zero is an edge, so that no bin mixes signs.
  width = max(np.ptp(np.append(values, 0.0)), 1e-12) / num_bins
  edges = width * np.arange(np.floor(values.min() / width), np.floor(values.max() / width) + 2)
  with panels(1, width=4.6, height=3.4) as (figure, (axes,)):
    axes.hist(values[values >= 0], edges, color=COLOURS[0], label='not negative')
    if (values < 0).any():
      label = f'negative: {(values < 0).sum():,} of {values.size:,}'
      axes.hist(values[values < 0], edges, color=COLOURS[1], hatch='///', edgecolor='white', label=label)
      axes.legend(fontsize=9)
    axes.set(xlabel='eigenvalue', ylabel='count', yscale='log', ylim=(0.6, None))
  return figure


def spectrum(
  points: npt.ArrayLike,
  density: npt.ArrayLike,
  *,
  lower: npt.ArrayLike | None = None,
  upper: npt.ArrayLike | None = None,
  eigenvalues: npt.ArrayLike = (),
) -> Figure:
  """The density of eigenvalues on a logarithmic scale, with its band; single eigenvalues are ticks at the bottom.

  Args:
    points: float[g], ascending, such as `SpectralDensity.points` of `gdlab.analysis.spectral_density`.
    density: float[g] >= 0.
    lower: float[g], lower end of the band, only together with `upper`.
    upper: float[g], upper end.
    eigenvalues: float[k], single eigenvalues to mark, such as the largest.

  Raises:
    InputError: if shapes do not match, points do not ascend, or no density is positive.
  """
  points = numbers('points', points, (1,), finite=True)
  height = numbers('density', density, (1,), finite=True)
  ends = [
    numbers(name, end, (1,), finite=True)
    for name, end in (('lower', lower), ('upper', upper))
    if end is not None
  ]
  if len(ends) == 1:
    raise InputError('lower and upper must be given together')
  if any(line.shape != points.shape for line in (height, *ends)) or not (np.diff(points) > 0).all():
    raise InputError('points must ascend, with density, lower and upper of the same shape')
  if height.max() <= 0:
    raise InputError(f'density must be positive somewhere, got a maximum of {height.max():g}')
  # Below a millionth of the peak there is nothing to see but rounding.
  floor = 1e-6 * height.max()
  with panels(1, width=4.6, height=3.4) as (figure, (axes,)):
    if ends:
      low, high = (np.maximum(end, floor) for end in ends)
      axes.fill_between(points, low, high, color=COLOURS[5], alpha=0.45, linewidth=0, label='95 % interval')
    axes.plot(points, np.maximum(height, floor), color=COLOURS[0], label='density')
    values = np.asarray(eigenvalues, float)
    if values.size:
      axes.plot(
        values, np.full(values.size, 1.6 * floor), '|', color=COLOURS[1], markersize=12, markeredgewidth=1.8,
        label='eigenvalues found',
      )  # fmt: skip
    axes.axvline(0, color='black', linewidth=0.8, linestyle=':')
    axes.set(xlabel='eigenvalue', ylabel='density', yscale='log', ylim=(floor, None))
    axes.legend(fontsize=9)
  return figure
