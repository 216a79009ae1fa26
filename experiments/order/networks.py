"""Networks that see their images in an order, and the variance of importance sampling along training (O1-O4, O1a)."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.order.convex import sampler
from experiments.order.effects import BENCHES
from experiments.order.study import order
from gdlab import analysis, estimators, problems, sampling, study
from gdlab.core.objective import take
from gdlab.core.types import Algorithm, Array, Problem

DRAWN = 400  # batches, for the variance that is measured
ALL_SEEN = 1e-6  # of uniform draws among those in proportion to the norms, as a share must not be 0


class SmallCNN(nn.Module):
  """Two convolutions of stride 2 and a dense layer."""

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Logits [B, 10] of images [B, side, side]."""
    hidden = nn.relu(nn.Conv(4, (3, 3), strides=2)(images[..., None]))
    hidden = nn.relu(nn.Conv(8, (3, 3), strides=2)(hidden))
    return nn.Dense(10)(hidden.reshape(len(hidden), -1))


@functools.cache
def _whole(dataset: str, model: nn.Module) -> Problem:
  return getattr(problems, dataset)(model)


def bench(config, name: str, seed: int, by_class: bool) -> Problem:
  """Images drawn for a seed, sorted by class or in the order drawn; for validation, others that are held out."""
  options = config.cnn if name == 'cnn' else config.perceptron
  dataset = options.dataset if name == 'cnn' else 'digits'
  whole = _whole(dataset, SmallCNN() if name == 'cnn' else problems.MLP(options.hidden))
  chosen = np.random.default_rng(seed).permutation(whole.num_examples)[: options.images]
  train, held_out = np.split(chosen, [options.train])
  if by_class:
    train = train[np.argsort(np.asarray(whole.train.targets)[train], kind='stable')]
  parts = {'train': train, 'validation': held_out}
  taken = {part: take(whole.train, jnp.asarray(rows)) for part, rows in parts.items()}
  return dataclasses.replace(whole, test=None, **taken)


@functools.cache
def _in_order(batch_size: int) -> Callable[..., Algorithm]:
  return lambda learning_rate: gdlab.algorithm(
    sampler=sampling.sequential(batch_size), optimizer=optax.sgd(learning_rate)
  )


@functools.cache
def _drawing(arm: str, batch_size: int, count: int, updates: int) -> Callable[[Array], Array]:
  """The examples of all updates, int32[updates, B], as a function of a key."""
  own = sampler(arm, batch_size, count)

  def draw(key: Array) -> Array:
    step = lambda state, _: own.sample(state)[::-1]
    return jax.lax.scan(step, own.init(key, count), length=updates)[1].indices

  return jax.jit(draw)


def unrolled(problem: Problem, arm: str, batch_size: int, epochs: int, key: Array) -> Problem:
  """The examples of all updates of an arm, as training examples that are read in this order; B has to divide N.

  So all arms are one compiled program, which takes most of the time. The training loss is then that for validation.
  """
  updates = epochs * problem.num_examples // batch_size
  drawn = _drawing(arm, batch_size, problem.num_examples, updates)(key)
  return dataclasses.replace(
    problem, train=take(problem.train, drawn.ravel()), validation=problem.train, test=problem.validation
  )


@order.cell(over=lambda config: [*BENCHES])
def training(config, name, progress):
  """All arms at all rates, on the tuning seeds and the others; the loss within the last epoch."""
  options, found = config.cnn if name == 'cnn' else config.perceptron, []
  batch_size = 1 if name == 'single' else options.batch_size
  epoch = options.train // batch_size
  epochs = options.single_epochs if name == 'single' else options.epochs
  steps = {0, *(round((epochs - 1 + part / options.looks) * epoch) for part in range(options.looks + 1))}
  ids = [*config.seeds.for_tuning, *config.seeds.ids[: options.num_seeds]]
  rates = options.single_rates if name == 'single' else options.rates
  keys = dict(zip(ids, study.keys(ids), strict=True))
  own = lambda arm, seed: bench(config, name, seed, arm != 'unsorted')
  data = lambda arm, seed: unrolled(own(arm, seed), arm, batch_size, epochs, keys[seed])
  for number, arm in enumerate(BENCHES[name]):
    runs = study.sweep_anew(
      functools.partial(data, arm),
      _in_order(batch_size),
      {'learning_rate': [*rates]},
      seeds=ids,
      num_steps=epochs * epoch,
      eval_every=epochs * epoch,
      eval_steps=sorted(steps),
    )
    named = {'validation_loss': 'loss', 'test_accuracy': 'accuracy', 'status': 'status'}
    found.append(runs[[*named]].rename(named).sel(step=sorted(steps)))
    progress(number + 1, len(BENCHES[name]))
  arms = xr.Variable('arm', [*BENCHES[name]])
  return xr.concat(found, arms, combine_attrs='override').assign_attrs(epoch=epoch)


def variances(problem: Problem, state: gdlab.State, batch_size: int, mixing: float) -> dict[str, Array]:
  r"""Variances of estimates of the mean gradient at the run's parameters, exact and over drawn batches.

  With $p_i$ they are $\frac1B (\frac1{N^2} \sum_i \lVert g_i \rVert^2 / p_i - \lVert \bar g \rVert^2)$: 'uniform' for
  $p_i = 1/N$, 'optimal' for $p_i \propto \lVert g_i \rVert$, 'learned' for those of the run's own sampler. 'drawn' is
  the mean over batches of the squared distance from $\bar g$, of the optimal ones.
  """
  key = jax.random.fold_in(state.key, state.step)
  gradients = analysis.per_example_gradients(problem, state.params, state.model_state, key)
  rows = jax.vmap(lambda gradient: ravel_pytree(gradient)[0])(gradients)
  count = rows.shape[0]
  norms, mean = jnp.sqrt(jnp.sum(rows**2, axis=1)), rows.mean(axis=0)
  square = jnp.sum(mean**2)
  exact = lambda shares: (jnp.sum(norms**2 / shares) / count**2 - square) / batch_size
  nearly = (1 - ALL_SEEN) * norms / norms.sum() + ALL_SEEN / count
  gram = rows @ rows.T
  ideal = sampling.adaptive_importance(batch_size, sampling.gradient_norm, mixing=ALL_SEEN)

  def distance(key: Array) -> Array:
    own = ideal.init(key, count)._replace(scores=norms, seen=jnp.ones(count, bool))
    batch, _ = ideal.sample(own)
    weights = jnp.zeros(count).at[batch.indices].add(batch.weights) - 1 / count
    return weights @ gram @ weights

  drawn = jnp.mean(jax.lax.map(distance, jax.random.split(key, DRAWN), batch_size=50))
  scores, seen = state.sampler.scores, state.sampler.seen
  filled = jnp.where(seen.any(), jnp.where(seen, scores, jnp.sum(scores) / jnp.maximum(jnp.sum(seen), 1)), 1)
  shares = filled / filled.sum()
  return {
    'uniform': exact(jnp.full(count, 1 / count)),
    'optimal': exact(nearly),
    'learned': exact((1 - mixing) * shares + mixing / count),
    'drawn': drawn,
  }


@order.cell()
def importance(config, progress):
  """Training with probabilities that follow the last norm seen; variances along the way."""
  options, count = config.importance, config.perceptron.train
  drawn = sampling.adaptive_importance(options.batch_size, sampling.gradient_norm, mixing=options.mixing)
  descent = gdlab.algorithm(
    sampler=drawn, estimator=estimators.per_example(), optimizer=optax.sgd(options.learning_rate)
  )
  epoch = -(-count // options.batch_size)
  probe = functools.partial(variances, batch_size=options.batch_size, mixing=options.mixing)
  runs = study.sweep_anew(
    lambda seed: bench(config, 'mini', seed, False),
    lambda: descent,
    seeds=config.seeds.ids[: options.num_seeds],
    progress=progress,
    num_steps=epoch * max(options.epochs),
    eval_every=epoch * max(options.epochs),
    eval_steps=[epoch * number for number in options.epochs],
    probes={'variance': probe},
  )
  return runs.sel(step=[0, *(epoch * number for number in options.epochs)])
