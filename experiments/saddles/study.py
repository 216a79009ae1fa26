"""Saddle escape: the configuration, and S1-S6 with their rules, written before the seeds that grade them were run.

Thresholds are the smallest effects that matter: a quarter of the points (a tenth for networks, whose points are fewer),
a factor of 0.75 per dimension and a rank correlation of 0.3 (S1); three runs in four against one in four (S2, S6); a
tenth of the time (S3, S6); 0.8 to 1.25 where a saying gives a factor, 5 % where a formula is asymptotic (S5). Derived
are: a factor of sqrt 2 about Kac and Rice's shares, half of what one dimension changes, so that no dimension can be
taken for its neighbour (S1); one update where exits are exact, as they are counted in whole ones (S3, S5); a slope of
0.05 for 'does not depend', a change of a quarter over the factor of 100 on either side that is tried (S3).
Pilots and earlier runs: docs/studies/saddles.md.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeAlias

import pydantic

from experiments.saddles import effects
from experiments.saddles.effects import CURVED, NOISY, SGD, View
from gdlab import study
from gdlab.claims import exact, greater_than, less_than, premise, within
from gdlab.study.schema import check_rules

NUM_DIGITS = 1437  # training images of `gdlab.problems.digits`
DIMENSIONS = (2, 3, 4, 5, 6)  # of random fields, compared with Kac and Rice
BETAS = (0.5, 0.9)  # of the saying about momentum
LEAST = effects.SMALL * (1 - max(BETAS)) ** 2 * (1 + 1e-9)
NUMBERS = ('num_seeds', 'num_control_seeds', 'num_grid_seeds')  # of training
SIZES = (1, 8)  # of batches, in the law of escape under noise
Several = Annotated[study.Count, pydantic.Field(ge=2)]
Many = Annotated[int, pydantic.Field(ge=2, le=10**6)]  # waves, points, starts: with arrays of so many rows
Units = Annotated[int, pydantic.Field(ge=1, le=1024)]
Dimension = Annotated[int, pydantic.Field(ge=1, le=16)]
Images = Annotated[int, pydantic.Field(ge=4, le=NUM_DIGITS)]
Momenta = Annotated[tuple[Annotated[float, pydantic.Field(ge=0, lt=1)], ...], pydantic.Field(min_length=2)]
# Hidden layers, and the scale of the start.
Network: TypeAlias = tuple[
  Annotated[int, pydantic.Field(ge=1, le=8)], Annotated[float, pydantic.Field(gt=0, le=1)]
]
Case: TypeAlias = tuple[Annotated[int, pydantic.Field(ge=2, le=64)], study.Positive, study.Positive]


class _Fields(study.Config):
  dimensions: Annotated[tuple[Dimension, ...], pydantic.AfterValidator(study.ascending)]
  num_features: Many
  num_points: Many
  num_fields: Several


class _Search(study.Config):
  widths: Annotated[tuple[Units, ...], pydantic.Field(min_length=2), pydantic.AfterValidator(study.ascending)]
  num_examples: Images
  num_starts: Many
  num_networks: Several


class _Network(study.Config):
  components: Annotated[int, pydantic.Field(ge=1, le=64)]
  l2: study.Positive
  hidden: Annotated[Units, pydantic.Field(ge=2)]
  num_examples: Images
  num_starts: Many
  num_silent: Annotated[int, pydantic.Field(ge=1, le=1000)]
  least_curvature: study.Share
  least_fall: study.Share

  @property
  def silent(self) -> list[str]:
    """The saddles of one network at which examples agree on the steepest way down."""
    return [f'silent{number}' for number in range(self.num_silent)]


class _Made(study.Config):
  curvature: study.Positive
  deviation: study.Positive


class _Race(study.Config):
  mini_batch: study.Count
  multiples: study.Tried
  near_multiples: study.Tried
  momentum_multiples: study.Tried
  adam_rates: study.Tried
  displacement: study.Positive
  folds: study.Positive
  most_updates: study.Count
  evaluations: study.Count
  drop: study.Share


class _Growth(study.Config):
  num_seeds: Several
  cases: Annotated[tuple[Case, ...], pydantic.Field(min_length=1)]
  strengths: study.Tried
  betas: Momenta
  distance: study.Positive
  scales: study.Tried
  adam_rate: study.Positive
  noise: study.Positive
  noisy_strengths: study.Tried
  batch_sizes: study.Sizes
  repeats: study.Count
  curved_scale: study.Positive
  curved_distance: study.Positive
  curved_multiples: study.Tried


class _Chain(study.Config):
  dimension: Annotated[int, pydantic.Field(ge=4, le=6)]
  long: Annotated[int, pydantic.Field(ge=4, le=1000)]
  rates: study.Tried
  largest_rate: Annotated[float, pydantic.Field(gt=0, lt=0.5)]
  limit: study.Count

  @property
  def tuned(self) -> list[float]:
    """The rates that verdicts are for."""
    return [rate for rate in self.rates if rate <= self.largest_rate]


class _Training(study.Config):
  dataset: Literal['digits', 'mnist']
  hidden: Units
  batch_size: study.Count
  num_seeds: Several
  num_control_seeds: Several
  num_tuning: study.Count
  control: Network
  grid: Annotated[tuple[Network, ...], pydantic.Field(min_length=1)]
  num_grid_seeds: Several
  sgd_rates: study.Tried
  adam_rates: study.Tried
  num_updates: study.Count
  record_every: study.Count
  target_loss: study.Positive
  near_gradient: study.Share
  near_curvature: study.Share


class Settings(study.Config):
  """Default values are in configs/saddles.py."""

  seeds: study.Seeds
  fields: _Fields  # S1: Gaussian random fields
  search: _Search  # S1: networks by width, on other images for each seed
  network: _Network  # whose saddles are searched and started at, on other images for each seed
  made: _Made  # a saddle of two ways down, with noise that sums to 0 over the examples
  race: _Race  # S2 and S3: methods that start at a saddle, or next to one
  growth: _Growth  # S3 and S5: exits from quadratic saddles, and from others
  chain: _Chain  # S4: the octopus
  training: _Training  # S6: from the usual start, a control, and a grid of depths and starts

  @property
  def exit_ids(self) -> list[int]:
    """The seeds of exits."""
    return self.seeds.ids[: self.growth.num_seeds]

  @pydantic.model_validator(mode='after')
  def _fits(self) -> 'Settings':
    growth, chain, training, most = self.growth, self.chain, self.training, self.seeds.count
    sizes = self.fields.dimensions
    fewest = self.network.num_examples // 4
    images = NUM_DIGITS if training.dataset == 'digits' else 60_000
    starts = [case[2] / growth.distance for case in growth.cases]
    starts += [growth.curved_scale / growth.curved_distance]
    numbers = {f'training.{name}': getattr(training, name) for name in NUMBERS}
    numbers |= {'growth.num_seeds': growth.num_seeds}
    numbers |= {'fields.num_fields': self.fields.num_fields, 'search.num_networks': self.search.num_networks}
    tuning = self.seeds.tuning
    check_rules(
      {
        f'training.num_tuning should be at most {tuning}, seeds.tuning': training.num_tuning <= tuning,
        f'fields.dimensions should hold {DIMENSIONS}, which S1 asks about': {*DIMENSIONS} <= {*sizes},
        f'race.mini_batch should be at most {fewest}, a quarter of the examples': self.race.mini_batch
        <= fewest,
        'growth.cases and curved_scale should start within growth.distance, curved_distance': max(starts) < 1,
        f'growth.betas should hold 0 and {BETAS}, which S3 compares': {0, *BETAS} <= {*growth.betas},
        f'growth.strengths should hold one of at most {LEAST:.3g}, for S3': min(growth.strengths) <= LEAST,
        f'growth.batch_sizes should hold {SIZES}, which S5 asks about': {*SIZES} <= {*growth.batch_sizes},
        'chain.rates should be below 1, from where tubes throw runs out': max(chain.rates) < 1,
        'chain.largest_rate should leave two of chain.rates': len(chain.tuned) > 1,
        'chain.long should be at least chain.dimension': chain.long >= chain.dimension,
        f'training.batch_size should be at most {images}, all images': training.batch_size <= images,
      }
      | {f'{name} should be at most {most}, seeds.count': number <= most for name, number in numbers.items()}
    )
    return self


def _with_rates(words: str, at: str, arms: Sequence[str]) -> Callable[[View], str]:
  """Conditions that end with the tuned rates."""

  def told(view: View) -> str:
    rates = (f'{arm} at {kind} {view.best_rate(f"{at}_{kind}", arm)}' for kind in NOISY for arm in arms)
    return f'{words}; best rates: {", ".join(rates)}'

  return told


def _chain_rates(view: View) -> str:
  chosen = [view.chain_rate('chain_plain', 'plain'), view.chain_rate('chain_noisy', 'perturbed')]
  plain, perturbed = (study.at_an_end(rate, view.config.chain.tuned) for rate in chosen)
  return (
    'octopus with L = gamma = 1, tau = e, starts uniform; plain to {config.chain.dimension} saddles at rate '
    f'{plain}, perturbed to {{config.chain.long}} at rate {perturbed}; tuned below 1/(2L), where descent does not '
    'overshoot'
  )


def _training_rates(view: View) -> str:
  tried = {'SGD': view.config.training.sgd_rates, 'Adam': view.config.training.adam_rates}
  chosen = {arm: view.cell(f'training_{arm.lower()}').attrs['learning_rate'] for arm in tried}
  rates = ', '.join(f'{arm} {study.at_an_end(chosen[arm], tried[arm])}' for arm in tried)
  return (
    '{config.training.dataset}, tanh network of one hidden layer of {config.training.hidden}, B = '
    '{config.training.batch_size}, usual start, until the loss is {config.training.target_loss}; control: '
    '{config.training.control[0]} hidden layers from a start {config.training.control[1]} times the usual; near a '
    'saddle: gradient at most {config.training.near_gradient} of that at usual starts, an eigenvalue certainly below '
    f'-{{config.training.near_curvature}} of the largest; rates: {rates}'
  )


escape = study.Study(
  Settings,
  title='Saddle escape: what leaves a saddle, and how long it takes',
  question='A saddle is a point without slope that goes down in some directions and up in others. Teachers say that '
  'networks are full of them, that plain descent gets stuck at them, and that noise and momentum get it out. Is it '
  'so?',
  conditions='float64; rates are the best of those tried on {config.seeds.tuning} tuning seeds',
  module='experiments.saddles',
  view=View,
)

S1 = escape.claim(
  'S1',
  'Of random critical points, the share that are saddles rises quickly with dimension, and the index grows with the '
  'loss.',
  under='random fields of {config.fields.num_features} waves in {config.fields.dimensions} dimensions, all points in '
  'boxes in which {config.fields.num_points} are expected, {config.fields.num_fields} fields; tanh networks of '
  '{config.search.widths} hidden units on {config.search.num_examples} digits, {config.search.num_starts} starts, '
  'every point certified and counted once, {config.search.num_networks} samples of digits',
)
words = 'random fields: share of saddles in the most dimensions minus that in two'
S1(words, greater_than(0.25, none=0), kind='random')(effects.share_rise)
words = 'random fields: factor of the share of minima and maxima per dimension'
S1(words, less_than(0.75, none=1))(effects.extrema_factor)
for dimension in DIMENSIONS:
  words = f'random fields, {dimension} dimensions: share of minima and maxima over that of Kac and Rice'
  S1(words, within(0.71, 1.41), dimension=dimension, which='share')(effects.over_kac_rice)
for dimension in DIMENSIONS:
  words = f'control: random fields, {dimension} dimensions: points found over those that Kac and Rice expect'
  S1(words, premise(within(0.8, 1.25)), dimension=dimension, which='points')(effects.over_kac_rice)
words = 'random fields in the most dimensions: rank correlation of index with loss'
S1(words, greater_than(0.3, none=0), kind='random')(effects.index_correlation)
words = 'networks: share of saddles with the most hidden units minus that with the fewest'
S1(words, greater_than(0.1, none=0), kind='networks')(effects.share_rise)
words = 'networks with the most hidden units: rank correlation of index with loss'
S1(words, greater_than(0.3, none=0), kind='networks')(effects.index_correlation)

S2 = escape.claim(
  'S2',
  'Gradient noise takes SGD off a saddle where full-batch descent sits still.',
  under=_with_rates(
    'one saddle for each seed, on data of its own: made, of PCA, and of a network with {config.network.hidden} hidden '
    'units, where examples differ along the steepest way down, and {config.network.num_silent} of networks where they '
    'agree on it and differ on another; {config.network.num_examples} examples, batches with replacement; '
    '{config.race.folds:g} e-foldings of full batch at rate 1/L; left: down by {config.race.drop} of the fall; rates '
    '{config.race.multiples} over L; B = 1 {config.race.mini_batch} times as many updates, at rates as many times as '
    'small',
    'at',
    SGD,
  ),
)
KINDS = {
  'made': 'made saddle',
  'pca': 'PCA of the digits',
  'network': 'network, examples differ along the way down',
  'silent': 'network, examples agree on the steepest way down',
}
for kind, label in KINDS.items():
  S2(f'full batch: share that left at any rate, {label}', less_than(0.25), kind=kind)(effects.stays)
for kind, label in KINDS.items():
  for arm in SGD if kind in NOISY else ('mini-batch',):
    words = f'SGD, {arm}: share that left, {label}'
    S2(words, greater_than(0.75), start=f'at_{kind}', arm=arm)(effects.leaves)
for kind in NOISY:
  words = f'control: full batch from beside the saddle: share that left, {KINDS[kind]}'
  S2(words, premise(greater_than(0.75)), start=f'near_{kind}', arm='full batch')(effects.leaves)
words = 'control: SGD, mini-batch: share that left, origin of PCA, where no example has a slope'
S2(words, premise(less_than(0.25)), start='at_origin', arm='mini-batch')(effects.leaves)

S3 = escape.claim(
  'S3',
  'Momentum and Adam leave saddles sooner than plain descent: escape time falls by about (1 - beta), and Adam does '
  "not depend on the gradient's scale.",
  under=_with_rates(
    'next to one saddle for each seed, displaced by {config.race.displacement} per parameter, full batch, beta 0.9; '
    'rates: plain {config.race.near_multiples} and momentum {config.race.momentum_multiples} over L, Adam '
    '{config.race.adam_rates}; laws: alpha*gamma {config.growth.strengths}, beta {config.growth.betas}, the saying '
    'where alpha*gamma is at most (1 - beta)^2 / 10; scales of the loss {config.growth.scales}',
    'near',
    ('full batch', 'momentum', 'Adam'),
  ),
)
for arm in ('momentum', 'Adam'):
  for kind in NOISY:
    words = f'updates to leave, {arm} over plain, each at its best rate, {KINDS[kind]}'
    S3(words, less_than(0.9, none=1), arm=arm, kind=kind)(effects.sooner)
for beta in BETAS:
  words = f'escape time with momentum {beta} over plain at equal small rate, over (1 - beta)'
  S3(words, within(0.8, 1.25), beta=beta)(effects.momentum_law)
words = (
  'at larger rates: largest difference of an escape time with momentum from the exact recursion, in updates'
)
S3(words, exact(1), momentum=True)(effects.departure)
words = 'log-log slope of escape time in the scale of the loss, Adam, farthest from 0'
S3(words, exact(0.05), arm='Adam')(effects.scale_slope)
words = 'control: the mean slope for plain descent, which does depend on it'
S3(words, premise(less_than(-0.5)), arm='plain')(effects.scale_slope)

S4 = escape.claim(
  'S4',
  'Plain descent can take a time exponential in the dimension to pass a chain of saddles; perturbed descent takes '
  'polynomial time.',
  under=_chain_rates,
)
words = 'plain descent: factor from one gap between passages to the next'
S4(words, greater_than(1.5, none=1), cell='chain_plain', arm='plain')(effects.gap_ratio)
words = 'that factor over the limit that theory gives'
S4(words, within(0.9, 1.1), cell='chain_plain', arm='plain', over_theory=True)(effects.gap_ratio)
words = 'perturbed descent: factor from one gap to the next'
S4(words, less_than(1.1), cell='chain_noisy', arm='perturbed')(effects.gap_ratio)
S4('perturbed descent: log-log slope of time in the number of saddles', less_than(2))(effects.chain_slope)

S5 = escape.claim(
  'S5',
  'Escape time from a strict saddle is about log(Delta / delta_0) / log(1 + lr |lambda_min|).',
  under='quadratic saddles (dimension, curvature, start) {config.growth.cases}, alpha*gamma '
  '{config.growth.strengths}; noise at alpha*gamma {config.growth.noisy_strengths}; others, one saddle for each '
  'seed, at rates {config.growth.curved_multiples} over L from {config.growth.curved_scale} to '
  '{config.growth.curved_distance}; exits counted in whole updates',
)
words = (
  'quadratic saddles, plain: largest difference of an escape time from the formula rounded up, in updates'
)
S5(words, exact(1), momentum=False)(effects.departure)
for size in SIZES:
  words = f'from the saddle itself under noise, B = {size}: measured mean over formula'
  S5(words, within(0.95, 1.05), size=size)(effects.noise_law)
for kind in CURVED:
  S5(f'{KINDS[kind]}: measured over formula', within(0.8, 1.25), kind=kind)(effects.over_formula)
words = f'control: with momentum {max(BETAS)}, measured over the formula of plain descent'
S5(words, premise(less_than(0.8)), beta=max(BETAS))(effects.wrong_formula)

S6 = escape.claim(
  'S6',
  "Optimizers pass saddles quickly in practice: little of a network's training time is spent near one.",
  under=_training_rates,
)
for arm in ('SGD', 'Adam'):
  words = f'share of runs that spent over a tenth of their updates until the fit near a saddle, {arm}'
  S6(words, less_than(0.25), arm=arm.lower())(effects.lingers)
words = 'control: the same share, SGD on a deeper network from a small start, which does linger'
S6(words, premise(greater_than(0.25)), arm='control')(effects.lingers)
