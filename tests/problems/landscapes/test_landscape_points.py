"""Each landscape's list of stationary points: they are such, they are all, and their basins are basins."""

import jax
import numpy as np
from absl.testing import parameterized
from landscape_cases import BY_NAME, CASES, COMPLETE, calculus, sample

from gdlab.problems import landscapes

EPS = np.finfo(np.float64).eps
SMALL = 1e-9  # a gradient's norm at which Newton's method counts as arrived


def newton(case, points, longest, steps=80):
  """Newton's method on the gradient, with steps of bounded length: drawn to stationary points of every index."""
  _, gradient, hessian = calculus(case)
  # Some run away to where f overflows: they are not looked at.
  with np.errstate(all='ignore'):
    for _ in range(steps):
      slopes, curvatures = gradient(points), hessian(points)
      # At a degenerate point the Hessian vanishes on the way: this keeps it solvable, and moves no root.
      ridge = 1e-14 * np.abs(curvatures).max(axis=(1, 2), keepdims=True) + 1e-100
      move = np.linalg.solve(curvatures + ridge * np.eye(points.shape[1]), slopes[..., None])[..., 0]
      points = points - move * np.minimum(1, longest / (np.linalg.norm(move, axis=1) + 1e-300))[:, None]
    return points, np.linalg.norm(gradient(points), axis=1)


LOGARITHMS = np.linspace(-30, 12, 85)[:, None, None]


def flow(case, points, longest, near, targets, steps=2000):
  """Gradient flow, in steps of bounded length that are exact for the local quadratic; ends when all are near."""
  _, gradient, hessian = calculus(case)
  for _ in range(steps):
    if (np.linalg.norm(points - targets, axis=1) <= near).all():
      break
    curvatures, vectors = np.linalg.eigh(hessian(points))
    slopes = np.einsum('nij,ni->nj', vectors, gradient(points))
    times = np.exp(LOGARITHMS)
    # (1 - exp(-t h)) / h, kept from overflow where the curvature h is negative; such long steps are not taken.
    safe = np.where(curvatures == 0, 1, curvatures)
    factors = np.where(curvatures == 0, times, -np.expm1(np.minimum(-times * safe, 300)) / safe)
    lengths = np.linalg.norm(factors * slopes, axis=-1)
    chosen = (lengths <= longest).sum(axis=0).clip(1) - 1  # the lengths grow with the time
    move = factors[chosen, np.arange(len(points))] * slopes
    points = points - np.einsum('nij,nj->ni', vectors, move)
  return points


class StationaryPointsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.named_parameters(BY_NAME)
  def test_are_as_stated(self, case):
    known = case.build().known
    points, size = known.stationary_points, len(known.box)
    count = len(points.params)
    self.assertEqual([leaf.dtype.kind for leaf in points], list('fffifb'))
    self.assertEqual(
      [leaf.shape for leaf in points], [(count, size), (count,), (count, size), (count,), (count,), ()]
    )
    value, gradient, hessian = calculus(case)
    self.assertLessEqual(np.linalg.norm(gradient(points.params), axis=1).max(), 1e-10)
    values = value(points.params)
    np.testing.assert_allclose(points.values, values, rtol=1e-13, atol=1e-13)
    eigenvalues = np.linalg.eigvalsh(hessian(points.params))
    # A location known to a few eps moves an eigenvalue by that times the third derivative, below 10 L in all.
    scale = np.abs(eigenvalues).max() * max(1, np.abs(points.params).max())
    np.testing.assert_allclose(points.eigenvalues, eigenvalues, rtol=0, atol=100 * EPS * scale)
    np.testing.assert_array_equal(points.index, (eigenvalues < -100 * EPS * scale).sum(axis=1))
    self.assertTrue((points.basin[eigenvalues[:, 0] <= 100 * EPS * scale] == 0).all())
    self.assertTrue((known.box[:, 0] <= points.params).all() and (points.params <= known.box[:, 1]).all())
    self.assertEqual(np.lexsort((points.values, points.index)).tolist(), list(range(count)))

  @parameterized.named_parameters(BY_NAME)
  def test_the_minimum_is_the_lowest(self, case):
    known = case.build().known
    self.assertEqual(known.params is None, known.value is None)
    # Unbounded below are the three saddles, unless confined.
    self.assertEqual(known.params is None, 'saddle' in case.name and not case.arguments.get('confinement'))
    if known.params is None:
      return
    value = calculus(case)[0]
    np.testing.assert_allclose(value(known.params[None])[0], known.value, rtol=1e-14, atol=1e-15)
    others = np.concatenate([value(sample(case, 3000, seed=3)), known.stationary_points.values])
    self.assertGreaterEqual(others.min(), known.value - 1e-14 * max(1, abs(known.value)))

  @parameterized.named_parameters(BY_NAME)
  def test_curvature_bounds_hold_and_are_attained(self, case):
    known = case.build().known
    given = [known.smoothness, known.strong_convexity]
    self.assertEqual(given != [None, None], bool(case.extremes))
    if not case.extremes:
      return
    hessian = calculus(case)[2]
    eigenvalues = np.linalg.eigvalsh(hessian(sample(case, 2000, seed=4)))
    extreme = np.linalg.eigvalsh(hessian(np.asarray(case.extremes, np.float64)))
    for bound, sign in ((known.smoothness, 1), (known.strong_convexity, -1)):
      if bound is not None:
        atol = 1e-12 * np.abs(extreme).max()
        self.assertLessEqual((sign * eigenvalues).max(), sign * bound + atol)
        np.testing.assert_allclose((sign * extreme).max(), sign * bound, rtol=1e-12)

  @parameterized.named_parameters(COMPLETE)
  def test_there_are_no_others_in_the_box(self, case):
    known = case.build().known
    listed, box = known.stationary_points, known.box
    sides = np.diff(box, axis=1)[:, 0]
    starts = sample(case, 2000 + 20 * len(listed.params), seed=5)
    found, norms = newton(case, starts, 0.1 * sides.min())
    arrived = (norms <= SMALL) & (box[:, 0] <= found).all(axis=1) & (found <= box[:, 1]).all(axis=1)
    found = found[arrived]
    gaps = np.linalg.norm(found[:, None] - listed.params[None], axis=2)
    # The distance is at most |gradient| / |eigenvalue|; where one is 0, the gradient is of the third order at most.
    tolerance = 2 * SMALL ** (1 / 3) if (listed.eigenvalues == 0).any() else 1e-6
    self.assertLessEqual(gaps.min(axis=1).max(), tolerance)
    self.assertLessEqual(gaps.min(axis=0).max(), tolerance)

  @parameterized.parameters(*(case for case in CASES if case.name in ('himmelblau', 'six_hump_camel')))
  def test_there_are_no_others_anywhere(self, case):
    known = case.build().known
    listed, rng = known.stationary_points.params, np.random.default_rng(8)
    # As many as in the box, so that nothing is compiled again; up to a hundred times as far out.
    starts = sample(case, 2000 + 20 * len(listed), seed=8)
    starts *= 10 ** rng.uniform(0, 2, (len(starts), 1))
    # A quintic's root is approached by a fifth of the distance per step.
    found, norms = newton(case, starts, np.inf, steps=150)
    found = found[norms <= SMALL]
    self.assertGreater(len(found), 0.9 * len(starts))
    gaps = np.linalg.norm(found[:, None] - listed[None], axis=2)
    self.assertLessEqual(gaps.min(axis=1).max(), 1e-6)
    self.assertLessEqual(gaps.min(axis=0).max(), 1e-6)

  def test_extreme_constants_keep_the_promise_to_scale(self):
    for build in (
      lambda: landscapes.two_valleys(curvatures=(1e6, 1.0), depths=(1.0, 1e3)),
      lambda: landscapes.two_valleys(curvatures=(1e-6, 1.0), depths=(1e6, 1e3)),
      lambda: landscapes.monkey_saddle(1e-6),
      lambda: landscapes.double_well(depth=1e6, tilt=1.5e6, stiffness=1e-6),
      lambda: landscapes.cliff(height=1e6, width=1e6, position=1e-6, curvature=1e-6),
      lambda: landscapes.strict_saddle([1.0, -1e3], confinement=1e-6),
    ):
      problem = build()
      points = problem.known.stationary_points
      slopes = np.linalg.norm(
        jax.jit(jax.vmap(jax.grad(landscapes.value_fn(problem))))(points.params), axis=1
      )
      lengths = np.maximum(1, np.linalg.norm(points.params, axis=1))
      scales = np.maximum(1, np.abs(points.eigenvalues).max(axis=1) * lengths)
      self.assertLessEqual((slopes / scales).max(), 1e-10, problem.name)

  def test_long_lists_shrink_to_one_point_of_each_index(self):
    saddle = landscapes.strict_saddle([-1.0] * 8 + [2.0], confinement=1.0).known.stationary_points
    self.assertEqual(saddle.index.tolist(), list(range(9)))
    np.testing.assert_array_equal(saddle.params[-1], np.zeros(9))
    self.assertFalse(saddle.complete)
    self.assertEqual(landscapes.rastrigin(3).known.stationary_points.index.tolist(), [0, 1, 2, 3])
    self.assertEqual(landscapes.styblinski_tang(8).known.stationary_points.index.tolist(), list(range(9)))

  def test_a_hundred_dimensions_with_one_way_down(self):
    curvatures = np.r_[-1.0, np.linspace(0.5, 2, 99)]
    points = landscapes.strict_saddle(curvatures, confinement=1.0).known.stationary_points
    np.testing.assert_array_equal(points.index, [0, 0, 1])
    # Along the way down -x^2 / 2 + x^4 / 4.
    np.testing.assert_allclose(points.params[:, 0], [-1, 1, 0])
    np.testing.assert_array_equal(points.params[:, 1:], 0)
    np.testing.assert_allclose(points.eigenvalues[0], np.r_[curvatures[1:], 2])  # 3 x^2 - 1 at x = 1

  def test_ackley_has_a_point_for_every_crest_and_trough(self):
    for dim, indices in ((1, [10, 10]), (2, [120, 220, 100])):
      points = landscapes.ackley(dim).known.stationary_points
      self.assertEqual(np.bincount(points.index).tolist(), indices)
      self.assertTrue(points.complete)
      self.assertTrue((points.basin[points.index == 0] > 0.25).all())
      self.assertGreater(np.linalg.norm(points.params, axis=1).min(), 0.5)

  @parameterized.named_parameters(BY_NAME)
  def test_gradient_flow_from_a_basin_ends_in_its_minimum(self, case):
    known = case.build().known
    points, rng = known.stationary_points, np.random.default_rng(6)
    minima = np.flatnonzero(points.basin > 0)
    if not len(minima):
      self.assertFalse((points.eigenvalues > 0).all(axis=1).any() and bool(points.complete))
      return
    minima = minima[np.linspace(0, len(minima) - 1, min(len(minima), 6)).astype(int)]
    starts, targets = [], []
    for row in minima:
      directions = rng.normal(size=(24, len(known.box)))
      radius = points.basin[row]
      ball = points.params[row] + 0.99 * radius * directions / np.linalg.norm(
        directions, axis=1, keepdims=True
      )
      starts.append(ball if np.isfinite(radius) else sample(case, 24, seed=7))
      targets.append(np.broadcast_to(points.params[row], ball.shape))
    starts, targets = np.concatenate(starts), np.concatenate(targets)
    sides = np.diff(known.box, axis=1).min()
    longest = min(points.basin[minima].min(), sides) / 50
    near = longest / 10
    ends = flow(case, starts, longest, near, targets)
    self.assertLessEqual(np.linalg.norm(ends - targets, axis=1).max(), near)
