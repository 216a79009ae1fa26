"""Entry, escape and dwell times against a plain loop, and against the closed form of descent at a saddle."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

import gdlab
from gdlab import analysis
from gdlab.core.errors import InputError


def by_loop(series, enter, leave):
  """(entered, escaped, visits, records inside) of one series, by the definition."""
  entered, escaped, count, inside, is_in = -1, -1, 0, 0, False
  for number, value in enumerate(series):
    if np.isnan(value):
      inside += is_in
      continue
    if not is_in and value <= enter:
      is_in, count = True, count + 1
      if count == 1:
        entered = number
    elif is_in and value >= leave:
      is_in = False
      if count == 1:
        escaped = number
    inside += is_in
  return entered, escaped, count, inside


def test_visits_are_those_of_a_plain_loop():
  rng = np.random.default_rng(0)
  series = np.abs(np.cumsum(rng.normal(size=(6, 50, 40)), axis=-1)) + 0.5
  series[rng.random(series.shape) < 0.1] = np.nan
  with jax.enable_x64(True):
    found = jax.jit(lambda s: analysis.saddle_visits(s, enter=1.0, leave=2.5))(series)
  expected = np.array([[by_loop(row, 1.0, 2.5) for row in rows] for rows in series])
  np.testing.assert_array_equal(np.stack(found, axis=-1), expected)
  # All kinds are among them: never came, never left, came again.
  assert (expected[..., 0] < 0).any()
  assert ((expected[..., 0] >= 0) & (expected[..., 1] < 0)).any()
  assert (expected[..., 2] > 1).any()


def test_escape_of_descent_from_a_saddle_is_that_of_the_closed_form():
  # x_t = (1 - a)^t x_0 along curvature 1, y_t = (1 + a c)^t y_0 along -c.
  rate, down, x0, y0, enter, leave = 0.1, 0.5, 1.0, 1e-6, 0.05, 0.5
  with jax.enable_x64(True):
    problem = gdlab.problems.landscapes.strict_saddle([1.0, -down], start=[x0, y0])
    sgd = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(rate))
    run = gdlab.run(
      problem,
      sgd,
      num_steps=400,
      seeds=1,
      eval_every=1,
      probes={'where': lambda problem, state: state.params},
    )
  steps = np.arange(401)
  distance = np.hypot((1 - rate) ** steps * x0, (1 + rate * down) ** steps * y0)
  entered = int(np.argmax(distance <= enter))
  escaped = entered + int(np.argmax(distance[entered:] >= leave))
  times = analysis.escape_times(run['where'], enter=enter, leave=leave, saddle=np.zeros(2))
  assert dict(times.sizes) == {'seed': 1}
  assert (times.entered.item(), times.escaped.item()) == (entered, escaped)
  assert (times.dwell.item(), times.censored.item(), times.visits.item()) == (escaped - entered, False, 1)
  # The closed form for a saddle left along one direction, to the step.
  assert escaped == np.ceil(np.log(leave / y0) / np.log(1 + rate * down))
  # By the gradient's norm along the way, where that direction has curvature c.
  slope = np.sqrt((run['where'][..., 0]) ** 2 + (down * run['where'][..., 1]) ** 2)
  by_slope = analysis.escape_times(slope, enter=enter, leave=down * leave)
  assert by_slope.escaped.item() == escaped


def test_times_are_in_steps_and_censored():
  series = xr.DataArray(
    [[9.0, 0.5, np.nan, 0.5, 9.0], [9.0, 9.0, 0.5, np.nan, 0.1], [9.0, 9.0, 9.0, 9.0, 9.0]],
    dims=('seed', 'step'),
    coords={'seed': [5, 7, 11], 'step': [0, 10, 30, 70, 150]},
  )
  times = analysis.escape_times(series, enter=1.0, leave=2.0)
  np.testing.assert_array_equal(times.seed, [5, 7, 11])
  np.testing.assert_array_equal(times.entered, [10, 30, np.nan])
  np.testing.assert_array_equal(times.escaped, [150, np.nan, np.nan])
  np.testing.assert_array_equal(times.dwell, [140, 120, np.nan])
  np.testing.assert_array_equal(times.censored, [False, True, False])
  np.testing.assert_array_equal(times.visits, [1, 1, 0])


def test_a_run_that_diverged_dwelt_until_its_last_number():
  series = xr.DataArray(
    [[0.1, 0.1, np.nan, np.nan], [np.nan] * 4, [9.0, np.nan, 0.1, 0.1]],
    dims=('seed', 'step'),
    coords={'step': [0, 10, 20, 30]},
  )
  times = analysis.escape_times(series, enter=1.0, leave=2.0)
  np.testing.assert_array_equal(times.dwell, [10, np.nan, 10])
  np.testing.assert_array_equal(times.censored, [True, False, True])


def test_refusals():
  records = xr.DataArray(np.ones((2, 3)), dims=('step', 'p'), coords={'step': [0, 1]})
  for bad in (np.ones(3), records.drop_vars('step'), records.rename(step='time')):
    with pytest.raises(InputError, match='step'):
      analysis.escape_times(bad, enter=1.0, leave=2.0)
  for saddle, given in ((np.zeros(2), records), (np.zeros(2), records.transpose())):
    with pytest.raises(InputError, match='saddle'):
      analysis.escape_times(given, enter=1.0, leave=2.0, saddle=saddle)
  with pytest.raises(InputError, match='series'):
    analysis.saddle_visits(1.0, enter=1.0, leave=2.0)
  for leave in (1.0, 0.5, np.nan):
    with pytest.raises(InputError, match='leave'):
      analysis.saddle_visits(jnp.ones(3), enter=1.0, leave=leave)
