"""How sharp end points are: four measures, and the gap, at the stored parameters of an arm's runs."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree

from experiments.batch_size.benches import Bench
from gdlab import analysis
from gdlab.core.types import Problem

# Name -> words.
MEASURES = {
  'keskar': "Keskar's sharpness",
  'eigenvalue': 'largest eigenvalue',
  'trace': 'trace of the Hessian',
  'adaptive': 'adaptive sharpness',
}
SCALE_FREE = ('adaptive',)  # unchanged when a ReLU layer is rescaled and the function is not
RANK = 4  # directions in which the trace is exact: as many as stand out
TOLERANCE = 0.02  # relative, of the largest eigenvalue: far below the effects that matter


def measure(config, bench: Bench, ends: xr.Dataset, *, progress) -> xr.Dataset:
  """Every measure at every end point; NaN where the parameters are not finite.

  End points are cooled (see `cooling`): measures that ask how far the loss rises nearby would take the gradient of a
  mini-batch that is still jumping about for curvature.
  """
  problem = dataclasses.replace(bench.data.problem, test=bench.data.alike)  # for the gap: labels of one kind
  dims = tuple(dim for dim in ends.params.dims if not str(dim).startswith('params'))
  points = ends.params.transpose(*dims, ...)
  flat = np.asarray(points.values).reshape(-1, points.shape[-1])
  found = []
  for place, point in enumerate(flat):
    found.append(_at(problem, point, place, config.sharpness))
    progress(place + 1, len(flat))
  shape = points.shape[:-1]
  measured = {name: (dims, np.reshape([point[name] for point in found], shape)) for name in found[0]}
  return ends.drop_vars(['params', 'status', 'step'], errors='ignore').assign(measured)


def _at(problem: Problem, point: np.ndarray, number: int, options) -> dict[str, float]:
  """The measures at one point; a lone one is compiled for, as counts of points differ between arms."""
  key = jax.random.fold_in(jax.random.key(0), number)
  params = _structured(problem, point)
  found = {name: float(value) for name, value in _compiled(problem, params, key, options.probes).items()}
  if not np.isfinite(point).all():
    return dict.fromkeys((*found, 'keskar'), np.nan)
  keskar = analysis.keskar_sharpness(problem, params, (), key, epsilon=options.epsilon)
  return found | {'keskar': keskar.sharpness}


@jax.jit
def _structured(problem: Problem, point):
  """Parameters from a vector."""
  return ravel_pytree(problem.init(jax.random.key(0))[0])[1](point)


@functools.partial(jax.jit, static_argnames='num_probes')
def _compiled(problem: Problem, params, key, num_probes: int) -> dict[str, jax.Array]:
  """What needs no host, for models without other state."""
  operator = analysis.hessian(problem, params, (), key)
  gap = analysis.generalisation_gap(problem, params)
  slope = analysis.full_gradient(problem, (), key)(params)
  return {
    'eigenvalue': analysis.sharpness(problem, params, (), key, tolerance=TOLERANCE).values[0],
    'trace': analysis.trace(operator, key, num_probes=num_probes, rank=RANK).value,
    'adaptive': analysis.adaptive_sharpness(problem, params, (), key).sharpness,
    'gradient_norm': optax.tree.norm(slope),
    'cooled_loss': gap['loss'].train,
    'loss_gap': gap['loss'].gap,
    'error_gap': -gap['accuracy'].gap,
    'test_accuracy': gap['accuracy'].test,
  }
