"""Batch gradients drawn many times, and their mean and covariance against the stated ones."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gdlab.core.objective import batch_loss
from gdlab.core.types import Batch


@jax.jit
def _gradients(problem, params, batch, keys):
  one = lambda key: jax.grad(lambda p: batch_loss(problem, p, (), batch, key)[0])(params)
  return jax.vmap(lambda key: ravel_pytree(one(key))[0])(keys)


def gradients(problem, params, batch, count, seed=0):
  """Batch gradients with different keys, raveled: float[count, d]."""
  return np.asarray(_gradients(problem, params, batch, jax.random.split(jax.random.key(seed), count)))


def batch_of(weights):
  return Batch(jnp.arange(len(weights), dtype=jnp.int32), jnp.asarray(weights, float))


def assert_moments(draws, mean, covariance):
  """Mean and covariance of normal draws within 3 standard errors each, and exact where the variance is 0."""
  count, variances = len(draws), np.diag(covariance)
  tiny = 1e-12 * (1 + np.abs(mean).max())
  np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 3 * np.sqrt(variances / count) + tiny)
  centred = draws - mean
  errors = np.sqrt((np.outer(variances, variances) + covariance**2) / count)
  np.testing.assert_array_less(np.abs(centred.T @ centred / count - covariance), 3 * errors + tiny)
