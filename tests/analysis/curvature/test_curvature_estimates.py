"""Trace, diagonal and density against the eigenvalues that matrices were built from. Coverage: the trials' file."""

import functools

import curvature_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from gdlab.analysis.curvature import Operator, diagonal, spectral_density, trace
from gdlab.core.errors import InputError

SIZE = 24
EPS = np.finfo(np.float64).eps


@functools.partial(jax.jit, static_argnames=('num_probes', 'rank'))
def estimates(matrices, keys, *, num_probes, rank):
  def one(matrix, key):
    operator, (first, second) = cases.operator_of(matrix), jax.random.split(key)
    options = {'num_probes': num_probes, 'rank': rank}
    return trace(operator, first, **options), diagonal(operator, second, **options)

  return jax.vmap(one)(matrices, keys)


@functools.partial(jax.jit, static_argnames=('num_probes', 'depth', 'width'))
def densities(matrices, keys, *, num_probes, depth, width=None):
  def one(matrix, key):
    options = {'num_probes': num_probes, 'depth': depth, 'width': width, 'num_points': 60}
    return spectral_density(cases.operator_of(matrix), key, **options)

  return jax.vmap(one)(matrices, keys)


def smoothed(found, eigenvalues):
  """The density that is estimated, at its points."""
  width = np.asarray(found.width)[:, None]
  offsets = (np.asarray(found.points)[..., None] - eigenvalues[:, None, :]) / width[..., None]
  return np.exp(-(offsets**2) / 2).mean(-1) / (width * np.sqrt(2 * np.pi))


class EstimatesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))
    self.matrices, self.eigenvalues = cases.matrices(SIZE, 0)
    self.diagonals = np.diagonal(self.matrices, axis1=1, axis2=2)
    self.scale = np.abs(self.eigenvalues).max(1)

  def keys(self, count=14):
    return jax.random.split(jax.random.key(1), count)

  def test_exact_where_the_products_suffice(self):
    total, entries = estimates(self.matrices, self.keys(), num_probes=8, rank=8)
    error = 100 * EPS * SIZE * self.scale
    self.assertTrue((np.abs(total.value - self.eigenvalues.sum(1)) <= error).all())
    self.assertTrue((np.abs(entries.value - self.diagonals) <= error[:, None]).all())
    np.testing.assert_array_equal(total.half_width, 0)
    np.testing.assert_array_equal(entries.standard_error, 0)

  def test_low_rank_is_exact_and_the_rest_unbiased(self):
    # 400 estimates of one indefinite matrix, and of one of rank 5 that the sketch of 6 spans.
    for name, exact in (('indefinite', False), ('low rank', True)):
      number = cases.NAMES.index(name)
      many = np.broadcast_to(self.matrices[number], (400, SIZE, SIZE))
      total, entries = estimates(many, self.keys(400), num_probes=8, rank=6)
      truth = self.eigenvalues[number].sum()
      if exact:
        self.assertLess(np.abs(total.value - truth).max(), 1e-9)
        self.assertLess(np.abs(entries.value - self.diagonals[number][None]).max(), 1e-9)
        continue
      # Within four standard errors of the mean of 400, and for 25 numbers.
      values = np.column_stack([total.value, entries.value])
      expected = np.append(truth, self.diagonals[number])
      deviations = (values.mean(0) - expected) / (values.std(0) / 20)
      self.assertLess(np.abs(deviations).max(), 4)
      # The stated variance is the actual one: 400 squares have a relative standard error of about 0.07 to 0.1.
      ratio = np.mean(np.square(total.standard_error)) / values[:, 0].var()
      self.assertBetween(ratio, 0.6, 1.6)
      # The interval covers 95 %, with a standard error of 1.1 % of 400.
      self.assertBetween(np.mean(np.abs(total.value - truth) <= total.half_width), 0.91, 0.99)

  def test_density(self):
    found = densities(self.matrices, self.keys(), num_probes=40, depth=16)
    truth = smoothed(found, self.eigenvalues)
    peak = 1 / np.asarray(found.width)[:, None]
    slack = 1e-9 * peak
    inside = (np.asarray(found.lower) - slack <= truth) & (truth <= np.asarray(found.upper) + slack)
    self.assertGreater(inside.mean(), 0.9)
    # The interval is no empty statement where the density lies.
    self.assertLess(np.median((found.upper - found.lower).max(1) / np.asarray(found.density).max(1)), 0.6)
    areas = np.trapezoid(found.density, found.points, axis=1)
    np.testing.assert_allclose(areas, 1, atol=0.02)  # a grid of 60 points
    # Multiples of the identity are known exactly.
    np.testing.assert_allclose(found.density[:3], truth[:3], atol=1e-6 * peak[:3].max())
    # The bound of the quadrature: exact at full depth and otherwise of the size that the width was chosen for.
    self.assertTrue((found.quadrature_error * found.width < 1e-3).all())

  @pytest.mark.slow
  def test_the_bound_of_the_quadrature_holds(self):
    # No randomness to speak of: 400 probes of 24 dimensions, but few nodes for a narrow kernel.
    number = cases.NAMES.index('condition 1e8')
    one, eigenvalues = self.matrices[[number]], self.eigenvalues[[number]]
    found = densities(one, self.keys(1), num_probes=400, depth=8, width=0.12)
    off = np.abs(found.density - smoothed(found, eigenvalues)).max()
    self.assertLessEqual(off, found.quadrature_error[0] + 4 * np.max(found.standard_error))
    self.assertLess(found.quadrature_error[0] * found.width[0], 0.02)


@pytest.mark.parametrize(
  ('function', 'arguments', 'message'),
  [
    (trace, {'num_probes': 1}, 'num_probes must be a whole number >= 2'),
    (diagonal, {'num_probes': 7}, 'num_probes must be a whole number >= 8'),
    (diagonal, {'rank': -1}, 'rank must be a whole number >= 0'),
    (spectral_density, {'depth': 1}, 'depth must be a whole number >= 2'),
    (spectral_density, {'width': 0.0}, 'width must be a real number'),
    (spectral_density, {'num_points': 1}, 'num_points must be a whole number >= 2'),
  ],
)
def test_refuses(function, arguments, message):
  with pytest.raises(InputError, match=message):
    function(Operator(lambda v: v, jnp.zeros(3)), jax.random.key(0), **arguments)
