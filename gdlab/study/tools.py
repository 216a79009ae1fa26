"""Tools for studies: masking of failed runs, the tuned choice and its uncertainty, redrawn data, times."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree

from gdlab.comparison.budgets import one_program
from gdlab.comparison.clock import seconds_per_update
from gdlab.core.types import Algorithm, Array, Problem, State
from gdlab.host.progress import Progress
from gdlab.results.datasets import RUNNING
from gdlab.statistics import Interval, likely, over_choices
from gdlab.training.plan import Plan
from gdlab.training.sweeps import sweep


def unless_failed(runs: xr.Dataset, variable: str, failed: float) -> xr.DataArray:
  """A variable of runs, with `failed` in place of values of failed runs and values that are not finite."""
  values = runs[variable]
  return values.where((runs.status == RUNNING) & np.isfinite(values), failed)


def best(values: xr.DataArray, dim: str, *ties: xr.DataArray) -> Any:
  """The tuned choice: the coordinate with the least mean over seeds; `ties` decide between equal means, else the first.

  Args:
    values: with dims `seed` and `dim`, smaller is better; see `unless_failed`.
    dim: the dim to choose along.
    *ties: arrays like `values`, compared in turn if means are equal.
  """
  return chooser(values, dim, *ties)(np.arange(values.sizes['seed']))


def chooser(values: xr.DataArray, dim: str, *ties: xr.DataArray) -> Callable[[np.ndarray], Any]:
  """`best` as a function of the indices of the tuning runs, for `gdlab.statistics.likely`.

  Means count as equal if their first six digits are: beyond them float32 rounds, and the order of a sum would decide
  between two settings that classify equally many examples.

  Example:
    >>> import numpy as np, xarray as xr
    >>> losses = xr.DataArray([[0.3, 0.20], [0.5, 0.26], [0.1, 0.28]], [('seed', [0, 1, 2]), ('rate', [0.1, 0.5])])
    >>> choose = chooser(losses, 'rate')
    >>> choose(np.array([0, 1, 2])), choose(np.array([0, 2, 2]))
    (0.5, 0.1)
  """
  each = [np.asarray(array.transpose(dim, 'seed').values, np.float64) for array in (values, *ties)]

  def choose(numbers: np.ndarray) -> Any:
    means = [array[:, numbers].mean(axis=1) for array in each]
    order = np.lexsort([_six_digits(np.nan_to_num(mean, nan=np.inf)) for mean in reversed(means)])
    return values[dim].values[order[0]].item()

  return choose


def _six_digits(values: np.ndarray) -> np.ndarray:
  return np.asarray([float(f'{value:.5e}') for value in values])


def after_choice(
  effect: Callable[..., Interval],
  choose: Sequence[Callable[[np.ndarray], Any]],
  num: int,
  *,
  scale: str = 'plain',
) -> Interval:
  """The interval of an effect between tuned arms, widened for the choices that other tuning seeds may have made.

  Args:
    effect: `(*choices) -> Interval`, for one choice per arm; called for all that are likely.
    choose: a `chooser` for each arm; all arms are tuned on the same seeds.
    num: the number of tuning seeds.
    scale: as in `gdlab.statistics.over_choices`: 'log' for ratios.

  Example:
    >>> import numpy as np, xarray as xr
    >>> from gdlab import statistics
    >>> tuning = xr.DataArray([[0.3, 0.20], [0.5, 0.26], [0.1, 0.28]], [('seed', [0, 1, 2]), ('rate', [0.1, 0.5])])
    >>> graded = {0.1: np.array([0.22, 0.27, 0.25, 0.24]), 0.5: np.array([0.21, 0.23, 0.25, 0.22])}
    >>> def gain(rate):
    ...   return statistics.paired_interval(np.array([0.30, 0.33, 0.29, 0.31]), graded[rate])
    >>> [round(end, 3) for end in gain(best(tuning, 'rate'))[1:3]]
    [0.037, 0.123]
    >>> [round(end, 3) for end in after_choice(gain, [chooser(tuning, 'rate')], num=3)[1:3]]
    [0.03, 0.13]
  """
  shares = likely(lambda numbers: tuple(each(numbers) for each in choose), num)
  return over_choices({made: effect(*made) for made in shares}, shares, scale=scale)


def sweep_anew(
  data: Callable[[int], Problem],
  make: Callable[..., Algorithm],
  grid: Mapping[str, Sequence[Any]] | None = None,
  *,
  seeds: Sequence[int],
  progress: Progress | None = None,
  **options: Any,
) -> xr.Dataset:
  """`gdlab.sweep` with new data for every seed, so that the variation over seeds includes that of the data.

  The seeds run one after another, and share one compiled program.

  Args:
    data: `(seed) -> Problem`, with its own examples but the same shapes; see `gdlab.problems.redraw`.
    make: as for `sweep`.
    grid: as for `sweep`.
    seeds: ids.
    progress: called with the number of seeds done and their total.
    **options: further arguments of `sweep`.
  """
  parts = []
  for place, seed in enumerate(seeds):
    parts.append(sweep(data(seed), make, grid, seeds=[seed], **options))
    if progress is not None:
      progress(place + 1, len(seeds))
  return xr.concat(parts, 'seed', combine_attrs='override')


def at_an_end(value: float, tried: Collection[float]) -> str:
  """The choice in words, with a remark if it is the smallest or largest tried: a wider search may find a better one."""
  return f'{value:g} (an end of those tried)' if value in (min(tried), max(tried)) else f'{value:g}'


def flat_params(problem: Problem, state: State) -> Array:
  """A probe: the parameters as one vector."""
  del problem
  return ravel_pytree(state.params)[0]


def keys(ids: Sequence[int]) -> jax.Array:
  """One key per seed id, for measurements that are not runs of `gdlab.sweep`."""
  return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(0), seed))(np.asarray(ids, np.int32))


def time_updates(
  algorithms: Mapping[Any, Algorithm], problem: Problem, dim: str, *, precision: float = 0.01
) -> xr.DataArray:
  """Seconds per update of a single run in a compiled loop, with all algorithms timed in turn in every round.

  Args:
    algorithms: coordinate -> algorithm.
    problem: the problem that they minimise.
    dim: the name of the coordinate.
    precision: the relative standard error at which rounds end, as in `gdlab.compare`.

  Returns:
    float[round, dim].
  """
  plan = Plan(num_devices=1)
  programs = [one_program(problem, algorithm, plan) for algorithm in algorithms.values()]
  seconds = seconds_per_update(programs, precision=precision)
  return xr.DataArray(seconds, dims=('round', dim), coords={dim: [*algorithms]})
