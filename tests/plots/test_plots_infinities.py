"""Runs whose value is infinite count in medians and bars, and are shown."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from gdlab import plots
from gdlab.plots.pieces import quantiles
from gdlab.statistics import Crossing

INF = np.inf


def axes():
  return Figure().add_subplot()


def borders(drawn):
  """(x, y, border) of the arrows to a border of the axes."""
  return [(*text.xyann, text.xy[1]) for text in drawn.texts]


def test_quantiles_are_numpys_of_finite_values_with_gaps():
  rng = np.random.default_rng(0)
  for num in (1, 2, 3, 10, 11, 31):
    values = rng.normal(size=(num, 7))
    values[rng.random(values.shape) < 0.2] = np.nan
    seen = ~np.isnan(values).all(axis=0)
    # Between a and b one lerp rounds as a + part (b - a), the other from b: three roundings of at most 4.
    expected = np.nanquantile(values[:, seen], (0.1, 0.5, 0.9), axis=0)
    found = quantiles(values, (0.1, 0.5, 0.9))
    np.testing.assert_allclose(found[:, seen], expected, atol=12 * np.finfo(float).eps)
    assert np.isnan(found[:, ~seen]).all()


@pytest.mark.parametrize(
  ('values', 'expected'),
  [
    ([1, 2, INF], (1.2, 2, INF)),
    ([1, INF, INF], (INF, INF, INF)),  # 0.2 of the way from 1 to infinity
    ([1, 2, INF, INF], (1.3, INF, INF)),
    ([-INF, 2, 3], (-INF, 2, 2.8)),
    ([-INF, INF], (np.nan, np.nan, np.nan)),
    ([*range(10), INF], (1, 5, 9)),
    ([INF, INF], (INF, INF, INF)),
    ([np.nan, 4], (4, 4, 4)),
    ([*range(30), INF], (3, 15, 27)),
  ],
)
def test_quantiles_with_infinities_by_hand(values, expected):
  found = quantiles(np.array(values, float)[:, None], (0.1, 0.5, 0.9))[:, 0]
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_quantile_is_not_moved_by_the_rounding_of_its_place():
  # In floats 0.55 * 20 is 11.000000000000002, a step towards infinity here, and 0.29 * 100 is 28.999999999999996.
  for level, num in ((0.7, 11), (0.55, 21), (0.29, 101)):
    whole = round(level * (num - 1))
    values = np.append(np.arange(whole + 1.0), np.full(num - whole - 1, INF))
    assert quantiles(values, (level,))[0] == whole


def test_spread_shows_points_whose_runs_include_an_infinity():
  drawn = axes()
  values = [[1, 5, INF, 1], [2, 6, 7, np.nan], [INF, 7, INF, np.nan]]
  plots.spread(drawn, [10, 20, 30, 40], values, 'runs')
  handles, names = drawn.get_legend_handles_labels()
  found = dict(zip(names, handles, strict=True))
  points = found['runs'].lines[0].get_xydata()
  # Medians 2, 6, infinity (a gap in the line) and 1.
  np.testing.assert_array_equal(points, [[10, 2], [20, 6], [30, np.nan], [40, 1]])
  bars = found['runs'].lines[2][0].get_segments()
  np.testing.assert_allclose(bars[0][:, 1], [1.2, 2])
  np.testing.assert_allclose(bars[1][:, 1], [5.2, 6.8])
  assert borders(drawn) == [(10, 2, 1)]
  triangle = found['runs: infinite']
  np.testing.assert_array_equal(triangle.get_xydata(), [[30, 1]])
  assert triangle.get_transform() == drawn.get_xaxis_transform(), 'at the border, whatever the scale'
  assert np.isfinite(drawn.get_ylim()).all()


def test_spread_shows_minus_infinity_and_points_without_a_finite_median():
  drawn = axes()
  plots.spread(drawn, [1, 2], [[-INF, -INF], [3, -INF], [4, 1]], 'runs', line='')
  assert borders(drawn) == [(1, 3, 0)]
  assert 'runs: minus infinite' in drawn.get_legend_handles_labels()[1]
  drawn = axes()
  plots.spread(drawn, [1.0], [[INF], [INF]], 'none')
  assert drawn.get_legend_handles_labels()[1] == ['none: infinite', 'none']
  assert plots.to_svg(drawn.figure) == plots.to_svg(drawn.figure)


def test_spread_leaves_out_points_without_runs():
  drawn = axes()
  plots.spread(drawn, [1, 2, 3], [[1, np.nan, 3], [1, np.nan, 5]], 'runs')
  np.testing.assert_array_equal(drawn.lines[0].get_xydata(), [[1, 1], [3, 4]])
  assert not drawn.texts


def test_a_band_keeps_the_median_where_some_runs_are_infinite():
  drawn = axes()
  values = [[1, 2, 3], [2, 3, INF], [3, INF, INF]]
  plots.band(drawn, [0, 1, 2], values, 'runs')
  np.testing.assert_array_equal(drawn.lines[0].get_xydata(), [[0, 2], [1, 3], [2, np.nan]])
  vertices = drawn.collections[0].get_paths()[0].vertices
  tops = {x: vertices[vertices[:, 0] == x][:, 1].max() for x in (0, 1, 2)}
  # The largest finite value is 3; at 2 the low end of the band is infinite too, 0.2 of the way from 3.
  assert tops == {0: pytest.approx(2.8), 1: 3, 2: 3}


def test_a_clock_that_one_run_lacks_does_not_lose_the_point():
  drawn = axes()
  plots.band(drawn, [[0, 1.0], [0, np.nan], [0, 3.0]], [[5, 4], [5, 3], [5, 2]], 'runs')
  np.testing.assert_array_equal(drawn.lines[0].get_xydata(), [[0, 5], [2, 3]])


def test_axes_of_a_dataarray_are_told_by_name():
  values = xr.DataArray([[1.0, 5.0], [3.0, 5.0]], dims=('seed', 'size'))
  drawn = axes()
  plots.spread(drawn, [1, 2], values.T, 'runs')
  np.testing.assert_array_equal(drawn.lines[0].get_ydata(), [2, 5])


def test_curves_of_which_some_diverged():
  result = xr.Dataset(
    {'train_loss': (('seed', 'step'), [[4, 2, 1], [5, 3, 2], [6, INF, INF]])}, {'step': [0, 1, 2]}
  )
  (drawn,) = plots.curves({'runs': result}).axes
  np.testing.assert_array_equal(drawn.lines[0].get_ydata(), [5, 3, 2])


def test_a_bar_that_no_run_lived_to_see_is_an_arrow():
  times = np.array([[80.0, 40], [82, 44], [90, 45]])
  censored = np.array([[False, False], [False, False], [True, False]])
  (drawn,) = plots.steps_by_batch_size([1, 2], {'plain': Crossing(times, censored)}, fit=False).axes
  assert borders(drawn) == [(1, 82, 1)]


def test_contours_leave_out_what_is_not_finite():
  values = np.array([[0.0, 1, 2], [3, 4, INF], [np.nan, 5, 6]])
  drawn = axes()
  found = plots.contours(drawn, [0, 1, 2], [0, 1, 2], values)
  assert found.levels.max() <= 6
  plots.surface(axes(), [0, 1, 2], [0, 1, 2], values, 0.0)


def test_minus_infinity_is_the_lowest_of_a_plane():
  values = np.array([[-INF, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, INF]])
  surface = xr.Dataset({'train_loss': (('alpha', 'beta'), values)}, {'alpha': [0, 1, 2], 'beta': [0, 1, 2]})
  (drawn,) = plots.plane(surface).axes
  expected = np.unique(np.quantile(np.clip(values, 1, 3), np.linspace(0, 1, 22)))
  np.testing.assert_allclose(drawn.collections[0].levels, expected)
