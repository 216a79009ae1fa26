"""Arms on a quadratic, whose runs can be worked out by hand."""

import numpy as np
import optax

import gdlab
from gdlab.core.seeds import seed_ids, stream_keys

CURVATURES = [1.0, 0.02]
RATES = [0.1, 0.5, 1.5]


def descent(learning_rate):
  return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(learning_rate))


def heavy_ball(learning_rate):
  return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(learning_rate, 0.9))


def searched(make, rates=RATES):
  return gdlab.Arm(make, {'learning_rate': rates})


def losses_by_hand(problem, seeds, rate, momentum, num_steps):
  """float64[seed, step], by Polyak's recursion."""
  ids = seed_ids(seeds)
  x = np.asarray([problem.init(stream_keys(one).init)[0] for one in ids], np.float64)
  curvatures, trace, losses = np.asarray(CURVATURES), np.zeros_like(x), []
  for _ in range(num_steps + 1):
    losses.append(0.5 * (curvatures * x**2).sum(axis=1))
    trace = curvatures * x + momentum * trace
    x = x - rate * trace
  return np.stack(losses, axis=1)
