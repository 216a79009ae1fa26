"""The stored results as one set of seeds saw them, with the questions that claims, pictures and tables ask of them."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import xarray as xr

from experiments.minima import arms, dose

Results: TypeAlias = Mapping[str, xr.Dataset]


class Study:
  """The stored results, cut down to the set of seeds that starts with `first_seed`."""

  def __init__(self, config, results: Results, first_seed: int):
    self.config, self.results, self.first = config, results, int(first_seed)
    self.group = list(config.first_seeds).index(first_seed)
    self.widths = list(config.widths.hidden)
    self.full = int(config.valleys.num_examples)

  def ours(self, cell: str, count: int | None = None) -> xr.Dataset:
    """A cell's runs with this set's seeds."""
    count = int(self.config.num_seeds if count is None else count)
    return self.results[cell].sel(seed=range(self.first, self.first + count))

  def valley(self, cell: str) -> xr.Dataset:
    """Runs from one valley: whether and when each got to the other minimum and back."""
    return self.ours(cell, self.config.valleys.num_seeds).isel(step=-1)

  def left(
    self, cell: str, batch_size: int, rate: float | None = None, by: int | None = None
  ) -> xr.DataArray:
    """Whether each run got to the other minimum, in the updates of the verdicts or in so many."""
    options = self.config.valleys
    reached = self.valley(cell).reached.sel(
      batch_size=batch_size, learning_rate=options.learning_rate if rate is None else rate
    )
    return (reached > 0) & (reached <= (options.updates if by is None else by))

  def patience(self, cell: str, batch_size: int, rate: float | None = None) -> int:
    """Updates in which a run thrown into the other valley may come back: so many times the median time in.

    `patience` times the median of those that were thrown in, at most the `return_updates` that all were followed.
    """
    options = self.config.valleys
    main = options.learning_rate if rate is None else rate
    reached = self.valley(cell).reached.sel(batch_size=batch_size, learning_rate=main).values
    thrown = reached[self.left(cell, batch_size, rate).values]
    wanted = options.patience * float(np.median(thrown)) if thrown.size else np.inf
    return int(min(options.return_updates, np.ceil(wanted)))

  def stayed(self, cell: str, batch_size: int, rate: float | None = None) -> np.ndarray:
    """Of the runs thrown into the other valley in time: whether each was still there `patience` updates later."""
    runs = self.valley(cell).sel(
      batch_size=batch_size, learning_rate=self.config.valleys.learning_rate if rate is None else rate
    )
    thrown = self.left(cell, batch_size, rate).values
    back = (runs.returned > 0) & (runs.returned - runs.reached <= self.patience(cell, batch_size, rate))
    return ~back.values[thrown]

  def seconds(self, batch_size: int) -> float:
    """Median seconds per update on the two valleys."""
    return float(self.results['clock'].seconds_per_update.sel(batch_size=batch_size).median())

  def budgets(self, batch_size: int) -> dict[str, int]:
    """Updates in equal updates, in the mini-batch's examples and in the time of the single examples' updates."""
    options = self.config.valleys
    updates, examples = options.updates, options.updates * options.mini_batch
    time = self.seconds(1) * updates / self.seconds(batch_size)
    return {
      'updates': updates,
      'examples': min(updates, max(1, examples // batch_size)),
      'time': min(updates, max(1, round(time))),
    }

  def escape(self, batch_size: int) -> xr.Dataset:
    """First passages at every temperature."""
    return self.ours(f'escape_b{batch_size}', self.config.escape.num_seeds)

  def dose(self, section: str) -> xr.DataArray:
    """What noise is to lower, [schedule, level, seed], each level at its tuned rate."""
    return dose.outcome(self.ours(section, self.config[section].num_seeds), section)

  def best_level(self, section: str, schedule: str) -> float:
    """The level that the tuning runs chose."""
    return float(dose.best_levels(self.results[f'{section}_tuning'], section).sel(schedule=schedule))

  def trap(self, batch_size: int) -> xr.DataArray:
    """Training losses after every epoch, [seed, step]; infinite where a run has diverged."""
    runs = self.ours('trap').sel(batch_size=batch_size).isel(learning_rate=0)
    return runs.train_loss.where((runs.status == 0) & np.isfinite(runs.train_loss), np.inf)

  def width(self, width: int) -> xr.Dataset:
    """Runs of one width after the last update, by seed."""
    part = slice(self.group * self.config.num_seeds, (self.group + 1) * self.config.num_seeds)
    return self.results[f'width_{width}'].isel(learning_rate=0, seed=part)

  def ends(self, variable: str, failed: float) -> np.ndarray:
    """A variable after the last update, [seed, width]; `failed` for a run that diverged."""
    return np.stack(
      [arms.at_end(self.width(width), variable, failed).values for width in self.widths], axis=1
    )

  def lines(self, width: int) -> xr.Dataset:
    """Lines between pairs of networks."""
    return self.results[f'lines_{width}'].isel(group=self.group)

  def pair_losses(self, width: int) -> np.ndarray:
    """The mean training loss of the two ends of every line."""
    pairs = self.lines(width).sizes['pair']
    return (
      arms.at_end(self.width(width), 'train_loss', np.inf).values[: 2 * pairs].reshape(pairs, 2).mean(axis=1)
    )

  def ensembles(self, width: int) -> xr.Dataset:
    """Ensembles of networks of one width."""
    return self.results[f'ensembles_{width}'].isel(group=self.group)

  def end_rates(self) -> list[str]:
    """Where tuning chose a rate at an end of those tried: every width, and every level of noise, none included."""
    tried = tuple(self.config.widths.learning_rates)
    chosen = {width: float(self.width(width).learning_rate) for width in self.widths}
    found = [f'width {width}: {rate:g}' for width, rate in chosen.items() if rate in (tried[0], tried[-1])]
    for section in ('dose', 'dose_network'):
      rates = dose.best_rates(self.results[f'{section}_tuning'], section)
      tried = tuple(self.config[section].learning_rates)
      name = {'dose': 'landscape', 'dose_network': 'network'}[section]
      for schedule in dose.SCHEDULES:
        for level in rates.level.values:
          rate = float(rates.sel(schedule=schedule, level=level))
          if rate in (tried[0], tried[-1]):
            found.append(f'{name}, {schedule} noise of {level:g}: {rate:g}')
    return found

  def num_seeds(self, claim: str) -> int:
    """The least number of independent runs, pairs or ensembles that a part of the claim rests on."""
    config = self.config
    return int(
      {
        'N1': config.valleys.num_seeds,
        'N2': min(config.valleys.num_seeds, config.num_seeds),
        'N3': config.escape.num_seeds,
        'N4': min(config.dose.num_seeds, config.dose_network.num_seeds),
        'N5': config.num_seeds,
        'N6': config.widths.pairs,
        'N7': config.num_seeds // config.members,
      }[claim]
    )
