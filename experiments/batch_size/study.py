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

  def validated(self, bench: Bench, arm: Arm, kind: str) -> float:
    """The validation accuracy that the tuned setting had in the tuning runs."""
    step, setting = self.step(bench, arm, kind), self.setting(bench, arm, kind)
    there = self.tuned(bench, arm).sel(step=step, setting=setting)
    return float(arms.unless_failed(there, 'validation_accuracy', 0.0).mean('seed'))

  def best(self, bench: Bench, kind: str, smallest: int, largest: int) -> Arm:
    """The arm of the best validation accuracy among the batch sizes in a range, without ghosts."""
    inside = [arm for arm in bench.arms if smallest <= arm.batch_size <= largest and not arm.ghost]
    return max(inside, key=lambda arm: self.validated(bench, arm, kind))

  def small(self, bench: Bench, kind: str) -> Arm:
    """The best of the batch sizes that the claims call small."""
    return self.best(bench, kind, 32, 128)

  def large(self, bench: Bench, kind: str) -> Arm:
    """The best of those that they call large: 1,024 and more, or all examples where there are not so many."""
    return self.best(bench, kind, min(1024, bench.num_examples), bench.num_examples)

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

  def growth_rate(self) -> float:
    """The rate of the decaying arm, best by validation accuracy and then loss over its tuning seeds."""
    runs = self.results['decay'].sel(seed=benches.tuning_seeds(self.config)).isel(decay=0, passes=-1)
    accuracy = runs.validation_accuracy.mean('seed').values
    order = np.lexsort((runs.validation_loss.mean('seed').values, -accuracy))
    return float(runs.learning_rate.values[order[0]])

  def settings_used(self, bench: Bench, chosen: Sequence[Arm], kind: str) -> str:
    """The tuned settings in words, with a remark where a rate is at an end of those tried."""

    def used(arm: Arm) -> str:
      rate, momentum = bench.settings[self.setting(bench, arm, kind)]
      end = ', an end of the rates tried' if rate in (min(bench.rates), max(bench.rates)) else ''
      return f'{arm.label}: rate {rate:g}, momentum {momentum:g}{end}'

    return '; '.join(used(arm) for arm in chosen)

  def num_seeds(self, claim: str) -> int:
    """Seeds behind a claim's finding."""
    config = self.config
    special = {'G3': config.sharpness, 'G4': config.sharpness, 'G6': config.norm}
    return special.get(claim, config).num_seeds

  def conditions(self, claim: str) -> str:
    """Under which problem, model and settings a claim was tested, in words."""
    config = self.config
    clean = self.benches['clean']
    hidden = 'x'.join(str(width) for width in config.hidden)
    data = f'{config.dataset}, {clean.num_examples} training images'
    network = f'{data}, perceptron with hidden layers {hidden}'
    tuned = (
      f'each batch size at the best of {len(clean.settings)} settings (rate and momentum) by validation '
      f'accuracy on {config.num_tuning_seeds} other seeds'
    )
    targets = ', '.join(f'{value:g} ({name})' for name, value in config.sharpness.target.items())
    stages = growth.batch_sizes(config)
    return {
      'G1': self._compared('epochs', f'{config.epochs} epochs (CNN {config.cnn.epochs}), {tuned}'),
      'G2': self._compared('updates', f'{clean.updates} updates (CNN {config.cnn.updates}), {tuned}'),
      'G3': f'{network}; end points where the training loss first comes to {targets}; {tuned} there',
      'G4': f'{network}; B from {min(config.batch_sizes)} to full, {len(config.sharpness.settings)} '
      f'settings; end points where the training loss first comes to {targets}; runs of a seed resampled together',
      'G5': f'{network}; plain descent, training loss {config.steps.target_loss:g}; each B at the best of '
      f'{len(config.steps.learning_rates)} rates on {config.num_tuning_seeds} other seeds; noise scale: mean '
      'over the way of full batch to the target',
      'G6': f'{self.benches["norm"].title} ({hidden}); {data}; {config.norm.epochs} '
      'epochs; tested with the statistics of all training images; '
      + self.settings_used(self.benches['norm'], self.benches['norm'].arms, 'epochs'),
      'G7': f'{network}; plain descent, B {" to ".join(map(str, stages))} or rate over {config.growth.factor} '
      f'after epochs {", ".join(map(str, config.growth.epochs[:-1]))} of {config.growth.epochs[-1]}; rate '
      f'{self.growth_rate():g}',
      'G8': f'{network}, {config.label_noise:.0%} of training and validation labels wrong, B={config.mini_batch}, '
      f'{config.epochs} epochs, the setting of the least training loss: '
      + self.settings_used(self.benches['noisy'], [self.mini()], 'fit'),
    }[claim]

  def mini(self) -> Arm:
    """The mini-batch's arm of the perceptron."""
    return self.benches['noisy'].arm(f'b{self.config.mini_batch}')

  def _compared(self, kind: str, budget: str) -> str:
    pairs = []
    for name in ('clean', 'noisy', 'cnn'):
      bench = self.benches[name]
      pairs.append(
        f'{bench.title}: {self.settings_used(bench, [self.small(bench, kind), self.large(bench, kind)], kind)}'
      )
    return (
      f'{self.config.dataset}, {self.benches["clean"].num_examples} training images, {budget}. '
      + '. '.join(pairs)
    )
