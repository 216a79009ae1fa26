"""Linear and logistic regression against closed forms, scikit-learn, and JAX's own derivatives in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from sklearn import linear_model

from gdlab.core.errors import InputError
from gdlab.core.objective import batch_loss
from gdlab.core.types import Batch
from gdlab.problems import linear_regression, logistic_regression

N, D = 40, 5
X = np.ones((4, 2))


def features(condition=10.0):
  """Features whose columns differ in scale by `condition`."""
  return np.random.default_rng(0).normal(size=(N, D)) * np.geomspace(1, condition, D)


def targets():
  return features() @ np.arange(D) + np.random.default_rng(1).normal(size=N)


def labels(num_classes):
  """Noisy labels, of which every class occurs."""
  rng = np.random.default_rng(2)
  return np.argmax(
    features() @ rng.normal(size=(D, num_classes)) + 5 * rng.gumbel(size=(N, num_classes)), axis=1
  )


def objective(problem, params):
  """The training loss as a function of problem and parameters alone."""
  count = problem.num_examples
  batch = Batch(jnp.arange(count, dtype=jnp.int32), jnp.full(count, 1 / count))
  return batch_loss(problem, params, (), batch, jax.random.key(0))[0]


value_and_grad = jax.jit(jax.value_and_grad(objective, argnums=1))
hessian = jax.jit(jax.hessian(objective, argnums=1))


def gradient_norm(problem):
  """At the minimiser."""
  return np.linalg.norm(value_and_grad(problem, problem.known.params)[1])


class Float64(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))


class LinearRegressionTest(Float64):
  @parameterized.parameters(0.0, 0.3)
  def test_minimum_is_exact(self, l2):
    problem = linear_regression(features(), targets(), l2=l2)
    f, known = lambda params: value_and_grad(problem, params)[0], problem.known
    # Backward stable least squares: eps * condition (at most 1e4 for the normal equations) * size.
    self.assertLess(gradient_norm(problem), 1e-11)
    np.testing.assert_allclose(f(known.params), known.value, rtol=1e-12)
    # f is quadratic: away from the minimum it has risen by exactly d'Hd/2.
    exact = features().T @ features() / N + l2 * np.eye(D)
    away = np.random.default_rng(3).normal(size=D)
    np.testing.assert_allclose(f(known.params + away) - known.value, away @ exact @ away / 2, rtol=1e-11)
    curvatures = np.linalg.eigvalsh(hessian(problem, away))
    np.testing.assert_allclose(known.smoothness, curvatures[-1], rtol=1e-12)
    np.testing.assert_allclose(known.strong_convexity, curvatures[0], rtol=1e-10)

  def test_minimiser_is_scikit_learns(self):
    problem = linear_regression(features(), targets(), l2=0.3)
    ridge = linear_model.Ridge(alpha=0.3 * N, fit_intercept=False).fit(features(), targets())
    np.testing.assert_allclose(problem.known.params, ridge.coef_, rtol=1e-9)

  @parameterized.parameters(0.0, 0.1)
  def test_fewer_examples_than_weights(self, l2):
    problem = linear_regression(features()[:3], targets()[:3], l2=l2)
    self.assertLess(gradient_norm(problem), 1e-11)
    # Directions that no example sees: only the ridge curves there.
    self.assertAlmostEqual(problem.known.strong_convexity, l2, delta=1e-12)
    self.assertGreaterEqual(problem.known.strong_convexity, l2)

  def test_test_set_and_metrics(self):
    x, y, w = features(), targets(), np.arange(D) / 2
    problem = linear_regression(x[:30], y[:30], l2=0.3, test=(x[30:], y[30:]))
    found = problem.metrics(w, (), problem.test)
    np.testing.assert_allclose(found['loss'], (x[30:] @ w - y[30:]) ** 2 / 2 + 0.15 * w @ w, rtol=1e-12)

  def test_known_is_that_of_the_data_as_stored(self):
    with jax.enable_x64(False):
      problem = linear_regression(features(), targets())
      self.assertEqual({leaf.dtype for leaf in problem.train}, {jnp.dtype('float32')})
      stored = [np.asarray(leaf, np.float64) for leaf in problem.train]
    exact = linear_regression(*stored)
    np.testing.assert_array_equal(problem.known.params, exact.known.params)
    self.assertNotEqual(problem.known.value, linear_regression(features(), targets()).known.value)


class LogisticRegressionTest(Float64):
  @parameterized.product(num_classes=(2, 3), l2=(0.1, 1e-4))
  def test_minimum(self, num_classes, l2):
    problem = logistic_regression(features(), labels(num_classes), l2=l2)
    f, known = lambda params: value_and_grad(problem, params)[0], problem.known
    self.assertEqual(known.params.shape, (D,) if num_classes == 2 else (D, 3))
    # Newton ends at rounding: each of D sums over N has entries of at most 30, so a gradient of some 1e-14.
    self.assertLess(gradient_norm(problem), 1e-12)
    np.testing.assert_allclose(f(known.params), known.value, rtol=1e-12)

    model = linear_model.LogisticRegression(C=1 / (l2 * N), fit_intercept=False, tol=1e-10, max_iter=10_000)
    coefficients = model.fit(features(), labels(num_classes)).coef_
    expected = coefficients[0] if num_classes == 2 else coefficients.T
    # scikit-learn stops at a gradient of 1e-10 in its own scaling; over mu = 1e-4 that is 1e-6.
    np.testing.assert_allclose(known.params, expected, rtol=1e-4, atol=1e-5)

  @parameterized.parameters(2, 3)
  def test_curvature_is_bounded(self, num_classes):
    problem = logistic_regression(features(), labels(num_classes), l2=0.01)
    known, rng = problem.known, np.random.default_rng(4)
    size = known.params.size
    for scale in (0, 0.1, 1, 10):
      point = scale * rng.normal(size=known.params.shape)
      curvatures = np.linalg.eigvalsh(hessian(problem, point).reshape(size, size))
      self.assertLessEqual(curvatures[-1], known.smoothness * (1 + 1e-12))
      self.assertGreaterEqual(curvatures[0], known.strong_convexity - 1e-12)
      if num_classes == 2 and scale == 0:
        np.testing.assert_allclose(curvatures[-1], known.smoothness, rtol=1e-12)

  def test_softmax_bound_is_approached(self):
    # One example torn between two of three classes: p = (1/2, 1/2, 0) has a covariance of norm 1/2.
    problem = logistic_regression([[3.0, 4.0]], [0], l2=0.01, num_classes=3)
    point = np.array([[3.0, 3.0, -3.0], [4.0, 4.0, -4.0]])
    largest = np.linalg.eigvalsh(hessian(problem, point).reshape(6, 6))[-1]
    # The third class keeps a probability of e^-50.
    np.testing.assert_allclose(largest, problem.known.smoothness, rtol=1e-12)
    self.assertAlmostEqual(problem.known.smoothness, 25 / 2 + 0.01)

  @parameterized.parameters(1e-6, 1e-2)
  def test_separable_data_far_from_the_start(self, l2):
    x = features() * 100
    problem = logistic_regression(x, (x[:, 0] > 0).astype(int), l2=l2)
    # Sums of entries up to 3000, so rounding 100 times that of `test_minimum`.
    self.assertLess(gradient_norm(problem), 1e-10)

  def test_without_ridge_nothing_but_curvature_is_known(self):
    known = logistic_regression(features(), labels(2), l2=0).known
    self.assertIsNone(known.params)
    self.assertIsNone(known.value)
    self.assertEqual(known.strong_convexity, 0)
    np.testing.assert_allclose(known.smoothness, np.linalg.norm(features(), 2) ** 2 / N / 4, rtol=1e-12)

  @parameterized.parameters(2, 3)
  def test_metrics(self, num_classes):
    x, y = features(), labels(num_classes)
    problem = logistic_regression(x[:30], y[:30], l2=0.2, num_classes=num_classes, test=(x[30:], y[30:]))
    weights = np.random.default_rng(5).normal(size=problem.known.params.shape)
    logits = x[30:] @ weights
    logits = np.stack([0 * logits, logits], 1) if num_classes == 2 else logits
    found = problem.metrics(weights, (), problem.test)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(10), y[30:]] + 0.1 * (weights**2).sum()
    np.testing.assert_allclose(found['loss'], losses, rtol=1e-10)
    np.testing.assert_array_equal(found['accuracy'], logits.argmax(1) == y[30:])


class BothTest(parameterized.TestCase):
  @parameterized.parameters(
    lambda scale: linear_regression(features(), targets(), l2=0.1, initial_scale=scale),
    lambda scale: logistic_regression(features(), labels(3), l2=0.1, initial_scale=scale),
  )
  def test_initial_weights_are_normal(self, build):
    problem = build(0.5)
    draws, state = jax.vmap(problem.init)(jax.random.split(jax.random.key(0), 2000))
    self.assertEqual((state, str(draws.dtype)), ((), 'float32'))
    draws = np.asarray(draws, np.float64).ravel()
    # Five standard errors of a mean and of a variance.
    self.assertLess(abs(draws.mean()), 5 * 0.5 / np.sqrt(draws.size))
    self.assertLess(abs(draws.var() - 0.25), 5 * 0.25 * np.sqrt(2 / draws.size))

  def test_equal_problems_compile_once(self):
    traces = []

    @jax.jit
    def value(problem, params):
      traces.append(None)
      return problem.metrics(params, (), problem.train)['loss'].sum()

    for shift in (0, 1, 2):
      value(linear_regression(features(), targets() + shift, l2=0.1), jnp.ones(D))
    self.assertLen(traces, 1)
    for l2 in (0.1, 0.1, 0.2):
      value(logistic_regression(features(), labels(2), l2=l2), jnp.ones(D))
    self.assertLen(traces, 3)

  @parameterized.parameters(
    ((np.ones(4), np.ones(4)), {}, r'features must have shape \[N, d\].*\(4,\)'),
    ((np.ones((4, 0)), np.ones(4)), {}, r'features must have shape.*\(4, 0\)'),
    ((X, np.ones((4, 1))), {}, r'targets must have shape \(4,\).*\(4, 1\)'),
    ((X, np.ones(3)), {}, r'targets must have shape \(4,\).*\(3,\)'),
    ((X, np.ones(4)), {'l2': -1}, 'l2 must be a real number >= 0, got -1'),
    ((X, np.ones(4)), {'l2': np.nan}, 'l2.*nan'),
    ((X, np.ones(4)), {'initial_scale': 0}, 'initial_scale.*0'),
    ((X, np.ones(4)), {'test': X}, 'test must be a pair'),
    ((X, np.ones(4)), {'test': (np.ones((3, 3)), np.ones(3))}, 'test must hold examples like'),
  )
  def test_linear_refusals(self, data, options, message):
    with self.assertRaisesRegex(InputError, message):
      linear_regression(*data, **options)

  @parameterized.parameters(
    (np.ones(4), {}, 'labels.*integer dtype, got float'),
    ([0, 1, -1, 0], {}, r'labels.*\[0, 1\].*got -1'),
    ([0, 1, 2, 0], {'num_classes': 2}, r'labels.*got 2'),
    ([0, 0, 0, 0], {'num_classes': 1}, 'num_classes.*>= 2, got 1'),
    ([0, 1, 0, 1], {'test': ([[1, 2]], [2])}, r'test\.targets.*got 2'),
    ([0, 1, 0, 1], {'l2': -0.1}, 'l2.*-0.1'),
  )
  def test_logistic_refusals(self, targets, options, message):
    with self.assertRaisesRegex(InputError, message):
      logistic_regression(X, targets, **{'l2': 1.0, **options})
