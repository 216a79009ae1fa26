"""Filter-normalised directions against norms taken by NumPy."""

import functools

import jax
import numpy as np
import pytest

from gdlab import analysis
from gdlab.core.errors import InputError

RNG = np.random.default_rng(0)
PARAMS = {
  'dense': {'kernel': RNG.normal(size=(5, 4)).astype(np.float32), 'bias': np.ones(4, np.float32)},
  'conv': {'kernel': RNG.normal(size=(3, 3, 2, 6)).astype(np.float32)},
  'scale': np.float32(3.0),
}
PARAMS['dense']['kernel'][:, 1] = 0  # a filter of norm 0 does not move
TOLERANCE = 50 * np.finfo(np.float32).eps  # a norm of up to 18 terms, divided and multiplied


def filter_norms(kernel):
  return np.sqrt(np.square(np.asarray(kernel, np.float64)).reshape(-1, kernel.shape[-1]).sum(axis=0))


@functools.cache
def draws():
  """2000 directions, leading axis."""
  keys = jax.random.split(jax.random.key(1), 2000)
  return jax.jit(jax.vmap(lambda key: analysis.filter_direction(key, PARAMS)))(keys)


def test_every_filter_has_the_norm_of_its_own():
  found = jax.tree.map(lambda leaf: np.asarray(leaf)[0], draws())
  for layer in ('dense', 'conv'):
    expected = filter_norms(PARAMS[layer]['kernel'])
    np.testing.assert_allclose(filter_norms(found[layer]['kernel']), expected, rtol=TOLERANCE)
  np.testing.assert_array_equal(found['dense']['bias'], np.zeros(4))
  assert found['scale'] == 0
  assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, PARAMS)


def test_biases_move_as_one_filter():
  params = {'bias': np.ones(4, np.float32), 'scale': np.float32(3.0)}
  found = jax.jit(lambda key: analysis.filter_direction(key, params, biases=True))(jax.random.key(0))
  np.testing.assert_allclose(np.linalg.norm(found['bias']), 2.0, rtol=TOLERANCE)
  assert len(set(np.asarray(found['bias']).tolist())) == 4
  np.testing.assert_allclose(np.abs(found['scale']), 3.0, rtol=TOLERANCE)


def test_directions_are_spread_evenly_and_independent():
  # The unit vectors of a filter of n numbers have mean 0 and variance 1/n in each: 2000 draws, 5 standard errors.
  units = np.asarray(draws()['conv']['kernel'], np.float64) / filter_norms(PARAMS['conv']['kernel'])
  units = units.reshape(2000, 18, 6)
  assert np.abs(units.mean(axis=0)).max() < 5 / np.sqrt(18 * 2000)
  # The variance of a squared coordinate of a uniform unit vector is below 3/n^2.
  assert np.abs((units**2).mean(axis=0) - 1 / 18).max() < 5 * np.sqrt(3 / 18**2 / 2000)
  # Two filters have nothing to do with one another.
  products = (units[:, :, 0] * units[:, :, 1]).sum(axis=1)
  assert abs(products.mean()) < 5 / np.sqrt(18 * 2000)


def test_refuses_what_would_not_move():
  with pytest.raises(InputError, match='biases'):
    analysis.filter_direction(jax.random.key(0), np.ones(3, np.float32))
  with pytest.raises(InputError, match=r"params\['count'\].*int32"):
    analysis.filter_direction(jax.random.key(0), {'kernel': np.ones((2, 2)), 'count': np.int32(3)})
