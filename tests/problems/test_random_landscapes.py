"""Random landscapes: moments over seeds against the covariance they are built for."""

import jax
import jax.numpy as jnp
import matrix_truth
import numpy as np
from absl.testing import parameterized

from gdlab.core.errors import InputError
from gdlab.problems.random_landscapes import gaussian_random_field, spherical_spin_glass

SEEDS = 1500


def over_seeds(make, functions, count=SEEDS):
  """Each function `(value function) -> array` at every seed: a list of float[count, ...]."""

  @jax.jit
  def evaluate(data):
    problem = make(0)
    value = lambda x: problem.metrics(x, (), data)['loss'][0]
    return [function(value) for function in functions]

  rows = [evaluate(make(seed).train) for seed in range(count)]
  return [np.array(column) for column in zip(*rows)]


def assert_mean(draws, expected):
  """The mean over the first axis within 3 standard errors, estimated from the draws themselves."""
  error = draws.std(axis=0) / np.sqrt(len(draws))
  np.testing.assert_array_less(np.abs(draws.mean(axis=0) - expected), 3 * error + 1e-12)


class RandomLandscapesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.parameters(
    (lambda: gaussian_random_field(3, length_scale=0.7, seed=4),),
    (lambda: spherical_spin_glass(4, seed=1),),
    (lambda: spherical_spin_glass(3, order=2),),
    (lambda: spherical_spin_glass(3, order=4),),
  )
  def test_derivatives(self, make):
    matrix_truth.check_derivatives(matrix_truth.dense(make()))

  @parameterized.parameters(64, 3)
  def test_field_has_the_covariance_also_with_few_features(self, num_features):
    length, rng = 0.7, np.random.default_rng(0)
    points = np.concatenate([np.zeros((1, 3)), rng.normal(size=(4, 3)) * 0.8])
    make = lambda seed: gaussian_random_field(3, length_scale=length, num_features=num_features, seed=seed)
    (values,) = over_seeds(make, [lambda value: jnp.stack([value(x) for x in points])])
    assert_mean(values, 0.0)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    assert_mean(values[:, :, None] * values[:, None], np.exp(-(distances**2) / (2 * length**2)))

  def test_field_has_the_derivatives_of_its_covariance(self):
    length, size = 1.4, 3
    make = lambda seed: gaussian_random_field(size, length_scale=length, num_features=64, seed=seed)
    x = np.array([0.3, -1.0, 0.5])
    values, gradients, hessians = over_seeds(
      make, [lambda f: f(x), lambda f: jax.grad(f)(x), lambda f: jax.hessian(f)(x)]
    )
    assert_mean(gradients[:, :, None] * gradients[:, None], np.eye(size) / length**2)
    assert_mean(values[:, None, None] * hessians, -np.eye(size) / length**2)
    assert_mean(gradients[:, :, None, None] * hessians[:, None], 0.0)
    delta = np.eye(size)
    expected = sum(np.einsum(f'{pair},{other}->ijkl', delta, delta) for pair, other in
                   (('ij', 'kl'), ('ik', 'jl'), ('il', 'jk')))  # fmt: skip
    assert_mean(np.einsum('nij,nkl->nijkl', hessians, hessians), expected / length**4)

  def test_field_has_a_semicircle_for_a_spectrum(self):
    size, length = 60, 1.0
    make = lambda seed: gaussian_random_field(size, length_scale=length, num_features=4096, seed=seed)
    x = np.zeros(size)
    values, hessians = over_seeds(make, [lambda f: f(x), lambda f: jax.hessian(f)(x)], count=4)
    # Around -f, radius 2 sqrt(d); in finite dimension and with m waves its second moment is d + 1, its fourth
    # 2 d^2 (1 + O(1/d) + O(d/m)), each in 4 d^2 entries known to a few per cent.
    for value, hessian in zip(values, hessians):
      eigenvalues = np.linalg.eigvalsh(hessian) + value
      np.testing.assert_allclose(np.mean(eigenvalues**2), size + 1, rtol=0.1)
      np.testing.assert_allclose(np.mean(eigenvalues**4), 2 * size**2, rtol=0.25)

  @parameterized.parameters(2, 3, 4)
  def test_spin_glass_has_the_covariance_on_the_sphere(self, order):
    size, rng = 4, np.random.default_rng(0)
    points = rng.normal(size=(5, size))
    points[1] = points[0] + 0.3 * points[1]
    make = lambda seed: spherical_spin_glass(size, order=order, seed=seed)
    (values,) = over_seeds(make, [lambda value: jnp.stack([value(x) for x in points])])
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert_mean(values, 0.0)
    assert_mean(values[:, :, None] * values[:, None], size * (unit @ unit.T) ** order)

  def test_spin_glass_gradient_and_hessian_are_those_on_the_sphere(self):
    size, order = 5, 3
    x = np.sqrt(size) * np.eye(size)[0]
    values, gradients, hessians = over_seeds(
      lambda seed: spherical_spin_glass(size, seed=seed),
      [lambda f: f(x), lambda f: jax.grad(f)(x), lambda f: jax.hessian(f)(x)],
    )
    np.testing.assert_allclose(gradients @ x, 0, atol=1e-12)
    assert_mean((gradients**2).sum(axis=1), order * (size - 1))
    # Across x: -p f/d on the diagonal, and off it the variance p(p-1)/d.
    across = hessians[:, 1:, 1:] + (order * values / size)[:, None, None] * np.eye(size - 1)
    assert_mean(across[:, 0, 1] ** 2, order * (order - 1) / size)
    assert_mean(across[:, 0, 0] ** 2, 2 * order * (order - 1) / size)
    assert_mean(values * across[:, 0, 0], 0.0)

  def test_spin_glass_depends_on_the_direction_alone(self):
    problem = spherical_spin_glass(4)
    x = np.random.default_rng(0).normal(size=4)
    found = [float(problem.metrics(s * x, (), problem.train)['loss'][0]) for s in (1.0, 7.5)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-13)
    couplings = np.asarray(problem.train[0])
    expected = np.einsum('abc,a,b,c', couplings, x, x, x) / np.linalg.norm(x) ** 3 * 2
    np.testing.assert_allclose(found[0], expected, rtol=1e-13)

  def test_two_spins_have_the_stationary_points_of_a_matrix(self):
    problem = spherical_spin_glass(5, order=2)
    functions = matrix_truth.dense(problem)
    couplings = np.asarray(problem.train[0])
    eigenvalues, vectors = np.linalg.eigh((couplings + couplings.T) / 2)
    np.testing.assert_allclose(functions.gradient(vectors.T), 0, atol=1e-12)
    np.testing.assert_allclose(functions.value(vectors.T), np.sqrt(5) * eigenvalues, rtol=1e-12)
    curvatures = np.linalg.eigvalsh(np.asarray(functions.hessian(vectors.T)))
    self.assertEqual((curvatures < -1e-10).sum(axis=1).tolist(), [0, 1, 2, 3, 4])

  @parameterized.parameters(gaussian_random_field, spherical_spin_glass)
  def test_seeds_differ_and_do_not_compile_again(self, make):
    traces = []

    @jax.jit
    def value(problem):
      traces.append(None)
      return problem.metrics(jnp.ones(3), (), problem.train)['loss'][0]

    found = [float(value(make(3, seed=seed))) for seed in (0, 1, 0)]
    self.assertEqual(found[0], found[2])
    self.assertNotEqual(found[0], found[1])
    self.assertLen(traces, 1)

  @parameterized.parameters(
    (lambda: gaussian_random_field(0), 'dimension.*>= 1, got 0'),
    (lambda: gaussian_random_field(2, length_scale=0.0), 'length_scale.*0.0'),
    (lambda: gaussian_random_field(2, num_features=0), 'num_features.*0'),
    (lambda: gaussian_random_field(2, seed=-1), 'seed.*-1'),
    (lambda: gaussian_random_field(2, start=[1.0]), r'start must have shape \(2,\)'),
    (lambda: spherical_spin_glass(1), 'dimension.*>= 2, got 1'),
    (lambda: spherical_spin_glass(3, order=1), 'order.*>= 2, got 1'),
    (lambda: spherical_spin_glass(3, start=[0.0, 0.0, 0.0]), 'start must not be 0'),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()
