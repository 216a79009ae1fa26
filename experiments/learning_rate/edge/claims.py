"""L2, L12, L13 and L15 with their rules, written before the seeds that grade them were run.

Thresholds are the smallest effects that matter: a factor of 0.8 to 1.25 where a saying gives a sharpness (L2, L13),
three records in four (L2), 10 % of a mean loss, where leaving out the oscillation is to be off by a quarter (L12), half
as large a rate again where warm-up is to help and a quarter where it is to be needless (L15). 1 % of x^2 on the model,
whose cycles leave a hundredth of that over the updates of a run (L12); 5 % of the identity, whose standard error over
the seeds is about 1 % (L13). Pilots: docs/studies/learning_rate.md.
"""

from experiments.learning_rate.edge import effects
from experiments.learning_rate.edge.measure import METHODS
from experiments.learning_rate.study import steps
from gdlab.claims import greater_than, less_than, premise, within

SAYING = (0.8, 1.25)
NETWORK = (
  'tanh network of {config.edge.climb.hidden} hidden units on {config.edge.climb.points} points of a Chebyshev '
  'polynomial of degree {config.edge.climb.degree}, full batch, float64, {config.edge.climb.updates} updates at the '
  'rates whose borders are at sharpness {config.edge.climb.borders}'
)
MODEL = (
  'model of two variables at rate {config.edge.model.learning_rate}, push {config.edge.model.push}, rise '
  '{config.edge.model.rise}, {config.edge.model.updates} updates'
)

L2 = steps.claim(
  'L2',
  'Full-batch training of a network drives its sharpness up to 2/lr and hovers there (edge of stability).',
  under=NETWORK
  + '; Polyak and Nesterov with momentum {config.edge.climb.momentum}, whose borders are (2 + 2b)/lr and '
  '(2 + 2b)/(lr (1 + 2b)); control: the rate whose border is at {config.edge.climb.control}',
)
for method in METHODS:
  L2(f'{method}: sharpness over its border, second half of training', within(*SAYING), method=method)(
    effects.hover
  )
for method in METHODS:
  words = f'{method}: share of records within a fifth of the border, second half of training'
  L2(words, greater_than(0.75), method=method)(effects.stays)
words = 'control: sharpness at the start over the border, so that it has to rise'
L2(words, premise(less_than(0.75)), method='plain')(effects.start)
words = 'control: greatest sharpness over a border out of reach'
L2(words, premise(less_than(0.75)))(effects.out_of_reach)

L12 = steps.claim(
  'L12',
  'At the edge of stability the time average of full-batch descent follows the central flow.',
  under=MODEL
  + ' with noise {config.edge.model.little} in x; '
  + NETWORK
  + '; means from when the flow is at the edge',
)
L12("model: mean of x^2 over the flow's 2a/b", within(0.99, 1.01))(effects.model_square)
words = 'network: mean loss over that of the flow, L + tr Sigma / lr'
L12(words, within(0.9, 1.1), measured='loss', predicted='mean_loss')(effects.at_edge)
words = 'network: mean sharpness over that of the flow'
L12(words, within(0.95, 1.05), measured='sharpness', predicted='sharpness')(effects.at_edge)
words = 'control: mean loss over L alone, without the oscillation'
L12(words, premise(greater_than(1.25)), measured='loss', predicted='loss')(effects.at_edge)

L13 = steps.claim(
  'L13',
  'SGD has an edge of its own: g^T H g / |g|^2 over batches rises to 2/lr and stays, while the full-batch sharpness '
  'stays below; x^2 on the model is stationary.',
  under='tanh network of {config.edge.batches.hidden} hidden units on {config.edge.batches.num_train} digits drawn for '
  'each of {config.edge.batches.num_seeds} seeds, squared error, batches of {config.edge.batches.sizes} at rates '
  '{config.edge.batches.rates}, {config.edge.batches.updates} updates; control: rate {config.edge.batches.control}; '
  + MODEL
  + ' with noise {config.edge.model.noises}',
)
SIZES = {0: 'smallest batches', -1: 'largest batches'}
for number, label in SIZES.items():
  words = f'{label}: g^T H g / |g|^2 over 2/lr, second half of training'
  L13(words, within(*SAYING), number=number, measure='batch_sharpness')(effects.batch_hover)
for number, label in SIZES.items():
  words = f'{label}: the same in the last quarter over the quarter before'
  L13(words, within(*SAYING), number=number)(effects.batch_drift)
for number, label in SIZES.items():
  words = f'{label}: sharpness of the full loss over 2/lr, second half of training'
  L13(words, less_than(SAYING[0]), number=number, measure='sharpness')(effects.batch_hover)
for number, label in {0: 'least', -1: 'most'}.items():
  words = f'model, {label} noise: -2 lr E[y x^2] - lr^2 E[y^2 x^2] over lr^2 sigma^2'
  L13(words, within(0.95, 1.05), number=number)(effects.identity)
for number, label in SIZES.items():
  L13(
    f'control: {label}: the same at the start, so that it has to rise',
    premise(less_than(0.75)),
    number=number,
  )(effects.batch_start)
words = 'control: g^T H g / |g|^2 over 2/lr at a small rate'
L13(words, premise(less_than(0.5)), number=None, measure='batch_sharpness')(effects.batch_hover)

L15 = steps.claim(
  'L15',
  'Warm-up helps because it lets sharpness fall first: rates that warm-up makes usable are those above 2/lambda_0, and '
  'starting with flat curvature (or Adam with v_0 = g_0^2) makes it needless.',
  under='network of {config.edge.warm.hidden} ReLU units on {config.edge.warm.num_train} digits drawn for each of '
  '{config.edge.warm.num_seeds} seeds, squared error, full batch, {config.edge.warm.updates} updates, warm-up over '
  'none or the most of {config.edge.warm.lengths} of them; scales of first and last weights {config.edge.warm.sharp}, '
  'flat {config.edge.warm.flat}; good: a final loss of at most {config.edge.warm.target}, where outputs of 0 have 0.5',
)
L15('sharp start: largest good rate with warm-up over that without', greater_than(1.5, none=1), kind='sharp')(
  effects.widened
)
L15('sharp start: smallest rate that warm-up alone makes good over 2/lambda_0', greater_than(1))(
  effects.first_gained
)
L15('sharp start: loss with warm-up over that without, at rates up to 2/lambda_0', greater_than(0.9))(
  effects.below_border
)
words = 'sharp start: sharpness where warm-up ends over lambda_0, at the rates that it makes good'
L15(words, less_than(0.75, none=1), kind='sharp')(effects.fell)
L15('flat start: largest good rate with warm-up over that without', less_than(1.25), kind='flat')(
  effects.widened
)
L15('Adam: largest good rate with warm-up over that without', greater_than(1.5, none=1), kind='adam')(
  effects.widened
)
words = 'Adam with v_0 = g_0^2: largest good rate with warm-up over that without'
L15(words, less_than(1.25), kind='adam_v0')(effects.widened)
words = 'control: flat start: sharpness where warm-up ends over lambda_0, at rates up to 2/lambda_0'
L15(words, premise(greater_than(1)), kind='flat')(effects.fell)
