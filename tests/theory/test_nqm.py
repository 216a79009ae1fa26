"""The noisy quadratic model against step-by-step recursions, and the figures of Zhang et al. 2019, in float64."""

import time

import numpy as np
import pytest
from absl.testing import parameterized

from gdlab import theory
from gdlab.core.errors import InputError

METHODS = (
  {},
  {'momentum': 0.9},
  {'momentum': 0.9, 'nesterov': True},
  {'averaging': 0.9},
)


def one_step(curvatures, rate, *, momentum=0.0, nesterov=False, averaging=0.0):
  """What a step does to (x, m, y), and to them by noise: matrix [d, 3, 3] and vector [d, 3], column by column."""
  columns = []
  for x, m, y, noise in np.eye(4):
    gradient = curvatures * x + noise
    moved = momentum * m + gradient
    stepped = x - rate * (gradient + momentum * moved if nesterov else moved)
    columns.append(np.stack([stepped, moved, averaging * y + (1 - averaging) * stepped], axis=-1))
  return np.stack(columns[:3], axis=-1), columns[3]


def loss_path(model, rates, batch_sizes, **method):
  """The expected loss after each step by the recursion of the second moments of (x, m, y), until it explodes."""
  start = np.array([1.0, 0.0, 1.0])
  moment = model.initial[:, None, None] * np.outer(start, start)
  losses = [model.weights @ moment[:, 2, 2] / 2]
  maps = {rate: one_step(model.curvatures, rate, **method) for rate in set(rates)}
  for rate, batch_size in zip(rates, batch_sizes):
    matrix, noise = maps[rate]
    moment = matrix @ moment @ matrix.transpose(0, 2, 1)
    moment += (model.noise / batch_size)[:, None, None] * noise[:, :, None] * noise[:, None, :]
    losses.append(model.weights @ moment[:, 2, 2] / 2)
    if losses[-1] > 1e6:
      break
  return np.array(losses)


def small_model():
  generator = np.random.default_rng(0)
  h = 1 / np.arange(1, 9)
  return theory.noisy_quadratic(h, noise=h * generator.uniform(0.5, 2, 8), initial=generator.uniform(0, 2, 8))


class ExpectedLossTest(parameterized.TestCase):
  @parameterized.product(method=METHODS, rate=(0.01, 0.5, 1.2), power=(0.0, 0.5))
  def test_is_the_recursion_at_every_step(self, method, rate, power):
    model = theory.preconditioned(small_model(), power)
    found = theory.expected_loss(model, np.arange(61), learning_rate=rate, batch_size=3, **method)
    # Sixty steps of a linear recursion: a few hundred eps.
    np.testing.assert_allclose(found, loss_path(model, [rate] * 60, [3] * 60, **method), rtol=1e-11)

  @parameterized.parameters(*METHODS)
  def test_phases_are_the_recursion(self, **method):
    model = small_model()
    phases = [(1.0, 7, 2), (0.3, 20, 2), (0.3, 1, 16), (0.02, 0, 1), (0.05, 12, 16)]
    rates = np.concatenate([[rate] * count for rate, count, _ in phases])
    sizes = np.concatenate([[size] * count for _, count, size in phases])
    ends = np.cumsum([count for _, count, _ in phases])
    found = theory.phased_loss(model, [theory.Phase(*phase) for phase in phases], **method)
    np.testing.assert_allclose(found, loss_path(model, rates, sizes, **method)[ends], rtol=1e-11)

  def test_preconditioning_is_descent_with_a_scaled_gradient(self):
    """x <- x - alpha H^-p (H x + xi), directly."""
    model, p, rate = small_model(), 0.75, 0.4
    squares = model.initial
    for _ in range(25):
      squares = (1 - rate * model.weights ** (1 - p)) ** 2 * squares
      squares = squares + rate**2 * model.noise * model.weights ** (-2 * p) / 5
    found = theory.expected_loss(theory.preconditioned(model, p), 25, learning_rate=rate, batch_size=5)
    np.testing.assert_allclose(found, model.weights @ squares / 2, rtol=1e-12)

  def test_long_runs_end_at_the_stationary_loss(self):
    model = small_model()
    for method in METHODS[:3]:
      exact = theory.loss_floor(model.weights, model.noise, learning_rate=0.3, batch_size=2, **method)
      found = theory.expected_loss(model, 10**9, learning_rate=0.3, batch_size=2, **method)
      np.testing.assert_allclose(found, exact, rtol=1e-12)

  def test_decay_beats_every_constant_rate(self):
    """A rate that falls ends lower after the same number of steps: noise is worked off at the end."""
    model = theory.noisy_quadratic(1 / np.arange(1, 101))
    rates = np.logspace(-3, 0.2, 60)
    constant = min(theory.expected_loss(model, 400, learning_rate=rate, batch_size=8) for rate in rates)
    falling = [theory.Phase(rate, 50, 8) for rate in np.geomspace(1.5, 0.05, 8)]
    self.assertLess(theory.phased_loss(model, falling)[-1], 0.8 * constant)

  @parameterized.parameters(*METHODS)
  def test_what_is_not_stable_ends_at_inf(self, **method):
    """Without a warning (they are errors), and to the last step that float64 holds by the recursion."""
    model, rate = small_model(), 5.0
    steps = np.array([50, 100, 3000, 10**9])
    found = theory.expected_loss(model, steps, learning_rate=rate, batch_size=1, **method)
    np.testing.assert_array_equal(found[2:], np.inf)
    step, noise = one_step(model.curvatures, rate, **method)
    moment = model.initial[:, None, None] * np.outer([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    for count in range(1, 101):
      moment = (
        step @ moment @ step.transpose(0, 2, 1)
        + model.noise[:, None, None] * noise[:, :, None] * noise[:, None]
      )
      if count in (50, 100):
        # Growth to e^430: the exponent's rounding, T ln z eps.
        np.testing.assert_allclose(
          found[list(steps).index(count)], model.weights @ moment[:, 2, 2] / 2, rtol=1e-11
        )
    stays = [theory.Phase(rate, 3000, 1), theory.Phase(0.1, 10, 1)]
    np.testing.assert_array_equal(theory.phased_loss(model, stays, **method), np.inf)
    split = [theory.Phase(rate, 60, 1), theory.Phase(rate, 40, 1), theory.Phase(rate, 2000, 1)]
    np.testing.assert_allclose(theory.phased_loss(model, split, **method)[1:], [found[1], np.inf], rtol=1e-11)

  def test_what_does_not_move_does_not_explode(self):
    """At the minimum without noise an unstable direction stays, beside one that is stable."""
    model = theory.noisy_quadratic([1.0, 0.5], noise=[0.0, 1.0], initial=[0.0, 1.0])
    exact = 2.5**2 / 2 / (1 - (1 - 2.5 * 0.5) ** 2) * 0.5
    for found in (
      theory.expected_loss(model, 3000, learning_rate=2.5, batch_size=1),
      theory.phased_loss(model, [(2.5, 3000, 1)])[0],
    ):
      np.testing.assert_allclose(found, exact, rtol=1e-12)

  @parameterized.parameters(
    ({'steps': [1, 2], 'batch_size': [1, 2, 3]}, 'broadcast'),
    ({'steps': -1}, 'steps'),
    ({'steps': 1.5}, 'steps'),
    ({'batch_size': 0}, 'batch_size'),
    ({'learning_rate': -0.1}, 'learning_rate'),
    ({'momentum': 0.5, 'averaging': 0.5}, 'averaging must be 0 with momentum'),
    ({'averaging': 1.0}, 'averaging'),
    ({'learning_rate': 2.0}, 'border of stability'),
  )
  def test_refuses(self, wrong, message):
    right = {'steps': 3, 'learning_rate': 0.1, 'batch_size': 2}
    with self.assertRaisesRegex(InputError, message):
      theory.expected_loss(theory.noisy_quadratic([1.0, 0.5]), **right | wrong)

  def test_refuses_models_and_phases(self):
    model = theory.noisy_quadratic([1.0, 0.5])
    with self.assertRaisesRegex(InputError, 'power must be'):
      theory.preconditioned(model, [0.1, 0.2])
    with self.assertRaisesRegex(InputError, 'a phase must be'):
      theory.phased_loss(model, [(0.1, 3)])
    with self.assertRaisesRegex(InputError, 'num_steps'):
      theory.phased_loss(model, [(0.1, -3, 1)])


class StepsToTargetTest(parameterized.TestCase):
  # Rates above the critical one of momentum and above 1/h: losses that swing.
  @parameterized.product(method=METHODS, target=(0.02, 0.1))
  def test_is_the_first_crossing_of_the_recursion(self, method, target):
    model, sizes, rates = small_model(), [1, 8, 1000], [0.02, 0.3, 1.1, 1.3, 1.95, 3.7]
    found = theory.steps_to_target(model, sizes, rates, target=target, **method)
    for row, size in enumerate(sizes):
      for column, rate in enumerate(rates):
        path = loss_path(model, [rate] * 1500, [size] * 1500, **method)
        reached = path <= target
        # Below no unstable rate here does the loss dip under the target before it grows.
        exact = reached.argmax() if reached.any() else np.inf
        self.assertEqual(found[row, column], exact, (size, rate))

  @parameterized.product(method=METHODS, target=(0.6, 0.2, 0.12, 1e-3))
  def test_phases_cross_where_the_recursion_does(self, method, target):
    """Crossings in each of the phases, after a phase that is too noisy, in one that explodes first, and none."""
    model = small_model()
    for phases in (
      [(1.0, 7, 2), (0.3, 20, 2), (0.3, 1, 16), (0.02, 0, 1), (0.05, 400, 64)],
      [(4.5, 5, 8), (1.9, 30, 100), (0.4, 60, 1000)],
    ):
      rates = np.concatenate([[rate] * count for rate, count, _ in phases])
      sizes = np.concatenate([[size] * count for _, count, size in phases])
      reached = loss_path(model, rates, sizes, **method) <= target
      exact = reached.argmax() if reached.any() else np.inf
      found = theory.phased_steps(model, [theory.Phase(*phase) for phase in phases], target=target, **method)
      self.assertEqual(found, exact)

  def test_one_phase_is_a_constant_rate(self):
    model = theory.noisy_quadratic(1 / np.arange(1, 101))
    constant = theory.steps_to_target(model, [64], [0.2], target=0.05).item()
    self.assertEqual(theory.phased_steps(model, [(0.2, 10**12, 64)], target=0.05), constant)
    self.assertEqual(theory.phased_steps(model, [], target=0.05), np.inf)
    self.assertEqual(theory.phased_steps(model, [], target=5.0), 0)

  def test_a_dip_between_two_peaks_is_found(self):
    """One under-damped direction swings through 0 and back to far above the target."""
    model = theory.noisy_quadratic([1.0], noise=0.004)
    arguments = {'momentum': 0.98, 'target': 0.02}
    path = loss_path(model, [0.01] * 2000, [1] * 2000, momentum=0.98)
    first = (path <= 0.02).argmax()
    self.assertGreater(path[first : first + 40].max(), 0.2)
    found = theory.steps_to_target(model, [1.0], [0.01], **arguments)
    self.assertEqual(found.item(), first)

  def test_a_loss_that_rises_again(self):
    """Noise of a direction that starts at 0 lifts the loss later: only the first steps are below."""
    model = theory.noisy_quadratic([1.0, 0.01], noise=[0.0, 1.0], initial=[1.0, 0.0])
    path = loss_path(model, [0.3] * 3000, [1] * 3000)
    first = (path <= 0.005).argmax()
    self.assertGreater(path[-1], 0.005)
    self.assertEqual(theory.steps_to_target(model, [1], [0.3], target=0.005).item(), first)

  def test_the_start_may_be_enough(self):
    model = theory.noisy_quadratic([1.0], initial=0.01)
    self.assertEqual(theory.steps_to_target(model, [1], [0.5]).item(), 0)

  @parameterized.parameters(*METHODS)
  def test_fastest_is_the_least_of_the_table(self, **method):
    model, sizes, rates = small_model(), [0.5, 1, 4, 64, 4096], np.logspace(-3, 0.6, 23)
    table = theory.steps_to_target(model, sizes, rates, target=0.02, **method)
    found = theory.fastest(model, sizes, rates, target=0.02, **method)
    np.testing.assert_array_equal(found.steps, table.min(axis=1))
    np.testing.assert_array_equal(found.learning_rate, rates[table.argmin(axis=1)])

  def test_what_no_rate_reaches(self):
    found = theory.fastest(theory.noisy_quadratic([1.0]), [1e-6], [0.1, 1.0])
    self.assertEqual(found.steps.item(), np.inf)
    self.assertTrue(np.isnan(found.learning_rate.item()))


@pytest.fixture(scope='module')
def figure():
  """The figure of Zhang et al.: the best constant rate for 21 batch sizes, six methods, and how long it took."""
  model = theory.noisy_quadratic(1 / np.arange(1, 10_001))
  sizes, rates = 2.0 ** np.arange(21), np.logspace(-5, 0.5, 100)
  started = time.process_time()
  curves = {p: theory.fastest(theory.preconditioned(model, p), sizes, rates) for p in (0, 0.25, 0.5, 0.75)}
  curves['momentum'] = theory.fastest(model, sizes, rates, momentum=0.9)
  curves['average'] = theory.fastest(model, sizes, rates, averaging=0.99)
  return {name: curve.steps for name, curve in curves.items()} | {'seconds': time.process_time() - started}


def critical(steps):
  """The batch size, as a power of 2, where steps are twice what they are for the largest batch."""
  return np.interp(-2 * steps[-1], -steps, np.arange(21))


def test_reference_numbers(figure):
  # REFERENCES states them to the step.
  assert figure[0][4] == 378_758
  assert figure[0][20] == 7_039


def test_the_figure_takes_less_than_a_minute(figure):
  assert figure['seconds'] < 60


def test_perfect_scaling_then_a_plateau(figure):
  for name in (0, 0.25, 0.5, 0.75, 'momentum', 'average'):
    steps = figure[name]
    assert np.all(np.diff(steps) <= 0)
    # Half the steps for twice the batch, within the 14 % between rates; then hardly any gain.
    np.testing.assert_allclose(steps[1:5] / steps[:4], 0.5, rtol=0.14)
    assert steps[20] > 0.9 * steps[18]


def test_momentum_helps_at_large_batches_only(figure):
  gain = figure[0] / figure['momentum']
  assert np.all(gain[:6] < 1.03)
  assert np.all(gain[14:] > 10)  # up to (1 + beta)/(1 - beta) at a rate of 0.5 or more
  assert critical(figure['momentum']) > critical(figure[0]) + 2


def test_a_preconditioner_moves_the_critical_batch_size_out(figure):
  places = [critical(figure[p]) for p in (0, 0.25, 0.5, 0.75)]
  assert np.all(np.diff(places) > 1)


def test_an_average_helps_at_small_batches_only(figure):
  gain = figure[0] / figure['average']
  assert gain[4] > 1.2
  assert gain[8] > 2
  assert np.all(gain[12:] < 1.1)
