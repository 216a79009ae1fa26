"""Runs with one planted fault each, and sound ones: the problems, the faults and the severities of a set."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx

import gdlab
from experiments.diagnosis_check import breakages
from gdlab.core.types import Algorithm, Examples, Key, Problem, PyTree, Sampler
from gdlab.diagnosis import Cause, probes
from gdlab.diagnosis.probing import CURVATURE
from gdlab.problems import images


class Case(NamedTuple):
  """Runs that share a fault: a sweep over severities and seeds.

  Attributes:
    kind: the kind of fault, one of fourteen, or 'sound'.
    name: which of that kind.
    cause: what a diagnosis must say first; None: it must find nothing.
    problem: what is trained.
    make_algorithm: of the grid's point.
    grid: severities.
    seeds: of each.
    num_steps: of every run.
    schedule: `(point) -> rate`, a number or an Optax schedule; None leaves it to be inferred.
    momentum: of the optimizer.
    max_examples: that the probes use.
    unit: measures what the grid's rates are multiples of; None: they are rates.
    also: a second cause that says the same of the fault.
  """

  kind: str
  name: str
  cause: Cause | None
  problem: Problem
  make_algorithm: Callable[..., Algorithm]
  grid: Mapping[str, Sequence[float]]
  seeds: Sequence[int]
  num_steps: int = 600
  schedule: Callable[[Mapping[str, float]], Any] | None = None
  momentum: float = 0.0
  max_examples: int = 512
  unit: Callable[[], float] | None = None
  also: Cause | None = None


class Mlp(nnx.Module):
  """A multilayer perceptron in NNX."""

  def __init__(self, sizes: Sequence[int], activation: Callable, rngs: nnx.Rngs):
    self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
    self.activation = activation

  def __call__(self, inputs: jax.Array) -> jax.Array:
    x = inputs
    for layer in self.layers[:-1]:
      x = self.activation(layer(x))
    return self.layers[-1](x)


@dataclasses.dataclass(frozen=True)
class Changed:
  """An initialisation whose layers are scaled by a factor drawn from `scale`, and whose hidden biases are shifted."""

  init: Callable[[Key], tuple[PyTree, PyTree]]
  scale: tuple[float, float] = (1.0, 1.0)
  shift: tuple[float, float] = (0.0, 0.0)

  def __call__(self, key: Key) -> tuple[PyTree, PyTree]:
    """Draws `(params, model_state)`."""
    params, model_state = self.init(key)
    low, high = jax.random.split(jax.random.fold_in(key, 1))
    scale = jax.random.uniform(low, minval=self.scale[0], maxval=self.scale[1])
    shift = jax.random.uniform(high, minval=self.shift[0], maxval=self.shift[1])
    classes = min(leaf.shape[-1] for leaf in jax.tree.leaves(params))

    def change(leaf: jax.Array) -> jax.Array:
      return leaf * scale if leaf.ndim > 1 else leaf + shift * (leaf.shape[0] != classes)

    return jax.tree.map(change, params), model_state


class Setting(NamedTuple):
  """What differs between the set that thresholds are set on and the sets that check them."""

  seed: int  # the first of all seeds used
  features: Sequence[int]  # hidden layers on the digits
  hidden: Sequence[int]  # hidden layers on the tumours
  split: int  # seed of the tumours' split
  columns: int  # of the tumours' inputs, 30 at most
  large: Sequence[float]  # rates
  small: Sequence[float]
  horizon: Sequence[float]  # steps after which the schedule has decayed
  unscaled: float  # factor on the inputs
  few: int  # examples to overfit on the digits; half as many tumours
  wrong: int  # of these one in so many has a wrong label
  depth: int  # hidden layers that make gradients vanish or explode
  explode: tuple[float, float]  # factor on every layer
  dead: tuple[float, float]  # biases
  noisy: Sequence[float]  # rates at batch size 1
  edge: Sequence[float]  # rates at full batch, in units of 2 / lambda_max after 600 stable updates
  batch_size: int
  ascent: Sequence[float]  # rates of ascent, in units of a sound one
  slow: float  # rate at which labels at random are not learned by heart, in the same unit
  tiny: Sequence[int]  # hidden layers that do not hold them
  behind: float  # rate of the first layer over that of the others, in sound runs


TUNING = Setting(
  seed=0, features=(32,), hidden=(16,), split=0, columns=30, large=(5.0, 15.0, 50.0), small=(2e-5, 3e-4),
  horizon=(30.0, 40.0, 50.0, 60.0, 75.0), unscaled=255.0, few=80, wrong=8, depth=8, explode=(4.0, 6.0),
  dead=(-30.0, -15.0), noisy=(0.12, 0.16, 0.2), edge=(1.1, 1.2), batch_size=32,
  ascent=(0.05, 0.2, 1.0), slow=0.1, tiny=(3,), behind=0.1,
)  # fmt: skip
# Checked the rules until their first revision, which was made on it: since then it is for tuning too.
TUNING_2 = Setting(
  seed=1000, features=(48, 24), hidden=(24, 12), split=1, columns=30, large=(4.0, 20.0, 100.0), small=(1e-5, 2e-4),
  horizon=(25.0, 35.0, 45.0, 55.0, 70.0), unscaled=100.0, few=60, wrong=10, depth=7, explode=(4.5, 8.0),
  dead=(-50.0, -20.0), noisy=(0.13, 0.18, 0.22), edge=(1.15, 1.3), batch_size=24,
  ascent=(0.03, 0.3, 0.8), slow=0.05, tiny=(4, 2), behind=0.03,
)  # fmt: skip
# Checked the rules until four kinds of fault were added: since then it is for tuning too.
TUNING_3 = Setting(
  seed=5000, features=(40, 40, 20), hidden=(20,), split=7, columns=20, large=(6.0, 12.0, 60.0), small=(1.5e-5, 2.5e-4),
  horizon=(22.0, 33.0, 44.0, 55.0, 66.0), unscaled=60.0, few=70, wrong=9, depth=9, explode=(5.0, 7.0),
  dead=(-40.0, -18.0), noisy=(0.14, 0.17, 0.21), edge=(1.05, 1.15), batch_size=28,
  ascent=(0.04, 0.25, 1.5), slow=0.08, tiny=(4,), behind=0.05,
)  # fmt: skip
# Other networks, four fifths of the tumours' inputs, other severities and seeds. Fixed before the rules for the four
# kinds of fault that it adds were written, and before it was first run.
CHECKING = Setting(
  seed=9000, features=(36, 28), hidden=(18, 10), split=11, columns=24, large=(7.0, 15.0, 40.0), small=(1.2e-5, 2.2e-4),
  horizon=(24.0, 36.0, 48.0, 58.0, 68.0), unscaled=80.0, few=64, wrong=9, depth=8, explode=(4.8, 7.5),
  dead=(-35.0, -16.0), noisy=(0.13, 0.165, 0.2), edge=(1.08, 1.18), batch_size=30,
  ascent=(0.06, 0.15, 1.2), slow=0.07, tiny=(3, 3), behind=0.07,
)  # fmt: skip
SETTINGS = {'tuning': TUNING, 'tuning_2': TUNING_2, 'tuning_3': TUNING_3, 'checking': CHECKING}
EVAL_EVERY = 29  # odd: every second update would miss a loss that swings with period two


def tumours(hidden: Sequence[int], at: Setting, activation: Callable = nnx.relu) -> Problem:
  """Wisconsin breast cancer with standardised inputs, 400 examples to train: an NNX model."""
  from sklearn import datasets

  inputs, labels = datasets.load_breast_cancer(return_X_y=True)
  order = np.random.default_rng(at.split).permutation(len(labels))
  inputs, labels = inputs[order, : at.columns], labels[order].astype(np.int32)
  inputs = (inputs - inputs[:400].mean(0)) / inputs[:400].std(0)
  sizes = (inputs.shape[1], *hidden, 2)
  return images.classification(
    lambda rngs: Mlp(sizes, activation, rngs),
    Examples(inputs[:400], labels[:400]),
    Examples(inputs[400:], labels[400:]),
    'tumours',
  )


def digits(hidden: Sequence[int], at: Setting, activation: Callable = nn.relu) -> Problem:
  """The digits, with a Linen model."""
  del at
  return gdlab.problems.digits(gdlab.problems.MLP(hidden, activation=activation))


def cases(setting: Setting) -> Iterator[Case]:
  """All cases of a set: 140 runs with a fault, 80 without."""
  yield from _cases(setting, digits, setting.features, setting.seed, steady=0.1)
  yield from _cases(setting, tumours, setting.hidden, setting.seed + 500, steady=0.05)


def _cases(
  at: Setting, make: Callable[..., Problem], hidden: Sequence[int], seed: int, steady: float
) -> Iterator[Case]:
  problem = make(hidden, at)
  sampler, whole = gdlab.sampling.reshuffle(at.batch_size), gdlab.sampling.full_batch()
  plain = _method(sampler, optax.sgd)
  own = lambda point: point['rate']
  name = problem.name

  def case(kind: str, what: str, cause: Cause | None, chosen: Problem, count: int, **options: Any) -> Case:
    nonlocal seed
    seeds = list(range(seed, seed + count))
    seed += count
    common = Case(kind, f'{name}: {what}', cause, chosen, plain, {'rate': [steady]}, seeds, schedule=own)
    return common._replace(**options)

  # Cases that differ in data or numbers alone share one compiled program, which is what takes the time.
  yield case('rates', 'rate too large', Cause.RATE_TOO_LARGE, problem, 1, grid={'rate': at.large})
  yield case('rates', 'rate too small', Cause.RATE_TOO_SMALL, problem, 1, grid={'rate': at.small})

  inputs, targets = problem.train
  scaled = [part._replace(inputs=part.inputs * at.unscaled) for part in (problem.train, problem.test)]
  unscaled = dataclasses.replace(problem, train=scaled[0], test=scaled[1])
  yield case('bad data', 'inputs not scaled', Cause.BAD_DATA, unscaled, 2)
  missing = _trained_on(problem, inputs.at[at.seed % 50 + 3].set(jnp.nan), targets)
  yield case('bad data', 'an input is NaN', Cause.BAD_DATA, missing, 2)
  empty = _trained_on(problem, jnp.full_like(inputs, 0.5), targets)
  yield case('bad data', 'inputs all the same', Cause.BAD_DATA, empty, 1)

  shuffled = jnp.asarray(np.random.default_rng(at.seed).permutation(np.asarray(targets)))
  random = _trained_on(problem, inputs, shuffled)
  yield case('memorising', 'labels shuffled', Cause.MEMORISING, random, 5, num_steps=1500,
             grid={'rate': [0.3 if make is digits else 0.05]})  # fmt: skip
  # The same few examples again and again: an epoch holds many of their own.
  # Some have the label of the next class: without these a network may separate them and be right elsewhere.
  few = at.few if make is digits else at.few // 2
  repeated = jnp.arange(problem.num_examples) % few
  mistaken = (targets + (repeated % at.wrong == 0)) % (targets.max() + 1)
  small = _trained_on(problem, inputs[repeated], mistaken[repeated])
  yield case('overfitting', 'few examples', Cause.OVERFITTING, small, 5, num_steps=1500)
  dead = dataclasses.replace(problem, init=Changed(problem.init, shift=at.dead))
  yield case('dead layer', 'biases far below 0', Cause.DEAD_LAYER, dead, 5)
  yield case('sound', 'SGD', None, problem, 6)
  yield case(
    'sound', 'SGD, other rates', None, problem, 2, grid={'rate': [0.5 * steady, 0.75 * steady, 1.5 * steady]}
  )

  against = tuple(-rate * steady for rate in at.ascent)
  yield case('ascent', 'SGD', Cause.ASCENT, problem, 1, grid={'rate': against},
             schedule=lambda point: -point['rate'])  # fmt: skip
  yield case('labels at random', 'a rate too slow to learn them', Cause.RANDOM_LABELS, random, 3,
             grid={'rate': [at.slow * steady]}, also=Cause.MEMORISING)  # fmt: skip
  tiny = _trained_on(make(at.tiny, at), inputs, shuffled)
  yield case(
    'labels at random', 'a network too small for them', Cause.RANDOM_LABELS, tiny, 2, also=Cause.MEMORISING
  )

  twice = breakages.with_loss(problem, breakages.softmax_twice)
  yield case('softmax twice', 'in model and loss', Cause.SOFTMAX_TWICE, twice, 3)
  yield case('softmax twice', 'a larger rate', Cause.SOFTMAX_TWICE, twice, 2, grid={'rate': [5 * steady]})
  harmless = breakages.with_loss(problem, breakages.log_softmax_twice)
  yield case('sound', 'log-softmax in the model', None, harmless, 5)

  def uneven(rate: float, first: float) -> Algorithm:
    return gdlab.algorithm(sampler=sampler, optimizer=breakages.uneven(rate, first))

  yield case('frozen layer', 'no updates for the first', Cause.FROZEN_LAYER, problem, 3, make_algorithm=uneven,
             grid={'rate': [steady], 'first': [0.0]})  # fmt: skip
  yield case('sound', 'smaller updates for the first layer', None, problem, 5, make_algorithm=uneven,
             grid={'rate': [steady], 'first': [at.behind]})  # fmt: skip
  detached = dataclasses.replace(problem, loss=breakages.Detached(problem.loss))
  yield case('frozen layer', 'gradient of the first stopped', Cause.FROZEN_LAYER, detached, 2)

  cosine = _method(sampler, lambda rate: optax.sgd(_cosine(steady / 2, rate)))
  yield case('schedule', 'cosine too short', Cause.SCHEDULE_TOO_SHORT, problem, 1, make_algorithm=cosine,
             grid={'rate': at.horizon}, schedule=lambda point: _cosine(steady / 2, point['rate']))  # fmt: skip
  yield case('sound', 'cosine', None, problem, 6, make_algorithm=cosine, grid={'rate': [600.0]},
             schedule=lambda point: _cosine(steady / 2, point['rate']))  # fmt: skip

  deep = make((24,) * at.depth, at, nn.sigmoid)
  yield case('vanishing', 'deep sigmoid', Cause.VANISHING_GRADIENTS, deep, 5)
  wild = make((24,) * at.depth, at, nn.tanh)
  wild = dataclasses.replace(wild, init=Changed(wild.init, scale=at.explode))
  yield case('exploding', 'deep tanh, large start', Cause.EXPLODING_GRADIENTS, wild, 3)
  wild = make((24,) * (at.depth // 2), at)
  wild = dataclasses.replace(wild, init=Changed(wild.init, scale=at.explode))
  yield case('exploding', 'relu, large start', Cause.EXPLODING_GRADIENTS, wild, 2)

  root = make(hidden, at, _root)
  yield case('NaN', 'square root at 0', Cause.NOT_FINITE, root, 3)
  training: Any = problem.loss  # a dataclass of the adapters
  naive = dataclasses.replace(problem, loss=dataclasses.replace(training, loss=_root_loss))
  yield case(
    'NaN', 'square root of 1 - p', Cause.NOT_FINITE, naive, 2, grid={'rate': [5 * steady]}, num_steps=1500
  )

  single = _method(gdlab.sampling.single(), optax.sgd)
  smooth = make(hidden, at, jnp.tanh)  # whose units cannot die of the noise
  yield case('oscillating', 'batch of 1', Cause.GRADIENT_NOISE, smooth, 1,
             grid={'rate': [(1 if make is digits else 4) * rate for rate in at.noisy]},
             make_algorithm=single)  # fmt: skip
  # With squared loss curvature rises until it meets 2/rate, and stays (Cohen et al. 2021).
  full = _method(whole, optax.sgd)
  smooth = breakages.with_loss(smooth, _squared)
  # Where curvature has settled below 2/rate, as it does on the tumours at small rates, no edge is met.
  unit = functools.partial(_border, smooth, full(0.06 if make is digits else 0.2), seed)
  yield case('oscillating', 'full batch', Cause.EDGE_OF_STABILITY, smooth, 1, make_algorithm=full, num_steps=3000,
             grid={'rate': at.edge}, unit=unit)  # fmt: skip

  heavy = _method(sampler, lambda rate: optax.sgd(rate, momentum=0.9))
  yield case(
    'sound', 'heavy ball', None, problem, 6, momentum=0.9, make_algorithm=heavy, grid={'rate': [steady / 8]}
  )
  adam = _method(sampler, optax.adam)
  yield case('sound', 'Adam', None, problem, 6, make_algorithm=adam, grid={'rate': [0.001]}, schedule=None)
  yield case(
    'ascent', 'Adam', Cause.ASCENT, problem, 2, make_algorithm=adam, grid={'rate': [-0.001]}, schedule=None
  )


def _method(sampler: Sampler, optimizer: Callable[[Any], Any]) -> Callable[..., Algorithm]:
  def make(rate: float) -> Algorithm:
    return gdlab.algorithm(sampler=sampler, optimizer=optimizer(rate))

  return make


def _border(problem: Problem, algorithm: Algorithm, seed: int) -> float:
  """2 / lambda_max where 600 updates end."""
  curvature = {CURVATURE: probes(max_examples=512)[CURVATURE]}
  result = gdlab.run(
    problem, algorithm, num_steps=600, seeds=[seed], eval_every=600, probes=curvature, progress=False
  )
  return 2 / float(result[CURVATURE].values.ravel()[-1])


def _cosine(peak: float, horizon: Any) -> Callable[[Any], Any]:
  """A cosine to zero over `horizon` updates, which may be traced."""
  return lambda count: peak * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(count / horizon, 1.0)))


def _trained_on(problem: Problem, inputs: jax.Array, targets: jax.Array) -> Problem:
  return dataclasses.replace(problem, train=Examples(inputs, targets))


def _root(x: jax.Array) -> jax.Array:
  return jnp.where(x > 0, jnp.sqrt(x), 0.0)  # below 0 its derivative is 0 times NaN


def _root_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  chosen = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=-1)[:, 0]
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels) + jnp.sqrt(1 - chosen)


def _squared(logits: jax.Array, labels: jax.Array) -> jax.Array:
  return jnp.sum(jnp.square(logits - jax.nn.one_hot(labels, logits.shape[-1])), axis=-1) / 2
