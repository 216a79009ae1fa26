"""Least squares on few examples, whose gradients, covariance and Hessian NumPy writes down."""

import jax.numpy as jnp
import numpy as np

from gdlab.core.types import Examples, Problem


def loss(params, model_state, examples, mask, key):
  residuals = examples.inputs @ params['w'] + params['b'] - examples.targets
  return jnp.square(residuals) / 2, model_state


def metrics(params, model_state, examples):
  return {'loss': jnp.square(examples.inputs @ params['w'] + params['b'] - examples.targets) / 2}


class LeastSquares:
  """The problem ½(x·w + b - y)², a point, and the truth there.

  Attributes:
    gradients: [N, D + 1], of each example, in the order (b, w) in which JAX flattens the parameters.
    mean, covariance, hessian: of the training set.
  """

  def __init__(self, num_examples=200, size=4, seed=0, signal=1.0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num_examples, size)) * np.linspace(0.5, 2, size)
    truth = rng.normal(size=size)
    targets = inputs @ truth + rng.normal(size=num_examples)
    weights = truth + signal * rng.normal(size=size) / 2
    self.problem = Problem(
      None, loss, metrics, 'least squares', Examples(jnp.asarray(inputs), jnp.asarray(targets))
    )
    self.params = {'w': jnp.asarray(weights), 'b': jnp.asarray(0.25)}
    extended = np.column_stack([np.ones(num_examples), inputs])
    self.gradients = (inputs @ weights + 0.25 - targets)[:, None] * extended
    self.mean = self.gradients.mean(0)
    self.covariance = np.cov(self.gradients, rowvar=False, bias=True)
    self.hessian = extended.T @ extended / num_examples
    self.trace, self.square = np.trace(self.covariance), self.mean @ self.mean
    self.scale = self.trace / self.square


def flat(tree):
  return np.append(tree['b'], tree['w'])
