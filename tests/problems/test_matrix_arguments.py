"""Matrix problems: initial points, what compiles again, and refusals of bad arguments."""

import itertools

import jax
import numpy as np
from absl.testing import parameterized

from gdlab.core.errors import InputError
from gdlab.problems.matrices import (
  deep_linear_network,
  low_rank_factorization,
  matrix_sensing,
  orthogonal_tensor_decomposition,
  phase_retrieval,
  population_phase_retrieval,
)


class MatrixArgumentsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.parameters(
    (lambda **kw: low_rank_factorization([2.0, 1.0], 1, **kw), [[1.0], [2.0]]),
    (lambda **kw: matrix_sensing([2.0], dimension=2, num_measurements=3, **kw), [[1.0], [2.0]]),
    (lambda **kw: orthogonal_tensor_decomposition([2.0, 1.0], **kw), [1.0, 2.0]),
    (lambda **kw: phase_retrieval([2.0, 1.0], num_measurements=3, **kw), [1.0, 2.0]),
    (lambda **kw: population_phase_retrieval([2.0, 1.0], **kw), [1.0, 2.0]),
    (lambda **kw: deep_linear_network([2.0, 1.0], width=1, **kw), ([[1.0, 2.0]], [[3.0], [4.0]])),
  )
  def test_start_and_scale(self, make, start):
    with jax.enable_x64(False):
      params, state = make(start=start).init(jax.random.key(0))
      self.assertEqual(state, ())
      self.assertEqual(jax.tree.structure(params).num_leaves, 2 if isinstance(start, tuple) else 1)
      for leaf, expected in zip(jax.tree.leaves(params), start if isinstance(start, tuple) else (start,)):
        self.assertEqual((leaf.tolist(), str(leaf.dtype)), (expected, 'float32'))
    keys = jax.random.split(jax.random.key(1), 4000)
    for leaf in jax.tree.leaves(jax.vmap(make(initial_scale=0.1).init)(keys)[0]):
      # Three standard errors of a mean and of a variance.
      self.assertLess(abs(leaf.mean()), 3 * 0.1 / np.sqrt(leaf.size))
      self.assertLess(abs(leaf.var() - 0.01), 3 * 0.01 * np.sqrt(2 / leaf.size))

  def test_layers_start_independently(self):
    params, _ = deep_linear_network([2.0, 1.0], depth=3).init(jax.random.key(0))
    for one, other in itertools.combinations(params, 2):
      self.assertFalse(np.array_equal(one, other))

  @parameterized.parameters(
    (lambda scale: low_rank_factorization([scale, 1.0], 2),),
    (lambda scale: matrix_sensing([scale], dimension=3, num_measurements=10),),
    (lambda scale: orthogonal_tensor_decomposition([scale, 1.0]),),
    (lambda scale: phase_retrieval([scale, 1.0], num_measurements=10),),
    (lambda scale: population_phase_retrieval([scale, 1.0]),),
    (lambda scale: deep_linear_network([scale, 1.0], depth=3),),
  )
  def test_another_spectrum_does_not_compile_again(self, make):
    traces = []

    @jax.jit
    def value(problem, params):
      traces.append(None)
      return problem.metrics(params, (), problem.train)['loss'].mean()

    params = make(1.5).init(jax.random.key(0))[0]
    found = [float(value(make(scale), params)) for scale in (1.5, 1.5, 2.5)]
    self.assertEqual(found[0], found[1])
    self.assertNotEqual(found[0], found[2])
    self.assertLen(traces, 1)

  @parameterized.parameters(
    (lambda: low_rank_factorization([], 1), 'eigenvalues must be one or more numbers'),
    (lambda: low_rank_factorization([1.0, np.nan], 1), 'eigenvalues.*nan'),
    (lambda: low_rank_factorization([1.0, 2.0], 3), r'rank must be a whole number in \[1, 2\], got 3'),
    (lambda: low_rank_factorization([1.0], 1, rotation=-1), 'rotation.*-1'),
    (lambda: low_rank_factorization([1.0], 1, start=[1.0]), r'start must have shape \(1, 1\), got \(1,\)'),
    (lambda: low_rank_factorization([1.0], 1, initial_scale=0.0), 'initial_scale.*0.0'),
    (lambda: matrix_sensing([0.0], dimension=2, num_measurements=3), 'eigenvalues must be > 0'),
    (lambda: matrix_sensing([1.0, 2.0], dimension=1, num_measurements=3), 'dimension.*2 eigenvalues, got 1'),
    (lambda: matrix_sensing([1.0], dimension=2, num_measurements=0), 'num_measurements.*0'),
    (lambda: matrix_sensing([1.0], dimension=2, num_measurements=3, rank=3), r'rank.*\[1, 2\], got 3'),
    (lambda: matrix_sensing([1.0], dimension=2, num_measurements=3, seed=-1), 'seed.*-1'),
    (lambda: orthogonal_tensor_decomposition([1.0, -1.0]), 'weights must be > 0'),
    (lambda: orthogonal_tensor_decomposition([1.0, 2.0], penalty=2.0), 'penalty.*>= 2.00[12].*, got 2.0'),
    (lambda: orthogonal_tensor_decomposition([1.0], penalty=1 + 1e-7), 'penalty.*>= 1.00.*, got 1.0000001'),
    (lambda: phase_retrieval([0.0, 0.0], num_measurements=3), 'signal.*not all 0'),
    (lambda: phase_retrieval([1.0], num_measurements=0), 'num_measurements.*0'),
    (lambda: population_phase_retrieval([[1.0]]), 'signal must be one or more numbers in one dimension'),
    *(
      (lambda make=make, value=value: make(value), f'{name} must be a rectangular array of real numbers')
      for value in ('ab', [[1.0], [1.0, 2.0]], [1j])
      for name, make in (
        ('eigenvalues', lambda value: low_rank_factorization(value, 1)),
        ('eigenvalues', lambda value: matrix_sensing(value, dimension=2, num_measurements=3)),
        ('weights', orthogonal_tensor_decomposition),
        ('signal', lambda value: phase_retrieval(value, num_measurements=3)),
        ('signal', population_phase_retrieval),
        ('singular_values', deep_linear_network),
      )
    ),
    (lambda: population_phase_retrieval([1e-100]), 'the norm of signal.*got 1e-100'),
    (lambda: deep_linear_network([1.0], start=3), r'start must be a tuple of 2 arrays.*, got 3'),
    (lambda: low_rank_factorization([1.0], 1, start='a'), "start must be a rectangular array.*got 'a'"),
    (lambda: deep_linear_network([1.0, -1.0]), 'singular_values must be >= 0'),
    (lambda: deep_linear_network([1.0], depth=1), 'depth.*>= 2, got 1'),
    (lambda: deep_linear_network([1.0], width=0), 'width.*0'),
    (lambda: deep_linear_network([1.0, 2.0], num_inputs=1), 'num_inputs.*>= 2, got 1'),
    (lambda: deep_linear_network([1.0, 2.0], num_outputs=1), 'num_outputs.*>= 2, got 1'),
    (lambda: deep_linear_network([1.0], start=[[[1.0]]]), 'start must be a tuple of 2 arrays'),
    (lambda: deep_linear_network([1.0], start=([[1.0]], [1.0])), r'start\[1\] must have shape \(1, 1\)'),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()
