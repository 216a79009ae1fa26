"""Saddle escape: the configuration, and S1-S6 with their rules, written before the seeds that grade them were run.

Thresholds are the smallest effects that matter: a quarter of the points (a tenth for networks, whose points are fewer),
a factor of 0.75 per dimension and a rank correlation of 0.3 (S1); three runs in four against one in four (S2, S6); a
tenth of the time (S3, S6); 0.8 to 1.25 where a saying gives a factor, 5 % where a formula is exact, 10 % where it is
asymptotic (S3 to S5); a slope of 0.05 for 'does not depend'. Pilots and earlier runs: docs/studies/saddles.md.
"""

from typing import Annotated, Literal, TypeAlias

import pydantic

from experiments.saddles import effects
from experiments.saddles.effects import View
from gdlab import study
from gdlab.claims import greater_than, less_than, within

NUM_DIGITS = 1437  # training images of `gdlab.problems.digits`
Several = Annotated[study.Count, pydantic.Field(ge=2)]
Images = Annotated[int, pydantic.Field(ge=4, le=NUM_DIGITS)]
Momenta = Annotated[tuple[Annotated[float, pydantic.Field(ge=0, lt=1)], ...], pydantic.Field(min_length=2)]
Case: TypeAlias = tuple[Annotated[int, pydantic.Field(ge=2, le=64)], study.Positive, study.Positive]


class _Fields(study.Config):
  dimensions: study.Counts
  num_features: study.Count
  num_starts: study.Count


class _Search(study.Config):
  widths: study.Counts
  num_examples: Images
  num_starts: Several


class _Network(study.Config):
  components: Annotated[int, pydantic.Field(ge=1, le=64)]
  l2: study.Positive
  hidden: Several
  num_examples: Images
  num_starts: Several
  num_saddles: study.Count
  least_curvature: study.Share
  least_fall: study.Share


class _Made(study.Config):
  curvature: study.Positive
  deviation: study.Positive
  num_examples: Annotated[study.Count, pydantic.Field(ge=4)]


class _Race(study.Config):
  generic: tuple[Literal['made', 'pca', 'network'], ...]
  silent: tuple[Literal['silent'], ...]
  symmetric: tuple[Literal['origin', 'twins'], ...]
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

  @property
  def places(self) -> tuple[str, ...]:
    """The kinds of saddles that runs start at."""
    return (*self.generic, *self.silent, *self.symmetric)


class _Growth(study.Config):
  cases: Annotated[tuple[Case, ...], pydantic.Field(min_length=1)]
  strengths: study.Tried
  betas: Momenta
  distance: study.Positive
  scales: study.Tried
  adam_rate: study.Positive
  noise: study.Positive
  noisy_strengths: study.Tried
  batch_sizes: study.Counts
  repeats: study.Count
  curved_scale: study.Positive
  curved_distance: study.Positive
  curved_multiples: study.Tried


class _Chain(study.Config):
  dimension: Annotated[int, pydantic.Field(ge=4, le=6)]
  long: study.Count
  rates: study.Tried
  largest_rate: Annotated[float, pydantic.Field(gt=0, lt=0.5)]
  limit: study.Count

  @property
  def tuned(self) -> list[float]:
    """The rates that verdicts are for."""
    return [rate for rate in self.rates if rate <= self.largest_rate]


class _Training(study.Config):
  dataset: Literal['digits', 'mnist']
  hidden: study.Count
  batch_size: study.Count
  num_seeds: Several
  num_control_seeds: Several
  sgd_rates: study.Tried
  adam_rates: study.Tried
  num_updates: study.Count
  record_every: study.Count
  target_loss: study.Positive
  small_scale: study.Share
  near_gradient: study.Share
  near_curvature: study.Share


class Settings(study.Config):
  """Default values are in configs/saddles.py."""

  seeds: study.Seeds
  fields: _Fields  # S1: Gaussian random fields
  search: _Search  # S1: networks by width, on other images for each seed
  network: _Network  # whose saddles are searched, and started at
  made: _Made  # a saddle of two ways down, with noise that sums to 0 over the examples
  race: _Race  # S2 and S3: methods that start at a saddle, or next to one
  growth: _Growth  # S3 and S5: exits from quadratic saddles, and from others
  chain: _Chain  # S4: the octopus
  training: _Training  # S6: from the usual start, and a control next to the saddle at the origin

  @pydantic.model_validator(mode='after')
  def _fits(self) -> 'Settings':
    race, growth, chain, training, most = self.race, self.growth, self.chain, self.training, self.seeds.count
    sizes, lists = self.fields.dimensions, (self.fields.dimensions, self.search.widths, growth.batch_sizes)
    fewest = min(self.made.num_examples, self.network.num_examples) // 4
    images = NUM_DIGITS if training.dataset == 'digits' else 60_000
    starts = [
      growth.curved_scale / growth.curved_distance,
      *(case[2] / growth.distance for case in growth.cases),
    ]
    named, places = {'network', 'silent'} <= {*race.places}, len({*race.places}) == len(race.places)
    rules = {
      'fields.dimensions, search.widths and growth.batch_sizes should ascend': all(map(_ascends, lists)),
      'fields.dimensions should hold 2 and more than that, which S1 compares': 2 in sizes[:-1],
      'search.widths should be two or more': len(self.search.widths) > 1,
      "race.generic, silent and symmetric should name 'network', 'silent', and none twice": named and places,
      f'race.mini_batch should be at most {fewest}, a quarter of the examples': race.mini_batch <= fewest,
      'growth.cases and curved_scale should start within growth.distance, curved_distance': max(starts) < 1,
      'growth.betas should hold 0, which the others are compared with': 0 in growth.betas,
      'chain.rates should be below 1, from where tubes throw runs out': max(chain.rates) < 1,
      'chain.largest_rate should leave two of chain.rates': len(chain.tuned) > 1,
      'chain.long should be at least chain.dimension': chain.long >= chain.dimension,
      f'training.num_seeds should be at most {most}, seeds.count': training.num_seeds <= most,
      f'training.num_control_seeds should be at most {most}': training.num_control_seeds <= most,
      f'training.batch_size should be at most {images}, all images': training.batch_size <= images,
    }
    for rule, holds in rules.items():
      if not holds:
        raise ValueError(rule)
    return self


def _ascends(values: tuple) -> bool:
  return list(values) == sorted({*values})


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
    '{config.training.dataset}, tanh network of {config.training.hidden} hidden units, B = '
    '{config.training.batch_size}, usual start, until the loss is {config.training.target_loss}; near a saddle: '
    'gradient at most {config.training.near_gradient} of that at usual starts, an eigenvalue certainly below '
    '-{config.training.near_curvature} of the largest; which has to find more than half of the stay of '
    f'{{config.training.num_control_seeds}} control runs; rates: {rates}'
  )


escape = study.Study(
  Settings,
  title='Saddle escape: what leaves a saddle, and how long it takes',
  question='A saddle is a point without slope that goes down in some directions and up in others. Teachers say that '
  'networks are full of them, that plain descent gets stuck at them, and that noise and momentum get it out. Is it so?',
  conditions='float64; rates are the best of those tried on {config.seeds.tuning} tuning seeds',
  module='experiments.saddles',
  view=View,
)

S1 = escape.claim(
  'S1',
  'Of random critical points, the share that are saddles rises quickly with dimension, and the index grows with the '
  'loss.',
  under='random fields in {config.fields.dimensions} dimensions, {config.fields.num_starts} starts; tanh networks of '
  '{config.search.widths} hidden units on {config.search.num_examples} digits, {config.search.num_starts} starts; '
  'every point certified and counted once',
)
words = 'random fields: share of saddles in the most dimensions minus that in two'
S1(words, greater_than(0.25), kind='fields')(effects.share_rise)
words = 'random fields: factor of the share of minima and maxima per dimension'
S1(words, less_than(0.75))(effects.extrema_factor)
words = 'random fields in the most dimensions: rank correlation of index with loss'
S1(words, greater_than(0.3), kind='fields')(effects.index_correlation)
words = 'networks: share of saddles with the most hidden units minus that with the fewest'
S1(words, greater_than(0.1), kind='networks')(effects.share_rise)
words = 'networks with the most hidden units: rank correlation of index with loss'
S1(words, greater_than(0.3), kind='networks')(effects.index_correlation)

S2 = escape.claim(
  'S2',
  'Gradient noise takes SGD off a saddle where full-batch descent sits still.',
  under='at saddles {config.race.generic}, where examples differ along the steepest way down, and of a network where '
  'they agree on it; {config.race.folds:g} e-foldings of full batch at rate 1/L; left: down by {config.race.drop} of '
  'the fall; rates {config.race.multiples} over L; B = 1 {config.race.mini_batch} times as many updates, at rates as '
  'many times as small',
)
S2('share of full-batch runs that left, most over saddles and rates', less_than(0.25))(effects.stays)
for arm in effects.SGD:
  words = f'share of SGD runs that left, {arm}, least over saddles chosen for noise along the way down'
  S2(words, greater_than(0.75), arm=arm, kind='generic')(effects.leaves)
words = (
  'share of SGD runs that left, mini-batch, saddles found at which examples agree on the steepest way down'
)
S2(words, greater_than(0.75), arm='mini-batch', kind='silent')(effects.leaves)

S3 = escape.claim(
  'S3',
  'Momentum and Adam leave saddles sooner than plain descent: escape time falls by about (1 - beta), and Adam does not '
  "depend on the gradient's scale.",
  under='next to saddles {config.race.generic}, displaced by {config.race.displacement} per parameter, full batch, '
  'beta 0.9; rates: plain {config.race.near_multiples} and momentum {config.race.momentum_multiples} over L, Adam '
  '{config.race.adam_rates}; laws: alpha*gamma {config.growth.strengths}, beta {config.growth.betas}; scales of the '
  'loss {config.growth.scales}',
)
for arm in ('momentum', 'Adam'):
  words = f'updates to leave, {arm} over plain, each at its best rate, most over saddles'
  S3(words, less_than(0.9), arm=arm)(effects.sooner)
words = 'escape time with momentum over plain at equal rate, over (1 - beta), farthest from 1'
S3(words, within(0.8, 1.25))(effects.momentum_law)
words = 'log-log slope of escape time in the scale of the loss, Adam'
S3(words, within(-0.05, 0.05), arm='Adam')(effects.scale_slope)
words = 'the same slope for plain descent, which does depend on it'
S3(words, less_than(-0.5), arm='plain')(effects.scale_slope)

S4 = escape.claim(
  'S4',
  'Plain descent can take a time exponential in the dimension to pass a chain of saddles; perturbed descent takes '
  'polynomial time.',
  under=_chain_rates,
)
words = 'plain descent: factor from one gap between passages to the next'
S4(words, greater_than(1.5), cell='chain_plain', arm='plain')(effects.gap_ratio)
words = 'that factor over the limit that theory gives'
S4(words, within(0.9, 1.1), cell='chain_plain', arm='plain', over_theory=True)(effects.gap_ratio)
words = 'perturbed descent: factor from one gap to the next'
S4(words, less_than(1.1), cell='chain_noisy', arm='perturbed')(effects.gap_ratio)
S4('perturbed descent: log-log slope of time in the number of saddles', less_than(2))(effects.chain_slope)

S5 = escape.claim(
  'S5',
  'Escape time from a strict saddle is about log(Delta / delta_0) / log(1 + lr |lambda_min|).',
  under='quadratic saddles (dimension, curvature, start) {config.growth.cases}, alpha*gamma {config.growth.strengths}; '
  'noise at alpha*gamma {config.growth.noisy_strengths}, B = {config.growth.batch_sizes}; others at rates '
  '{config.growth.curved_multiples} over L from {config.growth.curved_scale} to {config.growth.curved_distance}; exits '
  'counted in whole updates',
)
words = 'quadratic saddles, plain: measured over formula, farthest from 1'
S5(words, within(0.95, 1.05), kind='quadratic')(effects.closed_form)
words = 'quadratic saddles, momentum: measured over exact recursion, farthest from 1'
S5(words, within(0.95, 1.05))(effects.recursion)
words = 'from the saddle itself under noise: measured mean over formula, farthest from 1'
S5(words, within(0.9, 1.1))(effects.noise_law)
words = 'PCA of the digits: measured over formula, rate farthest from 1'
S5(words, within(0.8, 1.25), kind='curved_pca')(effects.closed_form)
words = 'saddles of a network: measured over formula, rate farthest from 1'
S5(words, within(0.8, 1.25), kind='curved_network')(effects.closed_form)

S6 = escape.claim(
  'S6',
  "Optimizers pass saddles quickly in practice: little of a network's training time is spent near one.",
  under=_training_rates,
)
for arm in ('SGD', 'Adam'):
  words = f'share of runs that spent over a tenth of their updates until the fit near a saddle, {arm}'
  S6(words, less_than(0.25), arm=arm.lower())(effects.lingers)
