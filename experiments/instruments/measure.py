"""What the instruments say of the model: along a run as probes, and at its end by themselves."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from flax import nnx
from jax.flatten_util import ravel_pytree
from pydantic import Field, model_validator

import gdlab
from experiments.instruments import model
from gdlab import analysis
from gdlab.core.types import Array, Problem, PyTree, State
from gdlab.host.progress import Progress
from gdlab.study import Config, Count, Positive, flat_params

NUM_DIGITS = 1437  # training images


class Subject(NamedTuple):
  """What is looked at.

  Attributes:
    problem: the model on the digits.
    start: the parameters of the first run at its start.
    end: at its end.
    logits: `(params, images) -> float[n, 10]`.
  """

  problem: Problem
  start: PyTree
  end: PyTree
  logits: Callable[[PyTree, Array], Array]


class Settings(Config):
  """The configuration; see configs/instruments.py."""

  width: Annotated[int, Field(ge=1, le=64)]  # of 9,000 parameters the dense Hessian takes 0.6 GB
  learning_rate: Positive
  batch_size: Annotated[int, Field(ge=1, le=NUM_DIGITS)]
  num_steps: Count
  eval_every: Count
  num_seeds: Annotated[int, Field(ge=1, le=1000)]
  num_eigenvalues: Annotated[int, Field(ge=1, le=16)]
  num_probes: Annotated[int, Field(ge=2, le=10_000)]
  num_points: Annotated[int, Field(ge=2, le=501)]
  radius: Positive
  relative_radius: Positive
  faulty_rate: Positive

  @model_validator(mode='after')
  def _possible(self) -> 'Settings':
    if self.eval_every > self.num_steps:
      raise ValueError('eval_every should be at most num_steps')
    return self


def make_problem(config) -> Problem:
  """The user's module as a problem: the one line that gdlab needs."""
  return gdlab.problems.digits(lambda rngs: model.Classifier(config.width, rngs))


def probes(config) -> Mapping[str, Callable[[Problem, State], Array]]:
  """The instruments that `gdlab.run` measures with at every evaluation."""

  def eigenvalues(problem: Problem, state: State) -> Array:
    operator = analysis.hessian(problem, state.params, state.model_state, state.key)
    found = analysis.eigenpairs(operator, state.key, num_largest=config.num_eigenvalues, max_products=60)
    return found.largest.values

  def noise_scales(problem: Problem, state: State) -> Array:
    found = analysis.noise_scales(
      problem, state.params, state.model_state, state.key, num_probes=config.num_probes
    )
    return jnp.stack([found.simple, found.noise])

  def sharpness(problem: Problem, state: State) -> Array:
    at = (problem, state.params, state.model_state, state.key)
    plain = analysis.sam_sharpness(*at, radius=config.radius)
    adaptive = analysis.adaptive_sharpness(*at, radius=config.relative_radius)
    return jnp.stack([plain.sharpness, adaptive.sharpness])

  return {
    'eigenvalues': eigenvalues,
    'noise_scales': noise_scales,
    'sharpness': sharpness,
    'params': flat_params,
  } | dict(gdlab.diagnosis.probes())


def run(config, problem: Problem, progress: Progress) -> xr.Dataset:
  """The model trained by `gdlab.run`, with all probes."""
  return gdlab.run(
    problem,
    algorithm(config, config.learning_rate),
    num_steps=config.num_steps,
    seeds=config.num_seeds,
    eval_every=config.eval_every,
    probes=probes(config),
    progress=progress,
  )


def algorithm(config, learning_rate: float) -> gdlab.Algorithm:
  """Plain descent on reshuffled batches."""
  sampler = gdlab.sampling.reshuffle(config.batch_size)
  return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(learning_rate))


def faulty(config, problem: Problem, progress: Progress) -> xr.Dataset:
  """The same with a rate far too large, for the diagnosis."""
  return gdlab.run(
    problem,
    algorithm(config, config.faulty_rate),
    num_steps=config.num_steps,
    seeds=1,
    eval_every=config.eval_every,
    probes=gdlab.diagnosis.probes(),
    progress=progress,
  )


def subject(config, problem: Problem, result: xr.Dataset) -> Subject:
  """The first run's start and end, out of the recorded parameters."""
  _, unravel = ravel_pytree(problem.init(jax.random.key(0))[0])
  track = result.params.isel(seed=0).dropna('step').values.astype(np.float32)

  @jax.jit
  def logits(params: PyTree, images: Array) -> Array:
    module = model.Classifier(config.width, nnx.Rngs(0))
    nnx.update(module, params)
    return module(images)

  return Subject(problem, unravel(track[0]), unravel(track[-1]), logits)


def spectrum(at: Subject) -> xr.Dataset:
  """The Hessian at the end: all eigenvalues from the dense matrix, the extreme ones and the density by products."""
  operator = analysis.hessian(at.problem, at.end, (), jax.random.key(0))
  pairs = jax.jit(
    lambda key: analysis.eigenpairs(operator, key, num_largest=4, num_smallest=2, tolerance=1e-3)
  )(jax.random.key(1))
  density = jax.jit(lambda key: analysis.spectral_density(operator, key))(jax.random.key(2))
  # In float64 on the host: LAPACK's float32 blurs the many eigenvalues near zero.
  matrix = np.asarray(jax.jit(lambda: analysis.dense(operator))(), np.float64)
  found = [pairs.largest, pairs.smallest]
  return xr.Dataset(
    {
      'eigenvalues': ('parameter', np.linalg.eigvalsh((matrix + matrix.T) / 2)),
      'found': ('pair', np.concatenate([each.values for each in found])),
      'residual': ('pair', np.concatenate([each.residuals for each in found])),
      'sign': ('pair', np.concatenate([each.signs for each in found])),
    }
    | {
      name: ('point', np.asarray(getattr(density, name))) for name in ('points', 'density', 'lower', 'upper')
    },
    attrs={
      'products': int(pairs.products),
      'width': float(density.width),
      # Each residual has an allowance for the rounding of the products; the smallest is hardly more than that.
      'rounding': float(pairs.largest.residuals.min()),
    },
  )


def generalisation(config, at: Subject) -> xr.Dataset:
  """Numbers at the start and at the end, and the margins of all examples."""
  rows: dict[str, list[float]] = {}
  margins = {}
  for params in (at.start, at.end):
    for name, value in _numbers(config, at, params).items():
      rows.setdefault(name, []).append(float(value))
  for split in ('train', 'test'):
    examples = getattr(at.problem, split)
    margins[f'{split}_margin'] = (
      ('moment', f'{split}_example'),
      np.stack(
        [
          analysis.output_margins(at.logits(params, examples.inputs), examples.targets)
          for params in (at.start, at.end)
        ]
      ),
    )
  return xr.Dataset(
    {'value': (('number', 'moment'), list(rows.values()))} | margins,
    {'number': list(rows), 'moment': ['start', 'end']},
  )


def _numbers(config, at: Subject, params: PyTree) -> dict[str, Any]:
  problem, key = at.problem, jax.random.key(3)
  gap = analysis.generalisation_gap(problem, params)
  margins = analysis.margins(
    at.logits(params, problem.train.inputs),
    problem.train.targets,
    params,
    kinds=problem.kinds and problem.kinds(),
    quantiles=(0.1, 0.5),
  )
  subspace = min(100, ravel_pytree(params)[0].size)
  return {
    'training loss': gap['loss'].train,
    'test less training loss': gap['loss'].gap,
    '± standard error': gap['loss'].standard_error,
    'test accuracy': gap['accuracy'].test,
    'Keskar, %': analysis.keskar_sharpness(problem, params, (), key).sharpness,
    'Keskar in 100 dims, %': analysis.keskar_sharpness(problem, params, (), key, subspace=subspace).sharpness,
    f'SAM, radius {config.radius:g}': analysis.sam_sharpness(
      problem, params, (), key, radius=config.radius
    ).sharpness,
    f'adaptive, radius {config.relative_radius:g}': analysis.adaptive_sharpness(
      problem, params, (), key, radius=config.relative_radius
    ).sharpness,
    'rise under noise 0.05': analysis.flatness(problem, params, (), key, sigma=0.05).rise,
    'distance from start': analysis.distance_from_init(params, at.start).total,
    'margin, 10 % quantile': margins.output[0],
    'margin, median': margins.output[1],
    'margin / spectral norms': margins.spectral[1],
  }


def trajectory(config, at: Subject, result: xr.Dataset) -> xr.Dataset:
  """The plane of the first run's two principal components."""
  path = result.params.isel(seed=0).dropna('step').values
  return analysis.trajectory_plane(
    at.problem, path, at.end, num_points=(config.num_points, config.num_points)
  )


def interpolation(config, at: Subject) -> dict[str, xr.Dataset]:
  """The way to a second solution, from the user's own loop: as it is, and with its hidden units in our order."""
  train = at.problem.train
  other = model.train(
    lambda rngs: model.Classifier(config.width, rngs),
    train.inputs,
    train.targets,
    learning_rate=config.learning_rate,
    batch_size=config.batch_size,
    num_steps=config.num_steps,
    seed=1,
  )
  aligned = analysis.align(at.problem, at.end, other)
  return {
    'as trained': analysis.interpolate(at.problem, at.end, other),
    'units aligned': analysis.interpolate(at.problem, at.end, aligned.params),
  }
