"""The generalisation gap, the distance from the start and margins, against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab import analysis
from gdlab.core.errors import InputError
from gdlab.core.types import Examples, Problem


def metrics(params, model_state, examples):
  errors = examples.inputs @ params - examples.targets
  return {'loss': errors**2, 'accuracy': abs(errors) < 1}


def problem_of(rng, num_train, num_test):
  train, test = (Examples(rng.normal(size=(n, 2)), rng.normal(size=n)) for n in (num_train, num_test))
  return Problem(None, None, metrics, 'line', train, test)


class GapTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  @parameterized.parameters(8, 100)  # blocks with a rest, and one block
  def test_against_numpy(self, block_size):
    problem, params = problem_of(np.random.default_rng(0), 35, 21), np.array([1.0, -0.5])
    find = jax.jit(analysis.generalisation_gap, static_argnames='block_size')
    found = find(problem, params, block_size=block_size)
    self.assertEqual(set(found), {'loss', 'accuracy'})
    for name, gap in found.items():
      train, test = (
        np.asarray(metrics(params, (), examples)[name], float) for examples in (problem.train, problem.test)
      )
      expected = (test.mean() - train.mean(), test.std(ddof=1) / 21**0.5, train.mean(), test.mean())
      np.testing.assert_allclose(gap, expected, rtol=1e-12)

  def test_refusals(self):
    problem = problem_of(np.random.default_rng(0), 5, 1)
    for bad in (problem, dataclasses.replace(problem, test=None)):
      with self.assertRaisesRegex(InputError, 'problem.test'):
        analysis.generalisation_gap(bad, np.zeros(2))
    with self.assertRaisesRegex(InputError, 'block_size'):
      analysis.generalisation_gap(problem, np.zeros(2), block_size=0)


class DistanceTest(parameterized.TestCase):
  def test_layers(self):
    rng = np.random.default_rng(1)
    draw = lambda: {
      'body': {'Dense_0': {'kernel': rng.normal(size=(2, 3)), 'bias': rng.normal(size=3)}},
      'scale': rng.normal(),
    }
    start, params = jax.tree.map(jnp.asarray, (draw(), draw()))
    found = jax.jit(analysis.distance_from_init)(params, start)
    dense, first = params['body']['Dense_0'], start['body']['Dense_0']
    layer = np.sqrt(sum(np.sum((np.asarray(dense[k]) - first[k]) ** 2) for k in dense))
    apart = abs(params['scale'] - start['scale'])
    # Sums of ten squares in float32.
    self.assertEqual(set(found.layers), {'body/Dense_0', 'scale'})
    np.testing.assert_allclose(found.layers['body/Dense_0'], layer, rtol=1e-6)
    np.testing.assert_allclose(found.layers['scale'], apart, rtol=1e-6)
    np.testing.assert_allclose(found.total, np.hypot(layer, apart), rtol=1e-6)
    norm = np.sqrt(sum(np.sum(np.asarray(leaf) ** 2) for leaf in jax.tree.leaves(start)))
    np.testing.assert_allclose(found.relative, np.hypot(layer, apart) / norm, rtol=1e-6)

  def test_from_zero(self):
    found = analysis.distance_from_init(jnp.ones(4), jnp.zeros(4))
    self.assertEqual((found.total, list(found.layers)), (2, ['']))
    self.assertTrue(np.isnan(found.relative))

  def test_refusals(self):
    for initial in ({'a': jnp.ones(2)}, {'b': jnp.ones(3)}):
      with self.assertRaisesRegex(InputError, 'initial'):
        analysis.distance_from_init({'a': jnp.ones(3)}, initial)


class MarginTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))
    rng = np.random.default_rng(2)
    self.inputs, self.labels = rng.normal(size=(50, 6)), rng.integers(0, 3, 50)
    self.params = {'a': rng.normal(size=(6, 5)), 'bias': rng.normal(size=5), 'b': rng.normal(size=(5, 3))}

  def outputs(self, params):
    return np.maximum(self.inputs @ params['a'], 0) @ params['b']

  def test_against_numpy(self):
    outputs = self.outputs(self.params)
    rest = [np.delete(row, label).max() for row, label in zip(outputs, self.labels, strict=True)]
    expected = outputs[np.arange(50), self.labels] - rest
    np.testing.assert_allclose(analysis.output_margins(outputs, self.labels), expected, rtol=1e-12)
    found = jax.jit(analysis.margins)(outputs, self.labels, self.params)
    quantiles = np.quantile(expected, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(found.output, quantiles, rtol=1e-12)
    a, b = self.params['a'], self.params['b']
    singular = [np.linalg.svd(matrix, compute_uv=False) for matrix in (a, b)]
    np.testing.assert_allclose(found.spectral, quantiles / (singular[0][0] * singular[1][0]), rtol=1e-12)
    frobenius = np.sqrt((a**2).sum() * (b**2).sum())
    np.testing.assert_allclose(found.frobenius, quantiles / frobenius, rtol=1e-12)

  def test_a_rescaled_relu_layer_changes_nothing(self):
    scaled = self.params | {'a': 7 * self.params['a'], 'b': self.params['b'] / 7}
    larger = self.params | {'b': 5 * self.params['b']}
    found = [
      analysis.margins(self.outputs(params), self.labels, params) for params in (self.params, scaled, larger)
    ]
    for other in found[1:]:
      np.testing.assert_allclose(other.spectral, found[0].spectral, rtol=1e-12)
      np.testing.assert_allclose(other.frobenius, found[0].frobenius, rtol=1e-12)
    np.testing.assert_allclose(found[2].output, 5 * found[0].output, rtol=1e-12)

  def test_a_convolution_is_a_matrix_to_its_outputs(self):
    kernel = np.random.default_rng(3).normal(size=(3, 3, 2, 4))
    found = analysis.margins(jnp.array([[1.0, 0.0]]), jnp.array([0]), {'kernel': kernel}, quantiles=(0,))
    expected = 1 / np.linalg.svd(kernel.reshape(18, 4), compute_uv=False)[0]
    np.testing.assert_allclose(found.spectral, [expected], rtol=1e-12)

  @parameterized.parameters(
    ((np.ones(3), np.zeros(3, int)), 'outputs'),
    ((np.ones((3, 2)), np.zeros(3)), 'labels must be whole'),
    ((np.ones((3, 2)), np.array([0, 1, 2])), r'labels must lie in \[0, 2\)'),
  )
  def test_refusals(self, arguments, message):
    with self.assertRaisesRegex(InputError, message):
      analysis.output_margins(*arguments)

  def test_refuses_quantiles_and_params(self):
    good = (np.ones((3, 2)), np.zeros(3, int))
    for bad in ((1.5,), (), np.array([0.1, -0.1]), 'all'):
      with self.assertRaisesRegex(InputError, 'quantiles'):
        analysis.margins(*good, self.params, quantiles=bad)
    found = [analysis.margins(*good, self.params, quantiles=given) for given in (np.array([0.5]), [0.5])]
    np.testing.assert_array_equal(*found)
    with self.assertRaisesRegex(InputError, 'params'):
      analysis.margins(*good, {'bias': np.ones(3)})
