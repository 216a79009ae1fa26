"""The page of landscapes: its catalogue, what it measures, and a tiny run of the whole."""

import inspect
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import xarray as xr
from jax.flatten_util import ravel_pytree

import gdlab
from configs import landscapes
from experiments.landscapes import catalogue, figures, paths
from gdlab.problems import landscapes as every


@pytest.mark.parametrize('name', list(catalogue.LANDSCAPES))
def test_an_entry_is_a_problem_of_two_parameters_that_starts_in_its_box(name):
  problem = catalogue.LANDSCAPES[name].make()
  low, high = np.asarray(problem.known.box).T
  start, _ = ravel_pytree(problem.init(jax.random.key(0))[0])
  assert start.shape == low.shape == (2,)
  assert ((low <= start) & (start <= high)).all()


def test_no_landscape_is_missing_from_the_page():
  functions = {name for name in every.__all__ if inspect.isfunction(getattr(every, name))} - {'value_fn'}
  assert functions - catalogue.LANDSCAPES.keys() == set()


def test_the_best_rate_of_each_method_is_drawn_and_its_path_is_that_of_optax():
  config = landscapes.get_config()
  config.num_updates, config.num_rates = 20, 3
  problem = gdlab.problems.quadratic([1.0, 20.0], start=[-2.5, 1.5])
  result = paths.measure(config, problem, lambda done, total: None)
  # In units of 1/20 the rates are 0.001, 0.1 and 10: the last diverges, of the others the larger is better.
  np.testing.assert_allclose(result.rate.sel(optimizer='descent'), 0.1)
  factors = 1 - 0.1 / 20 * np.array([1.0, 20.0])
  expected = np.array([-2.5, 1.5]) * factors ** np.arange(21)[:, None]
  np.testing.assert_allclose(result.params.sel(optimizer='descent'), expected, rtol=1e-5)
  x, y = np.meshgrid(result.x, result.y)
  np.testing.assert_allclose(result.surface, x**2 / 2 + 10 * y**2, rtol=1e-5, atol=1e-6)
  assert result.attrs['curvature'] == pytest.approx(20)


def test_kinds_of_stationary_points():
  eigenvalues = [[1.0, 2.0], [-1.0, 2.0], [-2.0, -1.0], [0.0, 1.0], [-1.0, 0.0]]
  index = [0, 1, 2, 0, 1]
  points = {'point': (('number', 'parameter'), np.zeros((5, 2))), 'index': ('number', index)}
  result = xr.Dataset(points | {'eigenvalues': (('number', 'parameter'), eigenvalues)})
  assert figures.kinds(result) == ['minimum', 'saddle', 'maximum', 'degenerate', 'saddle']


def script(*arguments: str) -> subprocess.CompletedProcess:
  command = [sys.executable, '-m', 'experiments.landscapes', *arguments]
  return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_page_is_written(tmp_path):
  options = ("--config.names=('himmelblau', 'ackley')", '--config.num_updates=20', '--config.num_rates=2')
  done = script(f'--workdir={tmp_path}', *options)
  assert done.returncode == 0, done.stderr
  assert 'Warning' not in done.stderr
  text = (tmp_path / 'report.html').read_text(encoding='utf-8')
  assert text.count('<svg') == text.count('<image') == 2
  assert len(text) < 700_000, 'contours as paths take three times that'
  assert '120 minima, 220 saddles, 100 maxima; all there are in the box.' in text
  assert '4 minima, 4 saddles, 1 maximum' in text
  assert len(re.findall('<td>saddle</td>', text)) == 4
  assert 'Verdicts' not in text, 'nothing is graded'


def test_an_unknown_landscape_is_refused(tmp_path):
  done = script(f'--workdir={tmp_path}', "--config.names=('himelblau',)")
  assert done.returncode == 2
  assert re.search("^error: unknown landscape 'himelblau'; did you mean 'himmelblau'", done.stderr)
