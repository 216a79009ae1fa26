"""Pictures show what they were given: their marks are read back and compared with the data."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from matplotlib.figure import Figure

from gdlab import claims, plots, statistics, theory
from gdlab.statistics import Crossing, Interval

STEPS = np.arange(0, 50, 10)


def result(values, steps=STEPS, **others):
  values = np.atleast_2d(values)
  columns = {'train_loss': (('seed', 'step'), values)}
  columns |= {
    name: (('seed', 'step'), np.broadcast_to(given, values.shape)) for name, given in others.items()
  }
  return xr.Dataset(columns, {'step': steps})


def labels(axes):
  return axes.get_legend_handles_labels()[1]


def line(axes, label):
  handles, names = axes.get_legend_handles_labels()
  return dict(zip(names, handles, strict=True))[label]


def test_curves_are_medians_with_the_middle_80_percent():
  values = np.random.default_rng(0).lognormal(size=(11, 5))
  (axes,) = plots.curves({'one': result(values), 'other': result(values[:1])}, target=0.5).axes
  np.testing.assert_allclose(line(axes, 'one').get_ydata(), np.median(values, axis=0))
  np.testing.assert_allclose(line(axes, 'other').get_ydata(), values[0])
  np.testing.assert_array_equal(line(axes, 'one').get_xdata(), STEPS)
  band = axes.collections[0].get_paths()[0].vertices
  assert band[:, 1].max() == pytest.approx(np.quantile(values, 0.9, axis=0).max())
  assert band[:, 1].min() == pytest.approx(np.quantile(values, 0.1, axis=0).min())
  assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ('updates', 'train loss', 'log')
  assert line(axes, 'one').get_linestyle() != line(axes, 'other').get_linestyle(), 'told apart without colour'


def test_curves_against_another_variable_leave_out_what_has_no_logarithm():
  values = np.array([3.0, np.nan, 0.0, -1.0, 0.5])
  epochs = np.arange(5) / 7
  (axes,) = plots.curves({'run': result(values, epoch=epochs)}, against='epoch').axes
  np.testing.assert_allclose(axes.lines[0].get_xdata(), epochs[[0, 4]])
  np.testing.assert_allclose(axes.lines[0].get_ydata(), [3.0, 0.5])
  assert axes.get_legend() is None
  (axes,) = plots.curves({'run': result(values)}, log=False).axes
  np.testing.assert_allclose(axes.lines[0].get_ydata(), values[[0, 2, 3, 4]])


def test_eigenvalues_and_the_threshold():
  values = np.array([[5.0, 1.0], [np.nan, 2.0], [9.0, 3.0]])
  (axes,) = plots.eigenvalue_curves([0, 1, 2], values, threshold=8.0).axes
  np.testing.assert_array_equal(line(axes, 'largest').get_xydata(), [[0, 5], [2, 9]])
  np.testing.assert_array_equal(line(axes, 'next').get_ydata(), [1, 2, 3])
  np.testing.assert_array_equal(line(axes, '2 / rate').get_ydata(), [8, 8, 8])


def test_noise_scales_leave_out_estimates_that_are_none():
  scales = np.array([[4.0, -2.0, np.inf], [6.0, 10.0, np.nan]])
  (axes,) = plots.noise_scale([0, 1, 2], {'simple': scales}, batch_size=32).axes
  np.testing.assert_array_equal(line(axes, 'simple').get_xydata(), [[0, 5], [1, 10]])
  assert labels(axes) == ['simple', 'batch size 32']


def grid(values, **coordinates):
  dims = ('seed', 'batch_size', 'rate')[-np.ndim(values) :]
  return xr.DataArray(values, dims=dims, coords=coordinates, name='train_loss')


def test_a_heat_map_marks_failures_and_the_best_cell():
  values = np.array([[[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]], [[1.0, 4.0, np.nan], [0.5, np.inf, 6.0]]])
  failed = grid(np.zeros((2, 2, 3), bool))
  failed[0, 1, 0] = True
  figure = plots.heat_map(grid(values, batch_size=[8, 64], rate=[0.1, 0.2, 0.4]), failed=failed)
  axes = figure.axes[0]
  # Medians of the runs that are left: row 0: 1, 3, 3; row 1: 0.5 alone, none, 6.
  np.testing.assert_array_equal(axes.images[0].get_array().filled(np.nan), [[1, 3, 3], [0.5, np.nan, 6]])
  texts = np.array([text.get_text() for text in axes.texts]).reshape(2, 3)
  assert texts.tolist() == [['1', '3', '3\n1✗'], ['0.5\n1✗', '', '6']]
  crosses = [tuple(mark.get_xydata()[0]) for mark in axes.lines]
  assert crosses == [(1, 1)], 'column 1 of row 1 has no run left'
  assert axes.patches[0].get_xy() == (-0.5, 0.5), 'the lowest cell is column 0 of row 1'
  assert [tick.get_text() for tick in axes.get_xticklabels()] == ['0.1', '0.2', '0.4']
  assert [tick.get_text() for tick in axes.get_yticklabels()] == ['8', '64']
  assert (axes.get_xlabel(), axes.get_ylabel(), figure.axes[1].get_ylabel()) == (
    'rate',
    'batch size',
    'train loss',
  )


def test_a_heat_map_frames_the_cell_that_it_is_told_to():
  figure = plots.heat_map(grid(np.arange(1.0, 7).reshape(2, 3)), framed=(1, 2))
  assert figure.axes[0].patches[0].get_xy() == (1.5, 0.5)


def test_numbers_on_a_heat_map_stand_out_from_their_cells():
  figure = plots.heat_map(grid(np.geomspace(1e-3, 1, 12).reshape(3, 4)))
  image = figure.axes[0].images[0]
  for text, value in zip(figure.axes[0].texts, image.get_array().ravel(), strict=True):
    lightness = image.cmap(image.norm(value))[:3] @ np.array([0.2126, 0.7152, 0.0722])
    assert abs((text.get_color() == 'white') - lightness) > 0.35


def test_steps_by_batch_size_show_medians_censoring_and_laws():
  sizes = np.array([1.0, 2, 4, 8, 16, 32])
  times = np.tile(theory.steps_for_batch(sizes, 10.0, 80.0), (5, 1)) * np.array([[0.8, 0.9, 1, 1.1, 1.2]]).T
  censored = times > 80  # at B = 1 (90 steps) 3 of 5 do not get there
  crossing = Crossing(np.minimum(times, 80), censored)
  (axes,) = plots.steps_by_batch_size(sizes, {'plain': crossing}).axes
  drawn = line(axes, 'plain').lines[0].get_xydata()
  np.testing.assert_allclose(drawn, np.stack([sizes, np.median(times, axis=0)], axis=1)[1:])
  np.testing.assert_allclose(line(axes, 'plain: not reached by then').get_xydata(), [[1, 80]])
  perfect = line(axes, '1/B').get_xydata()
  np.testing.assert_allclose(perfect.prod(axis=1), 2 * 50)
  (fit,) = [name for name in labels(axes) if name.startswith('fit')]
  assert fit == 'fit: S min 10, B crit 8'
  curve = line(axes, fit).get_xydata()
  np.testing.assert_allclose(curve[:, 1], 10 * (1 + 8 / curve[:, 0]), rtol=1e-6)
  assert (axes.get_xscale(), axes.get_yscale()) == ('log', 'log')


def test_half_of_an_even_number_of_runs_is_not_there_in_the_picture_as_in_the_fit():
  times = np.array([[80.0, 40, 20, 16], [90.0, 45, 22, 17]])
  censored = np.array([[False] * 4, [True, False, False, False]])
  (axes,) = plots.steps_by_batch_size([1, 2, 4, 8], {'plain': Crossing(times, censored)}).axes
  np.testing.assert_allclose(line(axes, 'plain').lines[0].get_xdata(), [2, 4, 8])
  (fit,) = [name for name in labels(axes) if name.startswith('fit')]
  found = statistics.fit_bend([1, 2, 4, 8], np.where(censored, np.inf, times), num_resamples=1)
  assert fit.endswith(f'B crit {found.critical_batch_size.estimate:.3g}')


def test_an_arm_that_never_got_there_has_triangles_alone():
  (axes,) = plots.steps_by_batch_size([1, 2], {'a': Crossing([[9.0, 9.0]], np.ones((1, 2), bool))}).axes
  assert labels(axes) == ['a: not reached by then']


def test_a_histogram_counts_all_eigenvalues_and_mixes_no_signs():
  values = np.array([-0.5, -0.4, -1e-12, 0.0, 0.0, 3.0, 7.0])
  (axes,) = plots.eigenvalue_histogram(values, num_bins=10, rounding=1e-9).axes
  heights = np.array([bar.get_height() for bar in axes.patches])
  assert heights.sum() == 7
  assert labels(axes) == ['not negative', 'negative: 2 of 7']
  for bar in axes.patches:
    if bar.get_height():
      assert (bar.get_x() + bar.get_width() / 2 < 0) == bool(bar.get_hatch())


def test_a_spectrum_shows_density_band_and_eigenvalues():
  points = np.linspace(-1, 5, 50)
  density = scipy.stats.norm.pdf(points)
  (axes,) = plots.spectrum(points, density, lower=0.5 * density, upper=2 * density, eigenvalues=[4.0]).axes
  drawn = line(axes, 'density').get_ydata()
  np.testing.assert_allclose(drawn, np.maximum(density, 1e-6 * density.max()))
  assert line(axes, 'eigenvalues found').get_xdata().tolist() == [4.0]
  assert labels(axes)[0] == '95 % interval'
  assert labels(plots.spectrum(points, density).axes[0]) == ['density']


def surface(values, **variables):
  alphas = np.linspace(-1, 1, values.shape[0])
  return xr.Dataset(
    {'train_loss': (('alpha', 'beta'), values)} | variables,
    {'alpha': alphas, 'beta': np.arange(values.shape[1])},
  )


def test_a_plane_has_its_axes_the_right_way_round_and_the_path_on_it():
  given = surface(np.linspace(0.1, 1, 5)[:, None] ** 2 + np.zeros(4))  # rises with alpha alone
  path = np.array([[0.5, 1.0], [0.0, 2.0]])
  given = given.assign(path=(('point', 'component'), path), explained=('component', [0.8, 0.15]))
  (axes,) = plots.plane(given).axes
  for contour in axes.collections[1].get_paths():
    xs = contour.vertices[:, 0]
    assert np.ptp(xs) < 1e-6 if len(xs) else True, 'contours of a loss of alpha are upright'
  assert axes.get_xlim() == (-1, 1)
  np.testing.assert_array_equal(axes.lines[0].get_xydata(), path)
  assert line(axes, 'start').get_xydata().tolist() == [[0.5, 1.0]]
  assert line(axes, 'end').get_xydata().tolist() == [[0.0, 2.0]]
  assert axes.get_xlabel() == 'first component, 80 % of variance'


def test_a_plane_with_overflows():
  values = np.exp(np.arange(12.0)).reshape(3, 4)
  values[2, 3] = np.inf
  (axes,) = plots.plane(surface(values)).axes
  assert axes.get_title(loc='left') == 'train loss'
  assert axes.collections[1].levels.max() <= np.exp(10)
  assert not axes.lines, 'no path was given'


def test_interpolation_shows_the_barrier():
  t = np.linspace(0, 1, 5)
  lines = {
    'bumpy': xr.Dataset({'train_loss': ('t', [1.0, 2.0, 5.0, 3.0, 2.0])}, {'t': t}),
    'straight': xr.Dataset({'train_loss': ('t', 1 + t)}, {'t': t}),
    'overflow': xr.Dataset({'train_loss': ('t', [1.0, 2.0, np.inf, 2.0, 1.0])}, {'t': t}),
  }
  (axes,) = plots.interpolation(lines).axes
  assert labels(axes) == ['bumpy: barrier 3.5', 'straight: barrier 0', 'overflow: barrier inf']
  (arrow,) = [text for text in axes.texts if text.arrow_patch is not None]
  assert (arrow.xy, arrow.xyann) == ((0.5, 5.0), (0.5, 1.5))


def test_survival_is_kaplan_and_meier_with_ticks_where_runs_were_lost():
  crossing = Crossing(np.array([2.0, 5, 5, 9, 9]), np.array([False, False, True, False, True]))
  (axes,) = plots.survival({'arm': crossing}).axes
  curve = statistics.kaplan_meier(crossing)
  drawn = line(axes, 'arm').get_xydata()
  np.testing.assert_allclose(drawn, [[0, 1], *np.stack([curve.time, curve.share], axis=1)])
  lost = line(axes, 'arm: 2 never reached it').get_xydata()
  np.testing.assert_allclose(lost, [[5, curve.share[1]], [9, curve.share[2]]])
  assert plots.survival({'arm': crossing}, log=True).axes[0].get_xscale() == 'log'


def finding(name, *parts):
  rules = {effect: rule for effect, rule, _ in parts}
  intervals = {effect: Interval(*interval, 0.95, 8, 0) for effect, _, interval in parts}
  return claims.grade(claims.Claim(name, 'words', rules), intervals, num_seeds=8, conditions='here')


def test_a_forest_has_a_row_for_every_effect_with_its_own_scale(tmp_path):
  findings = [
    finding('V1', ('ratio', claims.greater_than(1), (3.0, 2.0, 4.0))),
    finding(
      'V2',
      ('slope', claims.less_than(0), (1.0, 0.5, 1.5)),
      ('gap', claims.greater_than(0), (1e-5, -1e-5, 3e-5)),
    ),
    finding('V3', ('steps', claims.greater_than(0), (np.nan, -np.inf, np.inf))),
  ]
  path = tmp_path / 'claims.json'
  claims.write_claims(path, findings)
  for given in (findings, claims.read_claims(path)):
    figure = plots.forest(given, thresholds={'ratio': 1.0})
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts if text.get_text()]
    assert texts == [
      'V1', 'ratio', '3 [2, 4]',
      'V2', 'slope', '1 [0.5, 1.5]',
      'gap', '1e-05 [-1e-05, 3e-05]',
      'V3', 'steps', 'none [-∞, ∞]',
    ]  # fmt: skip
    # With the threshold 1 the first row goes from 1 to 4: those are at 0.1 and 0.9, and 3 two thirds of the way.
    places = {mark.get_marker(): mark.get_xdata()[0] for mark in axes.lines if list(mark.get_ydata()) == [0]}
    assert places['o'] == pytest.approx(0.1 + 0.8 * 2 / 3)
    (dotted,) = [mark for mark in axes.lines if mark.get_linestyle() == ':']
    assert dotted.get_xdata()[0] == pytest.approx(0.1)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ['supported', 'contradicted', 'inconclusive']


def test_effects_of_one_unit_stand_on_one_axis():
  findings = [
    finding(
      'G1', ('gain', claims.greater_than(0), (0.01, 0.0, 0.02)), ('steps', claims.less_than(9), (5, 4, 6))
    ),
    finding('G2', ('loss', claims.greater_than(0), (-0.02, -0.04, 0.0))),
  ]
  figure = plots.forest(findings, units={'gain': 'accuracy', 'loss': 'accuracy'})
  (axes,) = figure.axes
  texts = [text.get_text() for text in axes.texts if text.get_text()]
  # The two of one unit stand together, and their axis below them; the other has a row of its own.
  assert texts[:4] == ['G1', 'gain', '0.01 [0, 0.02]', 'G2']
  assert texts.index('loss') < texts.index('accuracy') < texts.index('steps')
  assert texts.count('G1') == 2
  # One scale from -0.04 to 0.02: a length of 0.06 takes 0.8, so both intervals are as long as they are in numbers.
  spans = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 2.4]
  assert [right - left for left, right in spans[:2]] == pytest.approx([0.8 / 3, 0.8 * 2 / 3])
  assert spans[0][0] == pytest.approx(spans[1][1])  # 0 is one place


def test_figures_are_made_without_pyplot_and_become_the_same_bytes():
  figures = [plots.curves({'run': result(np.arange(1.0, 6.0))}) for _ in range(2)]
  assert all(type(figure) is Figure and figure.canvas.manager is None for figure in figures)
  first, second = map(plots.to_svg, figures)
  assert first == second
  assert first.startswith('<svg style="width: 100%; max-width: 4.6in')


def test_colours_are_told_apart_in_grey():
  # Relative luminance of neighbouring arms differs, so that print keeps two arms apart; marks and lines do the rest.
  def luminance(colour):
    channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]

  values = np.array([luminance(colour) for colour in plots.COLOURS])
  assert (np.abs(np.diff(values))[:2] > 0.02).all()
  assert len(set(plots.LINES)) == 5
