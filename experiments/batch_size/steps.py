"""Steps to a target loss against the batch size, the noise scale on the way, and the scaling rules."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

import gdlab
from experiments.batch_size.benches import Bench, sampler, seeds, tuning_seeds
from gdlab import analysis, schedules, statistics
from gdlab.core.types import Algorithm, Problem
from gdlab.statistics import Crossing

RULES = ('best of all tried', 'linear', 'square root', 'as it was')


def tuning(config, bench: Bench, batch_size: int, *, progress) -> xr.Dataset:
  """Every rate at one batch size, with the tuning seeds: steps to the target."""
  rates = tuple(config.steps.learning_rates)
  return _to_target(config, bench, batch_size, rates, tuning_seeds(config), progress)


def arm(
  config, bench: Bench, batch_size: int, tuned: xr.Dataset, base: xr.Dataset, *, progress
) -> xr.Dataset:
  """The study's seeds at the best rate, and at those that the linear and the square-root rule make of the base's."""
  rates = ruled_rates(config, batch_size, tuned, base)
  runs = _to_target(config, bench, batch_size, tuple(dict.fromkeys(rates.values())), seeds(config), progress)
  chosen = [runs.sel(learning_rate=rate).drop_vars('learning_rate') for rate in rates.values()]
  return xr.concat(chosen, xr.Variable('rule', list(rates)), combine_attrs='override').assign_coords(
    learning_rate=('rule', list(rates.values()))
  )


def ruled_rates(config, batch_size: int, tuned: xr.Dataset, base: xr.Dataset) -> dict[str, float]:
  """Rule -> rate: the best of those tried, and what the rules make of the base's best."""
  first, factor = best_rate(base), batch_size / config.steps.base
  return {
    RULES[0]: best_rate(tuned),
    RULES[1]: float(schedules.linear_scaling(first, factor)),
    RULES[2]: float(schedules.square_root_scaling(first, factor)),
    RULES[3]: first,
  }


def best_rate(tuned: xr.Dataset) -> float:
  """The rate of the least median steps to the target over the tuning seeds; runs that never got there took forever."""
  steps = tuned.steps.where(~tuned.censored, np.inf)
  middle, mean = steps.median('seed').values, tuned.steps.mean('seed').values
  return float(tuned.learning_rate.values[np.lexsort((mean, middle))[0]])


def horizon(config, batch_size: int) -> int:
  """Updates that a batch size has to reach the target."""
  return config.steps.budget_updates + -(-config.steps.budget_examples // batch_size)


def records(last: int, count: int) -> list[int]:
  """The updates after which the loss is evaluated: every one at first, then in equal ratios."""
  return sorted({int(step) for step in np.unique(np.geomspace(1, last, count).round())})


def _to_target(
  config, bench: Bench, batch_size: int, rates: Sequence[float], ids: Sequence[int], progress
) -> xr.Dataset:
  last = horizon(config, batch_size)
  runs = gdlab.sweep(
    bench.data.problem,
    _plain(batch_size, bench.num_examples),
    {'learning_rate': [float(rate) for rate in rates]},
    num_steps=last,
    seeds=ids,
    eval_every=last,
    eval_steps=records(last, config.steps.records),
    plan=gdlab.Plan(lanes_per_block=config.lanes_per_block or None),
    progress=progress,
  )
  return crossings(runs, config.steps.target_loss).assign_attrs(runs.attrs, batch_size=batch_size)


@functools.cache
def _plain(batch_size: int, num_examples: int) -> Callable[..., Algorithm]:
  def make(learning_rate) -> Algorithm:
    return gdlab.algorithm(sampler=sampler(batch_size, num_examples), optimizer=optax.sgd(learning_rate))

  return make


def crossings(runs: xr.Dataset, target: float) -> xr.Dataset:
  """Steps to the target training loss of every run; where censored, what it had."""
  alive = runs.train_loss.where(runs.status == gdlab.RUNNING).transpose(..., 'step')
  found = statistics.first_crossing(runs.step.values, alive.values, target)
  dims = alive.dims[:-1]
  coordinates = {name: value for name, value in runs.coords.items() if 'step' not in value.dims}
  return xr.Dataset(
    {
      'steps': (dims, found.time),
      'censored': (dims, found.censored),
      'status': (('step', *dims), runs.status.isel(step=[-1]).transpose('step', *dims).values),
    },
    coordinates,
  )


def as_crossing(runs: xr.Dataset, *dims: str) -> Crossing:
  """Stored crossings with the axes in that order."""
  return Crossing(runs.steps.transpose(*dims).values, runs.censored.transpose(*dims).values)


def scales(config, bench: Bench, batch_size: int, tuned: xr.Dataset, *, progress) -> xr.Dataset:
  """Both noise scales along runs at the best rate, up to the target; NaN beyond."""
  chosen = tuned.sel(learning_rate=best_rate(tuned))
  last = int(min(horizon(config, batch_size), 1.5 * chosen.steps.max()))
  runs = gdlab.sweep(
    bench.data.problem,
    _plain(batch_size, bench.num_examples),
    {'learning_rate': [best_rate(tuned)]},
    num_steps=last,
    seeds=seeds(config, config.steps.scale_seeds),
    eval_every=max(1, last // config.steps.scale_records),
    probes={'scales': functools.partial(_scales, config.steps.probes)},
    progress=progress,
  ).isel(learning_rate=0)
  on_way = (runs.train_loss > config.steps.target_loss).cumprod('step').astype(bool)
  measured = runs.scales.where(on_way)
  return xr.Dataset(
    {
      'simple': measured.isel(scales_0=0),
      'noise': measured.isel(scales_0=1),
      'noise_error': measured.isel(scales_0=2),
      'train_loss': runs.train_loss,
      'status': runs.status,
    }
  ).assign_attrs(runs.attrs, batch_size=batch_size)


def _scales(num_probes: int, problem: Problem, state: gdlab.State):
  key = jax.random.fold_in(state.key, state.step)
  found = analysis.noise_scales(problem, state.params, state.model_state, key, num_probes=num_probes)
  return jnp.stack([found.simple, found.noise, found.noise_error])


def adam(config, bench: Bench, batch_size: int, *, progress) -> xr.Dataset:
  """Adam at one batch size: every rate, with the base's constants and with those that the rule scales."""
  options = config.adam
  last = horizon(config, batch_size)
  factor = batch_size / options.base
  runs = gdlab.sweep(
    bench.data.problem,
    _adam(batch_size, bench.num_examples, options.b1, options.b2, options.eps),
    {'learning_rate': [float(rate) for rate in options.learning_rates], 'factor': sorted({1.0, factor})},
    num_steps=last,
    seeds=[*seeds(config, config.steps.scale_seeds), *tuning_seeds(config)],
    eval_every=last,
    eval_steps=records(last, config.steps.records),
    progress=progress,
  )
  return crossings(runs, config.steps.target_loss).assign_attrs(runs.attrs, batch_size=batch_size)


@functools.cache
def _adam(batch_size: int, num_examples: int, b1: float, b2: float, eps: float) -> Callable[..., Algorithm]:
  def make(learning_rate, factor) -> Algorithm:
    # The rate is tried, not scaled here; the rest follows the rule.
    scaled = schedules.adam_scaling(1.0, b1, b2, eps, 1, factor)
    optimizer = optax.adam(learning_rate, scaled.b1, scaled.b2, scaled.eps)
    return gdlab.algorithm(sampler=sampler(batch_size, num_examples), optimizer=optimizer)

  return make
