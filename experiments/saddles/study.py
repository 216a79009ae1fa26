"""The stored results as one set of seeds saw them, with the questions that several effects and pictures ask."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import xarray as xr

from experiments.saddles import conditions, training
from experiments.saddles.seeds import TUNING_IDS
from gdlab.statistics import Crossing

Results: TypeAlias = Mapping[str, xr.Dataset]


class Study:
  """The stored results as one set of seeds saw them."""

  def __init__(self, config, results: Results, first_seed: int):
    self.config, self.results = config, results
    self._ids = range(first_seed, first_seed + config.num_seeds)

  def cell(self, name: str) -> xr.Dataset:
    """A cell's results with this set's seeds."""
    result = self.results[name]
    return result.sel(seed=[seed for seed in result.seed.values.tolist() if seed in self._ids])

  def tuning(self, name: str) -> xr.Dataset:
    """A cell's results with the tuning seeds."""
    result = self.results[name]
    return result.sel(seed=result.seed >= TUNING_IDS)

  def tuned_rate(self, start: str, arm: str) -> int:
    """The number of the rate at which an arm left soonest in the mean over tuning seeds; who stayed has the horizon."""
    return int(self.tuning(start).updates.sel(arm=arm).mean('seed').argmin('rate'))

  def raced(self, start: str, arm: str) -> xr.Dataset:
    """An arm's runs at its tuned rate."""
    return self.cell(start).sel(arm=arm).isel(rate=self.tuned_rate(start, arm))

  def crossing(self, start: str, arm: str) -> Crossing:
    """When those runs had left, the others censored."""
    runs = self.raced(start, arm)
    return Crossing(runs.updates.values, ~runs.escaped.values.astype(bool))

  def at_end(self, start: str, arm: str) -> bool:
    """Whether the tuned rate is an end of those tried."""
    return self.tuned_rate(start, arm) in (0, self.results[start].sizes['rate'] - 1)

  def passages(self, cell: str, arm: str) -> xr.DataArray:
    """Passages of a chain, [seed, saddle], at the rate of least mean total time with the tuning seeds; NaN if none."""
    return self.all_passages(cell, arm).sel(learning_rate=self.chain_rate(cell, arm))

  def all_passages(self, cell: str, arm: str) -> xr.DataArray:
    """The same at every rate, [learning_rate, seed, saddle]."""
    return self._passed(self.cell(cell), arm)

  def chain_rate(self, cell: str, arm: str) -> float:
    """That rate, of those up to `chain.largest_rate`; who never passed the last saddle has the limit."""
    last = self._passed(self.tuning(cell), arm).isel(saddle=-1)
    last = last.sel(learning_rate=last.learning_rate <= self.config.chain.largest_rate)
    return float(last.fillna(self.results[cell].attrs['limit']).mean('seed').idxmin('learning_rate'))

  def chain_rate_named(self, cell: str, arm: str) -> str:
    """That rate in words: '(end)' where it is an end of those it could be."""
    rate = self.chain_rate(cell, arm)
    tried = [number for number in self.config.chain.rates if number <= self.config.chain.largest_rate]
    return f'{rate:g} (end)' if rate in (min(tried), max(tried)) else f'{rate:g}'

  def _passed(self, cell: xr.Dataset, arm: str) -> xr.DataArray:
    passed = cell.passed.sel(arm=arm)
    return passed.where(passed >= 0).transpose('learning_rate', 'seed', 'saddle')

  def time_near(
    self, arm: str, gradient: float | None = None, curvature: float | None = None
  ) -> xr.DataArray:
    """The share of the updates until the fit that an arm of the training spent near a saddle, by seed; see `near`."""
    runs = self.cell(training.cell_name(arm))
    found = near(runs, *self._near(gradient, curvature))
    return found.sum('step') / np.isfinite(runs.full_grad_norm).sum('step')

  def control_found(self) -> xr.DataArray:
    """How much of the control's stay next to its saddle the definition of near finds: a share of updates, by seed.

    It stays there until its loss is down by the share `race.drop` of what there is to fall until the fit.
    """
    runs = self.cell(training.cell_name(training.CONTROL)).transpose('seed', 'step', ...)
    first = runs.train_loss.isel(step=0)
    left = runs.train_loss <= first - self.config.race.drop * (first - self.config.training.target_loss)
    stay = left.cumsum('step') == 0
    return (near(runs, *self._near()) & stay).sum('step') / stay.sum('step')

  def _near(self, gradient: float | None = None, curvature: float | None = None) -> tuple[float, float]:
    options = self.config.training
    usual = self.results['training_sgd'].attrs['usual_gradient']
    share = options.near_gradient if gradient is None else gradient
    return share * usual, options.near_curvature if curvature is None else curvature

  def seconds(self, arm: str) -> float:
    """Median seconds of one update on the network."""
    return float(self.results['timing'].seconds.sel(arm=arm).median('repeat'))

  def num_seeds(self, claim: str) -> int:
    """The smallest number of seeds that a part of the claim rests on."""
    return int(self.config.training.num_seeds if claim == 'S6' else self.config.num_seeds)

  def conditions(self, claim: str) -> str:
    """Under which problem, model and settings a claim was tested, in words."""
    return conditions.TELL[claim](self)


def shares(counts: xr.Dataset) -> xr.DataArray:
  """The share of saddles among the points found, by seed."""
  return 1 - extrema(counts) / counts.points


def extrema(counts: xr.Dataset) -> xr.DataArray:
  """Minima and maxima found, by seed."""
  return counts.minima + counts.maxima


def near(runs: xr.Dataset, gradient: float, curvature: float) -> xr.DataArray:
  """Which records were near a saddle, bool[seed, step]; no record after the fit is.

  Args:
    runs: of one arm.
    gradient: the largest norm there.
    curvature: the least modulus of the lowest eigenvalue, as a share of the largest one, its sign certain.
  """
  downhill = (runs.sign < 0) & (runs.lowest <= -curvature * runs.highest)
  return (runs.full_grad_norm <= gradient) & downhill
