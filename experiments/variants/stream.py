"""The stream of V13: single-example descent, and full batch refitted to all examples before or to a window of them."""

import numpy as np
import xarray as xr

import gdlab
from experiments.variants.measure import components, descent
from experiments.variants.seen import DRIFTS, on_digits
from experiments.variants.study import variants
from gdlab import problems


@variants.cell(when=on_digits)
def stream(config, progress):
  """Squared errors on streams, each example predicted before it is used; full batch is refitted before each."""
  options, features = config.stream, components(config, config.stream.components)
  features = features - features.mean(0)
  features = features / np.sqrt(np.mean(np.sum(features**2, axis=1)))
  rates, drifts, windows = [*options.learning_rates], [0.0, *DRIFTS], [*options.windows]
  ids, count = config.seeds.ids + config.seeds.for_tuning, len(features)
  shape = len(drifts), len(ids)
  single, windowed = np.empty((*shape, len(rates), count)), np.empty((*shape, len(windows), count))
  full = np.empty((*shape, count))
  for row, place in np.ndindex(shape):
    walk, seed = problems.random_walk(drifts[row]), ids[place]
    arrivals = problems.drifting_regression(features, walk, noise_std=options.noise, seed=seed)
    run = gdlab.sweep(
      arrivals,
      descent('in_order', 1),
      {'learning_rate': rates},
      seeds=[seed],
      num_steps=count,
      record_every=1,
      eval_every=count,
    )
    single[row, place] = 2 * run.batch_loss.isel(seed=0, step=slice(1, None))
    inputs, targets = np.asarray(arrivals.train.inputs), np.asarray(arrivals.train.targets)
    full[row, place], *windowed[row, place] = refitted(inputs, targets, [count, *windows])
    progress(row * len(ids) + place + 1, full[..., 0].size)
  dims = ('drift', 'seed', 'example')
  return xr.Dataset(
    {
      'single': (('drift', 'seed', 'learning_rate', 'example'), single),
      'windowed': (('drift', 'seed', 'window', 'example'), windowed),
      'full': (dims, full),
    },
    {'drift': drifts, 'seed': ids, 'learning_rate': rates, 'window': windows},
  )


def refitted(
  inputs: np.ndarray, targets: np.ndarray, windows: list[int], ridge: float = 1e-3
) -> list[np.ndarray]:
  """Squared errors of predicting each target by least squares over as many examples before it as a window has."""
  inputs, targets = inputs.astype(float), targets.astype(float)
  squares = _sums_before(inputs[:, :, None] * inputs[:, None, :])
  products = _sums_before(inputs * targets[:, None])
  errors, place = [], np.arange(len(inputs))
  for window in windows:
    since = np.maximum(place - window, 0)
    gram = squares[place] - squares[since] + ridge * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, (products[place] - products[since])[..., None])[..., 0]
    errors.append((targets - np.sum(inputs * weights, axis=1)) ** 2)
  return errors


def _sums_before(values: np.ndarray) -> np.ndarray:
  return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)[:-1]])
