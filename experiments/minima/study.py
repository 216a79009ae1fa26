"""The study of minima: its configuration, what it measures, and the claims N1-N7 with their rules.

Rules are of before the runs; docs/studies/minima.md has how pilots changed them, and the power that seeds give.
Thresholds are the smallest effects that matter: a quarter of the runs where shares are compared and half of them where
most are meant; 5 % of the runs for 'stays'; a ripple of the landscape and half a point of accuracy for added noise; 5 %
of an error. Whatever is said to shrink with width has to halve over a sixteenfold width.
"""

import math
from typing import Annotated, Literal

import pydantic

from experiments.minima import effects, measure
from gdlab import study, theory
from gdlab.claims import greater_than, less_than, within
from gdlab.study.schema import APART

Runs = Annotated[int, pydantic.Field(ge=2, le=APART)]
Several = pydantic.Field(min_length=2)
Sizes = Annotated[tuple[study.Count, ...], Several, pydantic.AfterValidator(study.ascending)]
Levels = Annotated[tuple[study.NotNegative, ...], Several, pydantic.AfterValidator(study.ascending)]
AtLeastOne = Annotated[study.Positive, pydantic.Field(ge=1)]
AtLeastTwo = Annotated[study.Count, pydantic.Field(ge=2)]


class Valleys(study.Config):
  """N1 and N2: two valleys with a known ridge."""

  num_seeds: Runs
  num_examples: study.Count
  batch_sizes: Sizes
  mini_batch: study.Count
  learning_rates: study.Rising
  learning_rate: study.Positive
  lower_rate: study.Positive
  escapes: study.Positive
  start_scale: study.NotNegative
  updates: study.Count
  patience: AtLeastOne
  return_updates: study.Count
  records: study.Count

  @pydantic.model_validator(mode='after')
  def _possible(self) -> 'Valleys':
    rates, sizes = self.learning_rates, self.batch_sizes
    # A temperature above the ridge leaves no valley to get out of; at the ridge the exponential is 1/e.
    most = self.updates * self.learning_rate * self.attempts / math.e
    for holds, words in (
      (1 in sizes and self.mini_batch in sizes[1:], 'batch_sizes should hold 1 and mini_batch, above 1'),
      (max(sizes) < self.num_examples, 'batch_sizes should be below num_examples'),
      (self.learning_rate in rates, 'learning_rate should be one of learning_rates'),
      (self.lower_rate in rates, 'lower_rate should be one of learning_rates'),
      (self.lower_rate < self.learning_rate, 'lower_rate should be below learning_rate'),
      (self.escapes < most, f'escapes should be below {most:.6g}'),
    ):
      if not holds:
        raise ValueError(words)
    return self

  @property
  def attempts(self) -> float:
    """The factor before the exponential of Kramers' formula, for the shallow valley of the double well."""
    _, (_, _, top), (_, _, poor) = measure.ridge('tilted')
    return float(theory.kramers_rate(poor, -top, 1.0, 1.0)) * math.e

  def temperature(self, batch_size: int, learning_rate: float) -> float:
    r"""T, in proportion to rate over batch size; of the mini-batch at the main rate it follows from theory alone.

    Its run is to last m = `escapes` mean escape times from the shallow valley by Kramers' formula: with the ridge
    $\Delta U$, the attempts $k_0$ per unit of time and the time $t$ (rate times updates) $T = \Delta U / \ln(k_0 t/m)$.
    """
    time = self.updates * self.learning_rate
    main = measure.height('tilted') / math.log(self.attempts * time / self.escapes)
    return main * (learning_rate / self.learning_rate) * (self.mini_batch / batch_size)

  def expected(self, batch_size: int, learning_rate: float) -> float:
    """How many mean escape times from the shallow valley a run lasts, by Kramers' formula."""
    over = measure.height('tilted') / self.temperature(batch_size, learning_rate)
    return self.attempts * math.exp(-over) * (self.updates * learning_rate)

  @property
  def graded(self) -> list[tuple[int, float]]:
    """The batch sizes and rates that N1 is asked of: theory has a run escape, and there is a valley to escape from."""
    least, ridge = self.escapes * (1 - 1e-9), measure.height('tilted')
    every = [(size, rate) for size in self.batch_sizes for rate in self.learning_rates]
    return [arm for arm in every if self.expected(*arm) >= least and self.temperature(*arm) <= ridge]


class Escape(study.Config):
  """N3: the symmetric double well."""

  num_seeds: Runs
  num_examples: study.Count
  batch_sizes: Sizes
  barriers: study.Rising
  learning_rate: study.Positive
  horizon: AtLeastOne


class Noise(study.Config):
  """N4: noise added to full batch."""

  num_seeds: Runs
  num_tuning_seeds: Runs
  updates: study.Count
  learning_rates: study.Rising
  levels: Levels


class Dose(Noise):
  """... on a landscape."""

  dim: study.Count


class DoseNetwork(Noise):
  """... on a network."""

  hidden: study.Count
  num_examples: study.Count


class Trap(study.Config):
  """N2: the network, single examples against mini-batches at one rate."""

  batch_size: AtLeastTwo
  learning_rates: study.Rising
  num_tuning_seeds: Runs
  epochs: study.Count
  return_epochs: study.Count


class Widths(study.Config):
  """N5, N6, N7: networks of one hidden layer."""

  hidden: Sizes
  learning_rates: study.Rising
  batch_size: study.Count
  epochs: study.Count
  pairs: AtLeastTwo
  points: Annotated[study.Count, pydantic.Field(ge=3)]


class Settings(study.Config):
  """The configuration; configs/minima.py has what the numbers are."""

  dataset: Literal['digits', 'mnist']
  seeds: study.Seeds
  hidden_of_trap: study.Count
  members: AtLeastTwo
  ensemble_width: study.Count
  valleys: Valleys
  escape: Escape
  dose: Dose
  dose_network: DoseNetwork
  trap: Trap
  widths: Widths

  @pydantic.model_validator(mode='after')
  def _possible(self) -> 'Settings':
    most, half, own = measure.IMAGES[self.dataset], self.seeds.count // 2, self.escape
    batch, few = max(self.trap.batch_size, self.widths.batch_size), self.dose_network.num_examples
    for holds, words in (
      (self.dose.levels[0] + self.dose_network.levels[0] == 0, 'levels should start with 0, no noise'),
      (own.num_seeds <= self.streams, f'escape.num_seeds should be at most {self.streams}'),
      (max(own.batch_sizes) < own.num_examples, 'escape.batch_sizes should be below escape.num_examples'),
      (batch <= most, f'batch_size should be at most {most}'),
      (few <= most // 2, f'dose_network.num_examples should be at most {most // 2}; others are for tuning'),
      (self.widths.pairs <= half, f'widths.pairs should be at most {half}, half of seeds.count'),
      (self.members <= half, f'members should be at most {half}, half of seeds.count'),
      (self.ensemble_width in self.widths.hidden, 'ensemble_width should be one of widths.hidden'),
    ):
      if not holds:
        raise ValueError(words)
    return self

  def ids(self, count: int, tuning: bool = False) -> list[int]:
    """The first so many seeds of this set, or of its tuning seeds."""
    first = self.seeds.for_tuning[0] if tuning else self.seeds.first
    return list(range(first, first + count))

  @property
  def streams(self) -> int:
    """Between the random streams of one temperature and batch size of N3 and the next, so that none is used twice."""
    return APART // (2 + len(self.escape.barriers) * len(self.escape.batch_sizes))

  @property
  def doses(self) -> dict[str, Noise]:
    """Where noise is added."""
    return {'landscape': self.dose, 'network': self.dose_network}


minima = study.Study(
  Settings,
  title='Local minima: getting in, getting out, and how much they differ',
  question='Is gradient descent caught by the first valley it falls into? Textbooks say that full batch is, that the '
  'noise of small batches shakes it out of shallow valleys, that too much of it does harm, and that in wide networks '
  'all this matters little because their minima are much alike.',
  module='experiments.minima',
  view=effects.View,
)
minima.cell(once=True, alone=True)(measure.clock)
minima.cell(over=lambda config: list(measure.STARTS))(measure.leave)
minima.cell(over=lambda config: config.escape.batch_sizes)(measure.escape)
minima.cell(over=lambda config: list(config.doses))(measure.dose_tuning)
minima.cell('dose_tuning_{}', over=lambda config: list(config.doses))(measure.dose)
minima.cell()(measure.trap_tuning)
minima.cell('trap_tuning', over=lambda config: measure.ARMS)(measure.trap)
minima.cell(over=lambda config: config.widths.hidden)(measure.width_tuning)
minima.cell('width_tuning_{}', over=lambda config: config.widths.hidden)(measure.width)
minima.cell('width_{}', over=lambda config: config.widths.hidden)(measure.lines)
minima.cell('width_{}', over=lambda config: config.widths.hidden)(measure.ensembles)


def at_levels(view: effects.View) -> str:
  """The levels of noise that tuning chose."""
  return '; '.join(
    f'{where}, {schedule}: {study.at_an_end(view.best_level(where, schedule), options.levels)}'
    for where, options in view.config.doses.items()
    for schedule in measure.SCHEDULES
  )


NETWORKS = (
  '{config.dataset}, one hidden layer of {config.widths.hidden} units; momentum 0.9, B={config.widths.batch_size}, '
  '{config.widths.epochs} epochs, rate falling to 0 from the best on tuning seeds; one data order, only initial '
  'parameters differ'
)
SLOPES = f'{NETWORKS}; slopes are those of a straight line through all widths, which need not be a power law'
QUARTER, MOST, SHRINKS = greater_than(0.25), greater_than(0.5), less_than(-0.25)
HALF_POINT = 0.005  # of accuracy
RIPPLE = 1.0  # the height between neighbouring minima of the Rastrigin function's lowest coordinate
# Both are asked: a number that falls only as fast as the loss does has not become less of it.
YARDSTICKS = {False: '', True: ', over the mean loss'}

# Three mean escape times are the least whole number at which an exponential law has 95 % leave.
N1 = minima.claim(
  'N1',
  'Full-batch descent stays in the valley it starts in; the noise of small batches gets out of shallow ones.',
  under='tilted double well, {config.valleys.num_examples} examples drawn with replacement, whose noise makes '
  'B={config.valleys.mini_batch} at rate {config.valleys.learning_rate:g} escape {config.valleys.escapes:g} times in '
  "{config.valleys.updates} updates by Kramers' formula; asked of the batch sizes and rates where it expects as many "
  'or more and T is at most the ridge: {config.valleys.graded}',
)
FROM = 'that left the shallow valley'
N1(f'share of full-batch runs {FROM}, at any rate', less_than(0.05))(effects.full_batch_left)
said = f"share {FROM} at the batch size and rate where it is least, of those that Kramers' formula has leave"
N1(said, MOST)(effects.least_left)
said = f'share of mini-batch runs {FROM} minus that of the deep one'
N1(said, QUARTER, more=('poor', 'mini'), less=('good', 'mini'))(effects.left_gain)

# The second landscape is made to suit the claim: what falls into a flat valley is held for longer.
THROWN = (
  'double well as in N1; reshuffled examples on a sharp good valley beside a flat poor one (curvatures 25 and 1); '
  'judged {config.valleys.patience:g} times the median time in after the fall; {config.dataset}, '
  '{config.hidden_of_trap} hidden units, the rate that is best for B={config.trap.batch_size}: '
)
N2 = minima.claim(
  'N2',
  'Single-example noise also throws descent into poor valleys it cannot leave.',
  under=lambda view: THROWN + study.at_an_end(view.rate('trap_single'), view.config.trap.learning_rates),
)
VALLEYS = {'good': 'double well', 'sharp': 'sharp beside flat'}
for name, on in VALLEYS.items():
  said = f'{on}: share thrown into the poor valley, single minus mini'
  N2(said, QUARTER, more=(name, 'single'), less=(name, 'mini'))(effects.left_gain)
N2('network: share in a poor place, single minus mini', QUARTER)(effects.trapped_gain)
for lower, at in {False: '', True: ', at the lower rate'}.items():
  for name, on in VALLEYS.items():
    said = f'{on}: share of those thrown in that had not come back{at}'
    N2(said, MOST, name=name, lower=lower)(effects.stay)
N2('network: share of those in a poor place that never came out', MOST)(effects.trapped_stay)

# Chance alone exceeds 3.5 standard errors in 0.4 % of studies. Kramers' formula is asymptotic: at T = dU/6 the exact
# rate is 0.92 of it, at dU/3 0.84, and the exact slope 0.97 of -dU, which the tolerances allow for.
N3 = minima.claim(
  'N3',
  'The escape rate over a barrier dU at noise temperature T follows exp(-dU/T) (Kramers), with T proportional '
  'to lr/B.',
  under='symmetric double well, {config.escape.num_examples} examples drawn with replacement, ridge over temperature '
  '{config.escape.barriers}, B={config.escape.batch_sizes} with rates in proportion',
)
N3('slope of log rate in 1/T over -dU', within(0.85, 1.15))(effects.arrhenius_slope)
said = "rate over Kramers' formula at the lowest temperature"
N3(said, within(0.75, 1.25), reference='kramers', lowest=True)(effects.rate_ratio)
said = 'rate over the exact rate of the chain, all temperatures and batch sizes'
N3(said, within(0.9, 1.1), reference='chain')(effects.rate_ratio)
said = 'largest deviation from the exact rate of the chain in standard errors'
N3(said, less_than(3.5))(effects.worst_deviation)
N3('rate of the largest over the smallest batch at equal lr/B', within(0.8, 1.25))(effects.batch_size_ratio)

NOISY = (
  'full batch with Langevin noise: Rastrigin function in {config.dose.dim} dimensions; {config.dataset}, '
  '{config.dose_network.hidden} hidden units, {config.dose_network.num_examples} images; every level at its best rate '
  'on tuning seeds, a run that failed counted; levels chosen alike: '
)
N4 = minima.claim(
  'N4',
  'Noise added on purpose helps up to a limit, then hurts: there is a best level, and annealing it is better.',
  under=lambda view: NOISY + at_levels(view),
)
GAINS = {
  'no noise minus best constant level': ('zero', 'constant'),
  'most noise minus best constant level': ('most', 'constant'),
  'best constant level minus best annealed level': ('best', 'annealed'),
}
for where, what, least in (('landscape', 'final loss', RIPPLE), ('network', 'test error', HALF_POINT)):
  for gain, (worse, better) in GAINS.items():
    part = N4(f'{where}: {what}, {gain}', greater_than(least), where=where, worse=worse, better=better)
    part(effects.dose_gain)

N5 = minima.claim(
  'N5',
  'In wide networks most minima found are about equally good: the spread of final loss over initialisations '
  'shrinks with width.',
  under=SLOPES,
)
for variable, what in {'train_loss': 'training loss', 'test_error': 'test error'}.items():
  for relative, yardstick in YARDSTICKS.items():
    said = f'log-log slope in width of the spread of the {what}{yardstick}'
    N5(said, SHRINKS, variable=variable, relative=relative)(effects.spread_slope)
said = 'spread of the training loss at the largest width, over the mean loss'
N5(said, less_than(0.2), variable='train_loss', relative=True)(effects.widest_spread)
said = 'spread of the test error at the largest width'
N5(said, less_than(HALF_POINT), variable='test_error', relative=False)(effects.widest_spread)

# A barrier exists if it exceeds the loss of its ends, and 5 % of the loss of guessing.
N6 = minima.claim(
  'N6',
  'Different initialisations end in different minima: the loss barrier on the line between them is > 0 (and '
  'shrinks with width).',
  under=f'{SLOPES}; {{config.widths.pairs}} pairs that share no network, {{config.widths.points}} points on a line',
)
ORDERS = {'as they are': 'networks as they are', 'aligned': 'units aligned'}
EXISTS = {False: greater_than(round(0.05 * math.log(measure.NUM_CLASSES), 3)), True: greater_than(1.0)}
for what, effect in {
  'barrier at the width where it is least': effects.least_barrier,
  'log-log slope in width of the barrier': effects.barrier_slope,
}.items():
  for order, which in ORDERS.items():
    for relative, yardstick in YARDSTICKS.items():
      rule = EXISTS[relative] if effect is effects.least_barrier else SHRINKS
      N6(f'{what}, {which}{yardstick}', rule, order=order, relative=relative)(effect)

# 5 % is the least that as many times the cost as there are members would be paid for.
N7 = minima.claim(
  'N7',
  'An ensemble of such runs beats its average member.',
  under=f'{NETWORKS}; ensembles of {{config.members}} of width {{config.ensemble_width}}, none shares a network',
)
for score, what in {'error': 'test error', 'nll': 'negative log-likelihood'}.items():
  N7(f"{what} of the ensemble over its members' mean", less_than(0.95), score=score)(effects.ensemble_ratio)
