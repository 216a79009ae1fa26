"""Perturbed gradient descent: the law of the ball, when it is drawn, its constants, saddles and the octopus."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from flax.training.train_state import TrainState
from scipy import stats
from transform_cases import CASES, assert_close, gradients, scan, tree

from gdlab.core.errors import InputError
from gdlab.problems import octopus
from gdlab.transforms import perturb_at_saddle, perturbed_gradient_descent, pgd_constants

DRAWS = 20_000


def draws(params, radius):
  """Perturbations of a zero gradient for many seeds, raveled: float[DRAWS, d]."""

  def draw(seed):
    transform = perturb_at_saddle(radius, 1.0, 1, seed=seed)
    zero = optax.tree.zeros_like(params)
    return transform.update(zero, transform.init(params), grad=zero)[0]

  found = jax.jit(jax.vmap(draw))(jnp.arange(DRAWS))
  return np.concatenate([np.reshape(leaf, (DRAWS, -1)) for leaf in jax.tree.leaves(found)], axis=1)


class BallTest(parameterized.TestCase):
  @parameterized.parameters(1, 10)
  def test_draws_are_uniform_in_the_ball_over_all_leaves(self, dimension):
    radius = 0.7
    params = {'a': jnp.zeros(dimension - 1), 'b': jnp.zeros(())}
    found = draws(params, radius)
    self.assertEqual(found.shape, (DRAWS, dimension))
    lengths = np.linalg.norm(found, axis=1)
    self.assertLessEqual(lengths.max(), radius * (1 + 1e-6))
    # The volume within a length is uniform; p below 1e-4 for one fixed set of seeds would be no accident.
    self.assertGreater(stats.kstest((lengths / radius) ** dimension, 'uniform').pvalue, 1e-4)
    # Mean 0 and covariance r^2 / (d + 2), each entry within 3.5 standard errors: there are up to 65 of them.
    variance = radius**2 / (dimension + 2)
    np.testing.assert_array_less(np.abs(found.mean(0)), 3.5 * np.sqrt(variance / DRAWS))
    products = found[:, :, None] * found[:, None, :]
    error = products.mean(0) - variance * np.eye(dimension)
    np.testing.assert_array_less(np.abs(error), 3.5 * products.std(0) / np.sqrt(DRAWS) + 1e-12)

  @pytest.mark.slow
  def test_bfloat16_draws_fill_the_ball_too(self):
    found = draws(jnp.zeros(3, jnp.bfloat16), 1.0).astype(np.float64)
    # Rounding to 8 bits moves a length by at most 2^-9 of it.
    self.assertLessEqual(np.linalg.norm(found, axis=1).max(), 1 + 2**-8)
    self.assertLess(np.abs(found.var(0) - 1 / 5).max(), 0.005)


@jax.jit
def guarded(threshold, interval, gradient, state):
  return perturb_at_saddle(0.5, threshold, interval).update(gradient, state, grad=gradient)


class WhenTest(parameterized.TestCase):
  @parameterized.parameters(
    ([2, 0, 0, 0, 0], 1.0, 1, [0, 1, 1, 1, 1]),
    ([2, 0, 0, 0, 0], 1.0, 0, [0, 1, 1, 1, 1]),
    ([0, 0, 0, 0, 0], 1.0, 2, [1, 0, 1, 0, 1]),
    ([0, 2, 2, 0, 0], 1.0, 2.5, [1, 0, 0, 1, 0]),
    ([0, 0, 0, 0, 0], 0.0, 1, [1, 1, 1, 1, 1]),
    ([2, 2, 3, 2, 0], 0.0, 1, [0, 0, 0, 0, 1]),
    ([np.nan, np.inf, 0, 0, 0], 1.0, 3, [0, 0, 1, 0, 0]),
  )
  def test_small_gradients_far_enough_apart(self, norms, threshold, interval, expected):
    state, counts = perturb_at_saddle(0.5, threshold, interval).init(jnp.zeros(2)), [0]
    for norm in norms:
      gradient = jnp.array([0.6, 0.8]) * norm
      updates, state = guarded(float(threshold), float(interval), gradient, state)
      counts.append(int(state.perturbations))
      if np.isfinite(norm):
        self.assertEqual(bool((updates != gradient).any()), counts[-1] > counts[-2])
      else:
        np.testing.assert_array_equal(updates, gradient)
    self.assertEqual(np.diff(counts).tolist(), expected)

  @pytest.mark.slow
  def test_the_threshold_is_for_the_raw_gradient_where_it_is_given(self):
    chained = optax.chain(optax.sgd(1e-3), perturb_at_saddle(0.5, 0.1, 1))
    gradient = jnp.array([3.0, 4.0])
    update, state = jax.jit(chained.update), chained.init(gradient)
    np.testing.assert_array_equal(update(gradient, state, gradient, grad=gradient)[0], -1e-3 * gradient)
    # The whole method knows its gradient.
    whole = perturbed_gradient_descent(1e-3, 0.5, 0.1, 1)
    np.testing.assert_array_equal(whole.update(gradient, whole.init(gradient))[0], -1e-3 * gradient)

  def test_a_train_state_cannot_hand_the_gradient_on_so_the_rate_is_given(self):
    params = {'w': jnp.array([1.0, 0.0])}

    def perturbations(rate, **given):
      chained = optax.chain(optax.sgd(rate), perturb_at_saddle(0.0, 0.5, 1, **given))
      state = TrainState.create(apply_fn=None, params=params, tx=chained)
      step = jax.jit(lambda state: state.apply_gradients(grads=state.params))  # of half the squared norm
      counts = [0]
      for _ in range(10):
        state = step(state)
        counts.append(int(state.opt_state[1].perturbations))
      return np.diff(counts).tolist()

    # The gradient's norm is .9^t, below .5 from update 7 on: .9^6 = .531, .9^7 = .478. The update's is .1 at the start.
    expected = [0] * 7 + [1] * 3
    self.assertEqual(perturbations(0.1, learning_rate=0.1), expected)
    # A warm-up from 0: norms 1, 1, .9, ..., so that .478 comes one update later.
    warmed = lambda count: jnp.where(count == 0, 0.0, 0.1)
    self.assertEqual(perturbations(warmed, learning_rate=warmed), [0, *expected[:-1]])
    with self.assertRaisesRegex(
      InputError, r'^perturb_at_saddle needs the gradient, .* got neither$'
    ) as caught:
      perturbations(0.1)
    self.assertNotIn('\n', str(caught.exception))

  def test_the_gradient_counts_where_both_are_given(self):
    transform = perturb_at_saddle(0.5, 0.1, 1, learning_rate=1e-3)
    large, small = jnp.array([3.0, 4.0]), jnp.array([0.03, 0.04])
    self.assertEqual(int(transform.update(small, transform.init(small), grad=large)[1].perturbations), 0)
    self.assertEqual(int(transform.update(large, transform.init(small), grad=small)[1].perturbations), 1)

  def test_the_draw_stays_a_branch_under_vmap(self):
    transform = perturb_at_saddle(0.5, 0.1, 1)
    state = transform.init(jnp.zeros(2))
    lanes = jax.vmap(lambda g: transform.update(g, state, grad=g)[0])
    gradients = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    self.assertIn('cond[', str(jax.make_jaxpr(lanes)(gradients)))
    found = jax.jit(lanes)(gradients)
    self.assertGreater(jnp.linalg.norm(found[0]), 0)
    np.testing.assert_array_equal(found[1], gradients[1])


class ReductionTest(parameterized.TestCase):
  @parameterized.parameters('float32', 'bfloat16')
  def test_radius_0_is_gradient_descent(self, dtype):
    params, grads = tree(dtype), gradients(CASES['perturb_at_saddle'], 6, dtype)
    path, updates, state = scan(perturbed_gradient_descent(0.1, 0.0, 1e9, 1), params, grads)
    expected_path, expected, _ = scan(optax.sgd(0.1), params, grads)
    self.assertEqual(int(state[1].perturbations), 6)
    assert_close(updates, expected, rtol=0, atol=0)
    # The sum with the parameters is rounded differently where XLA fuses it with the product.
    eps = float(jnp.finfo(dtype).eps)
    assert_close(path, expected_path, rtol=6 * eps, atol=6 * eps)

  def test_it_leaves_a_saddle_where_descent_sits_still(self):
    gradient = jax.grad(lambda x: (x[0] ** 2 - x[1] ** 2) / 2)

    def run(transform):
      def step(carry, _):
        x, state = carry
        updates, state = transform.update(gradient(x), state)
        return (x + updates, state), None

      return jax.lax.scan(step, (jnp.zeros(2), transform.init(jnp.zeros(2))), length=100)[0][0]

    np.testing.assert_array_equal(run(optax.sgd(0.1)), np.zeros(2))
    # x_1 grows by 1.1 a step; a first draw below r/100 (chance 1 %) would still reach 1e-5 * 1.1^99 = 0.1.
    self.assertGreater(abs(run(perturbed_gradient_descent(0.1, 1e-3, 1e-2, 1000))[1]), 0.1)

  def test_constants(self):
    ell, rho, epsilon, d, gap, delta, c = 2.0, 0.5, 1e-2, 7, 3.0, 0.05, 0.25
    chi = 3 * np.log(7 * 2.0 * 3.0 / (0.25 * 1e-4 * 0.05))
    found = pgd_constants(ell, rho, epsilon, dimension=d, gap=gap, failure=delta, c=c)
    expected = {
      'chi': chi,
      'learning_rate': 0.125,
      'radius': 0.5 / chi**2 * 1e-2 / 2.0,
      'grad_threshold': 0.5 / chi**2 * 1e-2,
      'f_threshold': 0.25 / chi**3 * np.sqrt(1e-6 / 0.5),
      'min_interval': chi / 0.0625 * 2.0 / np.sqrt(0.5e-2),
    }
    for name, value in expected.items():
      np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, err_msg=name)
    # Where the logarithm is small, 4 stands in for it.
    self.assertEqual(pgd_constants(1.0, 1.0, 1.0, dimension=1, gap=1e-3).chi, 12)

  def test_constants_may_be_traced(self):
    given = {
      'smoothness': 2.0,
      'hessian_lipschitz': 0.5,
      'epsilon': 1e-2,
      'gap': 3.0,
      'failure': 0.05,
      'c': 0.25,
    }
    known = pgd_constants(**given, dimension=7)
    self.assertTrue(all(type(value) is float for value in known))
    found = jax.jit(lambda d, numbers: pgd_constants(**numbers, dimension=d))(7, given)
    # chi is a sum of seven numbers below 10, each rounded: below 30 roundings, and no power is above 3.
    np.testing.assert_allclose(found, known, rtol=100 * np.finfo(np.float32).eps)

  @parameterized.parameters(
    ({'smoothness': 0.0}, 'smoothness.*0.0'),
    ({'hessian_lipschitz': -1.0}, 'hessian_lipschitz.*-1.0'),
    ({'epsilon': 5.0}, r'epsilon must lie in \(0, smoothness\^2 / hessian_lipschitz = 4.0\], got 5.0'),
    ({'dimension': 0}, 'dimension.*>= 1, got 0'),
    ({'gap': 0.0}, 'gap.*0.0'),
    ({'failure': 1.0}, 'failure.*1.0'),
    ({'c': 1.5}, r'c must be a real number in \(0, 1\], got 1.5'),
  )
  def test_constants_refuse(self, change, message):
    good = {'smoothness': 2.0, 'hessian_lipschitz': 1.0, 'epsilon': 0.1, 'dimension': 3, 'gap': 1.0}
    with self.assertRaisesRegex(InputError, message):
      pgd_constants(**{**good, **change})


class OctopusTest(parameterized.TestCase):
  """L = gamma = 1, tau = e, rate 1/4, r = g_thres = e/100, t_thres = 1: the setting of Du et al. 2017."""

  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  def passages(self, dimension, transform, num_steps, seeds):
    """The step at which each coordinate passes 2 tau, int[seeds, d]; num_steps where it does not."""
    problem = octopus(dimension)
    gradient = jax.grad(lambda x: problem.metrics(x, (), problem.train)['loss'][0])

    def run(seed):
      optimizer = transform(seed)
      start = jax.random.uniform(jax.random.fold_in(jax.random.key(0), seed), (dimension,))

      def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(gradient(x), state)
        return (x + updates, state), jnp.abs(x + updates) >= 2 * np.e

      passed = jax.lax.scan(step, (start, optimizer.init(start)), length=num_steps)[1]
      return jnp.where(passed.any(0), jnp.argmax(passed, 0) + 1, num_steps)

    return np.asarray(jax.jit(jax.vmap(run))(jnp.arange(seeds)))

  @pytest.mark.slow
  def test_steps_are_polynomial_in_the_dimension_and_plain_descents_are_not(self):
    perturbed = lambda seed: perturbed_gradient_descent(0.25, np.e / 100, np.e / 100, 1, seed=seed)
    dimensions = np.array([3, 5, 10])
    times = [self.passages(d, perturbed, 600, 16).max(axis=1) for d in dimensions]
    self.assertLess(times[-1].max(), 600)
    # Each saddle costs about the same number of steps: degree 1, well below 2.
    slope = np.polyfit(np.log(dimensions), np.log([t.mean() for t in times]), 1)[0]
    self.assertLess(slope, 1.5)

    longest = int(times[-1].max())
    plain = self.passages(10, lambda seed: optax.sgd(0.25), 100 * longest, 2)
    self.assertTrue((plain.max(axis=1) == 100 * longest).all())
    # It passes the first ones, and each takes 1 + ln 2 / ln 1.5 = 2.7 times the last.
    gaps = np.diff(plain[:, :5], axis=1)
    np.testing.assert_allclose(gaps[:, -1] / gaps[:, -2], 1 + np.log(2) / np.log(1.5), rtol=0.1)
