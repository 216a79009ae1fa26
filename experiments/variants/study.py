"""The stored results, with the questions that several claims, pictures and the table ask of them."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import xarray as xr

from experiments.variants import arms
from gdlab import theory

Results: TypeAlias = Mapping[str, xr.Dataset]


class Study:
  """The stored results with the questions that several claims ask of them."""

  def __init__(self, config, results: Results):
    self.config, self.results = config, results
    self.clock = results['timing']
    self.num_examples = int(results['timing'].attrs['num_examples'])
    self.sizes = arms.arms(config, self.num_examples)
    self.mini, self.full = config.mini_batch, self.num_examples
    self.time_budget = arms.time_budget(config, self.num_examples, self.clock)

  def seconds(self, batch_size: int) -> float:
    """Median seconds per update."""
    return float(arms.median_seconds(self.clock).sel(batch_size=batch_size))

  def budget(self, kind: str, batch_size: int) -> int:
    """Updates that an arm has for equal examples or for equal time."""
    return arms.budgets(self.config, self.num_examples, self.clock, batch_size)[kind]

  def rate(self, kind: str, batch_size: int) -> float:
    """The rate tuned for equal examples or for equal time."""
    tuned = self.results[f'tuning_b{batch_size}']
    return arms.best_rates(self.config, self.num_examples, self.clock, tuned, batch_size)[kind]

  def examples_after(self, batch_size: int, step: np.ndarray) -> np.ndarray:
    """Examples drawn by an arm after so many updates; the last batch of an epoch is short."""
    epochs, updates = np.divmod(step, theory.updates_per_epoch(self.num_examples, batch_size))
    return epochs * self.num_examples + updates * batch_size

  def arm(self, kind: str, batch_size: int) -> xr.Dataset:
    """The arm's runs at that rate."""
    return self.results[f'arm_b{batch_size}'].sel(learning_rate=self.rate(kind, batch_size))

  def at(self, kind: str, batch_size: int, variable: str, failed: float) -> xr.DataArray:
    """A variable at the end of that budget, by seed; `failed` for a run that diverged before."""
    runs = self.arm(kind, batch_size).sel(step=self.budget(kind, batch_size))
    return arms.unless_failed(runs, variable, failed)

  def tuned_loss(self, kind: str, batch_size: int) -> float:
    """The training loss that the tuned rate had in the tuning runs, mean over their seeds."""
    runs = self.results[f'tuning_b{batch_size}'].sel(learning_rate=self.rate(kind, batch_size))
    return float(
      arms.unless_failed(runs.sel(step=self.budget(kind, batch_size)), 'train_loss', np.inf).mean('seed')
    )

  def rates_used(self, kind: str, sizes: Sequence[int]) -> str:
    """The tuned rates in words, with a remark where one is at an end of those tried."""
    tried = self.config.learning_rates

    def used(size: int) -> str:
      rate = self.rate(kind, size)
      return f'{rate:g} for B={size}' + (
        ' (an end of those tried)' if rate in (min(tried), max(tried)) else ''
      )

    return 'rates ' + ', '.join(used(size) for size in sizes)

  def num_seeds(self, claim: str) -> int:
    """Seeds behind a claim's finding; for timings the repeats, for what has no randomness 1."""
    if claim in ('V4', 'V10'):
      return 1 if claim == 'V4' else self.clock.sizes['repeat']
    return self.results['convex'].sizes['seed'] if claim == 'V11' else int(self.config.num_seeds)

  def conditions(self, claim: str) -> str:
    """Under which problem, model and settings a claim was tested, in words."""
    config = self.config
    hidden = 'x'.join(str(width) for width in config.hidden)
    image = f'{self.clock.attrs["problem"]}, {self.num_examples} training images'
    network = f'{image}, multilayer perceptron with hidden layers {hidden}, plain gradient descent'
    population = f'the first {self.results["noise"].attrs["num_examples"]} images'
    convex = f'{image}, of which {population}, at most {config.components} principal components'
    machine = f'{self.clock.attrs["device"]}, compiled loop'
    tuned = (
      f'rate of each arm the best of {len(config.learning_rates)} on {config.num_tuning_seeds} other seeds'
    )
    return {
      'V1': f'{network}, {population}, 20 steps in float64',
      'V2': f'{network}, initial parameters, {config.noise.num_batches} batches drawn for each size and seed, '
      f'{population}',
      'V3': f'{network}, {population}, initial parameters, B={self.mini}, float64',
      'V4': 'reshuffled batches, counted by running the sampler',
      'V5': f'{network}; B=1, {self.mini}, {self.full}; time: {machine}; smoothness: common rate '
      f'{config.smoothness.learning_rate}, first {config.smoothness.num_updates} updates',
      'V6': f'{network}, target training loss {config.target_loss}, {tuned}: '
      f'{self.rates_used("examples", (1, self.mini, self.full))}',
      'V7': f'{network}, {config.epochs} epochs, {tuned}: {self.rates_used("examples", (self.mini, self.full))}',
      'V8': f'{convex}, multinomial logistic regression with l2={config.floor.l2}, B=1 reshuffled, rates '
      f'{min(config.floor.learning_rates)} to {max(config.floor.learning_rates)}, {config.floor.epochs} epochs',
      'V9': f'{network}; {self.time_budget:.3g} s of one lane each ({machine}); {tuned}: '
      f'{self.rates_used("time", self.sizes)}',
      'V10': f'{network}; {machine}; B={list(config.timing.powers)} against B-{config.timing.offset} and '
      f'B+{config.timing.offset}; seeds are repeats',
      'V11': f'{convex}; linear (is it a 0?) and multinomial logistic regression with l2={config.convex.l2}; '
      f'float64, {config.convex.num_steps} steps',
      'V12': f'{network}; {self.clock.attrs["data_megabytes"]:.1f} MB of data on one device ({machine}); target test '
      f'accuracy {config.target_accuracy}; {tuned}: {self.rates_used("time", (self.mini, self.full))}',
      'V13': f'{self.clock.attrs["problem"]} images (at most {config.components} principal components) as a stream of '
      f'{self.results["stream"].sizes["example"]}, linear '
      f'targets whose weights walk by {config.stream.drift} per example and coordinate; full batch refitted exactly '
      'on all examples so far',
    }[claim]
