"""Escape from strict saddles against descent step by step, as gdlab runs it and by hand, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from absl.testing import parameterized

import gdlab
from gdlab import theory
from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.problems.analytic import FixedInit, PointwiseLoss, PointwiseMetrics

METHODS = ({'momentum': 0.0}, {'momentum': 0.9}, {'momentum': 0.9, 'nesterov': True})


@dataclasses.dataclass(frozen=True)
class SaddleLoss:
  """x^T diag(eigenvalues) x / 2; the examples are rows of eigenvalues."""

  def __call__(self, params, examples):
    return examples @ params**2 / 2


def strict_saddle(starts):
  """A stable direction, and for every start a direction of curvature -0.5: all at their saddle, independent."""
  loss = SaddleLoss()
  return Problem(
    init=FixedInit((1.0, *starts)),
    loss=PointwiseLoss(loss),
    metrics=PointwiseMetrics((('loss', loss),)),
    name='strict saddle',
    train=jnp.array([[1.0] + [-0.5] * len(starts)]),
  )


def first_steps(starts, distance, curvature, rate, *, momentum=0.0, nesterov=False, limit=2000):
  """The first step at or beyond the distance, by doing it."""
  found = []
  for x in starts:
    m, step = 0.0, 0
    while abs(x) < distance and step < limit:
      gradient = -curvature * x
      m = momentum * m + gradient
      x, step = x - rate * (gradient + momentum * m if nesterov else m), step + 1
    found.append(step)
  return found


class NoiselessEscapeTest(parameterized.TestCase):
  @parameterized.parameters(*METHODS)
  def test_gdlab_escapes_at_the_step_over_four_decades(self, **method):
    starts = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
    exact = theory.escape_steps(1.0, starts, curvature=0.5, learning_rate=0.1, **method)
    descent = gdlab.algorithm(
      sampler=gdlab.sampling.full_batch(),
      optimizer=optax.sgd(0.1, method['momentum'], method.get('nesterov', False)),
    )
    with jax.enable_x64(True):
      result = gdlab.run(
        strict_saddle(starts),
        descent,
        num_steps=300,
        seeds=1,
        eval_every=1,
        probes={'distance': lambda problem, state: jnp.abs(state.params[1:])},
        progress=False,
      )
    self.assertEqual(result.distance.dtype, np.float64)
    outside = result.distance.values[0] >= 1.0  # [step, start]
    self.assertTrue(outside[-1].all())
    self.assertLessEqual(np.abs(outside.argmax(axis=0) - exact).max(), 1)

  @parameterized.product(method=METHODS, curvature=(0.01, 0.5, 3.0), rate=(0.05, 0.7))
  def test_first_step_by_hand(self, method, curvature, rate):
    starts = np.array([3.0, 0.9, 1e-2, 1e-4, 1e-6])
    found = theory.escape_steps(1.0, starts, curvature=curvature, learning_rate=rate, **method)
    exact = first_steps(starts, 1.0, curvature, rate, limit=200_000, **method)
    np.testing.assert_array_equal(found, exact)

  def test_plain_descent_is_the_logarithm(self):
    starts = np.geomspace(1e-9, 0.5, 50)
    found = theory.escape_steps(2.0, starts, curvature=0.3, learning_rate=0.2)
    np.testing.assert_array_equal(found, np.ceil(np.log(2.0 / starts) / np.log1p(0.06)))

  @parameterized.parameters(*METHODS)
  def test_long_waits_take_the_growth_factor(self, **method):
    growth = theory.escape_growth(0.5, 0.1, **method)
    near, far = theory.escape_steps(1.0, [1e-40, 1e-100], curvature=0.5, learning_rate=0.1, **method)
    # Two whole numbers of steps, each rounded up.
    self.assertAlmostEqual(far - near, 60 * np.log(10) / np.log(growth), delta=1)

  def test_momentum_is_faster_and_nesterov_a_little_more(self):
    growth = [float(theory.escape_growth(0.5, 0.01, **method)) for method in METHODS]
    self.assertEqual(growth[0], 1.005)
    self.assertGreater(growth[1], 1 + 7 * 0.005)
    self.assertGreater(growth[2], growth[1])

  def test_gradient_flow_is_the_limit_of_small_rates(self):
    time = theory.continuous_escape_time(1.0, [1e-3, 2.0], 0.5)
    steps = theory.escape_steps(1.0, [1e-3, 2.0], curvature=0.5, learning_rate=1e-4)
    # ln(1 + a)/a is 1 - a/2; steps are rounded up.
    np.testing.assert_allclose(steps * 1e-4, time, rtol=1e-4, atol=1e-4)
    self.assertEqual(time[1], 0)


class NoisyEscapeTest(parameterized.TestCase):
  @parameterized.product(method=METHODS, start=(0.0, 1e-3, 0.3))
  def test_second_moment_reaches_the_distance_at_the_step(self, method, start):
    arguments = {'learning_rate': 0.1, 'batch_size': 4, **method}
    steps = theory.escape_steps(1.0, start, curvature=0.5, noise=1e-3, **arguments)
    path = theory.second_moments([-0.5], 1e-3, num_steps=200, initial=start**2, **arguments).position[:, 0]
    self.assertEqual(steps, (path >= 1).argmax())

  def test_plain_closed_form(self):
    alpha, gamma, sigma2, size = 0.1, 0.5, 1e-3, 4
    a, q = 1 + alpha * gamma, alpha * sigma2 / (size * gamma * (2 + alpha * gamma))
    starts = np.array([0.0, 1e-3, 0.1])
    found = theory.escape_steps(
      1.0, starts, curvature=gamma, learning_rate=alpha, noise=sigma2, batch_size=size
    )
    np.testing.assert_array_equal(found, np.ceil(np.log((1 + q) / (starts**2 + q)) / (2 * np.log(a))))

  @parameterized.parameters(*METHODS)
  def test_distribution_and_mean_against_simulation(self, **method):
    """Gaussian noise, 20,000 walkers; a share is allowed 3 standard errors, the mean too."""
    alpha, gamma, sigma2, count = 0.1, 0.5, 1e-4, 20_000
    generator = np.random.default_rng(0)
    x, m = np.zeros(count), np.zeros(count)
    first = np.zeros(count, int)
    looks, shares = (20, 60, 80, 100, 150), {}
    for step in range(1, 301):
      gradient = -gamma * x + np.sqrt(sigma2) * generator.normal(size=count)
      m = method['momentum'] * m + gradient
      x = x - alpha * (gradient + method['momentum'] * m if method.get('nesterov') else m)
      first[(first == 0) & (np.abs(x) >= 1)] = step
      if step in looks:
        shares[step] = np.mean(np.abs(x) >= 1)
    arguments = {'curvature': gamma, 'learning_rate': alpha, 'noise': sigma2}
    for step, share in shares.items():
      exact = float(theory.escaped_probability(step, 1.0, 0.0, **arguments, **method))
      self.assertLessEqual(abs(share - exact), 3 * np.sqrt(exact * (1 - exact) / count) + 1e-12)
      # Who is out stays out: the bound on the first exit is close, here within one walker in a thousand.
      self.assertAlmostEqual(np.mean((first > 0) & (first <= step)), share, delta=1e-3)
    escaped = first[first > 0]
    self.assertGreater(len(escaped), count * 0.999)
    exact = float(theory.mean_escape_steps(1.0, **arguments, **method)) + 0.5
    # The few that stay longer than 300 steps stay about 330: of 20,000 a handful.
    error = 3 * escaped.std() / np.sqrt(count) + 50 * (1 - len(escaped) / count)
    self.assertAlmostEqual(escaped.mean(), exact, delta=error)

  def test_probability_with_a_start(self):
    """x_T ~ N(x_0 a^T, v_T), from the sums of the recursion."""
    a, steps = 1.05, 30
    spread = 0.1 * np.sqrt(0.01 / 2 * np.sum(a ** (2 * np.arange(steps))))
    law = scipy.stats.norm(0.1 * a**steps, spread)
    found = theory.escaped_probability(
      steps, 0.5, 0.1, curvature=0.5, learning_rate=0.1, noise=0.01, batch_size=2
    )
    np.testing.assert_allclose(found, law.sf(0.5) + law.cdf(-0.5), rtol=1e-9)
    at_once = theory.escaped_probability(0, [0.5, 0.05], 0.1, curvature=0.5, learning_rate=0.1, noise=0.01)
    np.testing.assert_array_equal(at_once, [0, 1])

  @parameterized.parameters(
    ({'start': 0.0}, 'start must be > 0 without noise'),
    ({'curvature': -1.0}, 'curvature'),
    ({'distance': 0.0}, 'distance'),
    ({'noise': -1.0}, 'noise'),
    ({'batch_size': 0}, 'batch_size'),
    ({'curvature': 1e-17}, 'above 1e-18'),
  )
  def test_refuses(self, wrong, message):
    right = {'distance': 1.0, 'start': 0.1, 'curvature': 1.0, 'learning_rate': 0.1}
    with self.assertRaisesRegex(InputError, message):
      theory.escape_steps(**right | wrong)

  def test_refuses_shapes(self):
    wrong = {'distance': [1.0, 2.0], 'start': [0.1, 0.2, 0.3], 'curvature': 1.0}
    for call in (
      lambda: theory.escape_steps(**wrong, learning_rate=0.1),
      lambda: theory.escaped_probability(3, **wrong, learning_rate=0.1, noise=1.0),
      lambda: theory.continuous_escape_time(**wrong),
      lambda: theory.escape_growth([1.0, 2.0], [0.1, 0.2, 0.3]),
    ):
      with self.assertRaisesRegex(InputError, 'broadcast'):
        call()


class OctopusTest(parameterized.TestCase):
  @parameterized.parameters((0.25, 1.0, 1.0), (0.1, 1.0, 0.5), (0.4, 2.0, 1.0))
  def test_ratio_of_a_chain_of_saddles(self, rate, smoothness, curvature):
    """Coordinates that shrink while they wait and grow when it is their turn, in logarithms and by counting."""
    falls, grows = np.log(abs(1 - 2 * rate * smoothness)), np.log1p(2 * rate * curvature)
    time, passages = 0, []
    for start in (0.3, 0.7, 0.1, 0.9, 0.5, 0.2, 0.8, 0.4):
      logarithm, turn = np.log(start) + time * falls, 0
      while logarithm < 1:  # the tube ends at e
        logarithm, turn = logarithm + grows, turn + 1
      time += turn
      passages.append(time)
    gaps = np.diff(passages)
    # A start adds a constant to a gap, rounding one step more: less than 2 % of the last gaps here.
    ratio = theory.octopus_gap_ratio(rate, smoothness, curvature)
    self.assertAlmostEqual(gaps[-1] / gaps[-2], ratio, delta=0.02 * ratio)

  def test_value_of_the_references(self):
    exact = 1 + np.log(2) / np.log(1.5)
    self.assertAlmostEqual(theory.octopus_gap_ratio(0.25, 1.0, 1.0), exact, delta=1e-14)

  @parameterized.parameters(0.5, 1.0, 0.0)
  def test_refuses(self, rate):
    with self.assertRaisesRegex(InputError, 'learning_rate'):
      theory.octopus_gap_ratio(rate, 1.0, 1.0)
