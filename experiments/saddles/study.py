"""The stored results as one set of seeds saw them, with the questions that several effects and pictures ask."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import xarray as xr

from experiments.saddles import training
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
    return self._passed(self.cell(cell), arm).sel(learning_rate=self.chain_rate(cell, arm))

  def chain_rate(self, cell: str, arm: str) -> float:
    """That rate; who never passed the last saddle has the limit."""
    last = self._passed(self.tuning(cell), arm).isel(saddle=-1)
    return float(last.fillna(self.results[cell].attrs['limit']).mean('seed').idxmin('learning_rate'))

  def _passed(self, cell: xr.Dataset, arm: str) -> xr.DataArray:
    passed = cell.passed.sel(arm=arm)
    return passed.where(passed >= 0).transpose('learning_rate', 'seed', 'saddle')

  def time_near(self, arm: str, gradient: float, curvature: float) -> xr.DataArray:
    """The share of training until the fit that was near a saddle, by seed.

    Args:
      arm: of the training.
      gradient: the largest norm there, as a share of the mean norm at the usual start.
      curvature: as for `near`.
    """
    usual = float(self.cell('training_sgd').full_grad_norm.isel(step=0).mean())
    return near(self.cell(training.cell_name(arm)), gradient * usual, curvature)

  def seconds(self, arm: str) -> float:
    """Median seconds of one update on the network."""
    return float(self.results['timing'].seconds.sel(arm=arm).median('repeat'))

  def num_seeds(self, claim: str) -> int:
    """Seeds behind a claim's finding."""
    return int(self.config.training.num_seeds if claim == 'S6' else self.config.num_seeds)

  def conditions(self, claim: str) -> str:
    """Under which problem, model and settings a claim was tested, in words."""
    config = self.config
    race, network, growth, training = config.race, config.network, config.growth, config.training
    saddles = self.results['at_network'].attrs
    places = (
      f'a strict saddle of 10 parameters, PCA of the digits (64 parameters), and {saddles["num_saddles"]} saddles '
      f'of a tanh network ({saddles["num_parameters"]} parameters, {network.num_examples} digits)'
    )
    tuned = f'rate of each arm the best of those tried on {config.num_tuning_seeds} other seeds'
    return {
      'S1': f'Gaussian random fields in {min(config.fields.dimensions)} to {max(config.fields.dimensions)} dimensions, '
      f'{config.fields.num_starts} starts in a box six length scales wide; tanh networks of {config.search.widths} '
      f'hidden units on {config.search.num_examples} digits, {config.search.num_starts} starts; every point certified '
      'in float64, each counted once however often it was found',
      'S2': f'{places}; saddles that symmetry keeps: the origin of PCA, and networks with two hidden units alike; '
      f'exactly at the saddle, float64, {race.folds:g} e-foldings of full batch at rate 1/L; left: down by '
      f'{race.drop:g} of the fall; {tuned}',
      'S3': f'next to the saddles of {places} (displaced by {race.displacement:g} per parameter), full batch, '
      f'beta 0.9; {tuned}; laws: quadratic saddles, alpha*gamma {growth.strengths}, beta {growth.betas[1:]}; '
      f'scales of the loss {growth.scales}, Adam at its default epsilon',
      'S4': f'octopus with L = gamma = 1, tau = e, starts uniform on [0, 1]^d, float64; plain to '
      f'{config.chain.dimension} saddles, perturbed to {config.chain.long}; {tuned}',
      'S5': f'quadratic saddles (dimension, curvature, start) {tuple(map(tuple, growth.cases))}, alpha*gamma '
      f'{growth.strengths}; noise B = {growth.batch_sizes}; PCA of the digits and saddles of the network at rates '
      f'{growth.curved_multiples} / L from {growth.curved_scale:g} to {growth.curved_distance:g}',
      'S6': f'{training.dataset}, tanh network with {training.hidden} hidden units, B = {training.batch_size}, usual '
      f'start, until the training loss is {training.target_loss}; near a saddle: gradient norm at most '
      f'{training.near_gradient} of that at the start and an eigenvalue certainly below -{training.near_curvature} of '
      f'the largest; {tuned}',
    }[claim]


def shares(counts: xr.Dataset) -> xr.DataArray:
  """The share of saddles among the points found, by seed."""
  return 1 - extrema(counts) / counts.points


def extrema(counts: xr.Dataset) -> xr.DataArray:
  """Minima and maxima found, by seed."""
  return counts.minima + counts.maxima


def near(runs: xr.Dataset, gradient: float, curvature: float) -> xr.DataArray:
  """The share of the records until the fit that were near a saddle, by seed.

  Args:
    runs: of one arm.
    gradient: the largest norm there.
    curvature: the least modulus of the lowest eigenvalue, as a share of the largest one, its sign certain.
  """
  measured = np.isfinite(runs.full_grad_norm)
  downhill = (runs.sign < 0) & (runs.lowest <= -curvature * runs.highest)
  return (measured & (runs.full_grad_norm <= gradient) & downhill).sum('step') / measured.sum('step')
