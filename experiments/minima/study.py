"""The stored results as one set of seeds saw them, with the questions that claims, pictures and tables ask of them."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import xarray as xr

from experiments.minima import arms, dose, networks, valleys

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

  def stayed(self, cell: str, batch_size: int, rate: float | None = None) -> np.ndarray:
    """Of the runs thrown into the other valley in time: whether each was still there `return_updates` later."""
    options = self.config.valleys
    runs = self.valley(cell).sel(
      batch_size=batch_size, learning_rate=options.learning_rate if rate is None else rate
    )
    thrown = self.left(cell, batch_size, rate).values
    back = (runs.returned > 0) & (runs.returned - runs.reached <= options.return_updates)
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
    """Where tuning chose a rate at an end of those tried."""
    tried = tuple(self.config.widths.learning_rates)
    chosen = {width: float(self.width(width).learning_rate) for width in self.widths}
    found = [f'width {width}: {rate:g}' for width, rate in chosen.items() if rate in (tried[0], tried[-1])]
    for section in ('dose', 'dose_network'):
      rates = dose.best_rates(self.results[f'{section}_tuning'], section)
      tried = tuple(self.config[section].learning_rates)
      for schedule in dose.SCHEDULES:
        level = self.best_level(section, schedule)
        rate = float(rates.sel(schedule=schedule, level=level))
        if rate in (tried[0], tried[-1]):
          found.append(f'{schedule} noise ({section.replace("_", " ")}): {rate:g}')
    return found

  def num_seeds(self, claim: str) -> int:
    """Seeds behind a claim's finding."""
    config = self.config
    return int({'N1': config.valleys.num_seeds, 'N3': config.escape.num_seeds}.get(claim, config.num_seeds))

  def conditions(self, claim: str) -> str:
    """Under which problem, model and settings a claim was tested, in words."""
    config, options = self.config, self.config.valleys
    _, _, ridge = valleys.landscape('tilted')
    temperature = options.temperature
    wells = (
      f'plain descent on a tilted double well whose ridge is {ridge.barrier(True):.2f} above its poor and '
      f'{ridge.barrier(False):.2f} above its good minimum; {options.num_examples} examples, reshuffled; rate '
      f'{options.learning_rate:g}, at which B={options.mini_batch} makes a temperature of {temperature:g} '
      f'and B=1 one of {temperature * options.mini_batch:g}; {options.updates} updates'
    )
    network = f'{config.dataset}, multilayer perceptron with one hidden layer'
    trap_rate = networks.trap_rate(self.results['trap_tuning'])
    widths = (
      f'{network} of {", ".join(str(width) for width in self.widths)} units; momentum {networks.MOMENTUM}, '
      f'B={config.widths.batch_size}, {config.widths.epochs} epochs, rate falling to 0 from the best of '
      f'{len(config.widths.learning_rates)} on {config.widths.num_tuning_seeds} other seeds; one data '
      'order, only initial parameters differ'
    )
    levels = '; '.join(
      f'{name}: constant {self.best_level(section, "constant"):g}, annealed {self.best_level(section, "annealed"):g}'
      for section, name in (('dose', 'landscape'), ('dose_network', 'network'))
    )
    return {
      'N1': wells,
      'N2': f'{wells}; the same on a sharp good valley (curvature 25) beside a flat poor one (1), ridge '
      f'1.25 and 1 above them; then {network} of {config.hidden_of_trap} units, rate {trap_rate:g} (the '
      f'best for B={config.trap.batch_size}), {config.trap.epochs} epochs and {config.trap.return_epochs} more',
      'N3': f'symmetric double well, {config.escape.num_examples} examples drawn with replacement, ridge '
      f'over temperature {", ".join(f"{each:g}" for each in config.escape.barriers)}, '
      f'B={list(config.escape.batch_sizes)} with rates in proportion',
      'N4': f'full batch with Langevin noise: Rastrigin function in {config.dose.dim} dimensions; '
      f'{network} of {config.dose_network.hidden} units on {config.dose_network.num_examples} training '
      f'images; each level at the best of {len(config.dose.learning_rates)} rates, '
      f'levels chosen with other seeds ({levels})',
      'N5': widths,
      'N6': f'{widths}; {self.lines(self.widths[0]).sizes["pair"]} pairs that share no network, '
      f'{config.widths.points} points on each line',
      'N7': f'{widths}; ensembles of {config.members} of width {config.ensemble_width} average their '
      f'probabilities; {config.num_seeds // config.members} ensembles that share no network',
    }[claim]
