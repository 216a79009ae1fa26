r"""Two valleys with a known ridge, and a finite data set whose mini-batches make the noise (N1, N2, N3).

Example i has the loss $U(x) + \xi_i x$ with $\sum_i \xi_i = 0$ and $\sum_i \xi_i^2 = N\sigma^2$. The mean loss is U
exactly, so full batch is descent on U, and a batch of B has a gradient of variance $\sigma^2/B$ everywhere.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
import xarray as xr

import gdlab
from experiments.minima import arms
from gdlab import problems, sampling, theory
from gdlab.core.types import Algorithm, Array, Problem, PyTree
from gdlab.host.progress import Progress
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics
from gdlab.problems.landscapes.base import ScatteredInit


@dataclasses.dataclass(frozen=True)
class NoisyLosses:
  """The losses U(x) + xi_i x of examples xi."""

  value: Callable[[Array], Array]

  def __call__(self, params: Array, examples: Array) -> Array:
    """Returns float[B]."""
    return self.value(params) + examples * params[0]


class Ridge(NamedTuple):
  """Two minima of one coordinate and the ridge between them, each as (place, height, curvature)."""

  good: tuple[float, float, float]  # the lower minimum
  top: tuple[float, float, float]
  poor: tuple[float, float, float]

  def barrier(self, poor: bool) -> float:
    """The height of the ridge above one of the minima."""
    return self.top[1] - (self.poor if poor else self.good)[1]


# A tilted double well; a sharp good valley beside a flat poor one, whose ridge is 1.25 and 1 above them.
LANDSCAPES: dict[str, Callable[[], Problem]] = {
  'tilted': lambda: problems.landscapes.double_well(1, depth=1.0, tilt=0.45),
  'sharp': lambda: problems.landscapes.two_valleys(1, curvatures=(25.0, 1.0), depths=(1.25, 1.0)),
  'symmetric': lambda: problems.landscapes.double_well(1, depth=1.0),
}


@functools.cache
def landscape(name: str) -> tuple[Problem, Callable[[Array], Array], Ridge]:
  """The landscape of that name, U as a function of float[1], and its minima and ridge."""
  made = LANDSCAPES[name]()
  points: Any = made.known.stationary_points
  rows = [
    (float(place[0]), float(value), float(eigenvalues[0]))
    for place, value, eigenvalues in zip(points.params, points.values, points.eigenvalues, strict=True)
  ]
  minima = sorted((row for row in rows if row[2] > 0), key=lambda row: row[1])
  (top,) = (row for row in rows if row[2] < 0)
  return made, problems.landscapes.value_fn(made), Ridge(minima[0], top, minima[1])


@functools.cache
def with_data(name: str, start: float, variance: float, num_examples: int, scale: float) -> Problem:
  """The landscape with examples: quantiles of a Gaussian, scaled to mean 0 and that variance.

  Args:
    name: of the landscape.
    start: where runs start.
    variance: sigma^2, of one example's gradient.
    num_examples: N.
    scale: standard deviation of the starts.
  """
  made, value, _ = landscape(name)
  draws = scipy.stats.norm.ppf((np.arange(num_examples) + 0.5) / num_examples)
  draws *= np.sqrt(variance / np.mean(draws**2))
  losses = NoisyLosses(value)
  return dataclasses.replace(
    made,
    init=ScatteredInit((start,), scale),
    loss=PointwiseLoss(losses),
    metrics=PointwiseMetrics((('loss', losses),)),
    name=f'{made.name} with {num_examples} examples',
    train=jnp.asarray(draws, jnp.float32),
  )


class Passages(NamedTuple):
  """State of `passages`."""

  step: Array  # int32[], updates made
  reached: Array  # int32[], the update that first reached the other minimum; 0 before
  returned: Array  # int32[], the update that then first got back; 0 before


def passages(near: float, far: float) -> optax.GradientTransformationExtraArgs:
  """Notes when the coordinate first reaches `far`, and after that `near`; last in a chain, changes nothing."""
  side = 1.0 if far > near else -1.0

  def init(params: PyTree) -> Passages:
    del params
    return Passages(*(jnp.zeros((), jnp.int32) for _ in Passages._fields))

  def update(updates: PyTree, state: Passages, params: PyTree = None, **extra_args):
    del extra_args
    place = params[0] + updates[0]
    step = state.step + 1
    there, back = side * (place - far) >= 0, side * (place - near) <= 0
    reached = jnp.where((state.reached == 0) & there, step, state.reached)
    returned = jnp.where((state.reached > 0) & (state.returned == 0) & back, step, state.returned)
    return updates, Passages(step, reached, returned)

  return optax.GradientTransformationExtraArgs(init, update)


PROBES = {
  'reached': lambda problem, state: state.optimizer[1].reached,
  'returned': lambda problem, state: state.optimizer[1].returned,
  'place': lambda problem, state: state.params[0],
}


@functools.cache  # one function for one arm, so that its program is compiled once
def descent(near: float, far: float, num_examples: int, replacement: bool) -> Callable[..., Algorithm]:
  """Plain descent, watched on its way from one minimum to the other, as a function of rate and batch size."""

  def make(learning_rate, batch_size: int) -> Algorithm:
    draw = sampling.with_replacement if replacement else sampling.reshuffle
    sampler = sampling.full_batch() if batch_size == num_examples else draw(batch_size)
    return gdlab.algorithm(
      sampler=sampler, optimizer=optax.chain(optax.sgd(learning_rate), passages(near, far))
    )

  return make


def attempts() -> float:
  """The factor before the exponential of Kramers' formula, for the shallow valley of the double well."""
  _, (_, _, top), (_, _, bottom) = landscape('tilted')[2]
  return float(theory.kramers_rate(bottom, -top, 1.0, 1.0)) * math.e


def temperature(config, batch_size: int | None = None, learning_rate: float | None = None) -> float:
  r"""The temperature of a batch size at a rate; without them that of the mini-batch at the main rate.

  The latter follows from theory alone: the run is to last `escapes` mean escape times from the shallow valley by
  Kramers' formula, $T = \Delta U / \ln(k_0\,t / m)$ with the ridge $\Delta U$, the attempts $k_0$ per unit of time,
  the time $t$ (rate times updates) and m escapes. All others are in proportion to rate over batch size.
  """
  options = config.valleys
  time = options.updates * options.learning_rate
  main = landscape('tilted')[2].barrier(True) / math.log(attempts() * time / options.escapes)
  rate = options.learning_rate if learning_rate is None else learning_rate
  size = options.mini_batch if batch_size is None else batch_size
  return main * (rate / options.learning_rate) * (options.mini_batch / size)


def expected(config, batch_size: int, learning_rate: float) -> float:
  """How many mean escape times from the shallow valley a run lasts, by Kramers' formula."""
  ridge = landscape('tilted')[2].barrier(True)
  time = config.valleys.updates * learning_rate
  return attempts() * math.exp(-ridge / temperature(config, batch_size, learning_rate)) * time


def graded(config) -> list[tuple[int, float]]:
  """The batch sizes and rates that N1 is asked of: theory has a run escape, and there is a valley to escape from.

  The formula expects at least `escapes` escapes in the run, and the temperature is at most the ridge's height.
  """
  options, ridge = config.valleys, landscape('tilted')[2].barrier(True)
  return [
    (int(size), float(rate))
    for size in options.batch_sizes
    for rate in options.learning_rates
    if expected(config, size, rate) >= options.escapes * (1 - 1e-9)
    and temperature(config, size, rate) <= ridge
  ]


def variance(config) -> float:
  """sigma^2, such that the mini-batch at the main rate has its temperature."""
  options = config.valleys
  return float(
    temperature(config) / theory.effective_temperature(options.learning_rate, 1.0, options.mini_batch)
  )


def crossings(config, name: str, poor: bool, replacement: bool = False, *, progress: Progress) -> xr.Dataset:
  """Descent from one valley of a landscape at every batch size and rate.

  Args:
    config: of the study.
    name: of the landscape.
    poor: whether it starts in the poor valley; else in the good one.
    replacement: whether examples are drawn with replacement; else they are reshuffled.
    progress: of updates.
  """
  options, (_, _, ridge) = config.valleys, landscape(name)
  near, far = (ridge.poor, ridge.good) if poor else (ridge.good, ridge.poor)
  problem = with_data(name, near[0], variance(config), options.num_examples, options.start_scale)
  num_steps = options.updates + (0 if poor else options.return_updates)
  sizes = [*options.batch_sizes, options.num_examples] if poor else [1, options.mini_batch]
  return gdlab.sweep(
    problem,
    descent(near[0], far[0], options.num_examples, replacement),
    {'learning_rate': [float(rate) for rate in options.learning_rates], 'batch_size': sizes},
    num_steps=num_steps,
    seeds=arms.seeds(config, options.num_seeds),
    eval_every=max(1, num_steps // options.records),
    probes=PROBES,
    progress=progress,
  )
