"""Which random stream the variance between runs comes from: initialisation, data order, or other noise."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.types import Streams


@checked
def factorial_seeds(init: int = 1, order: int = 1, noise: int = 1) -> Mapping[str, list[int]]:
  """The seeds of a full factorial design: every combination of the streams' ids.

  Example:
    >>> factorial_seeds(init=2, order=2)
    {'init': [0, 0, 1, 1], 'order': [0, 1, 0, 1], 'noise': [0, 0, 0, 0]}

  Args:
    init: number of ids of the stream of initialisation; 1 keeps it fixed.
    order: the same for the order of the examples.
    noise: the same for everything else (Dropout, injected noise).

  Returns:
    The argument `seeds` of `gdlab.run` and `gdlab.sweep`, init * order * noise runs.

  Raises:
    InputError: if a number is not a whole number >= 1.
  """
  counts = {'init': init, 'order': order, 'noise': noise}
  levels = [range(check_count(name, counts[name])) for name in Streams._fields]
  runs = itertools.product(*levels)
  return dict(zip(Streams._fields, (list(ids) for ids in zip(*runs, strict=True)), strict=True))


@checked('confidence', 'num_resamples')
def variance_by_stream(
  values: xr.DataArray, *, confidence: float = 0.95, num_resamples: int = 9999, seed: int = 0
) -> xr.Dataset:
  r"""Splits the variance between runs by stream: a random-effects analysis of variance of a full factorial.

  A value is a mean plus independent random effects of each stream's id and of each combination of ids, with variances
  $\sigma^2_S$ for S among init, order, noise, init:order, ... The mean squares have expectations
  $\sum_{T \supseteq S} \sigma^2_T \prod_{t \notin T} n_t$, and the estimates solve these equations:
  $\hat\sigma^2_S = \sum_{T \supseteq S} (-1)^{|T| - |S|} \mathrm{MS}_T / \prod_{t \notin S} n_t$. They are unbiased,
  and so may be negative where a component is near 0; such estimates are reported as they are.

  The intervals are a parametric bootstrap of the mean squares: each over its expectation is $\chi^2 / \text{df}$ for
  Gaussian effects, and the estimates are computed from $\mathrm{MS}_T \text{df}_T / \chi^2_T$ (generalised confidence
  intervals, whose coverage is close to nominal even for few ids). The interval of a stream without effect contains 0.

  Example:
    >>> seeds = factorial_seeds(init=4, order=3)
    >>> ids = {f'{name}_seed': ('seed', column) for name, column in seeds.items()}  # as results of gdlab.run have them
    >>> loss = xr.DataArray(0.3 + 0.1 * np.array(seeds['init']), dims='seed', coords=ids)
    >>> found = variance_by_stream(loss)
    >>> found.component.values.tolist(), found.share.values.round(6).tolist()
    (['init', 'order', 'init:order'], [1.0, 0.0, 0.0])

  Args:
    values: float[seed], one number per run of a full factorial (`factorial_seeds`), with the coordinates `init_seed`,
      `order_seed` and `noise_seed` of results of `gdlab.run`. A stream with one id is left out.
    confidence: of the intervals, in (0, 1).
    num_resamples: number of draws of the mean squares.
    seed: of the draws.

  Returns:
    A Dataset with dim `component` ('init', ..., 'init:order', ...; the highest interaction includes the residual) and
    variables `variance` with `variance_low` and `variance_high`, `share` of the total with `share_low` and
    `share_high`, `mean_square` and `degrees_of_freedom`; attributes `mean`, `total`, `confidence`, `num`.

  Raises:
    InputError: if the runs are not a full factorial, each combination once; a value is not finite (give failed runs a
      value, as the method needs a complete factorial); or another argument is out of range.

  Source: Searle, Casella and McCulloch 1992, Variance components, chapter 4; Weerahandi 1993, Generalized confidence
  intervals, JASA 88; Burdick, Borror and Montgomery 2005, Design and analysis of gauge R&R studies.
  """
  check_real('confidence', confidence, above=0, below=1)
  check_count('num_resamples', num_resamples)
  streams, table = _table(values)
  subsets = [
    subset for size in range(1, len(streams) + 1) for subset in itertools.combinations(streams, size)
  ]
  sizes = dict(zip(streams, table.shape, strict=True))
  freedom = np.array([math.prod(sizes[name] - 1 for name in subset) for subset in subsets])
  squares = np.array([_sum_of_squares(table, streams, subset) for subset in subsets]) / freedom
  solve = np.array([[_weight(sizes, subset, other) for other in subsets] for subset in subsets])
  variance = solve @ squares
  drawn = np.random.default_rng(seed).chisquare(freedom, (num_resamples, len(subsets)))
  resampled = (squares * freedom / drawn) @ solve.T
  # Shares of the total are of what the components can be: at least 0.
  kept = np.maximum(resampled, 0)
  shares = kept / np.where((total := kept.sum(axis=1, keepdims=True)) > 0, total, 1)
  tails = (1 - confidence) / 2, (1 + confidence) / 2
  ends = {'variance': np.quantile(resampled, tails, axis=0), 'share': np.quantile(shares, tails, axis=0)}
  total_variance = float(variance.sum())
  columns: dict[str, Any] = {
    'variance': variance,
    'share': variance / total_variance if total_variance else np.zeros_like(variance),
    'mean_square': squares,
    'degrees_of_freedom': freedom,
  }
  for name, (low, high) in ends.items():
    columns |= {f'{name}_low': low, f'{name}_high': high}
  return xr.Dataset(
    {name: ('component', column) for name, column in columns.items()},
    {'component': [':'.join(subset) for subset in subsets]},
    {'mean': float(table.mean()), 'total': total_variance, 'confidence': confidence, 'num': table.size},
  )


def _table(values: xr.DataArray) -> tuple[tuple[str, ...], np.ndarray]:
  """The streams that vary, and the values with one axis for each."""
  names = [f'{stream}_seed' for stream in Streams._fields]
  if not isinstance(values, xr.DataArray) or values.dims != ('seed',):
    raise InputError("values must be a DataArray with the dimension 'seed' alone")
  if lacking := [name for name in names if name not in values.coords]:
    raise InputError(f'values must have the coordinates of the streams, got none of {lacking}')
  if not np.isfinite(values).all():
    raise InputError(f'values must be finite, got {int((~np.isfinite(values)).sum())} that are not')
  levels, places = zip(*(np.unique(values[name], return_inverse=True) for name in names), strict=True)
  shape = tuple(level.size for level in levels)
  streams = tuple(stream for stream, size in zip(Streams._fields, shape, strict=True) if size > 1)
  flat = np.ravel_multi_index(places, shape)
  if not streams or not np.array_equal(np.sort(flat), np.arange(math.prod(shape))):
    raise InputError(
      f'values must be of a full factorial, each combination once: {dict(zip(Streams._fields, shape, strict=True))} '
      f'ids make {math.prod(shape)} combinations, got {values.size} runs; see factorial_seeds'
    )
  table = np.empty(math.prod(shape))
  table[flat] = values
  return streams, table.reshape([size for size in shape if size > 1])


def _sum_of_squares(table: np.ndarray, streams: tuple[str, ...], subset: tuple[str, ...]) -> float:
  """The sum of squares of one effect: of means over the other streams, minus the effects of smaller sets of streams."""
  effect = table
  for axis, name in enumerate(streams):
    mean = effect.mean(axis=axis, keepdims=True)
    effect = effect - mean if name in subset else np.broadcast_to(mean, effect.shape)
  return float((effect**2).sum())


def _weight(sizes: Mapping[str, int], subset: tuple[str, ...], other: tuple[str, ...]) -> float:
  """The coefficient of the mean square of `other` in the variance of `subset`."""
  if not set(subset) <= set(other):
    return 0.0
  return (-1) ** (len(other) - len(subset)) / math.prod(
    size for name, size in sizes.items() if name not in subset
  )
