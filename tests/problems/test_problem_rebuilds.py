"""Every public problem, built twice from equal arguments, is one key of a compilation cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from flax import linen as nn
from flax import nnx

from gdlab import problems
from gdlab.problems import landscapes, matrices, noise

SMALL = functools.partial(problems.Transformer, width=4, num_layers=1, num_heads=1)
X, Y = np.arange(12.0).reshape(6, 2) % 5, np.array([0, 1, 0, 1, 1, 0])


def mean_square(outputs, targets):
  return jnp.mean((outputs - targets) ** 2, axis=-1)


def linear(rngs):
  return nnx.Linear(2, 2, rngs=rngs)


def deviation(params):
  return jnp.abs(params) + 1


def total(params):
  return sum(map(jnp.sum, jax.tree.leaves(params)))


def noisy_total(params, key):
  return total(params) + jax.random.normal(key)


def of_example(params, example):
  return total(params) * example[1]


def draw(key):
  return jax.random.normal(key, (2,))


def noisy(law):
  return problems.with_noise(landscapes.booth(), law)


BUILDS = {
  'character_lm': lambda: problems.character_lm(SMALL, context=8),
  'digits': lambda: problems.digits(problems.MLP((4,), 10)),
  'drifting_regression': lambda: problems.drifting_regression(X, problems.random_walk(0.1)),
  'from_function_landscape': lambda: problems.from_function(total, {'x': X, 'y': 0.5}),
  'from_function_noisy': lambda: problems.from_function(noisy_total, draw, metrics={'value': noisy_total}),
  'from_function': lambda: problems.from_function(
    of_example, draw, data=(X, Y), metrics={'value': of_example}
  ),
  'from_linen': lambda: problems.from_linen(nn.Dense(2), (X, X), mean_square),
  'from_nnx': lambda: problems.from_nnx(linear, (X, X), mean_square),
  'gaussian_random_field': lambda: problems.gaussian_random_field(2, num_features=3),
  'imbalanced_digits': lambda: problems.imbalanced_digits(problems.MLP((4,), 10)),
  'linear_regression': lambda: problems.linear_regression(X, Y, l2=0.1),
  'logistic_regression': lambda: problems.logistic_regression(X, Y, l2=0.1),
  'noisy_quadratic_model': lambda: problems.noisy_quadratic_model(3),
  'octopus': lambda: problems.octopus(2),
  'quadratic': lambda: problems.quadratic([1.0, 2.0], noise=0.1, num_examples=3),
  'spectral_logistic': lambda: problems.spectral_logistic([1.0, 2.0], num_examples=5, l2=0.1),
  'spectral_regression': lambda: problems.spectral_regression([1.0, 2.0], num_examples=5),
  'spherical_spin_glass': lambda: problems.spherical_spin_glass(3),
  'split': lambda: problems.split(problems.logistic_regression(X, Y, l2=0.1), validation=2),
  'two_parameter_network': lambda: problems.two_parameter_network(),
  'with_label_noise': lambda: problems.with_label_noise(
    problems.logistic_regression(X, Y, l2=0.1), 0.5, num_classes=2
  ),
  'with_penalty': lambda: problems.with_penalty(problems.quadratic([1.0]), l1=0.1, where=problems.not_biases),
  'with_noise_isotropic': lambda: noisy(noise.isotropic(0.1)),
  'with_noise_gaussian': lambda: noisy(noise.gaussian(np.eye(2))),
  'with_noise_hessian': lambda: noisy(noise.hessian_noise(0.1)),
  'with_noise_heavy_tailed': lambda: noisy(noise.heavy_tailed(1.5, 0.1)),
  'with_noise_state_dependent': lambda: noisy(noise.state_dependent(deviation)),
  **{name: getattr(landscapes, name) for name in landscapes.__all__ if name != 'value_fn'},
  'strict_saddle': lambda: landscapes.strict_saddle([1.0, -1.0]),
  'deep_linear_network': lambda: matrices.deep_linear_network([2.0, 1.0]),
  'low_rank_factorization': lambda: matrices.low_rank_factorization([2.0, 1.0], 1),
  'matrix_sensing': lambda: matrices.matrix_sensing([2.0], dimension=2, num_measurements=3),
  'orthogonal_tensor_decomposition': lambda: matrices.orthogonal_tensor_decomposition([2.0, 1.0]),
  'phase_retrieval': lambda: matrices.phase_retrieval([1.0, 2.0], num_measurements=3),
  'population_phase_retrieval': lambda: matrices.population_phase_retrieval([1.0, 2.0]),
}
# Public names that make no problem; and two that read a file that may not be there, by the code of two that are.
NO_PROBLEMS = {
  *('CNN', 'GRU', 'MLP', 'PatchConv', 'TrackingError', 'Transformer', 'class_accuracy', 'landscapes'),
  *(
    'Mixing',
    'adapters',
    'decode',
    'encode',
    'mixing',
    'matrices',
    'noise',
    'not_biases',
    'random_walk',
    'redraw',
    'read_text',
    'rotation',
    'sample_text',
    'value_fn',
    'vocabulary',
    'with_noise',
  ),
}
FROM_FILES = {'mnist', 'shakespeare'}


class RebuildTest(parameterized.TestCase):
  @parameterized.parameters(*BUILDS)
  def test_two_builds_trace_once(self, name):
    one, other = BUILDS[name](), BUILDS[name]()
    structures = [jax.tree.structure(problem) for problem in (one, other)]
    self.assertEqual(structures[0], structures[1])
    self.assertEqual(hash(structures[0]), hash(structures[1]))
    traces = []

    @jax.jit
    def trace(problem):
      traces.append(problem.name)
      return jnp.zeros(())

    trace(one), trace(other)
    self.assertLen(traces, 1)

  def test_none_is_missing(self):
    public = {*problems.__all__, *landscapes.__all__, *matrices.__all__} - NO_PROBLEMS - FROM_FILES
    self.assertEqual(public - BUILDS.keys(), set())
