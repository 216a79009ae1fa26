"""Escape over a barrier against Langevin dynamics, and against exact passage times, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
from absl.testing import parameterized

import gdlab
from gdlab import theory
from gdlab.core.errors import InputError

TEMPERATURES = np.array([0.2, 0.25, 1 / 3, 0.5])
WELL, TOP = 8.0, 4.0  # curvatures of the double well (x^2 - 1)^2 with minima at -1 and 1, barrier 1 at 0


def double_well(x):
  return (x**2 - 1) ** 2


def passage_time(temperature):
  """From one bottom to the other; at -3 the density is exp(-64/T)."""
  return theory.mean_first_passage_time(double_well, temperature, start=-1.0, end=1.0, wall=-3.0)


WALKERS, NUM_STEPS, PASSAGES = 256, 250_000, 16


@jax.jit
def crossings(key, temperature, time_step):
  """How often each walker goes from one bottom to the other in all steps, int32[walkers].

  The scheme of Leimkuhler and Matthews, whose averages are exact to second order in the time step.
  """

  def step(number, carry):
    x, last, side, count = carry
    noise = jax.random.normal(jax.random.fold_in(key, number), x.shape)
    x = x - time_step * 4 * x * (x**2 - 1) + jnp.sqrt(2 * temperature * time_step) * (last + noise) / 2
    arrived = side * x <= -1
    return x, noise, jnp.where(arrived, -side, side), count + arrived

  ones = jnp.ones(WALKERS)
  start = (-ones, jnp.zeros(WALKERS), -ones, jnp.zeros(WALKERS, jnp.int32))
  return jax.lax.fori_loop(0, NUM_STEPS, step, start)[-1]


@jax.jit
def crossings_with_inertia(key, temperature, friction, time_step):
  """As `crossings`, of unit mass: the scheme BAOAB of Leimkuhler and Matthews, exact to second order in the step."""
  kept = jnp.exp(-friction * time_step)
  force = lambda x: -4 * x * (x**2 - 1)

  def step(number, carry):
    x, v, side, count = carry
    v = v + time_step / 2 * force(x)
    x = x + time_step / 2 * v
    noise = jax.random.normal(jax.random.fold_in(key, number), x.shape)
    v = kept * v + jnp.sqrt(temperature * (1 - kept**2)) * noise
    x = x + time_step / 2 * v
    v = v + time_step / 2 * force(x)
    arrived = side * x <= -1
    return x, v, jnp.where(arrived, -side, side), count + arrived

  ones = jnp.ones(INERTIAL_WALKERS)
  start = (-ones, jnp.zeros_like(ones), -ones, jnp.zeros(INERTIAL_WALKERS, jnp.int32))
  return jax.lax.fori_loop(0, NUM_STEPS, step, start)[-1]


INERTIAL_WALKERS = 2048


def passage_moments(temperature, beyond):
  """Mean and mean square of the time from -1 - beyond to 1 + beyond, by sums on a fine grid."""
  x = np.linspace(-3, 1 + beyond, 40_001)
  up, down = np.exp(double_well(x) / temperature), np.exp(-double_well(x) / temperature)
  total = lambda values: scipy.integrate.cumulative_trapezoid(values, x, initial=0)
  left = lambda values: total(values)[-1] - total(values)
  mean = left(up * total(down)) / temperature
  square = 2 * left(up * total(mean * down)) / temperature
  start = np.searchsorted(x, -1 - beyond)
  return mean[start], square[start]


@pytest.mark.usefixtures('as_users_compile')  # long simulations
class LangevinTest(parameterized.TestCase):
  @parameterized.parameters(*enumerate(TEMPERATURES.tolist()))
  def test_rate(self, number, temperature):
    """The rate of arrivals at the other bottom, within 3 standard errors of one over the exact passage time.

    By symmetry arrivals are a renewal process: t/mu + (c^2 - 1)/2 of them by t, c the coefficient of variation.
    Two corrections are computed, not allowed for: that, and that a walker seen at steps only is 0.58 sqrt(2 T h)
    past the bottom on average. What is left is of order (h U'')^2 / 10 < 0.1 %.
    """
    mean = passage_time(temperature)
    time_step = PASSAGES * mean / NUM_STEPS
    counts = np.asarray(crossings(jax.random.key(number), temperature, time_step))
    error = counts.std(ddof=1) / np.sqrt(WALKERS)
    self.assertLess(error, 0.02 * PASSAGES)  # it can tell rates apart that differ by 6 %

    seen_mean, seen_square = passage_moments(temperature, 0.58 * np.sqrt(2 * temperature * time_step))
    expected = NUM_STEPS * time_step / seen_mean + (seen_square / seen_mean**2 - 2) / 2
    self.assertLess(abs(expected / PASSAGES - 1), 0.02)  # the corrections are small
    self.assertLess(abs(counts.mean() - expected), 3 * error)

    # So Kramers' formula holds within its stated error, which the exact time gives.
    kramers = float(theory.kramers_rate(WELL, TOP, 1.0, temperature)) * mean
    self.assertLess(abs(counts.mean() / expected - kramers), abs(kramers - 1) + 3 * error / PASSAGES)
    self.assertLess(abs(kramers - 1), temperature)  # of the order T / Delta U


class InertialLangevinTest(parameterized.TestCase):
  @parameterized.parameters(1.0, 3.0)
  @pytest.mark.slow
  def test_rate(self, friction):
    """Within the stated error, of the order T/Delta U = 1/8, and 3 standard errors; neither limit is that near."""
    temperature, time_step = 0.125, 0.05
    counts = np.asarray(crossings_with_inertia(jax.random.key(7), temperature, friction, time_step))
    known = (WELL, TOP, 1.0, temperature)
    kramers = float(theory.kramers_rate_underdamped(*known, friction))
    ratio = counts / (kramers * NUM_STEPS * time_step)
    error = ratio.std(ddof=1) / np.sqrt(INERTIAL_WALKERS)
    self.assertLess(error, 0.03)
    self.assertLess(abs(ratio.mean() - 1), temperature + 3 * error)
    transition_state = np.sqrt(WELL) / (2 * np.pi) * np.exp(-1 / temperature)
    for limit in (transition_state, float(theory.kramers_rate(*known)) / friction):
      self.assertGreater(abs(ratio.mean() * kramers / limit - 1), 6 * error)


class PassageTimeTest(parameterized.TestCase):
  @parameterized.parameters(0.1, 0.3, 2.0)
  def test_double_integral(self, temperature):
    inner = lambda z, y: np.exp((double_well(y) - double_well(z)) / temperature) / temperature
    exact, _ = scipy.integrate.dblquad(inner, -1, 1, -3, lambda y: y, epsabs=0, epsrel=1e-8)
    np.testing.assert_allclose(passage_time(temperature), exact, rtol=1e-6)

  def test_flat_potential_is_diffusion(self):
    """From a reflecting wall, L^2/(2T); from a inside, (L^2 - a^2)/(2T)."""
    flat = lambda x: 7.0
    found = theory.mean_first_passage_time(flat, 0.5, start=0.0, end=2.0, wall=0.0)
    np.testing.assert_allclose(found, 4.0, rtol=1e-9)
    found = theory.mean_first_passage_time(flat, 0.5, start=-1.0, end=-2.0, wall=0.0)
    np.testing.assert_allclose(found, 3.0, rtol=1e-9)

  @parameterized.parameters(500.0, 1e4, 3.0, -20.0)
  def test_along_a_slope(self, slope):
    """U = -s x from a wall at w: ((b - a) - (T/s)(e^{-s(a - w)/T} - e^{-s(b - w)/T}))/s, downhill for s > 0."""
    heat, wall, end = 1.5, -3.0, 1.0
    left = np.exp(-slope * (0 - wall) / heat) - np.exp(-slope * (end - wall) / heat)
    exact = (end - heat / slope * left) / slope
    found = theory.mean_first_passage_time(lambda x: -slope * x, heat, start=0, end=end, wall=wall)
    # The rounding of U/T, up to 3e4 eps, in every exponent.
    np.testing.assert_allclose(found, exact, rtol=1e-11)
    mirrored = theory.mean_first_passage_time(lambda x: slope * x, heat, start=0, end=-end, wall=-wall)
    np.testing.assert_allclose(mirrored, exact, rtol=1e-11)

  def test_downhill_from_a_barrier(self):
    """From the top of the double well the steep fall beyond x = 1 must be followed too; a plain sum on a grid."""
    heat = 0.2
    x = np.linspace(-3, 3, 600_001)
    inner = scipy.integrate.cumulative_simpson(np.exp(-double_well(x) / heat), x=x, initial=0)
    outer = np.exp(double_well(x) / heat) * inner
    found = theory.mean_first_passage_time(double_well, heat, start=0.0, end=1.0, wall=-3.0)
    exact = scipy.integrate.simpson(outer[300_000:400_001], x=x[300_000:400_001]) / heat
    np.testing.assert_allclose(found, exact, rtol=1e-9)

  def test_a_barrier_behind_the_start_beyond_float64(self):
    """With U = 0 where it walks, tau = int (y - a + L) dy, L the integral of e^{-U} behind the start."""
    peak = lambda x: 1000 * np.exp(-50 * (x + 2) ** 2)
    x = np.linspace(-3, -1, 20_001)
    behind = scipy.integrate.simpson(np.exp(-peak(x)), x=x)
    found = theory.mean_first_passage_time(peak, 1.0, start=-1.0, end=1.0, wall=-3.0)
    np.testing.assert_allclose(found, 2 + 2 * behind, rtol=1e-9)

  def test_kinks_are_followed(self):
    """U = |x| from a wall at 0, and from one at -1 across its kink, by hand."""
    # Uphill g = e^y - 1; downhill from -1 it is 1 - e^{-(y + 1)}, and g(0) grows by e^y on the way up.
    up, down, bottom = np.e - 2, np.exp(-1.0), 1 - np.exp(-1.0)
    found = theory.mean_first_passage_time(abs, 1.0, start=0.0, end=1.0, wall=0.0)
    np.testing.assert_allclose(found, up, rtol=1e-9)
    found = theory.mean_first_passage_time(abs, 1.0, start=-1.0, end=1.0, wall=-1.0)
    np.testing.assert_allclose(found, down + up + bottom * np.expm1(1.0), rtol=1e-9)

  def test_low_temperatures_do_not_overflow(self):
    found = passage_time(0.005) * float(theory.kramers_rate(WELL, TOP, 1.0, 0.005))
    self.assertAlmostEqual(found, 1, delta=0.01)

  def test_kramers_error_falls_with_the_temperature(self):
    """Of first order in T/Delta U: half at half the temperature."""
    errors = [float(theory.kramers_rate(WELL, TOP, 1.0, T)) * passage_time(T) - 1 for T in (0.04, 0.02, 0.01)]
    self.assertLess(abs(errors[0]), 0.05)
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 2, rtol=0.1)

  def test_refuses(self):
    with self.assertRaisesRegex(InputError, 'wall'):
      theory.mean_first_passage_time(double_well, 0.1, start=-1.0, end=1.0, wall=0.0)
    with self.assertRaisesRegex(InputError, 'temperature'):
      theory.mean_first_passage_time(double_well, 0.0, start=-1.0, end=1.0, wall=-3.0)

  @parameterized.parameters(
    ({'wall': -np.inf}, 'wall must be a finite real number, got -inf'),
    ({'start': np.nan}, 'start must be a finite'),
    ({'end': '1'}, 'end must be a finite'),
    ({'start': 1.0, 'wall': np.nan}, 'wall must be a finite'),  # also where start is the end
    ({'potential': lambda x: 1e308, 'temperature': 1e-9}, 'temperature must not be so small'),
    ({'potential': 3.0}, 'potential must be a function'),
    ({'potential': lambda x: np.nan}, r'potential\(.*\) must be a finite'),
    ({'potential': lambda x: [x]}, r'potential\(.*\) must be a finite'),
    ({'potential': lambda x: 1e12 * np.sin(1e9 * x)}, 'potential must rise and fall by less'),
  )
  def test_refuses_arguments(self, wrong, message):
    right = {'potential': double_well, 'temperature': 0.1, 'start': -1.0, 'end': 1.0, 'wall': -3.0}
    with self.assertRaisesRegex(InputError, message):
      theory.mean_first_passage_time(**right | wrong)


class RateTest(parameterized.TestCase):
  def test_value(self):
    exact = np.sqrt(32) / (2 * np.pi) * np.exp(-5)
    np.testing.assert_allclose(theory.kramers_rate(WELL, TOP, 1.0, 0.2), exact, rtol=1e-14)

  def test_strong_friction_is_overdamped(self):
    overdamped = theory.kramers_rate(WELL, TOP, 1.0, TEMPERATURES)
    for friction in (1e3, 1e8):
      found = theory.kramers_rate_underdamped(WELL, TOP, 1.0, TEMPERATURES, friction) * friction
      np.testing.assert_allclose(found, overdamped, rtol=2 * TOP / friction**2 + 1e-12)

  def test_weak_friction_is_transition_state_theory(self):
    found = theory.kramers_rate_underdamped(WELL, TOP, 1.0, 0.2, 1e-9)
    np.testing.assert_allclose(found, np.sqrt(WELL) / (2 * np.pi) * np.exp(-5), rtol=1e-9)

  def test_growth_at_the_top_is_the_unstable_root(self):
    """The prefactor is omega_a/2pi times lambda_+/omega_b, lambda_+ an eigenvalue of the motion at the barrier."""
    friction = 1.7
    unstable = np.linalg.eigvals([[0, 1], [TOP, -friction]]).max()
    exact = np.sqrt(WELL) / (2 * np.pi) * unstable / np.sqrt(TOP) * np.exp(-5)
    np.testing.assert_allclose(
      theory.kramers_rate_underdamped(WELL, TOP, 1.0, 0.2, friction), exact, rtol=1e-12
    )

  def test_one_dimension_of_the_many(self):
    found = theory.eyring_kramers_rate([[WELL]], [[-TOP]], 1.0, 0.2)
    np.testing.assert_allclose(found, theory.kramers_rate(WELL, TOP, 1.0, 0.2), rtol=1e-13)

  def test_many_dimensions_against_a_partition_sum(self):
    """Across a channel whose stiffness changes, the flux is the 1-D one in the free energy of the channel."""
    generator = np.random.default_rng(0)
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    turn = lambda values: rotation @ np.diag(values) @ rotation.T
    found = theory.eyring_kramers_rate(turn([WELL, 2.0, 5.0]), turn([-TOP, 8.0, 5.0]), 1.0, 0.2)
    free_energy = 0.5 * 0.2 * np.log(8.0 / 2.0)  # T/2 ln of the ratio of stiffnesses
    np.testing.assert_allclose(found, theory.kramers_rate(WELL, TOP, 1.0 + free_energy, 0.2), rtol=1e-12)

  def test_refuses(self):
    with self.assertRaisesRegex(InputError, 'saddle must have exactly one negative'):
      theory.eyring_kramers_rate(np.eye(2), -np.eye(2), 1.0, 0.1)
    with self.assertRaisesRegex(InputError, 'well must be positive definite'):
      theory.eyring_kramers_rate(-np.eye(2), np.diag([1.0, -1.0]), 1.0, 0.1)
    with self.assertRaisesRegex(InputError, 'barrier'):
      theory.kramers_rate(1.0, 1.0, -1.0, 0.1)
    with self.assertRaisesRegex(InputError, 'temperature'):
      theory.kramers_rate(1.0, 1.0, 1.0, 0.0)
    with self.assertRaisesRegex(InputError, 'broadcast'):
      theory.kramers_rate([1.0, 2.0], [1.0, 2.0, 3.0], 1.0, 0.1)
    with self.assertRaisesRegex(InputError, 'broadcast'):
      theory.kramers_rate_underdamped(1.0, 1.0, 1.0, [0.1, 0.2], [1.0, 2.0, 3.0])
    with self.assertRaisesRegex(InputError, 'broadcast'):
      theory.effective_temperature([0.1, 0.2], [1.0, 2.0, 3.0])
    with self.assertRaisesRegex(InputError, 'barrier must be'):
      theory.eyring_kramers_rate(np.eye(2), np.diag([1.0, -1.0]), [1, 2], 0.1)


class TemperatureTest(parameterized.TestCase):
  def test_stationary_variance_of_descent(self):
    """Langevin at T has variance T/h in a well of curvature h: so has descent, up to the rate."""
    temperature = theory.effective_temperature(1e-4, 3.0, 8)
    exact = theory.stationary_moments([2.0], 3.0, learning_rate=1e-4, batch_size=8).position
    np.testing.assert_allclose(temperature / 2.0, exact, rtol=2e-4)

  def test_gdlab_reaches_it(self):
    """1,024 runs on a quadratic: the variance after it is stationary, within 3 standard errors and alpha h/2."""
    problem = gdlab.problems.quadratic([1.0], noise=2.0, num_examples=64, start=[0.0])
    descent = gdlab.algorithm(sampler=gdlab.sampling.with_replacement(4), optimizer=optax.sgd(0.02))
    result = gdlab.run(
      problem,
      descent,
      num_steps=300,
      seeds=1024,
      eval_every=300,
      probes={'x': lambda problem, state: state.params[0]},
      progress=False,
    )
    squares = result.x.sel(step=300).values ** 2
    temperature = float(theory.effective_temperature(0.02, 2.0, 4))
    self.assertLess(abs(squares.mean() - temperature), 3 * squares.std() / 32 + temperature * 0.01)
