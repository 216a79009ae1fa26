"""One run of a result for the rules of a diagnosis: NumPy arrays over its evaluations."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gdlab.core.errors import InputError, shown
from gdlab.diagnosis.probing import BUCKETS, COLUMNS, CURVATURE, FACTORS, GRADIENT, LAYERS, SATURATED, SKETCH
from gdlab.results.datasets import DIVERGED

Floats = np.ndarray


class Trace(NamedTuple):
  """The values of one run at its E evaluations; NaN where something was not measured.

  Attributes:
    where: the run's coordinates.
    steps: int[E], updates made.
    train: float[E], the training loss.
    test: float[E], the test loss.
    batch_loss: float[E], of the last batch before its update.
    grad_norm: float[E], of the last gradient estimate.
    update_norm: float[E], of the last update.
    param_norm: float[E], of all parameters.
    gradient: float[E], norm of the gradient over the probes' examples.
    curvature: float[E], the largest eigenvalue of the Hessian there.
    layers: float[E, L, 5], see `gdlab.diagnosis.probes`.
    sketch: float[E, 2, 64], of parameters and gradient.
    saturated: float[E, 2], share of examples at the values of a softmax of a softmax.
    rate: float[E], the learning rate of the last update.
    diverged: whether the run stopped being finite.
    last_update: the updates made up to the last finite record.
    failed_at: the first record that was not finite; the last step if all were.
    num_steps: requested updates.
  """

  where: Mapping[str, Any]
  steps: np.ndarray
  train: Floats
  test: Floats
  batch_loss: Floats
  grad_norm: Floats
  update_norm: Floats
  param_norm: Floats
  gradient: Floats
  curvature: Floats
  layers: Floats
  sketch: Floats
  saturated: Floats
  rate: Floats
  diverged: bool
  last_update: int
  failed_at: int
  num_steps: int

  @property
  def late(self) -> slice:
    """The evaluations of the second half."""
    return slice(len(self.steps) // 2, None)


def traces(result: xr.Dataset, rate: Any, momentum: float) -> Iterator[Trace]:
  """Every run of a result, in the order of its dims (*grid, seed)."""
  if not isinstance(result, xr.Dataset) or 'step' not in result.dims or 'train_loss' not in result:
    raise InputError(f'result must be a Dataset from gdlab.run or gdlab.sweep, got {shown(result)}')
  axes = [str(name) for name in result.train_loss.dims if name != 'step']
  rates = rate.broadcast_like(result.train_loss.isel(step=0)) if isinstance(rate, xr.DataArray) else None
  for place in itertools.product(*(range(result.sizes[name]) for name in axes)):
    at = dict(zip(axes, place))
    own = float(rates.isel(at)) if rates is not None else rate
    yield _trace(
      result.isel(at), {name: result[name].values[i].item() for name, i in at.items()}, own, momentum
    )


def _trace(run: xr.Dataset, where: Mapping[str, Any], rate: Any, momentum: float) -> Trace:
  steps, train = run.step.values, run.train_loss.values
  diverged = run.status.values == DIVERGED
  # Between evaluations metrics are missing; after a divergence they repeat what was before it.
  kept = (np.isfinite(train) | (steps == 0)) & ~diverged
  kept[0] = True

  def column(name: str, *own: int) -> Floats:
    if name not in run:
      return np.full((kept.sum(), *own), np.nan)
    return run[name].values[kept].astype(float)

  update, gradient = column('update_norm'), column('grad_norm')
  layers = column(LAYERS, 0, COLUMNS)
  missing = COLUMNS - layers.shape[2]  # in results of versions that measured less
  layers = np.pad(layers, ((0, 0), (0, 0), (0, missing)), constant_values=np.nan)
  return Trace(
    where=where,
    steps=steps[kept],
    train=train[kept].astype(float),
    test=column('test_loss'),
    batch_loss=column('batch_loss'),
    grad_norm=gradient,
    update_norm=update,
    param_norm=column('param_norm'),
    gradient=column(GRADIENT),
    curvature=column(CURVATURE),
    layers=layers,
    sketch=column(SKETCH, 2, BUCKETS),
    saturated=column(SATURATED, len(FACTORS)),
    rate=_rates(rate, steps[kept], update, gradient, momentum),
    diverged=bool(diverged[-1]),
    last_update=int(run.updates.values[-1]),
    failed_at=int(steps[diverged][0]) if diverged.any() else int(steps[-1]),
    num_steps=int(steps[-1]),
  )


def _rates(rate: Any, steps: np.ndarray, update: Floats, gradient: Floats, momentum: float) -> Floats:
  """The given rates, or inferred ones, exact for plain descent: the norm of an update over that of its gradient."""
  if callable(rate):
    return np.array([float(rate(max(int(step) - 1, 0))) for step in steps])
  if rate is not None:
    return np.full(len(steps), float(rate))
  known = gradient > 0
  inferred = np.full(len(steps), np.nan)
  inferred[known] = update[known] / gradient[known] * (1 - momentum)
  return inferred
