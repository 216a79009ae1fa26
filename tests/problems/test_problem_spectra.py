"""Regression built from its spectrum, against dense linear algebra in float64."""

import jax
import numpy as np
import optax
from absl.testing import parameterized

import gdlab
from gdlab import sampling
from gdlab.core.errors import InputError
from gdlab.problems.spectra import spectral_logistic, spectral_regression

SPECTRUM = np.array([5.0, 0.01, 1.0, 1.0])
W = np.array([1.0, -2.0, 0.5, 3.0])


class Float64(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))


def arrays(problem):
  return np.asarray(problem.train.inputs), np.asarray(problem.train.targets)


class SpectralRegressionTest(Float64):
  @parameterized.product(rotated=(True, False), noise=(0.0, 0.5), num_examples=(5, 40))
  def test_spectrum_minimiser_and_minimum_are_as_asked_for(self, rotated, noise, num_examples):
    problem = spectral_regression(
      SPECTRUM, num_examples=num_examples, minimiser=W, noise=noise, rotated=rotated, seed=3
    )
    x, y = arrays(problem)
    hessian = x.T @ x / num_examples
    # Products of orthogonal matrices and numbers up to 5: a few eps * 5.
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), np.sort(SPECTRUM), atol=1e-13)
    if not rotated:
      np.testing.assert_allclose(hessian, np.diag(SPECTRUM), atol=1e-13)
    else:
      self.assertGreater(np.abs(hessian - np.diag(np.diag(hessian))).max(), 0.1)
    # eps times the condition number 500 of the Hessian.
    np.testing.assert_allclose(np.linalg.lstsq(x, y, rcond=None)[0], W, atol=1e-11)
    np.testing.assert_allclose(problem.known.params, W, atol=1e-11)
    np.testing.assert_allclose(np.mean((x @ W - y) ** 2) / 2, noise / 2, atol=1e-13)
    np.testing.assert_allclose(problem.known.value, noise / 2, atol=1e-13)
    np.testing.assert_allclose(
      [problem.known.smoothness, problem.known.strong_convexity], [5, 0.01], rtol=1e-11
    )

  def test_ridge_shrinks_along_the_eigenvectors(self):
    problem = spectral_regression(SPECTRUM, num_examples=9, minimiser=W, noise=1.0, l2=0.3, rotated=False)
    np.testing.assert_allclose(problem.known.params, SPECTRUM / (SPECTRUM + 0.3) * W, rtol=1e-12)
    np.testing.assert_allclose(problem.known.strong_convexity, 0.31, rtol=1e-12)

  def test_zero_eigenvalues_leave_the_least_norm_solution(self):
    problem = spectral_regression([2.0, 0.0], num_examples=4, minimiser=[1.0, 7.0], rotated=False)
    np.testing.assert_allclose(problem.known.params, [1, 0], atol=1e-12)
    np.testing.assert_allclose(problem.known.value, 0, atol=1e-24)

  def test_seed(self):
    one, same, other = (spectral_regression(SPECTRUM, num_examples=6, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.train.targets, same.train.targets)
    self.assertGreater(np.abs(one.known.params - other.known.params).max(), 0.1)

  def test_descent_contracts_as_the_eigenvalues_say(self):
    with jax.enable_x64(False):
      problem = spectral_regression([1.0, 0.1], num_examples=8, minimiser=[3.0, -4.0], rotated=False)
      method = gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optax.sgd(1.0))
      state = method.init(jax.random.key(0), problem)
      start = np.asarray(state.params)
      result = gdlab.run(problem, method, num_steps=20, seeds=1, probes={'w': lambda _, state: state.params})
    last = result.w.values[0, -1]
    # 20 steps, each rounded at numbers of order 4.
    np.testing.assert_allclose(last, [3, -4 + 0.9**20 * (result.w.values[0, 0, 1] + 4)], atol=1e-5)
    self.assertEqual(start.shape, (2,))

  @parameterized.parameters(
    ({'eigenvalues': [1.0, -1.0]}, r'eigenvalues must be numbers >= 0, not all 0.*-1.0'),
    ({'eigenvalues': [0.0]}, 'not all 0'),
    ({'eigenvalues': [[1.0]]}, r'eigenvalues.*\[\[1.0\]\]'),
    ({'eigenvalues': 'ab'}, "eigenvalues.*'ab'"),
    ({'eigenvalues': [np.inf]}, 'eigenvalues.*inf'),
    ({'num_examples': 1}, 'num_examples.*>= 2, got 1'),
    ({'num_examples': 2, 'noise': 0.1}, 'num_examples.*>= 3, got 2'),
    ({'noise': -1.0}, 'noise.*>= 0, got -1.0'),
    ({'minimiser': [1.0]}, r'minimiser must have shape \(2,\), one per eigenvalue, got \(1,\)'),
    ({'minimiser': [1.0, np.nan]}, r'minimiser\[1\].*nan'),
    ({'seed': -1}, 'seed.*-1'),
    ({'l2': -1}, 'l2.*-1'),
  )
  def test_refusals(self, options, message):
    with self.assertRaisesRegex(InputError, message):
      spectral_regression(**{'eigenvalues': [1.0, 2.0], 'num_examples': 4, **options})


class SpectralLogisticTest(Float64):
  def test_hessian_at_the_origin(self):
    problem = spectral_logistic(SPECTRUM, num_examples=50, l2=0.2, seed=1)
    losses = lambda w: problem.metrics(w, (), problem.train)['loss'].mean()
    hessian = jax.hessian(losses)(np.zeros(4))
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), np.sort(SPECTRUM) + 0.2, atol=1e-13)
    np.testing.assert_allclose(
      [problem.known.smoothness, problem.known.strong_convexity], [5.2, 0.2], rtol=1e-13
    )
    self.assertLess(np.linalg.norm(jax.grad(losses)(problem.known.params)), 1e-12)

  def test_labels_follow_the_true_weights(self):
    count, true = 4000, np.array([0.7, -0.4])
    problem = spectral_logistic([1.0, 2.0], num_examples=count, l2=0.0, weights=true)
    x, y = arrays(problem)
    p = 1 / (1 + np.exp(-x @ true))
    # The score at the true weights has mean 0 and this covariance; three standard errors each.
    score, errors = x.T @ (y - p), np.sqrt((p * (1 - p)) @ x**2)
    self.assertTrue((np.abs(score) < 3 * errors).all(), score / errors)
    # And far from 0 elsewhere: the labels are no coin flips.
    self.assertGreater(np.abs(x.T @ (y - 0.5) / np.sqrt(0.25 * np.ones(count) @ x**2)).max(), 10)

  def test_signal(self):
    for signal in (0.0, 2.0):
      problem = spectral_logistic([1.0, 2.0], num_examples=3000, l2=0.01, signal=signal)
      x, _ = arrays(problem)
      logits = x @ problem.known.params
      if signal:
        # The minimiser is near the true weights: ridge and chance change it by some per cent.
        self.assertBetween(np.sqrt(np.mean(logits**2)), 0.8 * signal, 1.2 * signal)
      else:
        # With coin flips each weight is off by its standard error, 1/sqrt(N lambda): logits of 2 sqrt(d/N).
        self.assertLess(np.sqrt(np.mean(logits**2)), 3 * 2 * np.sqrt(2 / 3000))

  @parameterized.parameters(
    ({'signal': -1.0}, 'signal.*>= 0, got -1.0'),
    ({'num_examples': 1}, 'num_examples.*>= 2, got 1'),
    ({'weights': [[1.0, 2.0]]}, r'weights must have shape \(2,\).*\(1, 2\)'),
    ({'eigenvalues': None}, 'eigenvalues.*None'),
  )
  def test_refusals(self, options, message):
    with self.assertRaisesRegex(InputError, message):
      spectral_logistic(**{'eigenvalues': [1.0, 2.0], 'num_examples': 4, 'l2': 0.1, **options})
