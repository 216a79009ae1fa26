"""The study of minima: its configuration, what it measures, and the claims N1-N7 with their rules.

Rules are of before the runs; docs/studies/minima.md has why they are as they are, and the power that seeds give.
Thresholds are the smallest effects that matter: a quarter of the runs where shares are compared and half of them where
most are meant; 5 % of the runs for 'stays' on a landscape; a ripple of it and half a point of accuracy for added noise;
5 % of an error. Whatever is said to shrink with width has to halve over a sixteenfold width.
"""

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic

from experiments.minima import effects, measure, networks
from gdlab import study, theory
from gdlab.claims import Rule, greater_than, less_than, within
from gdlab.study.schema import APART, Width, check_rules

Runs = Annotated[int, pydantic.Field(ge=2, le=APART)]
Several = pydantic.Field(min_length=2)
Sizes = Annotated[study.Sizes, Several]
Levels = Annotated[
  tuple[study.NotNegative, ...], pydantic.Field(min_length=3), pydantic.AfterValidator(study.ascending)
]
AtLeastOne = Annotated[study.Positive, pydantic.Field(ge=1)]
AtLeastTwo = Annotated[study.Count, pydantic.Field(ge=2)]
Points = Annotated[int, pydantic.Field(ge=3, le=10_000)]


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
    check_rules(
      {
        'batch_sizes should hold 1 and mini_batch, above 1': 1 in sizes and self.mini_batch in sizes[1:],
        'batch_sizes should be below num_examples': max(sizes) < self.num_examples,
        'learning_rate should be one of learning_rates': self.learning_rate in rates,
        'lower_rate should be one of learning_rates': self.lower_rate in rates,
        'lower_rate should be below learning_rate': self.lower_rate < self.learning_rate,
        f'escapes should be below {most:.6g}': self.escapes < most,
      }
    )
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
  learning_rate: study.Positive
  levels: Levels


class Dose(Noise):
  """... on a landscape."""

  dim: Annotated[int, pydantic.Field(ge=1, le=1000)]


class DoseNetwork(Noise):
  """... on a network."""

  hidden: Width
  num_examples: study.Count


class Fork(study.Config):
  """N1 and N2: one network from which full batch, mini-batches and single examples go on."""

  hidden: Width
  images: study.Count
  batch_size: AtLeastTwo
  learning_rates: study.Rising
  tuning_epochs: study.Count
  num_seeds: Runs
  num_tuning_seeds: Runs
  early: study.Count
  late: study.Count
  updates: study.Count
  settle: study.Count
  points: Points


class Widths(study.Config):
  """N5, N6, N7: networks of one hidden layer."""

  hidden: Annotated[tuple[Width, ...], Several, pydantic.AfterValidator(study.ascending)]
  images: study.Count
  learning_rates: study.Rising
  batch_size: study.Count
  epochs: study.Count
  points: Points


class Settings(study.Config):
  """The configuration; configs/minima.py has what the numbers are."""

  dataset: Literal['digits', 'mnist']
  seeds: study.Seeds
  members: Annotated[int, pydantic.Field(ge=2, le=100, multiple_of=2)]
  ensembles: Runs
  ensemble_widths: study.Sizes
  valleys: Valleys
  escape: Escape
  dose: Dose
  dose_network: DoseNetwork
  fork: Fork
  widths: Widths

  @pydantic.model_validator(mode='after')
  def _possible(self) -> 'Settings':
    own, apart = self.escape, APART // self.members
    most = networks.IMAGES[self.dataset] - networks.HELD_OUT  # others are for the test
    check_rules(
      {
        'dose.levels should start with 0, no noise': self.dose.levels[0] == 0,
        'dose_network.levels should start with 0, no noise': self.dose_network.levels[0] == 0,
        f'escape.num_seeds should be at most {self.streams}': own.num_seeds <= self.streams,
        'escape.batch_sizes should be below escape.num_examples': max(own.batch_sizes) < own.num_examples,
        'widths.batch_size should be at most widths.images': self.widths.batch_size <= self.widths.images,
        'fork.batch_size should be at most fork.images': self.fork.batch_size <= self.fork.images,
        f'widths.images should be at most {most}': self.widths.images <= most,
        f'fork.images should be at most {most}': self.fork.images <= most,
        f'dose_network.num_examples should be at most {most // 2}': self.dose_network.num_examples
        <= most // 2,
        'fork.early should be below fork.late': self.fork.early < self.fork.late,
        f'ensembles should be at least seeds.count, {self.seeds.count}': self.seeds.count <= self.ensembles,
        f'ensembles should be at most {apart} for so many members': self.ensembles <= apart,
        'seeds.tuning should be at least 2': self.seeds.tuning >= 2,
        'ensemble_widths should be among widths.hidden': {*self.ensemble_widths} <= {*self.widths.hidden},
      }
    )
    return self

  def ids(self, count: int, tuning: bool = False) -> list[int]:
    """The first so many seeds of this set, or of its tuning seeds."""
    first = self.seeds.for_tuning[0] if tuning else self.seeds.first
    return list(range(first, first + count))

  def inits(self, seed: int) -> list[int]:
    """The initialisations of the networks that share the data of a seed; no two groups share one."""
    return [seed + place * (APART // self.members) for place in range(self.members)]

  def draws(self, width: int) -> int:
    """How many draws of the data networks of a width are trained on."""
    return self.ensembles if width in self.ensemble_widths else self.seeds.count

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


def on_digits(config: Settings) -> bool:
  """Whether N1-N3 are asked: they are of landscapes and of forks of a network that is small enough for full batch."""
  return config.dataset == 'digits'


minima.cell(over=lambda config: list(measure.STARTS), when=on_digits)(measure.leave)
minima.cell(over=lambda config: config.escape.batch_sizes, when=on_digits)(measure.escape)
minima.cell(when=on_digits)(networks.fork_tuning)
minima.cell('fork_tuning', when=on_digits)(networks.fork)
minima.cell(over=lambda config: list(config.doses))(networks.dose_tuning)
minima.cell(over=lambda config: list(config.doses))(networks.dose)
minima.cell()(networks.width_tuning)
minima.cell('width_tuning', over=lambda config: config.widths.hidden)(networks.width)

# Where an effect can be none at all, there is a margin around none, too.
QUARTER, MOST, SHRINKS = greater_than(0.25, none=0), greater_than(0.5), less_than(-0.25, none=0)
RIPPLE = 1.0  # the height between neighbouring minima of the Rastrigin function's lowest coordinate
HALF_POINT = 0.005  # of accuracy
# What is graded one by one; of others a configuration may have, the page tells. What was not measured is inconclusive.
WIDTHS, BARRIERS, ENSEMBLES = (4, 8, 16, 32, 64, 128), (3.0, 4.0, 5.0, 6.0), (32, 64)
FORKS = {'early': 'forked early', 'late': 'forked late'}

DOUBLE_WELL = (
  'tilted double well, {config.valleys.num_examples} examples drawn with replacement, whose noise makes '
  'B={config.valleys.mini_batch} at rate {config.valleys.learning_rate:g} escape {config.valleys.escapes:g} times in '
  "{config.valleys.updates} updates by Kramers' formula; asked where it expects as many or more and T is at most the "
  'ridge, (batch size, rate): {config.valleys.graded}'
)
# The second landscape is made to suit N2: what falls into a flat valley is held for longer.
BOTH = (
  'double well as in N1; reshuffled examples on a sharp good valley beside a flat poor one (curvatures 25 and 1); '
  'judged {config.valleys.patience:g} times the median time in after the fall'
)

N1 = minima.claim(
  'N1',
  'Full-batch descent stays in the valley it starts in; the noise of small batches gets out of shallow ones.',
  under=functools.partial(effects.under_forks, landscapes=DOUBLE_WELL),
  when=on_digits,
)
# Three mean escape times are the least whole number at which an exponential law has 95 % leave.
FROM = 'that left the shallow valley'
N1(f'landscape: share of full-batch runs {FROM}, at any rate', less_than(0.05))(effects.full_batch_left)
said = f"landscape: share {FROM} at the batch size and rate where it is least, of those that Kramers' formula has leave"
N1(said, MOST)(effects.least_left)
said = f'landscape: share of mini-batch runs {FROM} minus that of the deep one'
N1(said, QUARTER, more=('poor', 'mini'), less=('good', 'mini'))(effects.left_gain)
# Full batch from a point beside the fork is the control: a network may be chaotic without any noise.
for fork, at in FORKS.items():
  said = f'network {at}: share with a barrier between the fork and the end of full batch'
  N1(said, less_than(0.25), fork=fork, arm='start')(effects.crossed_share)
  for arm, noise in {'mini': 'mini-batches', 'single': 'single examples'}.items():
    said = f'network {at}: share with a barrier to the end of full batch, {noise} minus full batch perturbed'
    N1(said, QUARTER, fork=fork, more=arm, less='perturbed')(effects.crossed_gain)

N2 = minima.claim(
  'N2',
  'Single-example noise also throws descent into poor valleys it cannot leave.',
  under=functools.partial(effects.under_forks, landscapes=BOTH),
  when=on_digits,
)
VALLEYS = {'good': 'double well', 'sharp': 'sharp beside flat'}
for name, on in VALLEYS.items():
  said = f'{on}: share thrown into the poor valley, single minus mini'
  N2(said, QUARTER, more=(name, 'single'), less=(name, 'mini'))(effects.left_gain)
for lower, at in {False: '', True: ', at the lower rate'}.items():
  for name, on in VALLEYS.items():
    said = f'{on}: share of those thrown in that had not come back{at}'
    N2(said, MOST, name=name, lower=lower)(effects.stay)
for fork, at in FORKS.items():
  for arm, rate in {'single': 'each at its own rate', 'hot': 'both at that of mini'}.items():
    said = f'network {at}: share thrown into a poor valley, single minus mini, {rate}'
    N2(said, QUARTER, fork=fork, more=arm, less='mini', poorer=True)(effects.crossed_gain)
  said = (
    f'network {at}: share of those thrown in that were in a poor one after as long again at their own rate'
  )
  N2(said, MOST, fork=fork, arm='cooled', among='hot', poorer=True)(effects.crossed_share)

# Kramers' formula is asymptotic: at T = dU/6 the exact rate is 0.92 of it, at dU/3 0.84, and the exact slope 0.97 of
# -dU, which the tolerances allow for.
N3 = minima.claim(
  'N3',
  'The escape rate over a barrier dU at noise temperature T follows exp(-dU/T) (Kramers), with T proportional '
  'to lr/B.',
  under='symmetric double well, {config.escape.num_examples} examples drawn with replacement, ridge over temperature '
  '{config.escape.barriers}, B={config.escape.batch_sizes} with rates in proportion',
  when=on_digits,
)
N3('slope of log rate in 1/T over -dU', within(0.85, 1.15))(effects.arrhenius_slope)
said = "rate over Kramers' formula at the lowest temperature"
N3(said, within(0.75, 1.25), reference='kramers', barrier=BARRIERS[-1])(effects.rate_ratio)
for barrier in BARRIERS:
  said = f'rate over the exact rate of the chain at T = dU/{barrier:g}'
  N3(said, within(0.85, 1.15), reference='chain', barrier=barrier)(effects.rate_ratio)
N3('rate of the largest over the smallest batch at equal lr/B', within(0.8, 1.25))(effects.batch_size_ratio)

N4 = minima.claim(
  'N4',
  'Noise added on purpose helps up to a limit, then hurts: there is a best level, and annealing it is better.',
  under=effects.under_n4,
)
GAINS = {
  'no noise minus the best level': ('zero', 'best'),
  'the largest level minus the best level': ('most', 'best'),
  'the best level minus the best level annealed': ('best', 'annealed'),
  'the best level minus the same level annealed': ('best', 'best annealed'),
  'the largest level minus the same level annealed': ('most', 'most annealed'),
}
for where, what, least in (('landscape', 'final loss', RIPPLE), ('network', 'test error', HALF_POINT)):
  for gain, (worse, better) in GAINS.items():
    part = N4(
      f'{where}: {what}, {gain}', greater_than(least, none=0), where=where, worse=worse, better=better
    )
    part(effects.dose_gain)

N5 = minima.claim(
  'N5',
  'In wide networks most minima found are about equally good: the spread of final loss over initialisations '
  'shrinks with width.',
  under=effects.under_widths,
)
# Both yardsticks are asked: a number that falls only as fast as the loss does has not become less of it.
YARDSTICKS = {False: '', True: ', over the mean'}
for variable, what in {'loss': 'training loss', 'error': 'test error'}.items():
  for relative, yardstick in YARDSTICKS.items():
    said = f'log-log slope in width of the spread of the {what}{yardstick}'
    N5(said, SHRINKS, variable=variable, relative=relative)(effects.spread_slope)
said = 'spread of the training loss at the largest width, over the mean loss'
N5(said, less_than(0.2), variable='loss', relative=True)(effects.widest_spread)
said = 'spread of the test error at the largest width'
N5(said, less_than(HALF_POINT), variable='error', relative=False)(effects.widest_spread)


def barriers_at(claim: Callable[..., Callable], what: str, least: Rule, **options: Any) -> None:
  """The parts of a claim on the barriers between networks: one for every width, and the slope in width."""
  for width in WIDTHS:
    claim(f'{what} at {width} hidden units', least, width=width, **options)(effects.barrier)
  claim(f'log-log slope in width of the {what}', SHRINKS, **options)(effects.barrier_slope)


N6 = minima.claim(
  'N6',
  'Different initialisations end in different minima: the loss barrier on the line between them is > 0 (and '
  'shrinks with width).',
  under=effects.under_widths,
)
barriers_at(N6, 'barrier', greater_than(effects.MARGIN, none=0), order='barrier')
N6a = minima.claim(
  'N6a',
  'They are different also up to the order of hidden units: with units aligned the barrier is > 0 (and shrinks with '
  'width).',
  under=effects.under_widths,
)
barriers_at(N6a, 'barrier with units aligned', greater_than(effects.MARGIN, none=0), order='aligned')
N6b = minima.claim(
  'N6b',
  'The barrier exceeds the loss of the minima at its ends (and shrinks with width over that loss, too).',
  under=effects.under_widths,
)
barriers_at(N6b, 'barrier over the loss of its ends', greater_than(1.0), order='barrier', relative=True)

# 5 % is the least that as many times the cost as there are members would be paid for. By convexity an ensemble's
# negative log-likelihood is never above that of its average member; by how much it is below is what is asked.
N7 = minima.claim('N7', 'An ensemble of such runs beats its average member.', under=effects.under_widths)
for score, what in {'error': 'test error', 'nll': 'negative log-likelihood'}.items():
  for width in ENSEMBLES:
    said = f"{what} of the ensemble over its members' mean, {width} hidden units"
    N7(said, less_than(0.95, none=1), score=score, width=width)(effects.ensemble_ratio)
