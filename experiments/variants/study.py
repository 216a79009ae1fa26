"""The claims V1-V13 and V10a with their rules.

Rules were written before the runs; docs/studies/variants.md says why they are what they are. Thresholds are the
smallest effects that matter: 5 % on a variance, 10 % on a loss, a roughness, an error or a time, 2 % on the CPU time of
an example, half a point of accuracy, 0.25 on a slope. Identities are held to 1e-10 in float64: 20 steps of sums of N
terms, rounded at 2e-16.
"""

from collections.abc import Callable

import numpy as np

from experiments.variants import effects
from experiments.variants.seen import BUDGETS, DRIFTS, MEASURED, NEIGHBOURS, Seen, Settings, on_digits
from gdlab import study
from gdlab.claims import exact, greater_than, less_than, within

variants = study.Study(
  Settings,
  title='Full batch, single example, mini-batch: {config.dataset}',
  question='Textbooks tell batch, stochastic and mini-batch gradient descent apart by how many examples feed one '
  'update, and say a good deal about what follows from that. Such statements were tested on {config.dataset}: one '
  'update rule, samplers that differ. Every arm tries the same learning rates on {config.seeds.tuning} seeds of its '
  'own and runs at those that are likely to be chosen with the others. Arms are paired by seed, which is by initial '
  'parameters and by the images drawn.',
  conditions='{config.dataset}, plain gradient descent',
  module='experiments.variants',
  view=Seen,
)

NETWORK = 'perceptron with hidden widths {config.hidden}'
DRAWN = f'{NETWORK}; {{config.train}} training images drawn anew for every seed'
FIRST = 'the first {config.population} images'
CONVEX = f'{FIRST}, at most {{config.components}} principal components'


def chosen(view: Seen, question: str, names: tuple[str, ...]) -> str:
  """The rates of variants in words."""
  every, tried = np.arange(view.config.seeds.tuning), view.config.race.learning_rates
  rates = {name: view.chooser(question, name)(every) for name in names}
  return 'rates ' + ', '.join(f'{study.at_an_end(rate, tried)} for {name}' for name, rate in rates.items())


def tuned(question: str, *names: str, words: str) -> Callable[[Seen], str]:
  """Conditions of a claim about variants at the rates that are best at what is asked."""
  return lambda view: f'{DRAWN}; {words}; tuned on other seeds: {chosen(view, question, names)}'


def timed(view: Seen) -> str:
  """Conditions of a claim about seconds."""
  return f'{NETWORK}; seconds in compiled loops of one run; {view.race_clock.processor}'


def raced(view: Seen) -> str:
  """Conditions of V12."""
  data = 'all {config.train} training images drawn for the seed, of digits'
  if view.config.race.whole:
    data = f'all {view.three["full"]:,} training images; rates tuned on {{config.train}} of them'
  return f'{timed(view)}; {data}; {chosen(view, "accuracy", ("mini", "full"))}'


def traded(view: Seen) -> str:
  """Conditions of V9: the times, the budgets, and what was chosen."""
  costs, told = view.costs().sel(model=MEASURED), []
  for budget in BUDGETS:
    arms = ' against '.join(
      f'B={size} at {study.at_an_end(rate, view.config.trade.learning_rates)}'
      for size, rate in next(iter(view.pairs(budget)))
    )
    told.append(f'{budget} {view.seconds(budget):.3g} s: {arms}')
  times = ', '.join(f'{float(cost) * 1e6:.3g} for B={int(cost.batch_size)}' for cost in costs)
  return (
    f'{DRAWN}, {{config.trade.num_seeds}} seeds, tuned on {{config.trade.tuning}} others; '
    f'{view.cell("timing").processor}; microseconds of an update as measured: {times}; ' + '; '.join(told)
  )


def cored(view: Seen) -> str:
  """Conditions of V10 and V10a."""
  return (
    f'{NETWORK}; drawn with replacement, so that no slot is empty; {{config.powers}}; processes on one core each of '
    f'{view.cell("powers").processor}'
  )


def streamed(view: Seen) -> str:
  """Rates and windows that were chosen for V13."""
  every, told = np.arange(view.config.seeds.tuning), []
  for drift in DRIFTS:
    choose = view.stream(drift)[1]
    rate = study.at_an_end(choose['rate'](every), view.config.stream.learning_rates)
    window = study.at_an_end(choose['window'](every), view.config.stream.windows)
    told.append(f'rate {rate} and window {window} at drift {drift}')
  return ', '.join(told)


V1 = variants.claim(
  'V1',
  'The three variants are one update rule; only how many examples feed it differs.',
  under=f'{NETWORK}, {FIRST}, 20 steps in float64',
  when=on_digits,
)
V1('distance of N examples in order from full batch', exact(0), name='one_rule_in_order')(effects.identity)
words = 'relative distance of N shuffled examples from full batch'
V1(words, exact(1e-10), name='one_rule_shuffled')(effects.identity)

V2 = variants.claim(
  'V2',
  'The variance of the gradient estimate falls as 1/B with replacement, and as (1-B/N)*N/(N-1)/B without; '
  'full batch has none.',
  under=f'{NETWORK}, initial parameters, {FIRST}, {{config.noise.num_batches}} batches for each size and seed',
  when=on_digits,
)
for kind, words in {'with': 'with replacement', 'without': 'without'}.items():
  V2(f'variance over law at every B, {words}', within(0.95, 1.05), replacement=kind)(effects.variance_ratio)
V2('variance of full batch over that of one example', exact(1e-6))(effects.full_batch_variance)

V3 = variants.claim(
  'V3',
  'A batch gradient equals the mean of its per-example gradients, and the reduction, mean or sum, rescales '
  'the learning rate.',
  under=f'{NETWORK}, initial parameters, {FIRST}, B={{config.mini_batch}}, float64',
  when=on_digits,
)
words = 'relative distance of mean per-example gradient from batch gradient'
V3(words, exact(1e-10), name='mean_of_gradients')(effects.identity)
words = 'relative distance of gradient of the summed loss over B from batch gradient'
V3(words, exact(1e-10), name='sum_of_losses')(effects.identity)

V4 = variants.claim(
  'V4',
  'One epoch takes ceil(N/B) updates: 1 for full batch, N for single-example, 79 for N=10,000 B=128, 1,000 '
  'for N=32,000 B=32.',
  when=on_digits,
)
V4('miscounted epochs', exact(0))(effects.miscounted)

V5 = variants.claim(
  'V5',
  'Per update, full batch is the slowest and smoothest, single-example the fastest and noisiest; mini-batch '
  'lies between on both.',
  under=lambda view: f'{timed(view)}; {DRAWN}; {{config.smoothness}}',
  when=on_digits,
)
for slow, fast in (('full', 'mini'), ('mini', 'single')):
  V5(f'time per update, {slow} over {fast}', greater_than(1.1, none=1), slow=slow, fast=fast)(
    effects.time_ratio
  )
for rough, smooth in (('mini', 'full'), ('single', 'mini')):
  words = f'roughness of the loss curve, {rough} over {smooth}'
  V5(words, greater_than(1.1, none=1), rough=rough, smooth=smooth)(effects.roughness_ratio)

V6 = variants.claim(
  'V6',
  'Per example seen, small batches reach a given loss sooner than full batch; many small steps beat few large ones.',
  under=tuned('loss', 'single', 'mini', 'full', words='target training loss {config.race.target_loss}'),
  when=on_digits,
)
for small in ('mini', 'single'):
  words = f'examples to target, full over {small}'
  V6(words, greater_than(1.1, none=1), question='loss', clock='examples', small=small)(effects.reached)

# Full batch makes up for its fewer updates if it is not worse by 10 %: no difference supports the claim.
V7 = variants.claim(
  'V7',
  'Full batch with a much larger learning rate makes up for its fewer updates.',
  under=tuned('ended', 'mini', 'full', words='{config.race.epochs} epochs'),
  when=on_digits,
)
words = 'training loss after equal examples, full over mini, each at its best rate'
V7(words, less_than(1.1))(effects.loss_ratio)

V8 = variants.claim(
  'V8',
  'Single-example descent hardly ever converges smoothly at a fixed learning rate: its loss floor grows with '
  'the learning rate.',
  under=f'logistic regression on {CONVEX}; {{config.floor}}',
  when=on_digits,
)
V8('log-log slope of the loss floor in the rate', greater_than(0.25, none=0))(effects.floor_slope)
V8('share of seeds with which late losses go on rising, at every rate', greater_than(0.5))(effects.rough_runs)

V9 = variants.claim(
  'V9', 'Batches of 32-256 are the best trade of wall-clock time against final quality.', under=traded
)
for budget in BUDGETS:
  words = f'accuracy after a {budget} time, best in 32-256 minus best outside'
  V9(words, greater_than(0.005, none=0), budget=budget)(effects.gain)

V10 = variants.claim(
  'V10',
  'Batch sizes that are powers of two run faster than their neighbours (64 against 60).',
  under=cored,
  when=on_digits,
)
for asked in NEIGHBOURS:
  words = f'CPU time per example, {asked} over powers of two'
  V10(words, greater_than(1.02, none=1), asked=asked)(effects.cost)

V10a = variants.claim(
  'V10a',
  'Batch sizes that are powers of two run faster than other multiples of 16 (64 against 48 and 80).',
  under=cored,
  when=on_digits,
)
words = 'CPU time per example, multiples of 16 over the line between powers of two'
V10a(words, greater_than(1.02, none=1), asked='between')(effects.cost)

V11 = variants.claim(
  'V11',
  'On a convex problem full batch always converges to the global minimum for lr < 2/L, at rate no worse than '
  '(1-mu/L) per step with lr 1/L.',
  under=f'{CONVEX}; l2={{config.convex.l2}}, float64, {{config.convex.num_steps}} steps',
  when=on_digits,
)
for kind in ('linear', 'logistic'):
  words = f'{kind} regression: worst factor per step over 1-mu/L, at lr 1/L'
  V11(words, less_than(1 + 1e-6), problem=kind)(effects.worst_contraction)
gap_left = effects.remaining_gap
for kind in ('linear', 'logistic'):
  V11(f'{kind} regression: gap left at lr 1.9/L', less_than(1e-6), problem=kind, rate=1.9)(gap_left)
V11('linear regression: gap left at lr 2.1/L', greater_than(1), problem='linear', rate=2.1)(gap_left)

V12 = variants.claim(
  'V12',
  'A whole MNIST fits one device, so full batch is feasible there; it is still slower to a given accuracy.',
  under=lambda view: f'{raced(view)}; target {{config.race.target_accuracy}}',
)
words = 'seconds to target accuracy, full over mini'
V12(words, greater_than(1.1, none=1), question='accuracy', clock='time', small='mini')(effects.reached)

V13 = variants.claim(
  'V13',
  "Single-example updates suit data that arrives as a stream; full batch can't follow a drifting source.",
  under=lambda view: (
    f'{FIRST}, {{config.stream.components}} principal components, as a stream; target weights walk by '
    + ', '.join(map(str, DRIFTS))
    + ' per example and coordinate; {config.stream}; '
    + streamed(view)
  ),
  when=on_digits,
)
for window, words in {False: 'all before', True: 'a window'}.items():
  for drift in DRIFTS:
    told = f'squared error at drift {drift}, full batch over {words} over single examples'
    V13(told, greater_than(1.1, none=1), drift=drift, window=window)(effects.tracking_ratio)
