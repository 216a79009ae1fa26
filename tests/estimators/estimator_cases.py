"""What the tests of estimators share: a least-squares problem with its truth in NumPy, and one-line calls."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab.core.types import Batch, Problem

EPS = np.finfo(np.float64).eps
N, D = 6, 3


class Float64(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))


class Truth:
  """Per-example losses and gradients of least squares in NumPy."""

  def __init__(self, seed=0, count=N):
    rng = np.random.default_rng(seed)
    self.inputs, self.targets = rng.normal(size=(count, D)), rng.normal(size=count)
    self.start = rng.normal(size=D)

  def losses(self, w):
    return (self.inputs @ w - self.targets) ** 2 / 2

  def gradients(self, w):
    return (self.inputs @ w - self.targets)[:, None] * self.inputs

  def batch(self, w, indices, weights):
    """The gradient of the batch's weighted loss."""
    return np.asarray(weights) @ self.gradients(w)[np.asarray(indices)]

  def full(self, w):
    return self.gradients(w).mean(axis=0)

  def problem(self):
    def losses(w, examples):
      return (examples[0] @ w - examples[1]) ** 2 / 2

    return Problem(
      init=lambda key: (jnp.asarray(self.start), ()),
      loss=lambda w, model_state, examples, mask, key: (losses(w, examples), model_state),
      metrics=lambda w, model_state, examples: {'loss': losses(w, examples)},
      name='least squares',
      train=(jnp.asarray(self.inputs), jnp.asarray(self.targets)),
    )


def batch_of(indices, weights=None):
  """A batch; of equal weights by default."""
  weights = [1 / len(indices)] * len(indices) if weights is None else weights
  return Batch(jnp.asarray(indices, jnp.int32), jnp.asarray(weights, float))


def stepper(estimator, problem, model_state=()):
  """A compiled `(state, params, batch, key=...) -> (gradient, state, info)`."""
  run = jax.jit(
    lambda state, params, batch, key: estimator.estimate(state, problem, params, model_state, batch, key)
  )
  return lambda state, params, batch, key=None: run(
    state, jax.tree.map(jnp.asarray, params), batch, jax.random.key(0) if key is None else key
  )


def close(found, expected, size=1.0, roundings=100):
  """Equal within so many roundings of numbers up to `size`."""
  np.testing.assert_allclose(found, expected, rtol=0, atol=roundings * EPS * size)
