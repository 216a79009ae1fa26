"""The study: the view of its results, its cells, and the claims G1-G9 with their rules.

Rules were written before the runs; docs/studies/batch_size.md has what was found before, why the claims are asked as
they are, and how many seeds each needs. The smallest effects that matter: half a point of accuracy; 10 % on a loss or a
sharpness; a rank correlation of 0.3, a tenth of the variance of ranks; a factor of 3 on the batch size at the bend; 0.2
on a slope of -1; a quarter of a gap.
"""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from experiments.batch_size import arms, effects, measure
from experiments.batch_size.arms import Arm
from experiments.batch_size.effects import WAYS
from experiments.batch_size.settings import Settings
from gdlab import statistics, study
from gdlab.claims import greater_than, less_than, outside, premise, within

POINTS, CORRELATED, SHARE = 0.005, 0.3, 0.25
NORMALISED = {'adam': 'Adam', 'normalised': 'normalised descent'}
FACTOR = effects.RISE
OVERFIT = 1.2  # as a factor on the least validation loss; pilots had 1.02, 1.12 and 1.34
LABELS = {'clean': 'right labels', 'noisy': 'wrong labels among them'}
BENCHES = {name: f'perceptron, {labels}' for name, labels in LABELS.items()} | {'cnn': 'CNN, right labels'}
SETTINGS = {'epochs': 'setting best by validation', 'fit': 'setting of least training loss'}
# With right labels both ways of choosing take the same setting, so that it is asked there once.
CONDITIONS = (('clean', 'epochs'), ('noisy', 'epochs'), ('noisy', 'fit'))
MEASURES = {
  'keskar': "Keskar's sharpness",
  'eigenvalue': 'largest eigenvalue',
  'trace': 'trace of the Hessian',
  'adaptive': 'adaptive sharpness',  # unchanged when a ReLU layer is rescaled and the function is not
}


class Seen(study.View):
  """What one set of seeds has measured, with the questions that claims, pictures and tables ask of it."""

  config: Settings

  def arms(self, bench: str) -> list[Arm]:
    """Those of a bench that are tuned: small and large batch, with BatchNorm also ghosts."""
    return [arm for arm in arms.tuned_arms(self.config) if arm.bench.name == bench]

  def pair(self, bench: str) -> tuple[Arm, Arm]:
    """The small and the large batch of the claims."""
    return arms.pair(arms.benches(self.config)[bench])

  def chooser(self, arm: Arm, kind: str) -> Callable[[np.ndarray], int]:
    """The number of the setting as a function of the numbers of the tuning runs."""
    return arms.chooser(arm, kind, self.cell(f'tuning_{arm}'))

  def setting(self, arm: Arm, kind: str) -> int:
    """The one that tuning chose."""
    return self.chooser(arm, kind)(np.arange(self.config.seeds.tuning))

  def used(self, arm: Arm, kind: str) -> str:
    """The tuned rate and momentum, with a remark where the rate is an end of those tried."""
    rate, momentum = arm.bench.settings[self.setting(arm, kind)]
    return f'{study.at_an_end(rate, [rate for rate, _ in arm.bench.settings])}, {momentum:g}'

  def ended(self, arm: Arm, kind: str, setting: int, variable: str, failed: float) -> xr.DataArray:
    """A variable, by seed: at the end of a budget, there `failed` for a run that diverged before.

    With `matched` where the training loss first is at the target, NaN for a run that never came there.
    """
    runs = self.cell(f'runs_{arm}').sel(setting=setting)
    if kind == 'matched':
      return arms.at_target(runs, arm.bench.target)[variable]
    return study.unless_failed(runs.sel(step=arm.budgets[kind]), variable, failed)

  def accuracy(self, arm: Arm, kind: str, setting: int) -> xr.DataArray:
    """Test accuracy, 0 of a run that failed; with BatchNorm by the statistics of all training examples."""
    variable = 'population.test_accuracy' if arm.bench.name == 'norm' else 'test_accuracy'
    return self.ended(arm, kind, setting, variable, failed=0.0)

  def sharpness(self, bench: str, size: int) -> xr.Dataset:
    """The measures at the end points of a batch size at the settings that all of them run."""
    return self.cell(f'sharpness_{Arm(self.pair(bench)[0].bench, size)}')

  @property
  def stable(self) -> Callable[[np.ndarray], float]:
    """The first rate of all `WAYS` as a function of the numbers of the tuning runs."""
    return effects.stable_rate(self.cell('first_stage'))

  @property
  def rate(self) -> float:
    """The one that tuning chose."""
    return self.stable(np.arange(self.config.seeds.tuning))

  def ramp_rate(self, method: str) -> Callable[[np.ndarray], float]:
    """The first rate of all `RAMPS` of an optimizer, in the same way."""
    return effects.stable_rate(self.cell(f'ramp_stage_{method}'))

  def along(self, way: str, variable: str, rate: float) -> np.ndarray:
    """A variable at the end of every epoch of a way, float[seed, epoch]."""
    runs = self.cell(f'way_{way}').sel(learning_rate=rate)
    failed = 0.0 if variable.endswith('accuracy') else np.inf
    return study.unless_failed(runs, variable, failed).transpose('seed', 'step').values

  def fastest(self, size: int) -> Callable[[np.ndarray], float]:
    """The best rate on the way to the target as a function of the numbers of the tuning runs."""
    return effects.fastest(self.cell(f'search_{size}'))

  def crossing(self, size: int, rate: float | None = None) -> statistics.Crossing:
    """When each run came to the target, at a rate or at the one that tuning chose."""
    rate = self.fastest(size)(np.arange(self.config.seeds.tuning)) if rate is None else rate
    found = self.cell(f'steps_{size}').sel(learning_rate=rate)
    return statistics.Crossing(found.steps.values, found.censored.values.astype(bool))

  def steps(self, size: int, rate: float | None = None) -> np.ndarray:
    """Updates to the target float[seed]; infinite for runs that never got there."""
    time, censored = self.crossing(size, rate)
    return np.where(censored, np.inf, time)

  @property
  def lost(self) -> str:
    """How many end points never came to the training loss of the others."""
    found = [
      self.sharpness(bench, size).trace for bench in LABELS for size in self.config.sharpness.batch_sizes
    ]
    return f'{sum(int(each.isnull().sum()) for each in found)} of {sum(each.size for each in found)}'


batch_size = study.Study(
  Settings,
  title='Batch size, sharpness and generalisation: {config.dataset}',
  question='Do small batches find better models, and if so, is it the batch or the number of updates? Are the minima '
  'of large batches sharp, and does that matter? How large may a batch be before it wastes examples? Such statements '
  'were tested with {config.seeds.count} seeds, some with fewer. {config.num_train:,} images of {config.dataset} train '
  'a small network, {config.num_validation:,} validate, the test images only grade; all are drawn anew for every seed. '
  '"Large" is B={config.large_batch:,}, "small" B={config.small_batch}. Every batch size tries the same rates and '
  'momenta on {config.seeds.tuning} seeds of its own and runs with the others at the best, and at those that might '
  'have been the best with other tuning seeds, which intervals allow for; arms are paired by seed. Wrong labels are '
  '{config.label_noise:.0%} of those of training and validation; test labels are right. Where a caption says nothing '
  'else, points are medians over seeds, and bars and bands hold the middle 80 %.',
  conditions='{config.dataset}, {config.num_train} training images drawn anew for each seed',
  module='experiments.batch_size',
  view=Seen,
)


def asked(*names: str) -> Callable[[Settings], bool]:
  """Whether a configuration asks one of these claims."""
  return lambda config: bool({*names} & {*config.claims})


sharp = lambda config: [
  Arm(arms.benches(config)[bench], size) for bench in LABELS for size in config.sharpness.batch_sizes
]
own = lambda config: [arm for bench in LABELS for arm in arms.pair(arms.benches(config)[bench])]
sizes = lambda config: config.steps.batch_sizes
batch_size.cell(over=arms.tuned_arms)(measure.tuning)
batch_size.cell('tuning_{}', over=arms.tuned_arms)(measure.runs)
batch_size.cell(over=sharp, when=asked('G3', 'G4'))(measure.sharpness)
batch_size.cell('tuning_{}', over=own, when=asked('G3'))(measure.own)
batch_size.cell(over=sizes, when=asked('G5'))(measure.search)
batch_size.cell('search_{}', over=sizes, when=asked('G5'))(measure.steps)
batch_size.cell('search_{}', over=lambda config: sizes(config)[-1:], when=asked('G5'))(measure.scales)
batch_size.cell(when=asked('G7'))(measure.first_stage)
batch_size.cell('first_stage', over=lambda config: WAYS, when=asked('G7'))(measure.way)
batch_size.cell(over=lambda config: [*NORMALISED], when=asked('G9'))(measure.ramp_stage)
batch_size.cell('ramp_stage_{}', over=lambda config: [*NORMALISED], when=asked('G9'))(measure.ramp)
batch_size.cell(once=True, when=asked('G9'))(measure.ramp_exact)

NETWORK = 'perceptron with hidden layers {config.hidden}'
END_POINTS = (
  NETWORK
  + '; end points at training loss {config.target.clean:g} (right labels) and {config.target.noisy:g} (wrong '
  'ones), to which each run has {config.sharpness.updates} updates, cooled by at least '
  '{config.sharpness.cooling_updates} updates of full batch at rate {config.sharpness.cooling_rate:g}; '
)
EQUAL = 'settings (rate, momentum) {config.sharpness.settings}'


def tuned(words: str, kind: str, benches: Sequence[str]) -> Callable[[Seen], str]:
  """Conditions of a claim about arms at the rate and momentum that tuning has chosen for them."""

  def under(view: Seen) -> str:
    told = []
    for bench in benches:
      told += [f'{arm.bench.title}, {arm.label}: {view.used(arm, kind)}' for arm in view.arms(bench)]
    return f'{words}; best rate and momentum on other seeds: {"; ".join(told)}'

  return under


words = '{config.epochs} epochs (CNN {config.cnn.epochs})'
G1 = batch_size.claim(
  'G1',
  'Small batches (32-128) generalise better than large ones (1024+) at equal epochs.',
  under=tuned(words, 'epochs', benches=[*BENCHES]),
  when=asked('G1'),
)
G1a = batch_size.claim(
  'G1a',
  'Small batches (32-128) generalise better than large ones (1024+) where both have come to the same training loss.',
  under=tuned(
    'at training loss {config.target.clean:g}, {config.target.noisy:g} with wrong labels, {config.target.cnn:g} of '
    'the CNN, within the longer of both budgets; a run that does not come there leaves its part inconclusive',
    'matched',
    benches=[*BENCHES],
  ),
  when=asked('G1', 'G2'),
)
G2 = batch_size.claim(
  'G2',
  'Small batches (32-128) still generalise better than large ones (1024+) at equal updates, with the rate tuned for '
  'each batch size.',
  under=tuned('{config.updates} updates (CNN {config.cnn.updates})', 'updates', benches=[*BENCHES]),
  when=asked('G2'),
)
for bench, said in BENCHES.items():
  for claim, kind in ((G1, 'epochs'), (G1a, 'matched'), (G2, 'updates')):
    told = f'typical test accuracy, small minus large batch ({said})'
    claim(told, greater_than(POINTS, none=0), bench=bench, kind=kind)(effects.accuracy_gain)

# At equal settings only the batch differs. Where each is trained fastest it has a rate of its own, and curvature lies
# under the border of stability of that rate, 2 / rate for plain descent. Validation accuracies at an equal loss are too
# alike to choose a setting by: so G3a asks of the fastest.
G3 = batch_size.claim(
  'G3',
  "Large-batch minima are sharper (Keskar's epsilon-sharpness, largest eigenvalue, trace).",
  under=END_POINTS + EQUAL,
  when=asked('G3'),
)
G3a = batch_size.claim(
  'G3a',
  'Large-batch minima are sharper, each batch size at the rate and momentum that train it fastest.',
  under=tuned(END_POINTS + 'each with the fewest updates to that loss', 'fastest', benches=[*LABELS]),
  when=asked('G3'),
)
G4 = batch_size.claim(
  'G4',
  'Sharpness predicts the gap across runs.',
  under=END_POINTS + 'B {config.sharpness.batch_sizes}, ' + EQUAL + '; the runs of a seed share their data',
  when=asked('G4'),
)
G4a = batch_size.claim(
  'G4a',
  'Sharpness predicts the gap across runs of one batch size.',
  under=END_POINTS + 'B {config.sharpness.batch_sizes}, ' + EQUAL + '; the runs of a seed share their data',
  when=asked('G4'),
)
for bench, labels in LABELS.items():
  for name in ('keskar', 'eigenvalue', 'trace'):
    told = f'{MEASURES[name]}, large over small batch ({labels})'
    G3(told, greater_than(FACTOR, none=1), bench=bench, measure=name)(effects.sharpness_ratio)
    G3a(told, greater_than(FACTOR, none=1), bench=bench, measure=name)(effects.own_sharpness_ratio)
  # In pilots Keskar's measure and the trace ranked the runs as the eigenvalue does: correlations of .95 and .85.
  for name in ('eigenvalue', 'adaptive'):
    for claim, within_size in ((G4, False), (G4a, True)):
      told = f'rank correlation of {MEASURES[name]} and the gap ({labels})'
      rule = greater_than(CORRELATED, none=0)
      claim(told, rule, bench=bench, measure=name, within=within_size)(effects.correlation)

G5 = batch_size.claim(
  'G5',
  'Steps to a target fall as 1/B up to a critical batch size, then flatten; the gradient noise scale predicts where.',
  under=NETWORK
  + '; plain descent, B {config.steps.batch_sizes}, to training loss {config.steps.losses[2]:g}, each B '
  'at its best rate on other seeds; noise scale: mean of tr Sigma over mean of |G|^2 over runs of the largest batch, '
  'where their training loss first is at most {config.steps.losses}',
  when=asked('G5'),
)
G5('log-log slope of steps, smallest batches', within(-1.2, -0.8), largest=False)(effects.slope)
G5('log-log slope of steps, largest batches', greater_than(-0.5), largest=True)(effects.slope)
for place, said in enumerate(('first', 'second', 'last')):
  told = f'fitted critical batch size over the noise scale, at the {said} of the losses'
  G5(told, within(1 / 3, 3), place=place)(effects.predicted_ratio)


def normed(view: Seen) -> str:
  """Conditions of G6, and whether there is a gap at all."""
  words = '{config.norm.epochs} epochs; by the statistics of all training images'
  gap = effects.norm_gap(view)
  there = f'the gap is {100 * gap.estimate:.2f} points ({100 * gap.low:.2f} to {100 * gap.high:.2f})'
  if not gap.low > POINTS:
    there += f': not above {100 * POINTS:g}, so that there is nothing to close and the claim is undefined'
  return f'{tuned(words, "epochs", benches=["norm"])(view)}; {there}'


G6 = batch_size.claim(
  'G6', 'Ghost batch normalisation closes part of the gap.', under=normed, when=asked('G6')
)
G6('typical test accuracy, small minus large batch', premise(greater_than(POINTS)))(effects.norm_gap)
told = f'test accuracy, ghosts minus large batch, less {SHARE:.0%} of the gap'
G6(told, greater_than(0), share=SHARE)(effects.closed_beyond)


def slowed(view: Seen) -> str:
  """Conditions of G7."""
  rate = study.at_an_end(view.rate, view.config.growth.learning_rates)
  return (
    f'{NETWORK}, right labels; plain descent from B={{config.growth.batch_size}} and rate {rate}, the largest with '
    f'which the mean training loss of other seeds never ends an epoch {FACTOR} times above its least in stage 1; '
    'after epochs {config.growth.epochs} B times or rate over {config.growth.factor}'
  )


G7 = batch_size.claim(
  'G7',
  'Growing the batch size instead of decaying the rate gives the same curve in fewer updates.',
  under=slowed,
  when=asked('G7'),
)
SAME = within(1 / FACTOR, FACTOR)
# Where doing neither gives the same curve as well, nothing was asked; that updates are fewer follows from the schedule.
told = 'training loss at the end, neither over decaying'
G7(told, premise(outside(1 / FACTOR, FACTOR)), stage=2, way='kept')(effects.way_loss_ratio)
for stage in (1, 2):
  told = f'training loss at the end of stage {stage + 1}, growing over decaying'
  G7(told, SAME, stage=stage)(effects.way_loss_ratio)
told = 'test loss at the end, growing over decaying'
G7(told, SAME, stage=2, variable='test_loss')(effects.way_loss_ratio)
G7('updates, growing over decaying', premise(less_than(1)))(effects.way_updates)


def ramped(view: Seen) -> str:
  """Conditions of G9."""
  every, rates = np.arange(view.config.seeds.tuning), []
  for method in NORMALISED:
    rate = study.at_an_end(view.ramp_rate(method)(every), getattr(view.config.ramp, method))
    rates.append(f'{NORMALISED[method]} {rate}')
  return (
    f'{NETWORK}, right labels, from B={{config.growth.batch_size}}; after epochs {{config.growth.epochs}} B times '
    '{config.growth.factor} and the rate over its square root, or the rate over {config.growth.factor}; '
    f'rates: {", ".join(rates)}, the largest stable ones on other seeds, as in G7; noisy quadratic of '
    f'{measure.EXACT[1]} directions, rate {measure.EXACT[0]:g}, as many examples'
  )


G9 = batch_size.claim(
  'G9',
  'Doubling the batch while dividing the rate by sqrt 2 follows the curve of halving the rate, in fewer updates (for '
  'Adam-like, normalised updates).',
  under=ramped,
  when=asked('G9'),
)
OTHERS = {'kept': 'neither', 'unscaled': 'growing at the same rate'}
for way, said in OTHERS.items():
  told = f'control: noisy quadratic, loss at the end, {said} over decaying'
  G9(told, premise(outside(1 / FACTOR, FACTOR)), way=way)(effects.exact_ratio)
for stage in (1, 2):
  told = f'noisy quadratic, loss at the end of stage {stage + 1}, growing over decaying'
  G9(told, SAME, way='growth', stage=stage)(effects.exact_ratio)
for method, name in NORMALISED.items():
  for way, said in OTHERS.items():
    told = f'{name}, training loss at the end, {said} over decaying, which should differ'
    G9(told, outside(1 / FACTOR, FACTOR), method=method, way=way)(effects.ramp_ratio)
  for stage in (1, 2):
    told = f'{name}, training loss at the end of stage {stage + 1}, growing over decaying'
    G9(told, SAME, method=method, way='growth', stage=stage)(effects.ramp_ratio)
  told = f'{name}, test loss at the end, growing over decaying'
  G9(told, SAME, method=method, way='growth', variable='test_loss')(effects.ramp_ratio)
  G9(f'{name}, updates, growing over decaying', premise(less_than(1)), method=method)(effects.ramp_updates)


def stopping(view: Seen) -> str:
  """Conditions of G8: the settings, and by how much the validation loss of tuning seeds ends above its least."""
  told = []
  for bench, kind in CONDITIONS:
    setting, overfits = effects.overfitting(view, bench, kind, OVERFIT)(np.arange(view.config.seeds.tuning))
    risen = effects.rises(view, bench, setting)
    does = 'overfits' if overfits else 'does not overfit'
    used = f'{SETTINGS[kind]} ({view.used(view.pair(bench)[0], kind)})'
    told.append(f'{LABELS[bench]}, {used} {does} ({np.exp(risen.mean()):.2f} times its least)')
  return (
    NETWORK
    + ', B={config.small_batch}; {config.epochs} epochs; settings (rate, momentum) and validation loss, of '
    f'tuning seeds: {"; ".join(told)}'
  )


G8 = batch_size.claim(
  'G8',
  'Early stopping on validation loss, not training loss, finds the better model.',
  under=stopping,
  when=asked('G8'),
)
for bench, kind in CONDITIONS:
  told = f'test accuracy, by validation minus by training loss ({LABELS[bench]}, {SETTINGS[kind]})'
  G8(told, greater_than(POINTS, none=0), bench=bench, kind=kind)(effects.stopping_gain)

G8a = batch_size.claim(
  'G8a',
  'Where training overfits, early stopping on validation loss finds the better model than on training loss; elsewhere '
  'it makes no difference.',
  under=stopping,
  when=asked('G8'),
)
told = f'test accuracy, by validation minus by training loss, where validation loss ends at {OVERFIT} times its least'
options = {'conditions': CONDITIONS, 'beyond': OVERFIT}
G8a(told, greater_than(POINTS, none=0), overfits=True, **options)(effects.gain_by_overfitting)
G8a('the same where it does not', within(-POINTS, POINTS), overfits=False, **options)(
  effects.gain_by_overfitting
)
