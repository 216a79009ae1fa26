"""Each landscape's value against a second transcription, its derivatives against differences, and it as a problem."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from landscape_cases import BY_NAME, CASES, FIRST, calculus, sample

from gdlab.core.errors import InputError
from gdlab.problems import landscapes, linear_regression, logistic_regression

EPS = np.finfo(np.float64).eps


def differences(function, points, axis, step):
  """Central differences of `function` along one coordinate, and what they can be wrong by through their length.

  The error of length h is $h^2 f'''/6$ to leading order, so D(2h) - D(h) is three times that; doubled for the rest.
  """
  along = np.eye(points.shape[1])[axis] * step
  short, long = (
    (function(points + k * along) - function(points - k * along)) / (2 * k * step) for k in (1, 2)
  )
  return short, 2 * np.abs(long - short) / 3


class FunctionTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.named_parameters(BY_NAME)
  def test_values(self, case):
    value = calculus(case)[0]
    for point, expected, digits in case.values:
      # Where the value is exact, an argument's and an addition's rounding are still allowed.
      found = value(np.asarray([point], np.float64))[0]
      np.testing.assert_allclose(
        found, expected, rtol=4 * EPS, atol=1.05 * digits + 4 * EPS, err_msg=str(point)
      )
    points = sample(case, 50, seed=0)
    expected = np.array([case.reference(point) for point in points])
    # Terms of both signs, none much above the largest value in the box, summed in another order; the tail of a root
    # finder in one reference.
    np.testing.assert_allclose(value(points), expected, rtol=1e-12, atol=1e-13 * np.abs(expected).max())

  @parameterized.named_parameters(BY_NAME)
  def test_gradient_and_hessian_are_those_of_finite_differences(self, case):
    value, gradient, hessian = calculus(case)
    points, many = sample(case, 20, seed=1), sample(case, 300, seed=2)
    slopes, curvatures = gradient(points), hessian(points)
    sides = np.diff(case.build().known.box, axis=1)[:, 0]
    for axis, side in enumerate(sides):
      step = 1e-5 * side
      for function, found, scale in (
        (value, slopes[:, axis], slopes),
        (gradient, curvatures[..., axis], curvatures),
      ):
        expected, error = differences(function, points, axis, step)
        # A value is a sum of terms that are no larger than those met in the box: ten roundings of these.
        rounding = 10 * EPS * np.abs(function(many)).max() / step
        np.testing.assert_array_less(np.abs(found - expected), error + rounding)
        # Nothing of weight is let through: errors are small against the derivative's largest entry.
        self.assertLess((error + rounding).max(), 1e-3 * np.abs(scale).max())

  def test_ackley_has_no_nan_at_its_tip(self):
    value, gradient, hessian = calculus(next(case for case in CASES if case.name == 'ackley'))
    np.testing.assert_array_equal(gradient(np.zeros((1, 2))), np.zeros((1, 2)))
    self.assertTrue(np.isfinite(hessian(np.zeros((1, 2)))).all())
    for distance in (1e-3, 1e-9, 1e-100):
      # The cone f = 4 |x| / sqrt(2), whose next terms are of relative size |x| * pi^2 e / (4 / sqrt(2)).
      point = distance * np.array([[0.6, 0.8]])
      np.testing.assert_allclose(value(point), 4 * distance / np.sqrt(2), rtol=10 * distance + 4 * EPS)
      norm = np.linalg.norm(gradient(point)) if distance > 1e-50 else np.sqrt(8)
      np.testing.assert_allclose(norm, np.sqrt(8), rtol=20 * distance + 4 * EPS)


class ValueFnTest(parameterized.TestCase):
  @parameterized.parameters(
    lambda x, y: linear_regression(x, y, l2=0.3),
    lambda x, y: logistic_regression(x, (y > 0).astype(int), l2=0.3),
  )
  def test_is_the_mean_training_loss_of_any_problem(self, build):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
      problem = build(rng.normal(size=(7, 3)), rng.normal(size=7))
      params = problem.init(jax.random.key(0))[0]
      losses, _ = problem.loss(params, (), problem.train, jnp.ones(7, bool), jax.random.key(1))
      value = landscapes.value_fn(problem)
      self.assertEqual(jnp.shape(value(params)), ())
      np.testing.assert_allclose(value(params), losses.mean(), rtol=1e-14)
      gradient = jax.grad(value)(problem.known.params)
      np.testing.assert_allclose(gradient, np.zeros(3), atol=1e-12)


class ProblemTest(parameterized.TestCase):
  @parameterized.parameters(FIRST)
  def test_starts(self, case):
    problem = case.build()
    point = np.asarray(problem.init(jax.random.key(0))[0])
    self.assertEqual((point.dtype, point.shape), (np.float32, (len(problem.known.box),)))
    self.assertTrue(((problem.known.box[:, 0] <= point) & (point <= problem.known.box[:, 1])).all())
    start = np.linspace(-0.5, 0.5, len(point))
    np.testing.assert_array_equal(
      case.build(start=start).init(jax.random.key(0))[0], start.astype(np.float32)
    )
    scattered = case.build(start=start, initial_scale=0.25).init
    draws = np.asarray(jax.vmap(scattered)(jax.random.split(jax.random.key(1), 4000))[0])
    # Five standard errors of a mean and of a variance.
    self.assertLess(np.abs(draws.mean(axis=0) - start).max(), 5 * 0.25 / np.sqrt(4000))
    self.assertLess(abs((draws - start).var() - 0.25**2), 5 * 0.25**2 * np.sqrt(2 / draws.size))

  @parameterized.parameters(FIRST)
  def test_examples_all_have_the_value(self, case):
    problem, params = case.build(), jnp.asarray(case.build().known.box[:, 0], jnp.float32)
    self.assertEqual(problem.num_examples, 1)
    losses, state = problem.loss(params, (), jnp.zeros(5), jnp.ones(5, bool), jax.random.key(0))
    metrics = problem.metrics(params, (), jnp.zeros(5))
    self.assertEqual((losses.shape, losses.dtype, state, set(metrics)), ((5,), jnp.float32, (), {'loss'}))
    np.testing.assert_array_equal(losses, np.full(5, landscapes.value_fn(problem)(params)))
    np.testing.assert_array_equal(losses, metrics['loss'])


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(FIRST)
  def test_starts_are_checked(self, case):
    size = len(case.build().known.box)
    with self.assertRaisesRegex(InputError, f'start must be {size} numbers.*'):
      case.build(start=np.ones(size + 1))
    with self.assertRaisesRegex(InputError, 'start must be finite, got nan'):
      case.build(start=np.full(size, np.nan))
    for scale in (0.0, -1.0, np.inf):
      with self.assertRaisesRegex(InputError, f'initial_scale must be.*{scale}'):
        case.build(initial_scale=scale)

  @parameterized.parameters(
    *(
      (lambda name=name: getattr(landscapes, name)(0), 'dim must be a whole number >= 1, got 0')
      for name in (
        'styblinski_tang',
        'rastrigin',
        'ackley',
        'griewank',
        'double_well',
        'two_valleys',
        'plateau',
        'cliff',
      )
    ),
    (lambda: landscapes.rosenbrock(1), 'dim must be a whole number >= 2, got 1'),
    (lambda: landscapes.rosenbrock(2.0), 'dim must be a whole number >= 2, got 2.0'),
    (lambda: landscapes.double_well(depth=0.0), 'depth.*got 0.0'),
    (lambda: landscapes.double_well(tilt=1.54), 'tilt must be a real number in .-1.539.*got 1.54'),
    (lambda: landscapes.double_well(depth=2.0, tilt=-3.08), 'tilt.*got -3.08'),
    (lambda: landscapes.double_well(stiffness=-1.0), 'stiffness.*got -1.0'),
    (lambda: landscapes.two_valleys(curvatures=1.0), 'curvatures must be two numbers.*got 1.0'),
    (lambda: landscapes.two_valleys(curvatures=(1.0, 0.0)), 'curvatures.*got 0.0'),
    (lambda: landscapes.two_valleys(depths=(1.0, 2.0, 3.0)), 'depths must be two numbers'),
    (lambda: landscapes.two_valleys(depths=(-1.0, 2.0)), 'depths.*got -1.0'),
    (
      lambda: landscapes.two_valleys(curvatures=(1e4, 9e-3)),
      r'curvatures.*1e\+06 apart, got \(10000.0, 0.009\)',
    ),
    (lambda: landscapes.two_valleys(depths=(1.0, 2e3)), r'depths.*1000 apart, got \(1.0, 2000.0\)'),
    (lambda: landscapes.two_valleys(stiffness=0.0), 'stiffness.*got 0.0'),
    (lambda: landscapes.strict_saddle([1.0, 2.0]), r'eigenvalues must be.*one negative, got \[1.0, 2.0\]'),
    (lambda: landscapes.strict_saddle([1.0, 0.0, -1.0]), 'eigenvalues must be.*none of them 0'),
    (lambda: landscapes.strict_saddle(-1.0), 'eigenvalues must be one or more numbers.*got -1.0'),
    (
      lambda: landscapes.strict_saddle('ab'),
      "eigenvalues must be a rectangular array of real numbers, got 'ab'",
    ),
    (lambda: landscapes.strict_saddle([[1.0, -1.0]]), 'eigenvalues must be.*in one dimension'),
    (lambda: landscapes.strict_saddle([1.0, np.nan]), 'eigenvalues must be finite'),
    (lambda: landscapes.strict_saddle([1.0, -1.0], confinement=-1.0), 'confinement.*got -1.0'),
    (lambda: landscapes.monkey_saddle(-1.0), 'confinement.*got -1.0'),
    (lambda: landscapes.degenerate_saddle(-1.0), 'confinement.*got -1.0'),
    (lambda: landscapes.monkey_saddle(1e-200), r'confinement.*\[1e-06, 1000000.0\], got 1e-200'),
    (lambda: landscapes.degenerate_saddle(1e-200), 'confinement.*got 1e-200'),
    (lambda: landscapes.strict_saddle([-1.0], confinement=1e-200), 'confinement.*got 1e-200'),
    (lambda: landscapes.plateau(width=1e-200), 'width.*got 1e-200'),
    (lambda: landscapes.cliff(width=1e-200), 'width.*got 1e-200'),
    (lambda: landscapes.double_well(depth=1e200), r'depth.*got 1e\+200'),
    (lambda: landscapes.booth(start=3), 'start must be 2 numbers, one per parameter, got 3'),
    (lambda: landscapes.booth(start=[1, [2, 3]]), 'start must be a rectangular array of real numbers'),
    (lambda: landscapes.value_fn(3), 'problem must be a gdlab Problem such as .*, got 3'),
    (lambda: landscapes.plateau(width=0.0), 'width.*got 0.0'),
    *(
      (lambda name=name: landscapes.cliff(**{name: 0.0}), f'{name}.*got 0.0')
      for name in ('height', 'width', 'position', 'curvature')
    ),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()
