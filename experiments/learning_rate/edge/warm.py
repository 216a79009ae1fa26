"""What is measured on images: the edge of mini-batches, and warm-up by length and peak from sharp and flat starts."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.learning_rate.edge.measure import descent, drawn, network_loss, sharpness, tanh_loss
from experiments.learning_rate.study import steps
from gdlab import problems, sampling, schedules, study
from gdlab.core.types import Algorithm, Array, Problem, PyTree, State

KINDS = ('sharp', 'flat', 'adam', 'adam_v0')
relu_loss = functools.partial(network_loss, jax.nn.relu)


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
  """Scikit-learn's training digits as rows, of mean 0 and variance 1 over all pixels, and one-hot targets."""
  train = problems.digits().train
  rows = np.asarray(train.inputs, float).reshape(len(train.inputs), -1)
  return (rows - rows.mean()) / rows.std(), np.eye(10)[np.asarray(train.targets)]


@functools.cache
def _start(hidden: int, scale: float, last: float) -> Callable[[Array], PyTree]:
  return lambda key: drawn(key, 64, hidden, 10, scale, last)


def images(loss: Callable, count: int, start: Callable[[Array], PyTree], seed: int) -> Problem:
  """So many digits, drawn by the seed, to be fitted to one-hot targets."""
  chosen = np.random.default_rng(seed).permutation(len(digits()[0]))[:count]
  data = {'inputs': digits()[0][chosen], 'targets': digits()[1][chosen]}
  return problems.from_function(loss, start, data=data, name='digits')


@functools.cache
def batch_sharpness(draws: int, size: int) -> Callable[[Problem, State], Array]:
  """A probe: the mean over so many batches of g^T H g / |g|^2, all of the same batch."""

  def probe(problem: Problem, state: State) -> Array:
    def of(key: Array) -> Array:
      rows = jax.random.choice(key, problem.num_examples, (size,), replace=False)
      batch = jax.tree.map(lambda leaf: leaf[rows], problem.train)
      gradient = jax.grad(lambda params: jnp.mean(jax.vmap(tanh_loss, (None, 0))(params, batch)))
      slope = gradient(state.params)
      image = jax.jvp(gradient, (state.params,), (slope,))[1]
      return optax.tree.vdot(slope, image) / optax.tree.vdot(slope, slope)

    return jax.vmap(of)(jax.random.split(jax.random.key(0), draws)).mean()

  return probe


def cases(config: Any) -> dict[str, tuple[int, float]]:
  """Batch size and rate of each arm; the last is the control."""
  options = config.edge.batches
  pairs = zip(options.sizes, options.rates, strict=True)
  return {f'b{size}': (size, rate) for size, rate in pairs} | {
    'control': (options.sizes[-1], options.control)
  }


@steps.cell(over=lambda config: [*cases(config)])
def batches(config, name, *, progress):
  """The sharpness that batches see and that of the full loss along mini-batch descent: [seed, step]."""
  options, (size, rate) = config.edge.batches, cases(config)[name]
  start = _start(options.hidden, 1.0, options.last)
  runs = study.sweep_anew(
    functools.partial(images, tanh_loss, options.num_train, start),
    descent(batch_size=size),
    {'learning_rate': [rate]},
    seeds=config.seeds.ids[: options.num_seeds],
    num_steps=options.updates,
    eval_every=options.every,
    probes={'batch_sharpness': batch_sharpness(options.draws, size), 'sharpness': sharpness},
    progress=progress,
  )
  kept = runs[['batch_sharpness', 'sharpness', 'train_loss', 'status']]
  return kept.isel(learning_rate=0, drop=True).assign_attrs(learning_rate=rate, batch_size=size)


def from_first_gradient(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """Adam's scaling with v_0 = g_0^2 in place of 0; its correction for a start at 0 stays (arXiv 2406.09405)."""

  def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
    first = jax.tree.map(lambda nu, slope: jnp.where(state.count == 0, slope**2, nu), state.nu, updates)
    return inner.update(updates, state._replace(nu=first), params)

  return optax.GradientTransformation(inner.init, update)


@functools.cache
def warmed(kind: str) -> Callable[..., Algorithm]:
  """Full-batch descent, or Adam, with a warm-up as a function of its length and peak, both of which are traced."""

  def make(length, peak):
    rate = optax.scale_by_learning_rate(schedules.warmup(optax.constant_schedule(peak), length))
    scaled = {'adam': optax.scale_by_adam(), 'adam_v0': from_first_gradient(optax.scale_by_adam())}
    optimizer = optax.chain(scaled[kind], rate) if kind in scaled else rate
    return gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optimizer)

  return make


@steps.cell(over=lambda config: KINDS)
def warm(config, kind, *, progress):
  """Final losses by length and peak, [length, peak, seed], and the sharpness at the start and where lengths end."""
  options = config.edge.warm
  scale, last = options.flat if kind == 'flat' else options.sharp
  peaks = options.adam_peaks if kind.startswith('adam') else options.peaks
  runs = study.sweep_anew(
    functools.partial(images, relu_loss, options.num_train, _start(options.hidden, scale, last)),
    warmed(kind),
    {'length': [float(length) for length in options.lengths], 'peak': [*peaks]},
    seeds=config.seeds.ids[: options.num_seeds],
    num_steps=options.updates,
    eval_every=options.updates,
    eval_steps=options.lengths[1:],
    probes={'sharpness': sharpness},
    progress=progress,
  )
  loss = study.unless_failed(runs.isel(step=-1), 'train_loss', np.inf)
  return xr.Dataset({'loss': loss, 'sharpness': runs.sharpness})
