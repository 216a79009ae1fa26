"""What rounding does to curvature in float32: no certified sign that the Hessian in float64 has not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from jax.flatten_util import ravel_pytree

from gdlab.analysis.curvature import Operator, eigenpairs, hessian
from gdlab.core.types import Examples, Problem

INPUTS, CLASSES, HIDDEN = 4, 3, 6


def linear(params, inputs):
  return inputs @ params


def relu_net(params, inputs):
  return jax.nn.relu(inputs @ params[0]) @ params[1]


softmax = optax.softmax_cross_entropy_with_integer_labels


def sigmoid(outputs, targets):
  return jnp.sum(optax.sigmoid_binary_cross_entropy(outputs, jax.nn.one_hot(targets, CLASSES)), axis=-1)


@functools.partial(jax.jit, static_argnames=('loss', 'forward', 'dense_below'))
def search(inputs, targets, params, keys, *, loss, forward, dense_below):
  def metrics(params, model_state, examples):
    return {'loss': loss(forward(params, examples.inputs), examples.targets)}

  def one(inputs, targets, params, key):
    train = Examples(inputs, targets)
    problem = Problem(init=None, loss=None, metrics=metrics, name='saturated', train=train)
    operator = hessian(problem, params, (), key)
    return eigenpairs(operator, key, num_largest=1, num_smallest=2, dense_below=dense_below)

  return jax.vmap(one)(inputs, targets, params, keys)


@functools.partial(jax.jit, static_argnames=('loss', 'forward'))
def spectra(inputs, targets, params, *, loss, forward):
  def one(inputs, targets, params):
    flat, unravel = ravel_pytree(params)
    matrix = jax.hessian(lambda flat: jnp.mean(loss(forward(unravel(flat), inputs), targets)))(flat)
    return jnp.linalg.eigvalsh(matrix)

  return jax.vmap(one)(inputs, targets, params)


def saturated(forward, num_examples, trials, seed):
  """Classifiers of random examples, all right, with a median margin of 8 to 20."""
  rng = np.random.default_rng(seed)
  inputs = rng.normal(size=(trials, num_examples, INPUTS)).astype(np.float32)
  if forward is linear:
    params = rng.normal(size=(trials, INPUTS, CLASSES))
    outputs = inputs @ params
  else:
    params = (rng.normal(size=(trials, INPUTS, HIDDEN)), rng.normal(size=(trials, HIDDEN, CLASSES)))
    outputs = np.maximum(inputs @ params[0], 0) @ params[1]
  ranked = np.sort(outputs, axis=-1)
  margins = np.median(ranked[..., -1] - ranked[..., -2], axis=1)
  scale = rng.uniform(8, 20, trials) / np.maximum(margins, 0.2)
  if forward is relu_net:
    scale = np.sqrt(scale)
  params = jax.tree.map(lambda leaf: (leaf * scale[:, None, None]).astype(np.float32), params)
  return inputs, np.argmax(outputs, -1).astype(np.int32), params


def failures(loss, forward, num_examples, trials, dense_below):
  """How many trials certify a negative eigenvalue where there is none, and how many pairs exceed their residual."""
  inputs, targets, params = saturated(forward, num_examples, trials, seed=num_examples)
  keys = jax.random.split(jax.random.key(num_examples), trials)
  found = search(inputs, targets, params, keys, loss=loss, forward=forward, dense_below=dense_below)
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), (inputs, params))
    truth = np.asarray(spectra(wide[0], targets, wide[1], loss=loss, forward=forward))
  joined = lambda field: np.concatenate(
    [np.asarray(getattr(pairs, field), np.float64) for pairs in (found.smallest, found.largest)], axis=-1
  )
  # The truth's own rounding, 1e-16 times some tens of operations, of its largest.
  none = truth[:, 0] >= -1e-14 * np.abs(truth).max(1)
  false = np.sum((joined('signs') < 0).any(1) & none)
  apart = np.abs(truth[:, None] - joined('values')[..., None]).min(-1)
  return int(false), int(np.sum(apart > joined('residuals')))


class RoundingTest(parameterized.TestCase):
  def test_a_saturated_classifier_has_no_certified_negative_eigenvalue(self):
    self.assertEqual(failures(softmax, linear, 1, 100, INPUTS * CLASSES), (0, 0))

  def test_an_ordinary_negative_eigenvalue_is_certified_in_single_precision(self):
    def metrics(params, model_state, examples):
      return {'loss': examples.inputs @ params**2 / 2}

    train = Examples(jnp.array([[1.0, 0.5, -1e-3]]), jnp.zeros(1))
    problem = Problem(init=None, loss=None, metrics=metrics, name='saddle', train=train)
    key = jax.random.key(0)
    search = jax.jit(lambda params: eigenpairs(hessian(problem, params, (), key), key, num_smallest=1))
    found = search(jnp.ones(3))
    self.assertEqual(found.smallest.values.dtype, jnp.float32)
    self.assertEqual(int(found.smallest.signs[0]), -1)

  def test_units_of_the_matrix_do_not_matter(self):
    # Rank one, so that all smallest eigenvalues are 0: the squares of its entries underflow, or overflow.
    vector = np.random.default_rng(0).normal(size=30)
    vector = (vector / np.linalg.norm(vector)).astype(np.float32)

    @functools.partial(jax.jit, static_argnames='dense_below')
    def search(scales, dense_below):
      def one(scale):
        product = lambda v: jnp.sum(vector * v) * (scale * vector)
        return eigenpairs(
          Operator(product, vector), jax.random.key(0), num_smallest=2, dense_below=dense_below
        )

      return jax.vmap(one)(scales)

    scales = np.array([0.0, 1e-30, 1e-20, 1.0, 1e30], np.float32)
    for dense_below in (0, 30):
      found = search(scales, dense_below)
      self.assertTrue(np.asarray(found.largest.converged).all())
      np.testing.assert_array_equal(found.largest.signs[:, 0], [0, 1, 1, 1, 1])
      np.testing.assert_array_equal(found.smallest.signs, 0)
      # 30 terms of 1 / 30 each in the product and in the vector's norm: some units of rounding.
      error = np.abs(np.float64(found.largest.values[:, 0]) - scales)
      self.assertTrue((error <= found.largest.residuals[:, 0]).all())
      # Never below one unit in the last place.
      self.assertTrue((found.largest.residuals[:, 0] >= np.finfo(np.float32).eps * scales).all())
      self.assertTrue((found.largest.residuals[1:, 0] <= 1e-4 * scales[1:]).all())


@pytest.mark.slow
@pytest.mark.parametrize('num_examples', [1, 3, 30, 300])
@pytest.mark.parametrize('dense_below', [0, 50])
@pytest.mark.parametrize(('loss', 'forward'), [(softmax, linear), (sigmoid, linear), (softmax, relu_net)])
def test_a_thousand_saturated_classifiers(loss, forward, dense_below, num_examples):
  # 12 cases for each way of the search: 1008 trials.
  assert failures(loss, forward, num_examples, 84, dense_below) == (0, 0)
