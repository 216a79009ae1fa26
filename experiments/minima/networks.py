"""Networks: single examples against mini-batches at one rate (N2), and many initialisations at every width (N5-N7)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.minima import arms
from gdlab import sampling, schedules, theory
from gdlab.core.types import Algorithm, Problem
from gdlab.host.progress import Progress

MOMENTUM = 0.9


@functools.cache
def plain(num_examples: int) -> Callable[..., Algorithm]:
  """Plain descent with reshuffled batches, as a function of rate and batch size."""
  del num_examples

  def make(learning_rate, batch_size: int) -> Algorithm:
    return gdlab.algorithm(sampler=sampling.reshuffle(batch_size), optimizer=optax.sgd(learning_rate))

  return make


def trap_problem(config) -> Problem:
  """The network of N2."""
  return arms.make_problem(config, (config.hidden_of_trap,))


def trap_tuning(config, *, progress: Progress) -> xr.Dataset:
  """Single examples and mini-batches at every rate, with the tuning seeds, at equal examples."""
  options = config.trap
  rates = [float(rate) for rate in options.learning_rates]
  return _trap(config, rates, options.epochs, arms.tuning_seeds(options.num_tuning_seeds), progress)


def trap(config, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Both at the rate that was best for the mini-batch, for long enough to see who comes back."""
  options = config.trap
  epochs = options.epochs + options.return_epochs
  return _trap(config, [trap_rate(tuned)], epochs, arms.seeds(config), progress)


def trap_rate(tuned: xr.Dataset) -> float:
  """The rate that was best for the mini-batch."""
  return float(arms.best_rate(tuned.isel(batch_size=-1)))


def _trap(config, rates, epochs: int, ids, progress: Progress) -> xr.Dataset:
  """Losses after every epoch, [batch_size, learning_rate, seed, epoch]."""
  problem, sizes, runs = trap_problem(config), (1, config.trap.batch_size), []
  for place, size in enumerate(sizes):
    updates = theory.updates_per_epoch(problem.num_examples, size)
    run = gdlab.sweep(
      problem,
      plain(problem.num_examples),
      {'learning_rate': rates, 'batch_size': [size]},
      num_steps=epochs * updates,
      seeds=ids,
      eval_every=updates,
      record_every=updates,
      progress=arms.share_of(progress, place, len(sizes)),
    ).isel(batch_size=0, drop=True)
    # On the common clock of epochs.
    runs.append(run[['train_loss', 'test_accuracy', 'status']].assign_coords(step=range(epochs + 1)))
  joined = xr.concat(runs, xr.Variable('batch_size', list(sizes)), combine_attrs='drop_conflicts')
  return joined.assign_attrs(backend=jax.default_backend())


def rescue(config, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Single examples for the first epochs, mini-batches at the same rate from then on: is what they are in a valley?

  The loss at the start, at the change and after the last update.
  """
  options, problem = config.trap, trap_problem(config)
  change, updates = (
    theory.updates_per_epoch(problem.num_examples, size) * epochs
    for size, epochs in ((1, options.epochs), (options.batch_size, options.return_epochs))
  )
  return gdlab.sweep(
    problem,
    switching(options.batch_size, change),
    {'learning_rate': [trap_rate(tuned)]},
    num_steps=change + updates,
    seeds=arms.seeds(config),
    eval_every=change + updates,
    eval_steps=[change],
    progress=progress,
  )


@functools.cache
def switching(batch_size: int, change: int) -> Callable[..., Algorithm]:
  """Plain descent with single examples up to an update and batches from then on."""

  def make(learning_rate) -> Algorithm:
    sampler = sampling.batch_size_schedule(batch_size, lambda step: jnp.where(step < change, 1, batch_size))
    return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(learning_rate))

  return make


@functools.cache
def decayed(batch_size: int, num_steps: int) -> Callable[..., Algorithm]:
  """Descent with momentum whose rate falls on a line to 0, so that runs end in a minimum and not in noise."""

  def make(learning_rate) -> Algorithm:
    rate = schedules.linear(learning_rate, num_steps)
    return gdlab.algorithm(
      sampler=sampling.reshuffle(batch_size), optimizer=optax.sgd(rate, momentum=MOMENTUM)
    )

  return make


def width_updates(config, problem: Problem) -> int:
  """Updates of every run of N5."""
  options = config.widths
  return options.epochs * theory.updates_per_epoch(problem.num_examples, options.batch_size)


def width_tuning(config, width: int, *, progress: Progress) -> xr.Dataset:
  """Networks of one width at every rate, with the tuning seeds."""
  problem = arms.make_problem(config, (width,))
  num_steps = width_updates(config, problem)
  return gdlab.sweep(
    problem,
    decayed(config.widths.batch_size, num_steps),
    {'learning_rate': [float(rate) for rate in config.widths.learning_rates]},
    num_steps=num_steps,
    seeds=arms.tuning_seeds(config.widths.num_tuning_seeds),
    eval_every=num_steps,
    record_every=max(1, num_steps // 20),
    progress=progress,
  )


def width_runs(config, width: int, tuned: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Networks of one width at its best rate, that differ in their initial parameters alone, and what they ended with."""
  problem = arms.make_problem(config, (width,))
  num_steps = width_updates(config, problem)
  ids = arms.seeds(config)
  order = [first for first in config.first_seeds for _ in range(config.num_seeds)]
  return gdlab.sweep(
    problem,
    decayed(config.widths.batch_size, num_steps),
    {'learning_rate': [float(arms.best_rate(tuned))]},
    num_steps=num_steps,
    seeds={'init': ids, 'order': order, 'noise': order},
    eval_every=num_steps,
    record_every=max(1, num_steps // 20),
    probes={'params': _flat},
    progress=progress,
  )


def _flat(problem: Problem, state) -> jax.Array:
  del problem
  return ravel_pytree(state.params)[0]
