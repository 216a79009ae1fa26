"""L1, L3-L11 and L14 with their rules, written before the seeds that grade them were run.

Thresholds are the smallest effects that matter: a loss 5 % smaller (L3, L14) or 10 % larger (L6, L7, L10), half of
the runs (L1, L4, L6), a rank correlation of 0.5 (L14), a slope within 0.25 of a rule's and less than half of it where
the rule is to fail (L8), half as many examples again (L9). Derived are: 1e-9 where rounding over the
updates is 1e-12 and nothing else is left (L1, L11); half of the excess over a factor of 16 in time, where the slowest
rate in theory leaves 16^-0.6 = 0.19 of it (L5). Pilots: docs/studies/learning_rate.md.
"""

from collections.abc import Callable

from experiments.learning_rate.rates import effects, exact, tasks
from experiments.learning_rate.rates.measure import CHANGES, OPTIMIZERS
from experiments.learning_rate.study import steps
from gdlab import study
from gdlab.claims import exact as exactly
from gdlab.claims import greater_than, less_than, premise, within
from gdlab.study import View

KINDS = {'quadratic': 'noisy quadratic', 'regression': 'streaming regression'}
LABELS = {'regression': 'absolute regression', 'logistic': 'logistic regression', 'network': 'network'}
IMAGES = ('logistic', 'network')
TRAINING = (
  'streaming regression with absolute errors, and logistic regression and a network of '
  '{config.rates.schedules.hidden} on {config.rates.schedules.num_train} {config.rates.schedules.dataset}, '
  '{config.rates.schedules.label_noise} of their labels wrong, drawn anew for each seed; SGD, '
  'B={config.rates.schedules.batch_size}, {config.rates.schedules.updates} updates; '
  '{config.rates.num_seeds} seeds and {config.rates.num_tuning} for tuning; '
)
NETWORK = 'perceptron on the digits, {config.rates.num_seeds} seeds and {config.rates.num_tuning} for tuning'


def used(*groups: tuple[str, ...], bound: bool = False) -> Callable[[View], str]:
  """Conditions of schedules: what is trained, and the chosen trial of each group of names."""

  def told(view: View) -> str:
    chosen = []
    for task in tasks.TASKS:
      for names in groups:
        variable = effects.bounded_by(task) if bound else ''
        trial = effects.chooser(view, task, names, variable)(effects.tuning(view))
        name, rate, tried = effects.rate(view, task, names, trial)
        chosen.append(f'{task}: {name} at {study.at_an_end(rate, tried)}')
    judged = 'training loss' if bound else 'validation loss, graded by test loss'
    return f'{TRAINING}chosen by {judged}, on the stream by excess; {", ".join(chosen)}'

  return told


L1 = steps.claim(
  'L1',
  'Too large a rate diverges within a few steps; too small stalls. On a quadratic the border is exactly 2/lambda_max '
  '(with heavy-ball momentum (2 + 2 beta)/lambda_max).',
  under='float64, quadratics of condition {config.rates.quadratics.conditions}, '
  '{config.rates.quadratics.num_seeds} spectra; on a network full batch, {config.rates.transfer.full_updates} updates',
)
L1('plain: largest relative error of the border', exactly(1e-9), method='plain')(effects.border_error)
for method, formula in (('heavy ball', '(2 + 2 beta)'), ('Nesterov', '(2 + 2 beta)/(1 + 2 beta)')):
  for beta in (0.5, 0.9):
    words = f'{method} {beta}: largest relative error of {formula}/lambda_max'
    L1(words, exactly(1e-9), method=f'{method} {beta:g}')(effects.border_error)
words = f'network, {effects.LARGE:g} times the best rate: share of runs above their first loss in {effects.FEW} updates'
L1(words, greater_than(0.5))(effects.diverges)
words = f'network, the best rate over {1 / effects.SMALL:g}: fall of the loss over that at the best rate'
L1(words, less_than(0.25))(effects.stalls)

L3 = steps.claim(
  'L3',
  'A decaying rate beats the best constant one: step, exponential, cosine.',
  under=used(*zip(tasks.FIXED)),
)
for task, label in LABELS.items():
  for name in ('step', 'exponential', 'cosine'):
    L3(
      f'{label}: loss, {name} over constant',
      less_than(0.95, none=1),
      task=task,
      mine=(name,),
      other=('constant',),
    )(effects.loss_ratio)


def peaks(view: View) -> str:
  """Conditions of L4."""
  told = ', '.join(
    f'{method} {effects.largest_peak(view, method, share):.3g} at {share:.0%}'
    for method in OPTIMIZERS
    for share in (0.0, 0.05, 0.1)
  )
  return (
    'network of {config.rates.warm_up.hidden} on the digits, B={config.rates.warm_up.batch_size}, '
    '{config.rates.warm_up.updates} updates, constant after the warm-up; trained: loss below '
    f'{{config.rates.warm_up.trained}}; largest peaks at which three in four tuning runs train: {told}'
  )


L4 = steps.claim(
  'L4',
  'Warm-up (5-10 % of the steps) lets a rate that would otherwise diverge train, and brings the most where the rate is '
  'large.',
  under=peaks,
)
for method in OPTIMIZERS:
  for share in (0.05, 0.1):
    words = f'{method}, largest peak with warm-up of {share:.0%}: share of runs that train'
    L4(f'{words} with it', premise(greater_than(0.5)), method=method, share=share, warmed=share)(
      effects.share_trained
    )
    L4(f'{words} without', less_than(0.5), method=method, share=0.0, warmed=share)(effects.share_trained)
  words = (
    f'{method}: gain of 10 % on the loss at the largest peak that trains without, over that at the least'
  )
  L4(words, greater_than(1.1, none=1), method=method, share=0.1)(effects.gain_growth)

L5 = steps.claim(
  'L5',
  'Robbins-Monro rates (sum of rates infinite, of squares finite) converge under noise; a constant rate leaves a '
  'floor, too fast a decay freezes short of the minimum.',
  under='float64; B=1, rates {config.rates.decays.first_rate} (1 + t/{config.rates.decays.offset})^-p, '
  '{config.rates.decays.updates} updates, {config.rates.decays.num_seeds} runs; quadratic of curvatures '
  f'{exact.CURVATURES}, regression in {exact.DIMENSION} dimensions',
)
for kind, label in KINDS.items():
  for exponent in (0.6, 1.0):
    words = f'{label}, p = {exponent}: excess at the end over that at a sixteenth'
    L5(words, less_than(0.5), kind=kind, exponent=exponent)(effects.decay)
  L5(
    f'{label}, constant: excess at the end over that at a sixteenth',
    within(0.8, 1.25),
    kind=kind,
    exponent=0.0,
  )(effects.decay)
  L5(f'{label}, constant: excess over its closed form', within(0.9, 1.1), kind=kind)(effects.over_floor)
  L5(
    f'{label}, p = 2: excess at the end over that at a sixteenth', within(0.8, 1.25), kind=kind, exponent=2.0
  )(effects.decay)
  L5(f'{label}: excess at the end, p = 2 over p = 1', greater_than(2), kind=kind, fast=2.0, slow=1.0)(
    effects.frozen
  )

L6 = steps.claim(
  'L6',
  'Dividing the rate by 10 after 2-3 epochs with no progress does as well as a tuned fixed schedule.',
  under=used(('plateau',), tasks.FIXED),
)
for task in IMAGES:
  words = (
    f'{LABELS[task]}: test loss, divided on plateaus over the best of {len(tasks.FIXED)} fixed schedules'
  )
  L6(words, less_than(1.1), task=task, mine=('plateau',), other=tasks.FIXED)(effects.loss_ratio)
  words = f'{LABELS[task]}: share of runs in which a plateau was found'
  L6(words, premise(greater_than(0.5)), task=task)(effects.reduced)


def carried(view: View) -> str:
  """Conditions of L7."""
  tried = view.config.rates.transfer.learning_rates
  best = {each: effects.best_rate(view, each)(effects.tuning(view)) for each in CHANGES}
  rates = ', '.join(f'{each} {study.at_an_end(rate, tried)}' for each, rate in best.items())
  return (
    f'{NETWORK}; SGD, {{config.rates.transfer.epochs}} epochs; base: width {{config.rates.transfer.hidden}}, '
    f'B={{config.rates.transfer.batch_size}}; best rates: {rates}'
  )


L7 = steps.claim(
  'L7', 'The best rate does not transfer between data scales, models or batch sizes.', under=carried
)
for change, label in zip(CHANGES[1:], ('inputs scaled', 'a wider network', 'a larger batch'), strict=True):
  L7(
    f'{label}: training loss at the rate from before over that at its own',
    greater_than(1.1, none=1),
    change=change,
  )(effects.carried)

UNDER = (
  f'{NETWORK}; {{config.rates.batches.hidden}} hidden units, updates to training loss {{config.rates.batches.target}}, '
  'B {config.rates.batches.batch_sizes}'
)
L8 = steps.claim(
  'L8',
  'Larger batches need proportionally larger rates (linear rule for SGD, square-root rule for Adam), up to a critical '
  'batch size.',
  under=UNDER,
)
RULES = {'SGD': 1.0, 'Adam': 0.5}
for method, slope in RULES.items():
  L8(
    f'{method}: log-log slope of the fastest rate in B, two least',
    within(slope - 0.25, slope + 0.25),
    method=method,
    large=False,
  )(effects.rate_slope)
  L8(f'{method}: the same, two largest', less_than(slope / 2), method=method, large=True)(effects.rate_slope)


def scaled(view: View) -> str:
  """Conditions of L9."""
  rates = {method: effects.least_batch_rate(view, method)(effects.tuning(view)) for method in OPTIMIZERS}
  return f'{UNDER}; rate at the least B, scaled up: {", ".join(f"{method} {rate:g}" for method, rate in rates.items())}'


L9 = steps.claim(
  'L9',
  'With the rate scaled up, large-batch training matches small-batch training in fewer updates (up to the critical '
  'batch size).',
  under=scaled,
)
L9('control: the noise scale at the target', premise(within(32, 512)))(effects.noise_scale)
for method in OPTIMIZERS:
  L9(f'{method}: examples to the target, B = 16 over B = 4', less_than(1.5), method=method, size=16)(
    effects.scaled_up
  )
  L9(f'{method}: test loss there, B = 16 over B = 4', less_than(1.1), method=method, size=16, test=True)(
    effects.scaled_up
  )
  L9(f'{method}: examples to the target, B = 1024 over B = 4', greater_than(1.5), method=method, size=1024)(
    effects.scaled_up
  )

L10 = steps.claim(
  'L10',
  'A schedule fixed in advance loses adaptability: an adaptive or schedule-free method matches the best fixed schedule '
  'without knowing the horizon.',
  under=used(effects.FREE, tasks.FIXED, ('linear, for T/2',), ('linear, for 2T',)),
)
for task, label in LABELS.items():
  words = f'{label}: loss, the best of {", ".join(effects.FREE)} over the best of {len(tasks.FIXED)} fixed schedules'
  L10(words, less_than(1.1), task=task, mine=effects.FREE, other=tasks.FIXED)(effects.loss_ratio)
  for name in ('linear, for T/2', 'linear, for 2T'):
    words = f'{label}: loss, {name}, over the best fixed schedule'
    L10(words, greater_than(1.1, none=1), task=task, mine=(name,), other=tasks.FIXED)(effects.loss_ratio)

L11 = steps.claim(
  'L11',
  'Steepest descent with exact line search (Cauchy, 1847) zig-zags: rate ((kappa - 1)/(kappa + 1))^2 on a quadratic.',
  under='float64, kappa {config.rates.quadratics.conditions}, {config.rates.quadratics.dimension} dimensions, '
  f'{exact.LINE_SEARCHES} steps, {{config.rates.quadratics.num_seeds}} spectra and turned coordinates',
)
L11('worst start: largest relative error of the rate of any step', exactly(1e-9))(effects.worst_error)
L11('random starts: largest rate of any step over the formula', less_than(1 + 1e-9))(effects.above_bound)
L11('random starts: largest cosine between two steps', exactly(1e-9))(effects.right_angle)
for condition in (10, 100):
  words = f'random starts, kappa {condition}: cosine between a step and the one after the next, at the end'
  L11(words, greater_than(0.9), condition=condition)(effects.parallel)
  words = (
    f'random starts, kappa {condition}: logarithm of the rate of the worst start over their own, second half'
  )
  L11(words, within(0.8, 1.0), condition=condition)(effects.typical_rate)

L14 = steps.claim(
  'L14',
  'The last-iterate bound ranks the schedules (constant worst, then 1/sqrt t, decay over the last fifth, cosine, '
  'linear best), on the convex problem it is about and on networks.',
  under=used(*zip(tasks.BOUNDED), bound=True),
)
words = 'control, absolute regression: largest mean excess of any schedule and rate over its bound'
L14(words, premise(less_than(1)))(effects.over_bound)
for task, label in LABELS.items():
  L14(f'{label}: rank correlation of bound and loss', greater_than(0.5), task=task)(effects.bound_correlation)
  for name, rule in (('1/sqrt t', greater_than(1.05, none=1)), ('linear', greater_than(1.05, none=1))):
    L14(
      f'{label}: training loss, constant over {name}',
      rule,
      task=task,
      mine=('constant',),
      other=(name,),
      bound=True,
    )(effects.loss_ratio)
  words = f'{label}: training loss, linear over the best of the others'
  L14(words, less_than(1.05), task=task, mine=('linear',), other=tasks.BOUNDED[:-1], bound=True)(
    effects.loss_ratio
  )
