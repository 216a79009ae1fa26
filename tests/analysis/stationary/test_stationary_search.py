"""The search finds every stationary point of the landscapes with its index, and none where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from stationary_cases import KNOWN, WITHOUT, inside, numbered, without

from gdlab import analysis
from gdlab.core.errors import InputError
from gdlab.problems import landscapes

KEY = jax.random.key(0)
CASES = [{'testcase_name': f'{i}_{name}', 'number': i} for i, (name, _) in enumerate(KNOWN)]


def search(problem, box, count, **options):
  starts = analysis.box_starts(box, count)
  return analysis.find_stationary_points(problem, starts, (), KEY, **options)


class SearchTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  def test_all_complete_landscapes_are_here(self):
    names = {name for name, _ in KNOWN}
    self.assertEqual(names, set(landscapes.__all__) - {'value_fn', 'ackley'})
    for name, problem in KNOWN:
      self.assertEqual(
        (problem.known.box.shape, bool(problem.known.stationary_points.complete)), ((2, 2), True), name
      )

  @parameterized.named_parameters(CASES)
  def test_finds_all_points_and_no_others(self, number):
    known = KNOWN[number][1].known
    points = known.stationary_points
    # 441 basins of unequal size want some 20 starts each.
    found = search(numbered(number), known.box, 8192 if len(points.values) > 100 else 256, reach=1e2)
    here = inside(found.params, known.box)
    truth = inside(points.params, known.box)
    places, listed = found.params[here], points.params[truth]
    self.assertLen(places, len(listed))
    distances = np.linalg.norm(places[:, None] - listed[None], axis=2)
    match = distances.argmin(axis=1)
    self.assertCountEqual(match, range(len(listed)))
    certificates = jax.tree.map(lambda leaf: leaf[here], found.certificates)
    # Within the certified radius, and what float64 tables and coordinates are good for.
    rounding = 1e-13 * (1 + np.linalg.norm(places, axis=1))
    np.testing.assert_array_less(distances.min(axis=1), certificates.radius + rounding)
    np.testing.assert_array_less(certificates.radius, 1e-6)
    np.testing.assert_array_equal(certificates.index, points.index[truth][match])
    eigenvalues = points.eigenvalues[truth][match]
    np.testing.assert_array_equal(certificates.undecided, (eigenvalues == 0).sum(axis=1))
    np.testing.assert_array_equal(certificates.status, (eigenvalues == 0).any(axis=1))
    # Each eigenvalue within its bound of the truth; the tables' own rounding is a few eps of the largest.
    error = np.abs(certificates.eigenvalues - eigenvalues)
    self.assertTrue((error <= certificates.bounds + 1e-13 * np.abs(eigenvalues).max()).all())
    np.testing.assert_allclose(found.values[here], points.values[truth][match], rtol=1e-12, atol=1e-12)
    order = np.lexsort((found.values, found.certificates.index))
    np.testing.assert_array_equal(order, np.arange(len(order)))
    self.assertEqual(found.hits.sum(), found.starts['stationary'] + found.starts['degenerate'])

  @parameterized.parameters(*WITHOUT)
  def test_finds_nothing_where_there_is_nothing(self, name):
    found = search(without(name), [[-2.0, 2.0], [-2.0, 2.0]], 256, reach=1e2)
    self.assertLen(found.values, 0)
    self.assertEqual(found.params.shape, (0, 2))
    self.assertEqual(found.starts['stationary'] + found.starts['degenerate'], 0)
    expected = 'at_infinity' if 'infinity' in name else 'gradient_flat'
    # A start on the far side may still be on its way.
    self.assertGreater(found.starts[expected], 200, found.starts)
    if expected == 'gradient_flat' and 'ramp' not in name:
      self.assertGreater(np.min(found.ends.grad_norm), 0.99 * 0.1)

  def test_starts_fill_the_box(self):
    box = np.array([[-1.0, 3.0], [10.0, 11.0], [0.0, 1e-3]])
    starts = analysis.box_starts(box, 1000)
    self.assertEqual(starts.shape, (1000, 3))
    unit = (starts - box[:, 0]) / np.diff(box, axis=1)[:, 0]
    self.assertTrue(((unit >= 0) & (unit <= 1)).all())
    # Halton: every tenth of every side holds its share to a few points, where random ones would miss by 30.
    for column in unit.T:
      counts = np.histogram(column, 10, (0, 1))[0]
      self.assertLess(np.abs(counts - 100).max(), 10)
    self.assertFalse(np.array_equal(starts, analysis.box_starts(box, 1000, seed=1)))

  def test_refusals(self):
    problem, starts = numbered(0), np.zeros((4, 2))
    with self.assertRaisesRegex(InputError, 'float64'):
      analysis.find_stationary_points(problem, starts.astype(np.float32), (), KEY)
    for name, value in (('tol', 0.0), ('flat_tol', 1.0), ('reach', -1.0), ('merge', -1.0), ('at_once', 0)):
      with self.assertRaisesRegex(InputError, name):
        analysis.find_stationary_points(problem, starts, (), KEY, **{name: value})
    for name in ('max_steps', 'newton_steps'):
      with self.assertRaisesRegex(InputError, name):
        analysis.find_stationary_points(problem, starts, (), KEY, **{name: 0})
    with self.assertRaisesRegex(InputError, 'leading axis'):
      analysis.find_stationary_points(problem, {'a': np.zeros((4, 2)), 'b': np.zeros((3, 2))}, (), KEY)
    with self.assertRaisesRegex(InputError, '2000'):
      analysis.seek_stationary(problem, jnp.zeros(2001), (), KEY)
    for box in ([[1.0, 0.0]], [0.0, 1.0], [[0.0, 1.0, 2.0]], [[0.0, np.inf]]):
      with self.assertRaisesRegex(InputError, 'box'):
        analysis.box_starts(box, 3)
    with self.assertRaisesRegex(InputError, 'seed'):
      analysis.box_starts([[0.0, 1.0]], 3, seed=-1)
