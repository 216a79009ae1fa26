"""Matrix problems: derivatives by differences, listed points by dense linear algebra, others by search."""

import functools

import jax
import matrix_truth
import numpy as np
import pytest
from absl.testing import parameterized

from gdlab.problems.matrices import (
  deep_linear_network,
  low_rank_factorization,
  matrix_sensing,
  orthogonal_tensor_decomposition,
  phase_retrieval,
  population_phase_retrieval,
  spectra,
)

CASES = {
  'rank_1': lambda: low_rank_factorization([3.0, 2.0, 1.0], 1),
  'rank_2': lambda: low_rank_factorization([1.0, 4.0, 2.5, 0.5], 2, rotation=0),
  'rank_3_of_indefinite': lambda: low_rank_factorization([2.0, -1.0, 0.5, 0.0], 3, rotation=1),
  'equal_eigenvalues': lambda: low_rank_factorization([2.0, 2.0, 1.0], 2),
  'sensing': lambda: matrix_sensing([2.0, 1.0], dimension=4, num_measurements=60),
  'sensing_with_more_columns': lambda: matrix_sensing([2.0], dimension=3, num_measurements=40, rank=2),
  'tensor': lambda: orthogonal_tensor_decomposition([1.0, 2.0, 1.5], rotation=0),
  'tensor_with_penalty': lambda: orthogonal_tensor_decomposition([1.0, 1.0], penalty=1.25),
  'phase': lambda: phase_retrieval([1.0, -2.0, 0.5], num_measurements=40),
  'phase_with_few_measurements': lambda: phase_retrieval([1.0, -2.0, 0.5], num_measurements=2),
  'population_phase': lambda: population_phase_retrieval([1.0, -2.0, 0.5, 0.1]),
  'population_phase_1d': lambda: population_phase_retrieval([1.5]),
  'two_layers': lambda: deep_linear_network([2.0, 1.0, 0.5], rotation=0),
  'two_wide_layers': lambda: deep_linear_network([2.0, 1.0], width=3, num_inputs=4, rotation=0),
  'two_narrow_layers': lambda: deep_linear_network([2.0, 1.0, 0.5], width=1, num_outputs=4),
  'three_layers': lambda: deep_linear_network([2.0, 1.0], depth=3, rotation=1),
  'four_layers': lambda: deep_linear_network([3.0, 1.0], depth=4, width=3, num_inputs=3, rotation=2),
  'singular_target': lambda: deep_linear_network([1.5, 0.0], depth=3, num_outputs=3),
}


@functools.cache
def case(name):
  return matrix_truth.dense(CASES[name]())


def gram(u):
  return (u @ u.T).ravel()


def gram_of_a_pair(u):
  """Of eigenvalues 2, 2, 1 along the axes: ranks and entries of U U^T that turning the first two axes leaves."""
  outer = u @ u.T
  return np.r_[np.linalg.eigvalsh(outer), np.trace(outer[:2, :2]), outer[2, 2], np.linalg.norm(outer[2, :2])]


def tensor_components(name):
  return np.asarray(case(name).problem.train.components[0])


def along_and_across(x):
  signal = np.array([1.0, -2.0, 0.5, 0.1])
  along = abs(x @ signal) / np.linalg.norm(signal)
  return np.array([along, np.sqrt(max(0, x @ x - along**2))])


def product_and_ranks(layers):
  ranks = [np.sum(np.linalg.svd(layer, compute_uv=False) > 1e-4) for layer in layers]
  return np.r_[(layers[1] @ layers[0]).ravel(), ranks]


class MatrixProblemsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.parameters(*CASES)
  def test_derivatives(self, name):
    matrix_truth.check_derivatives(case(name))

  @parameterized.parameters(*CASES)
  def test_stationary_points(self, name):
    matrix_truth.check_points(case(name))
    matrix_truth.check_known(case(name))

  @parameterized.parameters(
    ('rank_1', gram, 60, 1.0),
    ('rank_2', gram, 100, 1.0),
    # Eigenvectors of the twofold eigenvalue 2 stand for each other, so that of U U^T its trace there is left.
    ('equal_eigenvalues', gram_of_a_pair, 60, 1.0),
    ('tensor', lambda u: np.abs(u @ tensor_components('tensor')), 150, 1.0),
    ('tensor_with_penalty', np.abs, 60, 1.0),
    ('population_phase', along_and_across, 60, 1.0),
    ('population_phase_1d', np.abs, 20, 1.0),
    # At rank W_2 W_1 the layers are told by it: no direction is in one layer alone.
    ('two_layers', product_and_ranks, 100, 0.5),
  )
  @pytest.mark.slow
  def test_a_search_finds_no_others(self, name, invariant, starts, scale):
    matrix_truth.check_complete(case(name), invariant, starts=starts, scale=scale)

  @pytest.mark.slow
  def test_a_slow_search_finds_no_others(self):
    # Where M's eigenvalue is 0, f rises as the fourth power, so that the search is slow, and a gradient of 1e-10
    # leaves (1e-10 / 2)^(2/3) in U U^T.
    matrix_truth.check_complete(case('rank_3_of_indefinite'), gram, starts=60, scale=1.0, atol=1e-6)

  @parameterized.parameters(
    (lambda: low_rank_factorization([1e6, 1.0], 1, rotation=0),),
    (lambda: orthogonal_tensor_decomposition([1.0, 0.5], penalty=1.0011, rotation=0),),
  )
  def test_extreme_spectra_keep_the_promise_to_scale(self, build):
    functions = matrix_truth.dense(build())
    points = matrix_truth.raveled_points(functions.problem.known.stationary_points)
    slopes = np.linalg.norm(functions.gradient(points), axis=1)
    curvatures = np.abs(functions.problem.known.stationary_points.eigenvalues).max(axis=1)
    lengths = np.maximum(1, np.linalg.norm(points, axis=1))
    np.testing.assert_array_less(slopes, 1e-10 * np.maximum(1, curvatures * lengths))

  def test_completeness_is_claimed_where_it_holds(self):
    claims = {name: bool(case(name).problem.known.stationary_points.complete) for name in CASES}
    claimed = {name for name, claim in claims.items() if claim}
    self.assertEqual(
      claimed,
      {
        'rank_1', 'rank_2', 'rank_3_of_indefinite', 'equal_eigenvalues', 'tensor', 'tensor_with_penalty',
        'population_phase', 'population_phase_1d', 'two_layers',
      },
    )  # fmt: skip

  def test_numbers_of_points(self):
    points = lambda problem: problem.known.stationary_points
    self.assertLen(points(low_rank_factorization(range(1, 6), 2)).values, 10 + 5 + 1)
    self.assertLen(points(orthogonal_tensor_decomposition([1.0] * 4)).values, 16)
    many = points(low_rank_factorization(np.arange(1.0, 20.0), 5))
    self.assertLen(many.values, spectra.MOST_POINTS)
    self.assertFalse(many.complete)
    # The minimum leaves out 1 ... 14.
    self.assertEqual(many.values[0], sum(i**2 for i in range(1, 15)) / 2)
    tensor = orthogonal_tensor_decomposition(np.linspace(1, 2, 13))
    self.assertFalse(points(tensor).complete)
    self.assertEqual(tensor.known.value, points(tensor).values.min())

  def test_low_rank_loss_is_that_of_the_matrices(self):
    problem = low_rank_factorization([1.0, 4.0, 2.5], 2, rotation=3)
    matrix = np.asarray(problem.train[0])
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), [1.0, 2.5, 4.0], rtol=1e-13)
    factor = np.random.default_rng(0).normal(size=(3, 2))
    expected = np.linalg.norm(factor @ factor.T - matrix) ** 2 / 2
    np.testing.assert_allclose(problem.metrics(factor, (), problem.train)['loss'], [expected], rtol=1e-13)

  def test_tensor_loss_is_that_of_the_tensor(self):
    problem = orthogonal_tensor_decomposition([1.0, 2.0, 1.5], rotation=0, penalty=3.0)
    weights, components, _ = (np.asarray(leaf[0]) for leaf in problem.train)
    tensor = np.einsum('i,ai,bi,ci,di->abcd', weights, *[components] * 4)
    u = np.random.default_rng(1).normal(size=3)
    expected = -np.einsum('abcd,a,b,c,d', tensor, u, u, u, u) / 4 + 3 / 4 * (u @ u - 1) ** 2
    np.testing.assert_allclose(problem.metrics(u, (), problem.train)['loss'], [expected], rtol=1e-12)

  def test_sensing_has_the_population_of_the_factorization(self):
    count = 20_000
    problem = matrix_sensing([2.0, 1.0], dimension=3, num_measurements=count)
    factor = np.random.default_rng(0).normal(size=(3, 2))
    solution = problem.known.params
    expected = np.linalg.norm(factor @ factor.T - solution @ solution.T) ** 2 / 2
    losses = np.asarray(problem.metrics(factor, (), problem.train)['loss'])
    # Three standard errors of a mean; <A, X> is N(0, |X|^2), so that the losses are expected * chi^2.
    self.assertLess(abs(losses.mean() - expected), 3 * expected * np.sqrt(2 / count))
    self.assertLess(abs(np.asarray(problem.train.matrices).mean()), 3 / np.sqrt(9 * count))

  def test_phase_retrieval_has_its_population(self):
    count, signal = 20_000, np.array([1.0, -0.5, 0.2])
    sample = phase_retrieval(signal, num_measurements=count)
    population = population_phase_retrieval(signal)
    x = np.array([0.3, 0.8, -0.4])
    losses = np.asarray(sample.metrics(x, (), sample.train)['loss'])
    expected = float(population.metrics(x, (), population.train)['loss'][0])
    self.assertLess(abs(losses.mean() - expected), 3 * losses.std() / np.sqrt(count))

  def test_deep_index_zero_saddles_are_no_minima(self):
    problem = deep_linear_network([2.0, 1.0], depth=3)
    step = np.concatenate([np.eye(2).ravel()] * 3)
    origin, near = matrix_truth.dense(problem).value(np.outer([0, 0.01], step))
    # W = t I in every layer: f = ((2 - t^3)^2 + (1 - t^3)^2) / 2 falls by 3 t^3.
    self.assertAlmostEqual(float(origin - near), 3e-6, delta=1e-11)
