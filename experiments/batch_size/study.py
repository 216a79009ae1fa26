"""The stored results as one set of seeds saw them, with the questions that claims, pictures and tables ask of them."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import xarray as xr

from experiments.batch_size import arms, benches, growth, steps
from experiments.batch_size.benches import Arm, Bench

Results: TypeAlias = Mapping[str, xr.Dataset]


class Study:
  """Results of one set of seeds: those from `first_seed` on."""

  def __init__(self, config, results: Results, first_seed: int):
    self.config, self.results = config, results
    self.ids = [first_seed + place for place in range(config.num_seeds)]
    self.benches = benches.benches(config)
    self.clock = results['clock']

  def of(self, cell: str) -> xr.Dataset:
    """A cell's runs with this set's seeds."""
    return self.results[cell].sel(seed=self.ids)

  def tuned(self, bench: Bench, arm: Arm) -> xr.Dataset:
    """An arm's tuning runs."""
    return self.results[f'tuning_{bench.name}_{arm.name}']

  def setting(self, bench: Bench, arm: Arm, kind: str) -> int:
    """The number of the setting tuned for a budget: epochs, updates, time, matched or fit."""
    tuned = self.tuned(bench, arm)
    if kind == 'matched':
      return arms.matched_setting(tuned, self.config.sharpness.target[bench.name])
    if kind == 'fit':
      return arms.fitting_setting(bench, arm, tuned)
    return arms.best_settings(bench, arm, self.clock_of(bench), tuned)[kind]

  def clock_of(self, bench: Bench) -> xr.Dataset | None:
    """The clock, where the bench has one."""
    return self.clock if arms.sharp(self.config, bench) else None

  def step(self, bench: Bench, arm: Arm, kind: str) -> int:
    """The update at which a budget ends."""
    return arms.budgets(bench, arm, self.clock_of(bench))['epochs' if kind == 'fit' else kind]

  def runs(self, bench: Bench, arm: Arm, kind: str) -> xr.Dataset:
    """The arm's runs at the setting tuned for a budget."""
    runs = self.results[f'arm_{bench.name}_{arm.name}'].sel(seed=self.ids[: bench.num_seeds])
    return runs.sel(setting=self.setting(bench, arm, kind))

  def at(self, bench: Bench, arm: Arm, kind: str, variable: str, failed: float) -> xr.DataArray:
    """A variable at the end of a budget, by seed; `failed` for a run that diverged before."""
    runs = self.runs(bench, arm, kind).sel(step=self.step(bench, arm, kind))
    return arms.unless_failed(runs, variable, failed)

  def accuracy(self, bench: Bench, arm: Arm, kind: str) -> xr.DataArray:
    """Test accuracy at the end of a budget; with BatchNorm by the statistics of all training examples."""
    runs = self.results[f'arm_{bench.name}_{arm.name}']
    variable = 'population_accuracy' if 'population_accuracy' in runs else 'test_accuracy'
    return self.at(bench, arm, kind, variable, failed=0.0)

  def small(self, bench: Bench) -> Arm:
    """The mini-batch, which stands for those that the claims call small."""
    return bench.arm(f'b{self.config.mini_batch}')

  def large(self, bench: Bench) -> Arm:
    """Full batch, which stands for those that they call large."""
    return bench.arm(f'b{bench.num_examples}')

  def sharpness(self, bench: Bench, arm: Arm) -> xr.Dataset:
    """The measures at the arm's end points."""
    ids = self.ids[: self.config.sharpness.num_seeds]
    return self.results[f'sharpness_{bench.name}_{arm.name}'].sel(seed=ids)

  def at_rule(self, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps to the target float[seed, B] and whether censored, of one rule for the rate, at every batch size."""
    runs = [self.of(f'steps_b{size}').sel(rule=rule) for size in self.config.steps.batch_sizes]
    return (
      np.stack([run.steps.values for run in runs], axis=1),
      np.stack([run.censored.values for run in runs], axis=1),
    )

  def steps(self) -> np.ndarray:
    """Steps to the target float[seed, B] at each batch size's best rate; infinite for runs that never got there."""
    time, censored = self.at_rule(steps.RULES[0])
    return np.where(censored, np.inf, time)

  def scale(self, which: str = 'simple', batch_size: int | None = None) -> np.ndarray:
    """The noise scale by seed, mean over the way to the target of runs with full batch, or with that batch size."""
    size = max(self.config.steps.batch_sizes) if batch_size is None else batch_size
    return self.scales(size)[which].mean('step').values

  def scales(self, batch_size: int) -> xr.Dataset:
    """The noise scales along the runs with a batch size."""
    return self.results[f'scales_b{batch_size}'].sel(seed=self.ids[: self.config.steps.scale_seeds])

  def growth_rate(self, way: str) -> float:
    """The rate that is best for one of `growth.WAYS`."""
    return growth.best_rate(self.results['tuning_decay'], self.results['tuning_growth'], way)

  def growth_words(self, way: str) -> str:
    """That rate, with a remark where it is at an end of those tried."""
    rate, tried = self.growth_rate(way), self.config.growth.learning_rates
    return f'{rate:g}' + (' (end)' if rate in (min(tried), max(tried)) else '')

  def grown(self, way: str, rate: float) -> xr.Dataset:
    """The runs of one of `growth.WAYS` at a rate."""
    return growth.way_of(self.results['decay'], self.results['growth'], way).sel(
      seed=self.ids, learning_rate=rate
    )

  def settings_used(self, bench: Bench, chosen: Sequence[Arm], kind: str) -> str:
    """The tuned settings in words, with a remark where a rate is at an end of those tried."""

    def used(arm: Arm) -> str:
      rate, momentum = bench.settings[self.setting(bench, arm, kind)]
      end = ', an end of the rates tried' if rate in (min(bench.rates), max(bench.rates)) else ''
      return f'{arm.label}: rate {rate:g}, momentum {momentum:g}{end}'

    return '; '.join(used(arm) for arm in chosen)

  def num_seeds(self, claim: str) -> int:
    """The fewest seeds that a graded part of a claim rests on."""
    config = self.config
    fewest = {
      'G1': config.cnn.num_seeds,
      'G2': config.cnn.num_seeds,
      'G3': config.sharpness.num_seeds,
      'G4': config.sharpness.num_seeds,
      'G5': config.steps.scale_seeds,
      'G6': config.norm.num_seeds,
    }
    return min(config.num_seeds, fewest.get(claim, config.num_seeds))

  def conditions(self, claim: str) -> str:
    """Under which problem, model and settings a claim was tested, in words."""
    made = {
      'G1': lambda: self._compared('epochs', f'{self.config.epochs} epochs (CNN {self.config.cnn.epochs})'),
      'G2': lambda: self._compared(
        'updates', f'{self.config.updates} updates (CNN {self.config.cnn.updates})'
      ),
      'G3': self._about_sharpness,
      'G4': self._about_correlation,
      'G5': self._about_steps,
      'G6': self._about_norm,
      'G7': self._about_growth,
      'G8': self._about_stopping,
    }
    return made[claim]()

  def _data(self) -> str:
    return f'{self.config.dataset}, {self.benches["clean"].num_examples} training images'

  def _network(self) -> str:
    return f'{self._data()}, perceptron with hidden layers {"x".join(map(str, self.config.hidden))}'

  def _compared(self, kind: str, budget: str) -> str:
    made = []
    for name in ('clean', 'noisy', 'cnn'):
      bench = self.benches[name]
      used = self.settings_used(bench, [self.small(bench), self.large(bench)], kind)
      made.append(f'{bench.title} ({len(bench.settings)} settings, {bench.num_seeds} seeds): {used}')
    return (
      f'{self._data()}, B={self.config.mini_batch} against full batch, {budget}, both at the best of the same '
      f'settings (rate and momentum) by validation accuracy on {self.config.num_tuning_seeds} other seeds. '
      + '. '.join(made)
    )

  def _ends(self) -> str:
    options = self.config.sharpness
    targets = ', '.join(f'{value:g} ({self.benches[name].title})' for name, value in options.target.items())
    return (
      f'end points where the training loss comes to {targets} after cooling by at least '
      f'{options.cooling_updates} updates of full batch at rate {options.cooling_rate:g}'
    )

  def _about_sharpness(self) -> str:
    alike = ', '.join(f'({rate:g}, {momentum:g})' for rate, momentum in self.config.sharpness.settings)
    own = '; '.join(
      f'{self.benches[name].title}: '
      + self.settings_used(
        self.benches[name], [self.small(self.benches[name]), self.large(self.benches[name])], 'matched'
      )
      for name in self.config.sharpness.target
    )
    return (
      f'{self._network()}; B={self.config.mini_batch} against full batch; {self._ends()}; own settings: best of '
      f'{len(self.benches["clean"].settings)} by validation accuracy on {self.config.num_tuning_seeds} other seeds '
      f'where the loss first comes there ({own}); equal settings: mean over (rate, momentum) {alike}'
    )

  def _about_correlation(self) -> str:
    return (
      f'{self._network()}; B from {min(self.config.batch_sizes)} to full, {len(self.config.sharpness.settings)} '
      f'settings; {self._ends()}; runs of a seed resampled together'
    )

  def _about_steps(self) -> str:
    config = self.config
    return (
      f'{self._network()}; plain descent, training loss {config.steps.target_loss:g}; each B at the best of '
      f'{len(config.steps.learning_rates)} rates on {config.num_tuning_seeds} other seeds, a choice that the '
      'intervals take as given; noise scale: mean over the way of full batch to the target, '
      f'{config.steps.scale_seeds} seeds'
    )

  def _about_norm(self) -> str:
    bench = self.benches['norm']
    return (
      f'{bench.title} ({"x".join(map(str, self.config.hidden))}); {self._data()}; {bench.epochs} epochs; tested with '
      f'the statistics of all training images; best of {len(bench.settings)} settings: '
      + self.settings_used(bench, bench.arms, 'epochs')
    )

  def _about_growth(self) -> str:
    options = self.config.growth
    stages = ' to '.join(map(str, growth.batch_sizes(self.config)))
    return (
      f'{self._network()}, {self.benches[options.bench].title}; plain descent, B {stages} or rate over '
      f'{options.factor} after epochs {", ".join(map(str, options.epochs[:-1]))} of {options.epochs[-1]}; first rate '
      f'of both {self.growth_words("decay")}, best for decaying of {len(options.learning_rates)}; best for growing '
      f'{self.growth_words("growth")}'
    )

  def _about_stopping(self) -> str:
    used = '; '.join(
      f'{self.benches[name].title}, {words}: '
      + self.settings_used(self.benches[name], [self.small(self.benches[name])], kind)
      for name in ('clean', 'noisy')
      for kind, words in (('epochs', 'best by validation accuracy'), ('fit', 'least training loss'))
    )
    return (
      f'{self._network()}; wrong labels are {self.config.label_noise:.0%} of training and validation, none of test; '
      f'{self.config.epochs} epochs. {used}'
    )
