"""What the cells share: problems, seeds, and the choice of a rate by tuning runs."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

import gdlab
from gdlab import problems
from gdlab.core.types import Problem
from gdlab.host.progress import Progress

TUNING_IDS = 1_000_000  # seeds for tuning start here, far from the study's
DATASETS = {'digits': problems.digits, 'mnist': problems.mnist}


def make_problem(config, hidden: Sequence[int]) -> Problem:
  """The classification problem that a configuration names, with hidden layers of these widths."""
  return DATASETS[config.dataset](problems.MLP(features=tuple(hidden)))


def seeds(config, count: int | None = None) -> list[int]:
  """The ids of both sets of seeds, `count` each or as many as configured."""
  count = int(config.num_seeds if count is None else count)
  return [seed for first in config.first_seeds for seed in range(first, first + count)]


def tuning_seeds(count: int) -> range:
  """The ids of the seeds that rates and noise levels are tuned with."""
  return range(TUNING_IDS, TUNING_IDS + count)


def share_of(progress: Progress, number: int, count: int) -> Progress:
  """Reports the progress of one of `count` equal parts as that of the whole."""
  return lambda done, total: progress(number * total + done, count * total)


def at_end(runs: xr.Dataset, variable: str, failed: float) -> xr.DataArray:
  """A variable after the last update, with `failed` where a run has diverged or the value is not finite."""
  last = runs.isel(step=-1)
  return last[variable].where((last.status == gdlab.RUNNING) & np.isfinite(last[variable]), failed)


def best_rate(tuned: xr.Dataset, variable: str = 'train_loss') -> xr.DataArray:
  """The rate of least mean loss after the last update; a failed run counts as infinite."""
  return at_end(tuned, variable, np.inf).mean('seed', skipna=False).idxmin('learning_rate')
