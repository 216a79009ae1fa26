"""P2, P6 and P7: what is trained, with half precision, on MNIST, and with batch normalisation."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from flax import linen as nn

import gdlab
from experiments.practice import costs
from experiments.practice.seen import DTYPES, LAYERS, NORMS, chooser
from experiments.practice.study import practice
from gdlab import analysis, problems, sampling, schedules, statistics, study
from gdlab.core.types import Algorithm, Array, Problem

KEPT = nn.BatchNorm.momentum  # what running statistics keep of themselves at an update
TIMED = 50  # updates at a time
TOLERANCE = 0.02  # relative, of the largest eigenvalue: far below the effects that matter


class Arm(NamedTuple):
  """What is trained: `data` is `(seed) -> problem`, `ids` and `tuning` are seeds, `equal` a rate besides the tuned."""

  data: Callable[[int], Problem]
  make: Callable[[Any], Algorithm]
  options: Any
  ids: Sequence[int]
  tuning: Sequence[int]
  records: int = 1
  equal: tuple[float, ...] = ()
  probes: Mapping[str, Callable] = {}


@functools.cache
def descent(batch_size: int, momentum: float | None = None, horizon: int | None = None) -> Callable:
  """Descent on reshuffled mini-batches by its rate, which falls along a cosine if there is a horizon."""
  sampler = sampling.reshuffle(batch_size)

  def make(learning_rate: Any) -> Algorithm:
    rate = schedules.cosine(learning_rate, horizon) if horizon else learning_rate
    return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(rate, momentum=momentum))

  return make


@functools.cache
def images(hidden: tuple[int, ...]) -> Problem:
  """MNIST with a perceptron."""
  return problems.mnist(problems.MLP(hidden))


def arms(config: Any) -> dict[str, Arm]:
  """By name."""
  half, norm, mnist, seeds = config.precision, config.norm, config.mnist, config.seeds
  drawn = lambda model: functools.partial(costs.digits, model, config)
  plain, found = descent(half.batch_size), {}
  for name, dtype in DTYPES.items():
    found[name] = Arm(drawn(costs.Perceptron(half.hidden, dtype)), plain, half, seeds.ids, seeds.for_tuning)
  plain, probes = descent(norm.batch_size), {'landscape': landscape(norm.steps, config.num_train)}
  for name in NORMS:
    data = drawn(problems.MLP(norm.hidden, batch_norm=name == 'normed'))
    own = (norm.records, (norm.equal,), probes)
    found[name] = Arm(data, plain, norm, config.some_ids, seeds.for_tuning, *own)
  scheduled = descent(mnist.batch_size, mnist.momentum, mnist.num_updates)
  for name, count in LAYERS.items() if mnist.asked else ():
    split = lambda seed, hidden=mnist.hidden[:count]: problems.split(
      images(hidden), validation=mnist.num_validation, seed=seed
    )
    found[name] = Arm(split, scheduled, mnist, config.few_ids, config.few_tuned, mnist.records)
  return found


def _sweep(arm: Arm, rates, seeds, records: int, probes: Mapping, progress) -> xr.Dataset:
  count = arm.options.num_updates
  given = {'num_steps': count, 'eval_every': max(1, count // records), 'probes': probes, 'progress': progress}
  plan = gdlab.Plan(lanes_per_block=1)  # one program, however many rates there are
  return study.sweep_anew(arm.data, arm.make, {'learning_rate': [*rates]}, seeds=seeds, plan=plan, **given)


@practice.cell(over=lambda config: [*arms(config)])
def tuning(config, name, *, progress):
  """An arm at every rate, on the tuning seeds."""
  arm = arms(config)[name]
  return _sweep(arm, arm.options.learning_rates, arm.tuning, 1, {}, progress)


@practice.cell('tuning_{}', over=lambda config: [*arms(config)])
def runs(config, name, tuned, *, progress):
  """An arm at the rates that are likely to be chosen."""
  arm = arms(config)[name]
  rates = sorted({*statistics.likely(chooser(tuned), len(arm.tuning)), *arm.equal})
  return _sweep(arm, rates, arm.ids, arm.records, arm.probes, progress)


@functools.partial(jax.jit, static_argnums=0)
def _advance(step: Callable, state: gdlab.State, problem: Problem) -> gdlab.State:
  return jax.lax.fori_loop(0, TIMED, lambda _, state: step(state, problem)[0], state)


@practice.cell(alone=True, once=True, when=lambda config: config.mnist.asked)
def clock(config, *, progress):
  """Seconds of an update of the networks on MNIST: the fastest of some loops."""
  found, every = [], arms(config)
  for done, name in enumerate(LAYERS, 1):
    algorithm, problem = every[name].make(0.01), every[name].data(config.seeds.first)
    state = algorithm.init(jax.random.key(0), problem)
    many = functools.partial(_advance, algorithm.step, state, problem)
    found.append(min(costs.seconds(many) for _ in range(5)) / TIMED)
    progress(done, len(LAYERS))
  return xr.Dataset({'seconds': ('arm', found)}, {'arm': [*LAYERS]})


@functools.cache
def landscape(steps: tuple[float, ...], size: int) -> Callable[[Problem, gdlab.State], dict[str, Array]]:
  """A probe of curvature and gradient of the loss of the whole training set, at once.

  In training mode its own statistics normalise it, and move with the parameters. With population statistics, those of
  the same images held fixed, it is another function of the parameters: the same value and another derivative.
  """

  def probe(problem: Problem, state: gdlab.State) -> dict[str, Array]:
    key, own = jax.random.key(0), state.model_state
    _, moved = problem.loss(state.params, own, problem.train, jnp.ones(size, bool), key)
    # An update of the running statistics, moved = m old + (1 - m) those of the batch, solved for the latter.
    population = jax.tree.map(lambda new, old: old + (new - old) / (1 - KEPT), moved, own)
    at, found = (problem, state.params, population, key), {}
    for name, losses in {'train': analysis.training_losses, 'population': analysis.evaluation_losses}.items():
      pair = analysis.sharpness(*at, tolerance=TOLERANCE, block_size=size, losses=losses)
      found[name] = pair.values[0]
    ahead = analysis.gradient_predictiveness(
      *at, jnp.asarray(steps), block_size=size, losses=analysis.training_losses
    )
    return found | {'smoothness': ahead.smoothness.max()}

  return probe
