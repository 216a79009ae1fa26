"""The order of examples: the configuration, and O1-O6 and O1a with their rules, written before the graded runs.

Thresholds are the smallest effects that matter: 10 % on a loss and on a variance; a factor of 2 on the swing of a loss
within an epoch; a factor of 1.25 on an error. Slopes that are to be told apart differ by 1: a quarter on either side.
Where there is an exact value the ratio to it is held to 5 %, which is 3 or more standard errors of these samples.
'Linear' is that the second half of the fall is as steep as the first within a quarter; 'stalls' that SGD's error is a
million times that of the others at the same rate. Pilots: docs/studies/order.md.
"""

from typing import Annotated, Literal

import pydantic

from experiments.order import effects
from experiments.order.effects import BENCHES, BUFFERS
from gdlab import study
from gdlab.claims import greater_than, less_than, premise, within
from gdlab.study.schema import APART, Widths, check_rules

SHUFFLED = ('reshuffled', 'shuffled once', 'blocks of 25 %', 'paired reversal')
FLOORS = ('with replacement', 'importance', *SHUFFLED, 'sequential', 'sorted', 'buffer of 50 %', 'GraB')
EIGHTHS = 'blocks of 12.5 %'
QUADRATIC = ('with replacement', 'reshuffled', 'paired reversal')
CONSTRUCTED = ('with replacement', 'reshuffled', 'biased', 'shuffled once', 'sorted')
REDUCED = ('SGD', 'SVRG', 'SAGA')
LIE = {'drawn': 'data in random order', 'alternating': 'classes in turn', 'sorted': 'data sorted by class'}
DIGITS, MNIST = 1437, 60_000  # training images
Several = Annotated[int, pydantic.Field(ge=2, le=APART)]
Even = Annotated[int, pydantic.Field(ge=2, le=1024, multiple_of=2)]
Evens = Annotated[tuple[Even, ...], pydantic.Field(min_length=3, max_length=3)]
Three = Annotated[study.Sizes, pydantic.Field(min_length=3, max_length=3)]


class _Convex(study.Config):
  components: Annotated[int, pydantic.Field(ge=1, le=64)]
  l2: study.Positive


class _Floors(study.Config):
  quadratic_orders: study.Count
  num_examples: Even
  multiples: study.Rising
  rates: study.Rising
  settle: study.Positive
  average: study.Positive
  num_orders: study.Count


class _Grid(study.Config):
  sizes: Annotated[Evens, pydantic.AfterValidator(study.ascending)]
  at_epochs: study.Count
  epochs: Three
  at_size: Even


class _Published(study.Config):
  equal: _Grid
  biased: _Grid
  constant: study.Positive
  num_orders: Several


class _Reduced(study.Config):
  num_examples: Even
  multiples: study.Rising
  passes: Annotated[int, pydantic.Field(ge=8, le=APART)]
  num_orders: study.Count


class _Pairs(study.Config):
  num_examples: Annotated[int, pydantic.Field(ge=3, le=6)]
  num_digits: Even
  rates: study.Rising
  num_orders: Several


class _Blocks(study.Config):
  num_examples: Annotated[int, pydantic.Field(ge=16, le=1024, multiple_of=8)]
  multiple: study.Positive
  num_draws: study.Count
  num_orders: Several


class _Images(study.Config):
  train: Annotated[int, pydantic.Field(ge=20, le=MNIST)]
  held_out: study.Count
  batch_size: study.Count
  epochs: Annotated[int, pydantic.Field(ge=2, le=1000)]
  looks: Annotated[int, pydantic.Field(ge=2, le=100)]
  rates: study.Tried
  num_seeds: Several

  @property
  def images(self) -> int:
    """How many there are."""
    return self.train + self.held_out


class _Perceptron(_Images):
  hidden: Widths
  single_rates: study.Tried
  single_epochs: Annotated[int, pydantic.Field(ge=2, le=1000)]


class _CNN(_Images):
  dataset: Literal['digits', 'mnist']


class _Importance(study.Config):
  batch_size: study.Count
  learning_rate: study.Positive
  mixing: study.Share
  epochs: Annotated[study.Sizes, pydantic.Field(min_length=2)]
  num_seeds: Several


class Settings(study.Config):
  """Default values are in configs/order.py."""

  seeds: study.Seeds
  convex: _Convex  # logistic regression: is a digit above 4?
  floors: _Floors  # O2, O3
  published: _Published  # O3: the orders in n and k
  reduced: _Reduced  # O5
  pairs: _Pairs  # O6
  blocks: _Blocks  # O6
  perceptron: _Perceptron  # O1-O3, on digits
  cnn: _CNN  # O1, O1a
  importance: _Importance  # O4

  @pydantic.model_validator(mode='after')
  def _fits(self) -> 'Settings':
    most, cnn, own = self.seeds.count, self.cnn, self.perceptron
    small = MNIST if cnn.dataset == 'mnist' else DIGITS
    parts = {'perceptron': own.num_seeds, 'cnn': cnn.num_seeds, 'importance': self.importance.num_seeds}
    check_rules(
      {
        f'perceptron.train and perceptron.held_out should be at most {DIGITS} together': own.images <= DIGITS,
        f'cnn.train and cnn.held_out should be at most {small} together': cnn.images <= small,
        'perceptron.batch_size should divide perceptron.train': own.train % own.batch_size == 0,
        'cnn.batch_size should divide cnn.train': cnn.train % cnn.batch_size == 0,
        'importance.batch_size should be at most perceptron.train': self.importance.batch_size <= own.train,
        'floors.rates should be below 1, where descent does not overshoot': max(self.floors.rates) < 1,
      }
      | {f'{name}.num_seeds should be at most {most}': number <= most for name, number in parts.items()}
    )
    return self


def _rates(view: effects.View) -> str:
  """Conditions of the claims on networks: which tuned rates are ends of those tried; the page has a table of all."""
  pairs = [(bench, arm) for bench, arms in BENCHES.items() for arm in arms if 'end' in view.rate(bench, arm)]
  ends = [f'{view.words(bench)}, {arm}, {view.rate(bench, arm).split()[0]}' for bench, arm in pairs]
  return (
    'perceptron with hidden widths {config.perceptron.hidden} on {config.perceptron.train} digits, and a network of '
    'two convolutions on {config.cnn.train} images of {config.cnn.dataset}, drawn for each seed; loss: training loss, '
    'mean over the last epoch; each order at its own rate, tuned on {config.seeds.tuning} other seeds; at an end of '
    'those tried: ' + ('; '.join(ends) or 'none')
  )


def _convex(words: str) -> str:
  return (
    'logistic regression with l2 {config.convex.l2} on {config.convex.components} principal components of digits '
    'drawn for each seed, float64, one example at a time; ' + words
  )


_slope = lambda order: within(order - 0.25, order + 0.25)
MORE, NEAR = greater_than(1.1, none=1), within(0.95, 1.05)
order = study.Study(
  Settings,
  title='The order of examples: sorted, shuffled, drawn, balanced',
  question='Gradient descent on parts of the data has to see them in some order. Teachers say: shuffle. How much does '
  'it matter, what do imperfect shuffles cost, which orders beat a fresh shuffle, and what ends the noise altogether?',
  module='experiments.order',
  view=effects.View,
)

NETWORKS = {'single': 'perceptron, B=1', 'mini': 'perceptron, mini-batch', 'cnn': 'convolutions'}

O1 = order.claim(
  'O1',
  'Data sorted by class make single-example and mini-batch descent oscillate or stall; shuffling each epoch cures it.',
  under=_rates,
)
SWING = 'swing of the loss within the last epoch'
for bench, words in NETWORKS.items():
  told = f'{words}: {SWING}, sorted over reshuffled'
  O1(told, greater_than(2, none=1), bench=bench, arm='sorted', what='swing')(effects.cost)
  O1(f'{words}: loss, sorted over reshuffled', MORE, bench=bench, arm='sorted')(effects.cost)
  told = f'{words}: loss, sorted data reshuffled over data in one random order'
  O1(told, less_than(1.1), bench=bench, arm='reshuffled', base='unsorted')(effects.cost)
  told = f'control: {words}: {SWING}, one random order over reshuffled'
  O1(told, premise(less_than(2)), bench=bench, arm='unsorted', what='swing')(effects.cost)

O1A = order.claim(
  'O1a',
  'Shuffling sorted data through a buffer of 1, 10 or 50 % of them (tf.data), or by blocks of 5 % of them, costs loss.',
  under=_rates,
)
for bench, words in NETWORKS.items():
  for share in BUFFERS:
    told = f'{words}: loss, buffer of {share} % over reshuffled'
    O1A(told, MORE, bench=bench, arm=f'buffer of {share} %')(effects.cost)
for bench in ('single', 'mini'):
  told = f'{NETWORKS[bench]}: loss, blocks over reshuffled'
  O1A(told, MORE, bench=bench, arm='blocks of 5 %')(effects.cost)

FLOOR = _convex(
  '{config.floors.num_examples} digits, rates {config.floors.multiples} over L; quadratic: noise that does not depend '
  'on x, rates {config.floors.rates} over its curvature; floor: mean |x - x*|^2 at the ends of epochs'
)
O2 = order.claim(
  'O2',
  'Reshuffling every epoch beats drawing with replacement: its error floor scales with lr² against lr.',
  under=lambda view: f'{FLOOR}; {_rates(view)}',
)
for name, slope in {'with replacement': 1, 'reshuffled': 2}.items():
  told = f'logistic regression: log-log slope of the floor in the rate, {name}'
  O2(told, _slope(slope), cell='logistic_floors', name=name)(effects.floor_slope)
for place, which in {0: 'smallest', -1: 'largest'}.items():
  told = f'logistic regression: floor reshuffled over with replacement, {which} rate'
  pair = {'name': 'reshuffled', 'base': 'with replacement'}
  O2(told, less_than(0.8, none=1), place=place, **pair)(effects.floor_ratio)
told = 'quadratic, where theory has a slope of 3: that of the floor, reshuffled'
O2(told, _slope(3), cell='quadratic_floors', name='reshuffled')(effects.floor_slope)
for name in ('with replacement', 'reshuffled'):
  told = f'quadratic: floor over its exact value, {name}'
  O2(told, NEAR, cell='quadratic_floors', name=name)(effects.over_exact)
for bench in ('single', 'mini'):
  told = f'{NETWORKS[bench]}: loss, with replacement over reshuffled'
  O2(told, MORE, bench=bench, arm='with replacement')(effects.cost)

O3 = order.claim(
  'O3',
  'Shuffling once is about as good as reshuffling; sequential (incremental) order is worst in the worst case.',
  under=lambda view: (
    f'{FLOOR}; orders of n and k: E x^2 after k epochs over n examples in one variable, from the minimum on, at the '
    f'rate c/(lambda n k), c = {{config.published.constant}}, so without the start and its logarithms, n and k as in '
    f'{{config.published.equal}}, where curvatures differ {{config.published.biased}}; {_rates(view)}'
  ),
)
for bench in ('single', 'mini'):
  told = f'{NETWORKS[bench]}: loss, shuffled once over reshuffled'
  O3(told, less_than(1.1), bench=bench, arm='shuffled once')(effects.cost)
told = 'logistic regression: floor shuffled once over reshuffled, smallest rate'
O3(told, less_than(1.25), name='shuffled once', base='reshuffled', place=0)(effects.floor_ratio)
ORDERS = {'with replacement': (-1, -1), 'reshuffled': (-1, -3), 'biased': (-2, -2)}  # in n and in k
ORDERS |= {'shuffled once': (-1, -2), 'sorted': (0, -2)}
CASES = {'biased': 'reshuffled, curvatures that differ', 'sorted': 'sequential, sorted'}
for name, slopes in ORDERS.items():
  for variable, slope in zip(('n', 'k'), slopes, strict=True):
    told = f'log-log slope of the error in {variable}, {CASES.get(name, name)}: {slope} by theory'
    O3(told, _slope(slope), name=name, variable=variable)(effects.published_slope)
for name in ORDERS:
  if name != 'biased':
    told = f'error over its exact value, {CASES.get(name, name)}'
    O3(told, NEAR, cell='published', name=name)(effects.over_exact)
for base in ('shuffled once', 'reshuffled', 'with replacement'):
  told = f'worst case: error, sequential over {base}, most examples'
  O3(told, greater_than(1.25, none=1), base=base)(effects.worst_case)

O4 = order.claim(
  'O4',
  'Drawing examples in proportion to gradient norm, with unbiased weights, lowers the variance for the same B.',
  under='perceptron with hidden widths {config.perceptron.hidden} on {config.perceptron.train} digits drawn for each '
  'seed, B = {config.importance.batch_size}, rate {config.importance.learning_rate}, at the start and after '
  '{config.importance.epochs} epochs; learned: probabilities follow the norm last seen, {config.importance.mixing} of '
  'them uniform',
)
for place, when in {0: 'at the start', 1: 'early', -1: 'at the end'}.items():
  told = f'variance in proportion to the norms over uniform, {when}'
  O4(told, less_than(0.9, none=1), name='optimal', place=place)(effects.variance_ratio)
for place, when in {1: 'early', -1: 'at the end'}.items():
  told = f'variance with learned probabilities over uniform, {when}'
  O4(told, less_than(0.9, none=1), name='learned', place=place)(effects.variance_ratio)
for place, when in {0: 'at the start', -1: 'at the end'}.items():
  told = f'variance of drawn batches over the formula, {when}'
  O4(told, NEAR, name='drawn', place=place, base='optimal')(effects.variance_ratio)

O5 = order.claim(
  'O5',
  'Variance-reduced estimates (SVRG, SAGA) converge linearly at a constant learning rate where plain SGD stalls at a '
  'floor.',
  under=_convex(
    '{config.reduced.num_examples} digits with replacement, rates {config.reduced.multiples} over L, '
    '{config.reduced.passes} passes from 0 on'
  ),
)
for name in ('SVRG', 'SAGA'):
  told = f'{name}: fall of the log error per pass, second half over first'
  O5(told, within(0.75, 1.25), name=name)(effects.straightness)
  told = f'error at the end, {name} over SGD, largest ratio over rates'
  O5(told, less_than(1e-6), name=name)(effects.end_ratio)
told = 'SAGA at 1/(3L): fall of the log error per pass over what theory guarantees'
O5(told, greater_than(1))(effects.over_guarantee)
told = 'control: SGD: error in the last eighth of the passes over that in the eighth before'
O5(told, premise(within(0.8, 1.25)))(effects.still_falls)

O6 = order.claim(
  'O6',
  'An order followed by its own reverse (paired reversal) takes the dependence on the order from rate² to rate³; '
  'reshuffling blocks lowers the variance between orders without reading the data at random.',
  under=_convex(
    'pairs of epochs on {config.pairs.num_digits} digits, and least squares on {config.pairs.num_examples} points, '
    'rates {config.pairs.rates} over L; blocks: an eighth of {config.blocks.num_examples} digits each, one epoch from '
    'the minimum at {config.blocks.multiple}/L'
  ),
)
for variable, words in {'variance': 'least squares', 'logistic': 'logistic regression'}.items():
  for name, slope in {'reshuffled': 2, 'paired reversal': 3}.items():
    told = f'{words}: log-log slope in the rate of the deviation between orders, {name}: {slope} by theory'
    O6(told, _slope(slope), variable=variable, name=name)(effects.deviation_slope)
for name in ('reshuffled', 'paired reversal'):
  told = f'least squares: variance over that of all orders, {name}'
  O6(told, NEAR, cell='pairs', name=name)(effects.over_exact)
told = 'quadratic: log-log slope of the floor in the rate, paired reversal: 5 where it is 3 reshuffled'
O6(told, _slope(5), cell='quadratic_floors', name='paired reversal')(effects.floor_slope)
told = 'quadratic: floor over its exact value, paired reversal'
O6(told, NEAR, cell='quadratic_floors', name='paired reversal')(effects.over_exact)
for layout, words in LIE.items():
  told = f'{words}: variance between orders, blocks over reshuffled'
  O6(told, less_than(0.9, none=1), layout=layout)(effects.block_ratio)
