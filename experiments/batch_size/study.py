"""The study: its configuration, the view of its results, its cells, and the claims G1-G8 with their rules.

Rules were written before the runs; docs/studies/batch_size.md has what pilots and a review changed, and how many seeds
each claim needs. The smallest effects that matter: half a point of accuracy; 10 % on a sharpness or a loss along a
curve, 5 % where a run is stopped; a rank correlation of 0.3, a tenth of the variance of ranks; a factor of 3 on the
batch size at the bend; 0.2 on a slope of -1; a quarter of a gap.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import pydantic
import xarray as xr

from experiments.batch_size import effects, measure
from experiments.batch_size.effects import WAYS, Arm
from gdlab import statistics, study
from gdlab.claims import Rule, Verdict, greater_than, less_than, within
from gdlab.core.errors import InputError, check_count

POINTS, SHARPER, CORRELATED, SHARE = 0.005, 1.1, 0.3, 0.25
LABELS = {'clean': 'right labels', 'noisy': 'wrong labels among them'}
BENCHES = {name: f'perceptron, {labels}' for name, labels in LABELS.items()} | {'cnn': 'CNN, right labels'}
WHERE = {'each at its own best setting': False, 'at equal rate and momentum': True}
SETTINGS = {'epochs': 'setting best by validation', 'fit': 'setting of least training loss'}
MEASURES = {
  'keskar': "Keskar's sharpness",
  'eigenvalue': 'largest eigenvalue',
  'trace': 'trace of the Hessian',
  'adaptive': 'adaptive sharpness',  # unchanged when a ReLU layer is rescaled and the function is not
}
Momenta = Annotated[tuple[Annotated[float, pydantic.Field(ge=0, lt=1)], ...], pydantic.Field(min_length=1)]


class _Clock(study.Config):
  precision: study.Positive


class _Arms(study.Config):
  num_seeds: study.Count
  batch_sizes: study.Counts
  momenta: Momenta
  epochs: study.Count
  updates: study.Count


class _CNN(_Arms):
  features: study.Counts


class _Norm(_Arms):
  ghost: study.Count
  wrong_labels: bool


class _Target(study.Config):
  clean: study.Positive
  noisy: study.Positive


class _Sharpness(study.Config):
  target: _Target
  num_seeds: study.Count
  cooling_rate: study.Positive
  cooling_updates: study.Count
  cooling_limit: study.Count
  epsilon: study.Positive
  probes: study.Count
  settings: Annotated[tuple[tuple[float, float], ...], pydantic.Field(min_length=1)]


class _Steps(study.Config):
  batch_sizes: Annotated[study.Counts, pydantic.Field(min_length=4)]
  learning_rates: study.Tried
  target_loss: study.Positive
  budget_updates: study.Count
  budget_examples: study.Count
  records: study.Count
  scale_records: study.Count
  scale_seeds: study.Count


class _Growth(study.Config):
  bench: Literal['clean', 'noisy']
  batch_size: study.Count
  factor: Annotated[study.Count, pydantic.Field(ge=2)]
  epochs: Annotated[study.Counts, pydantic.Field(min_length=3, max_length=3)]
  learning_rates: study.Tried


class Settings(study.Config):
  """The configuration; configs/batch_size.py says what each value means."""

  dataset: Literal['digits', 'mnist']
  hidden: study.Counts
  num_train: Annotated[study.Count, pydantic.Field(ge=2)]
  num_validation: study.Count
  label_noise: study.Share
  seeds: study.Seeds
  batch_sizes: study.Counts
  mini_batch: Annotated[int, pydantic.Field(ge=32, le=128)]  # small as the claims have it
  learning_rates: study.Tried
  momenta: Momenta
  epochs: study.Count
  updates: study.Count
  evaluations: study.Count
  lanes_per_block: study.Index
  clock: _Clock
  cnn: _CNN
  norm: _Norm
  sharpness: _Sharpness
  steps: _Steps
  growth: _Growth

  @classmethod
  def checked(cls, values):
    """The configuration of these values, which no field alone can refuse either."""
    config = super().checked(values)
    full, growth, sharp = config.num_train, config.growth, config.sharpness
    for name in ('', 'cnn', 'norm', 'steps'):
      sizes = (getattr(config, name) if name else config).batch_sizes
      place = f'{name}.batch_sizes'.lstrip('.')
      if list(sizes) != sorted(set(sizes)) or sizes[-1] > full:
        raise InputError(f'{place} must increase and be at most num_train ({full}), got {sizes}')
      if name in ('', 'cnn') and config.mini_batch not in sizes:
        raise InputError(f'mini_batch must be one of {place} {sizes}, got {config.mini_batch}')
    for name in ('cnn', 'norm', 'sharpness'):
      check_count(f'{name}.num_seeds', getattr(config, name).num_seeds, maximum=config.seeds.count)
    check_count('steps.scale_seeds', config.steps.scale_seeds, maximum=config.seeds.count)
    check_count('mini_batch', config.mini_batch, maximum=full - 1)
    check_count('the least of norm.batch_sizes', config.norm.batch_sizes[0], maximum=full - 1)
    check_count('norm.ghost', config.norm.ghost, maximum=full)
    check_count('sharpness.cooling_limit', sharp.cooling_limit, minimum=sharp.cooling_updates)
    tried = {(rate, momentum) for rate in config.learning_rates for momentum in config.momenta}
    if set(sharp.settings) - tried:
      allowed = 'pairs of one of learning_rates and one of momenta'
      raise InputError(f'sharpness.settings must be {allowed}, got {sharp.settings}')
    if list(growth.epochs) != sorted(set(growth.epochs)):
      raise InputError(f'growth.epochs must increase, got {growth.epochs}')
    last = growth.batch_size * growth.factor**2
    check_count('growth.batch_size times growth.factor squared', last, maximum=full)
    return config


class Seen(study.View):
  """What one set of seeds has measured, with the questions that claims, pictures and tables ask of it."""

  config: Settings

  def arms(self, bench: str) -> list[Arm]:
    """Those of a bench, by batch size; ghosts come last."""
    return [arm for arm in effects.arms(self.config) if arm.bench.name == bench]

  def pair(self, bench: str) -> tuple[Arm, Arm]:
    """The mini-batch and full batch, which stand for the small and the large batches of the claims."""
    on = self.arms(bench)
    return next(arm for arm in on if arm.batch_size == self.config.mini_batch), on[-1]

  def setting(self, arm: Arm, kind: str) -> int:
    """The number of the setting that tuning chose; see `best_setting`."""
    return effects.best_setting(arm, kind, self.cell('clock'), self.cell(f'tuning_{arm}'))

  def step(self, arm: Arm, kind: str) -> int:
    """The update at which a budget ends."""
    return effects.budgets(arm, self.cell('clock'))[kind]

  def used(self, arm: Arm, kind: str) -> str:
    """The tuned rate and momentum, with a remark where the rate is an end of those tried."""
    rate, momentum = arm.bench.settings[self.setting(arm, kind)]
    return f'{study.at_an_end(rate, self.config.learning_rates)}, {momentum:g}'

  def runs(self, arm: Arm, kind: str) -> xr.Dataset:
    """The arm's runs at the setting tuned for a budget."""
    return self.cell(f'runs_{arm}').sel(setting=self.setting(arm, kind))

  def ended(self, arm: Arm, kind: str, variable: str, failed: float) -> xr.DataArray:
    """A variable at the end of a budget, by seed; `failed` for a run that diverged before."""
    return study.unless_failed(self.runs(arm, kind).sel(step=self.step(arm, kind)), variable, failed)

  def accuracy(self, arm: Arm, kind: str) -> xr.DataArray:
    """Test accuracy at the end of a budget; with BatchNorm by the statistics of all training examples."""
    variable = 'population_accuracy' if arm.bench.name == 'norm' else 'test_accuracy'
    return self.ended(arm, kind, variable, failed=0.0)

  def way_rate(self, way: str) -> float:
    """The rate that is best for one of `WAYS`."""
    return effects.most_accurate(self.cell(f'way_search_{way}').isel(step=-1), 'learning_rate')

  def along(self, way: str, variable: str, rate_of: str) -> np.ndarray:
    """A variable at the end of every epoch of a way at the rate best for another, float[seed, epoch]."""
    runs = self.cell(f'way_{way}').sel(learning_rate=self.way_rate(rate_of))
    failed = 0.0 if variable.endswith('accuracy') else np.inf
    return study.unless_failed(runs, variable, failed).transpose('seed', 'step').values

  def crossings(self) -> statistics.Crossing:
    """When each run came to the target, at each batch size's best rate, [seed, B]."""
    cells = [self.cell(f'steps_{size}') for size in self.config.steps.batch_sizes]
    return statistics.Crossing(
      *(np.stack([cell[name].values for cell in cells], axis=1) for name in ('steps', 'censored'))
    )

  def steps(self) -> np.ndarray:
    """Updates to the target float[seed, B]; infinite for runs that never got there."""
    time, censored = self.crossings()
    return np.where(censored, np.inf, time)

  def sharpness(self, arm: Arm, equal: bool = False) -> xr.Dataset:
    """The measures at the arm's end points, at the setting that is best there, or at those that all arms ran."""
    numbers = effects.alike(self.config, arm.bench) if equal else [self.setting(arm, 'matched')]
    return self.cell(f'sharpness_{arm}').sel(setting=numbers)

  @property
  def lost(self) -> str:
    """How many end points never came to the training loss of the others."""
    reached = [self.sharpness(arm).reached for bench in LABELS for arm in self.arms(bench)]
    return f'{sum(int((~each).sum()) for each in reached)} of {sum(each.size for each in reached)}'


batch_size = study.Study(
  Settings,
  title='Batch size, sharpness and generalisation: {config.dataset}',
  question='Do small batches find better models, and if so, is it the batch or the number of updates? Are the minima '
  'of large batches sharp, and does that matter? How large may a batch be before it wastes examples? Eight such '
  'statements were tested with {config.seeds.count} seeds, some parts with fewer. {config.num_train:,} images of '
  '{config.dataset} train a small network, {config.num_validation} validate, the test images only grade. "Large" is '
  'full batch, "small" B={config.mini_batch}. Every batch size tries the same rates and momenta on '
  '{config.seeds.tuning} seeds of its own and runs at the best with the others; arms are paired by seed. Wrong '
  'labels are {config.label_noise:.0%} of those of training and validation; test labels are right. Points are '
  'medians over seeds, bars and bands hold the middle 80 %.',
  conditions='{config.dataset}, {config.num_train} training images',
  module='experiments.batch_size',
  view=Seen,
)

sharp = lambda config: [arm for arm in effects.arms(config) if arm.bench.target]
sizes = lambda config: config.steps.batch_sizes
ways = lambda config: WAYS
batch_size.cell(alone=True, once=True)(measure.clock)
batch_size.cell('clock', over=effects.arms)(measure.tuning)
batch_size.cell('clock', 'tuning_{}', over=effects.arms)(measure.runs)
batch_size.cell('clock', 'tuning_{}', over=sharp)(measure.sharpness)
batch_size.cell(over=sizes)(measure.search)
batch_size.cell('search_{}', over=sizes)(measure.steps)
batch_size.cell('search_{}', over=lambda config: [max(sizes(config))])(measure.scales)
batch_size.cell(over=ways)(measure.way_search)
batch_size.cell('way_search_{}', 'way_search_decay', over=ways)(measure.way)

NETWORK = 'perceptron with hidden layers {config.hidden}'
COOLED = (
  NETWORK + '; end points at training loss {config.sharpness.target.clean:g} (right labels) and '
  '{config.sharpness.target.noisy:g} (wrong ones), cooled by at least {config.sharpness.cooling_updates} updates of '
  'full batch at rate {config.sharpness.cooling_rate:g}; '
)


def tuned(words: str, *kinds: str, benches: Sequence[str]) -> Callable[[Seen], str]:
  """Conditions of a claim about arms at the rate and momentum that tuning has chosen for them."""

  def under(view: Seen) -> str:
    told = []
    for bench, kind in itertools.product(benches, kinds):
      on = view.arms(bench) if bench == 'norm' else view.pair(bench)[: 1 if 'fit' in kinds else 2]
      told += [f'{arm.bench.title}, {arm.label}: {view.used(arm, kind)}' for arm in on]
    return f'{words}; best rate and momentum on other seeds: {"; ".join(told)}'

  return under


def slowed(view: Seen) -> str:
  """Conditions of G7."""
  tried, sizes = view.config.growth.learning_rates, effects.stages(view.config)
  rates = ', '.join(f'{way} {study.at_an_end(view.way_rate(way), tried)}' for way in WAYS)
  ways = (
    f'plain descent, B {sizes} or rate over {{config.growth.factor}} after epochs {{config.growth.epochs}}'
  )
  return f'{NETWORK}, {LABELS[view.config.growth.bench]}; {ways}; best first rates: {rates}'


G1 = batch_size.claim(
  'G1',
  'Small batches (32-128) generalise better than large ones (1024+) at equal epochs.',
  under=tuned('{config.epochs} epochs (CNN {config.cnn.epochs})', 'epochs', benches=[*BENCHES]),
)
G2 = batch_size.claim(
  'G2',
  'Small batches (32-128) still generalise better than large ones (1024+) at equal updates, with the rate tuned for '
  'each batch size.',
  under=tuned('{config.updates} updates (CNN {config.cnn.updates})', 'updates', benches=[*BENCHES]),
)
for bench, said in BENCHES.items():
  for claim, kind in ((G1, 'epochs'), (G2, 'updates')):
    told = f'test accuracy, mini-batch minus full batch ({said})'
    claim(told, greater_than(POINTS), bench=bench, kind=kind)(effects.accuracy_gain)

G3 = batch_size.claim(
  'G3',
  "Large-batch minima are sharper (Keskar's epsilon-sharpness, largest eigenvalue, trace).",
  under=tuned(COOLED + 'equal settings {config.sharpness.settings}', 'matched', benches=[*LABELS]),
)
G4 = batch_size.claim(
  'G4',
  'Sharpness predicts the gap across runs.',
  under=COOLED + 'B {config.batch_sizes} and full, (rate, momentum) {config.sharpness.settings}',
)
for bench, labels in LABELS.items():
  for said, equal in WHERE.items():
    for name in ('keskar', 'eigenvalue', 'trace'):
      told = f'{MEASURES[name]}, full batch over mini-batch, {said} ({labels})'
      G3(told, greater_than(SHARPER), bench=bench, measure=name, equal=equal)(effects.sharpness_ratio)
  for said, inside in {'all runs': False, 'within a batch size': True}.items():
    for name in MEASURES:
      told = f'rank correlation of {MEASURES[name]} and the gap, {said} ({labels})'
      G4(told, greater_than(CORRELATED), bench=bench, measure=name, within=inside)(effects.correlation)

G5 = batch_size.claim(
  'G5',
  'Steps to a target fall as 1/B up to a critical batch size, then flatten; the gradient noise scale predicts where.',
  under=NETWORK
  + '; plain descent to training loss {config.steps.target_loss:g}, each B at its best rate on other seeds, '
  'a choice that the intervals take as given; noise scale: mean over the way of full batch to the target',
)
G5('log-log slope of steps, smallest batches', within(-1.2, -0.8), largest=False)(effects.slope)
G5('log-log slope of steps, largest batches', greater_than(-0.5), largest=True)(effects.slope)
told = 'fitted critical batch size over the simple noise scale on the way'
G5(told, within(1 / 3, 3))(effects.predicted_ratio)

words = NETWORK + '; {config.norm.epochs} epochs; by the statistics of all training images'
G6 = batch_size.claim(
  'G6',
  'Ghost batch normalisation closes part of the gap.',
  under=tuned(words, 'epochs', benches=['norm']),
)
# What is absent cannot be tested.
premise = Rule(
  lambda interval: Verdict.SUPPORTED if interval.low > POINTS else Verdict.INCONCLUSIVE,
  lambda: f'premise: above {POINTS}, else the claim is inconclusive',
)
G6('test accuracy, mini-batch minus full batch', premise)(effects.norm_gap)
told = f'test accuracy, ghosts minus full batch, less {SHARE:.0%} of the gap'
G6(told, greater_than(0), share=SHARE, premise=POINTS)(effects.closed_beyond)

G7 = batch_size.claim(
  'G7',
  'Growing the batch size instead of decaying the rate gives the same curve in fewer updates.',
  under=slowed,
)
for stage in (1, 2):
  told = f'training loss at the end of stage {stage + 1}, growing over decaying, same first rate'
  G7(told, within(0.9, 1.1), stage=stage)(effects.way_loss_ratio)
for rate_of, said in {'decay': 'same first rate', 'growth': 'each at its own best rate'}.items():
  told = f'test accuracy, growing minus decaying, {said}'
  G7(told, within(-POINTS, POINTS), rate_of=rate_of)(effects.way_accuracy)
G7('updates, growing over decaying', less_than(1))(effects.way_updates)

words = NETWORK + '; {config.epochs} epochs; settings by validation accuracy, by training loss'
G8 = batch_size.claim(
  'G8',
  'Early stopping on validation loss, not training loss, finds the better model.',
  under=tuned(words, *SETTINGS, benches=[*LABELS]),
)
RULES = {'accuracy': ('minus', greater_than(POINTS)), 'loss': ('over', less_than(0.95))}
for bench, labels in LABELS.items():
  for kind, said in SETTINGS.items():
    for what, (how, rule) in RULES.items():
      told = f'test {what}, by validation {how} by training loss ({labels}, {said})'
      G8(told, rule, bench=bench, kind=kind, variable=f'test_{what}')(effects.stopping_gain)
