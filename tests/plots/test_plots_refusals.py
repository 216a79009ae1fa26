"""Bad input to pictures is refused with one clear line, before anything is drawn."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from gdlab import plots
from gdlab.core.errors import InputError
from gdlab.statistics import Crossing

RUN = xr.Dataset(
  {'train_loss': (('seed', 'step'), [[1.0, -1.0]]), 'grid': (('rate', 'step'), [[1.0, 2.0]])},
  {'step': [0, 1]},
)
PLANE = xr.Dataset(
  {'train_loss': (('alpha', 'beta'), [[1.0, 0.0], [2.0, 3.0]])}, {'alpha': [0, 1], 'beta': [0, 1]}
)
MAP = xr.DataArray([[1.0, 2.0]], dims=('a', 'b'))
SEEDS = MAP.expand_dims(seed=[0, 1])
AXES = Figure().add_subplot()

CASES = [
  (lambda: plots.curves({}), 'results must be a mapping'),
  (lambda: plots.curves([RUN]), 'results must be a mapping'),
  (lambda: plots.curves({'a': RUN.train_loss}), r"results\['a'\] must be an xarray.Dataset, got 'DataArray'"),
  (lambda: plots.curves({'a': RUN}, 'loss'), "has no variable 'loss', only grid, step, train_loss"),
  (lambda: plots.curves({'a': RUN}, 'grid'), r"grid must have dims .* got \('rate', 'step'\); select"),
  (lambda: plots.curves({'a': -RUN.clip(min=1)}), 'no positive value'),
  (lambda: plots.curves({'a': RUN}, target=np.nan), 'target'),
  (lambda: plots.eigenvalue_curves([0, 1], [1.0]), 'eigenvalues must have one value for each of 2 steps'),
  (lambda: plots.eigenvalue_curves([0], [np.nan]), 'eigenvalues must be finite somewhere'),
  (lambda: plots.noise_scale([0, 1], {'a': [-1.0, np.inf]}), 'no positive value'),
  (lambda: plots.noise_scale([0, 1], {'a': [1.0, 2.0]}, batch_size=0), 'batch_size'),
  (lambda: plots.noise_scale([0, 1], {'a': [1.0]}), 'one value for each of 2 steps'),
  (lambda: plots.heat_map(MAP.values), 'must be a DataArray with dims'),
  (lambda: plots.heat_map(MAP[0]), 'must be a DataArray with dims'),
  (lambda: plots.heat_map(MAP * np.nan), 'a run that did not fail'),
  (lambda: plots.heat_map(MAP - 1), 'positive for log=True, got a minimum of 0.0'),
  (lambda: plots.heat_map(MAP, framed=(0, 9)), 'framed must be a cell of'),
  (lambda: plots.heat_map(MAP, failed=xr.DataArray([True], dims='c')), 'failed must have dims among'),
  (lambda: plots.heat_map(MAP, failed=MAP), 'failed must be flags, got dtype float64'),
  (
    lambda: plots.heat_map(SEEDS, failed=(SEEDS > 9).isel(seed=[0])),
    'failed must have the coordinates of values',
  ),
  (
    lambda: plots.spread(AXES, [1.0, 2.0], [1.0, 2.0], 'a'),
    r'shape \[seed, k\] and x \[k\], got \(2,\) and \(2,\)',
  ),
  (lambda: plots.band(AXES, [1.0], [[1.0, 2.0]], 'a'), r'shape \[seed, k\] and x \[k\]'),
  (lambda: plots.band(AXES, [1, 2], np.ma.masked_equal([[1.0, 2.0]], 2), 'a'), 'no masked values'),
  (lambda: plots.noise_scale([0], {'a': np.ma.masked_equal([1.0], 1)}), 'no masked values'),
  (lambda: plots.contours(AXES, [0, 1], [0, 1], np.full((2, 2), np.nan)), 'finite somewhere'),
  (lambda: plots.survival({'a': Crossing([0.0], np.array([False]))}, log=True), 'times > 0'),
  (
    lambda: plots.steps_by_batch_size([1, 0], {'a': Crossing([1.0, 2.0], [False, False])}),
    'must be positive',
  ),
  (lambda: plots.steps_by_batch_size([1, 2], {'a': Crossing([1.0], [False])}), r'shape \[seed, 2\]'),
  (lambda: plots.steps_by_batch_size([1], {'a': Crossing([0.0], [False])}), 'times > 0'),
  (lambda: plots.steps_by_batch_size([1], {}), 'crossings must be a mapping'),
  (lambda: plots.eigenvalue_histogram([1.0, np.nan]), 'eigenvalues must be finite'),
  (lambda: plots.eigenvalue_histogram([1.0], num_bins=0), 'num_bins'),
  (lambda: plots.eigenvalue_histogram([1.0], rounding=-1), 'rounding'),
  (lambda: plots.spectrum([0, 1], [1.0]), 'of the same shape'),
  (lambda: plots.spectrum([1, 0], [1.0, 1.0]), 'points must ascend'),
  (lambda: plots.spectrum([0, 1], [0.0, 0.0]), 'density must be positive'),
  (lambda: plots.spectrum([0, 1], [1.0, 1.0], lower=[0, 0]), 'given together'),
  (lambda: plots.plane(PLANE, 'test_loss'), "no variable 'test_loss'"),
  (lambda: plots.plane(PLANE * np.nan), 'finite somewhere'),
  (lambda: plots.plane(PLANE, path=[[1.0, 2.0, 3.0]]), r'path must have shape \[t, 2\]'),
  (lambda: plots.interpolation({'a': PLANE}), "dims .*'t'"),
  (lambda: plots.survival({}), 'crossings must be a mapping'),
  (lambda: plots.survival({'a': Crossing([], np.array([], bool))}), 'at least one run'),
  (lambda: plots.forest([]), 'at least one Finding'),
  (lambda: plots.forest(['V1']), 'at least one Finding'),
]


@pytest.mark.parametrize(('call', 'message'), CASES)
def test_refuses(call, message):
  with pytest.raises(InputError, match=message):
    call()
