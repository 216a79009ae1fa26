"""The claims P1-P9 with their rules, written before the runs.

Thresholds are the smallest effects that matter: a quarter on a count of operations, a tenth on half the memory, on a
time, a curvature, a smoothness and an order, half a point of accuracy, half of the networks. Derived are: 3 % above
the law of P1, as biases, activations and their gradients take at most 8 operations for a unit, whose products take 6
for each of its at least 64 weights, and the update 2M; for sums in float64, of at most 500 terms rounded at 2e-16 with
a condition (sum of sizes over size of the sum) of at most 100, 1e-11, after 20 updates 1e-10, and 1e-12 for one
gradient of 64 terms with a condition below 10 (P3, P8); 1 for what descent at a constant rate leaves over its bound
(P8, see the cell); 2.5e-4, half of the 0.1 % by which the wrong gradient of P4 is wrong times 0.53, the geometric mean
of what a random direction sees of it. What pilots changed: docs/studies/practice.md.
"""

from collections.abc import Callable, Sequence

from experiments.practice import effects, seen
from experiments.practice.seen import Seen
from experiments.practice.settings import FITTED, SHARED, Settings
from gdlab import study
from gdlab.claims import exact, greater_than, less_than, outside, premise, within

FACTOR, POINTS, MOST = 1.1, 0.005, 0.5
ABOUT, HALF = within(0.8, 1.25), within(0.45, 0.55)

practice = study.Study(
  Settings,
  title='Practice: what an update costs, whether its gradient is right, and advice about training',
  question='What does an update cost, in operations and in memory? Do half precision and several devices change what '
  'is learnt? How does one know that a gradient is right and a network not broken? Does batch normalisation smooth the '
  'landscape, and when is mini-batch descent the faster way to solve least squares? Such statements were tested, with '
  'at most {config.seeds.count} seeds where there is chance. Images are drawn anew for every seed. Where rates are '
  'tuned, all arms try the same on seeds of their own.',
  module='experiments.practice',
  view=Seen,
)


def tuned(words: str, *arms: str) -> Callable[[Seen], str]:
  """Conditions that end with the rates that were chosen."""
  return lambda view: f'{words}; {view.words(arms)}'


DRAWN = '{config.num_train} training images of digits drawn anew for each seed'
COUNTED = (
  f'perceptrons on 64 inputs, {seen.DEPTHS} hidden layers of {seen.WIDTHS} units, B {seen.SIZES}; '
  "XLA's count of the compiled program"
)
P1 = practice.claim('P1', 'An update costs about 2MB operations.', under=COUNTED)
P1('operations of an update over 2MB, all perceptrons', ABOUT, count='update', per=2)(effects.operations)

P1a = practice.claim(
  'P1a',
  'The forward pass costs about 2MB operations, and forward and backward together about 6MB.',
  under=f'{COUNTED}; convolutions of {seen.CHANNELS} channels on 8x8 images',
)
P1a('operations of the forward pass over 2MB', ABOUT, count='forward', per=2)(effects.operations)
for depth, said in {-1: 'most', 0: 'fewest'}.items():
  words = f'operations of an update over 6MB, {said} hidden layers'
  P1a(words, ABOUT, count='update', per=6, depth=depth)(effects.operations)
words = 'control: the same of convolutions, whose weights are used at every pixel'
P1a(words, premise(greater_than(1.25)), cell='counts', variable='shared')(effects.extreme)

P1b = practice.claim(
  'P1b',
  'Each weight costs 2B operations forward, 2B for its gradient, and 2B to hand the gradient on, which the first layer '
  'need not do.',
  under=COUNTED,
)
words = 'operations of an update over those counted by hand, all perceptrons'
P1b(words, within(1, 1.03), count='update', per=0)(effects.operations)

LAYERS = f'hidden layers {seen.LAYERED}, B={seen.MEASURED}; '
P2 = practice.claim(
  'P2',
  'bf16 forward and backward with float32 weights halves activation memory at negligible accuracy loss.',
  under=tuned(
    f'memory: {LAYERS}what the forward pass keeps; accuracy: hidden layers {{config.precision.hidden}}, {DRAWN}, '
    '{config.precision.num_updates} updates of B={config.precision.batch_size}',
    *seen.DTYPES,
  ),
)
P2a = practice.claim(
  'P2a',
  'bf16 forward and backward with float32 weights halves the memory of the compiled update on this machine.',
  under=LAYERS + 'what XLA keeps beside arguments and results, on a CPU',
)
for activation in seen.ACTIVATIONS:
  words = f'bytes of activations, bfloat16 over float32, {activation}'
  P2(words, HALF, what='kept', activation=activation)(effects.memory_ratio)
  words = f'bytes of temporaries, bfloat16 over float32, {activation}'
  P2a(words, HALF, what='temporary', activation=activation)(effects.memory_ratio)
words = 'test accuracy, bfloat16 minus float32'
P2(words, within(-POINTS, POINTS), arms=seen.DTYPES)(effects.accuracy)

P3 = practice.claim(
  'P3',
  'Averaging the gradients of equal data shards gives the full-batch gradient; synchronous data parallelism changes '
  'nothing but the cost.',
  under=f'perceptron with hidden layers {seen.HIDDEN} of tanh, {DRAWN}, B={SHARED}, CPU devices of one process, '
  'float64; 20 updates at rate 0.1',
)
ROUNDED = exact(1e-11)
for count in seen.DEVICES:
  given = {'cell': 'shards', 'devices': count}
  words = f'relative error of the mean over {count} devices'
  P3(words, ROUNDED, variable='error', **given)(effects.extreme)
  words = f'relative distance of parameters trained on {count} devices from those on one'
  P3(words, exact(1e-10), variable='trained', **given)(effects.extreme)
words = 'relative error of the mean over unequal shards, weighted by their sizes'
P3(words, ROUNDED, cell='shards', variable='weighted')(effects.extreme)
words = 'control: relative error of their mean without weights, least over seeds'
P3(words, premise(greater_than(1e-3)), cell='shards', variable='unweighted', least=True)(effects.extreme)

P4 = practice.claim(
  'P4',
  'Gradients by automatic differentiation agree with finite differences to the expected order.',
  under=f'perceptron with hidden layers {seen.HIDDEN} of tanh, 64 images drawn anew for each seed, float64, '
  f'geometric means over {seen.DIRECTIONS} directions; steps relative to the norm of the parameters',
)
SLOPES = (('central', 2, 1e-1, 1e-3), ('forward', 1, 1e-2, 1e-5), ('central', -1, 1e-6, 1e-9))
for kind, power, coarse, fine in SLOPES:
  words = f'log-log slope of the error of {kind} differences in the step, {coarse:g} to {fine:g}'
  P4(words, within(power - 0.1, power + 0.1), kind=kind, coarse=coarse, fine=fine)(effects.order)
P4('error of central differences at the best step', less_than(1e-7), gradient='right')(effects.best_error)
P4('order that gdlab.check_gradients finds', within(1.9, 2.1))(effects.checked_order)
words = 'right and wrong gradients that it takes for the other, most of a seed'
P4(words, exact(0), cell='differences', variable='misjudged')(effects.extreme)
words = 'control: error at the best step of a gradient that is wrong by 0.1 %'
P4(words, premise(greater_than(2.5e-4)), gradient='wrong')(effects.best_error)

FEW = (
  f'{FITTED} digits, at most 1000 updates of gdlab.overfit_small, hidden layers {seen.HIDDEN} where nothing else is '
  'said, images drawn anew for each seed'
)
P5 = practice.claim('P5', 'A network that cannot fit 100 examples perfectly is broken.', under=FEW)
for name, said in seen.SOUND.items():
  P5(f'sound networks that fit: {said}', greater_than(MOST), name=name, does=True)(effects.fits)
P5a = practice.claim('P5a', 'A broken network cannot fit 100 examples perfectly.', under=FEW)
for name, said in seen.BROKEN.items():
  P5a(f'broken networks that do not fit: {said}', greater_than(MOST), name=name, does=False)(effects.fits)

P6 = practice.claim(
  'P6',
  'A two- or three-layer network reaches 95 % on MNIST with mini-batch descent and a schedule.',
  under=tuned(
    'hidden layers {config.mnist.hidden}, the first of them alone, and none, B={config.mnist.batch_size}, momentum '
    '{config.mnist.momentum:g}, cosine over {config.mnist.num_updates} updates, {config.mnist.num_validation} images '
    'for validation drawn for each seed, all test images',
    *seen.LAYERS,
  ),
  when=lambda config: config.mnist.asked,
)
for layers in ('two', 'three'):
  P6(f'test accuracy, {layers} layers', greater_than(0.95), arms=[layers])(effects.accuracy)
words = 'control: test accuracy of one layer, which is linear'
P6(words, premise(less_than(0.95)), arms=['one'])(effects.accuracy)

NORMED = (
  f'perceptron with hidden layers {{config.norm.hidden}}, {DRAWN}, {{config.norm.num_updates}} updates of '
  'B={config.norm.batch_size}, geometric mean over {config.norm.records} records after the start; loss of all training '
  'images at once; predictiveness over steps {config.norm.steps}; equal rate {config.norm.equal:g}'
)
P7 = practice.claim(
  'P7',
  'Batch normalisation smooths the landscape: smaller largest eigenvalue, better gradient predictiveness.',
  under=tuned(NORMED, *seen.NORMS),
)
MEASURES = {'train': 'largest eigenvalue', 'smoothness': 'change of the gradient over the step'}
for equal, at in {False: 'each at its best rate', True: 'at equal rate'}.items():
  for variable, said in MEASURES.items():
    words = f'{said}, without over with, {at}'
    P7(words, greater_than(FACTOR, none=1), variable=variable, equal=equal)(effects.smoother)
P7a = practice.claim(
  'P7a',
  'Curvature measured with population statistics is another quantity than that of the loss that is trained.',
  under=NORMED,
)
words = 'largest eigenvalue, population statistics over training mode, equal rate'
P7a(words, outside(1 / FACTOR, FACTOR), arm='normed')(effects.trap)
words = 'control: the same without BatchNorm'
P7a(words, premise(within(0.99, 1.01)), arm='plain')(effects.trap)

P8 = practice.claim(
  'P8',
  'L1 and L2 penalties add their own gradient and move the minimum; the penalised gradient is the sum.',
  under=f'least squares, 64 rows, 8 weights, columns orthonormal with L1; l1={seen.L1}, l2={seen.L2}; full batch, rate '
  f'{seen.RATE}, {seen.UPDATES} updates, float64',
)
given = {'cell': 'penalties'}
words = 'relative error of the gradient, both'
P8(words, exact(1e-12), variable='gradient', penalty='both', **given)(effects.extreme)
for penalty, said in {'none': 'the minimum, no penalty', 'l2': 'ridge regression, L2'}.items():
  words = f'distance of the end from {said}'
  P8(words, ROUNDED, variable='distance', penalty=penalty, **given)(effects.extreme)
for penalty, said in {'l1': 'soft thresholds, L1', 'both': 'shrunk soft thresholds, both'}.items():
  words = f'distance of the end from {said}, over 2 rate l1'
  P8(words, exact(1), variable='thrown', penalty=penalty, **given)(effects.extreme)
for penalty in ('l1', 'l2'):
  words = f'how far {penalty.upper()} moves the minimum, least over seeds'
  rule = premise(greater_than(0.05))
  P8(words, rule, variable='moved', least=True, penalty=penalty, **given)(effects.extreme)

SOLVED = (
  'weights {config.squares.sizes}, {config.squares.ratio} rows for each, condition {config.squares.condition:g}, half '
  "of the targets' variance is noise; float32, all cores; B={config.squares.batch_size}, rate tuned on "
  '{config.few_tuning} other problems, of which no time is counted; excess loss, of that at 0, '
)


def solved(target: int, places: Sequence[int]) -> Callable[[Seen], str]:
  """Conditions of P9 that end with the multiples of the rate that were chosen, to a target on problems of sizes."""

  def words(view: Seen) -> str:
    options = view.config.squares
    chosen = (view.multiple(options.sizes[place], options.targets[target]) for place in places)
    limit = f'{options.targets[target]:g}; at most {options.updates} updates'
    return f'{SOLVED}{limit}; multiples of the rate: {", ".join(chosen)}'

  return words


FORMS = 'of the normal equations', 'of conjugate gradients'
for name, place, target, said in (
  ('P9', 0, 0, 'passes the normal equations in time once the least-squares problem is large'),
  ('P9a', 1, 0, 'passes conjugate gradients in time once the least-squares problem is large'),
  ('P9b', 0, 1, 'passes the normal equations on large problems to a small excess loss, too'),
):
  under = solved(target, (0, -1) if name == 'P9' else (-1,))
  part = practice.claim(name, f'Mini-batch descent {said}.', under=under)
  words, given = (
    f'seconds {FORMS[place]} over those of mini-batches',
    {'way': seen.METHODS[place], 'target': target},
  )
  if name == 'P9':
    part(f'{words}, fewest weights', less_than(1 / FACTOR, none=1), place=0, **given)(effects.time_ratio)
  part(f'{words}, most weights', greater_than(FACTOR, none=1), place=-1, **given)(effects.time_ratio)
