"""The study of saddles: what is searched and measured against what is known, and a tiny run of it."""

import json
import re

import jax
import ml_collections
import numpy as np
import pytest
import xarray as xr

from configs import saddles as configs
from configs import saddles_full
from experiments.saddles import effects, fields, figures, measure, places, searches  # noqa: F401, they register
from experiments.saddles.study import escape
from gdlab import analysis, problems
from gdlab.core.errors import InputError
from gdlab.problems import landscapes
from tests.experiments.test_saddles_can_fail import seen, settings

# What few seeds may have at most.
SOME = 'fields.num_fields=2; search.num_networks=2; training.num_seeds=2; training.num_control_seeds=2;'
SOME += 'training.num_grid_seeds=2; training.num_tuning=1; growth.num_seeds=2; seeds.count=2; seeds.tuning=1'


def waves(dimension, count=12, seed=0):
  rng = np.random.default_rng(seed)
  return rng.standard_normal((count, dimension)), rng.standard_normal((count, 2)) / np.sqrt(count)


def test_on_a_line_all_points_are_found_and_rice_gives_their_number():
  frequencies, amplitudes = waves(1)
  found, grid = fields.searched(frequencies, amplitudes, 40.0, 0), np.linspace(-20, 20, 400_001)
  phases = grid[:, None] * frequencies[:, 0]
  slope = (np.cos(phases) * amplitudes[:, 1] - np.sin(phases) * amplitudes[:, 0]) @ frequencies[:, 0]
  crossings = np.flatnonzero(np.diff(np.sign(slope)))
  np.testing.assert_allclose(np.sort(found.points[:, 0]), grid[crossings], atol=2e-4)
  assert found.indices[np.argsort(found.points[:, 0])].tolist() == (slope[crossings] > 0).astype(int).tolist()
  density = fields.expected(frequencies, 0)  # Rice: (1/pi) sqrt(<w^4> / <w^2>), half of it maxima
  known = np.sqrt(np.mean(frequencies**4) / np.mean(frequencies**2)) / np.pi
  np.testing.assert_allclose(density, known / 2, rtol=5 * np.sqrt(2 / fields.DRAWS))  # 5 standard errors


@pytest.mark.parametrize('dimension', [2, 4])
def test_points_found_are_those_that_are_certified(dimension):
  with jax.enable_x64(True):
    field = problems.gaussian_random_field(dimension, num_features=12, seed=3)
    found = fields.searched(*(np.asarray(part[0]) for part in field.train), 4.0, 0)
    points = analysis.find_stationary_points(field, found.points, (), jax.random.key(0), at_once=64)
  assert len(points.values) == len(found.points) > 3
  order = np.lexsort((found.values, found.indices))
  np.testing.assert_array_equal(points.certificates.index, found.indices[order])
  np.testing.assert_allclose(points.values, found.values[order], atol=1e-12)


def test_points_that_were_missed_are_estimated_from_those_reached_once_and_twice():
  assert fields.missed(np.array([1, 1, 1, 2, 5])) == 3 * 2 / (2 * 2)
  assert fields.missed(np.array([3, 4])) == 0


@pytest.mark.parametrize('name', ['made', 'pca', 'origin'])
def test_saddles_that_are_known(name):
  with jax.enable_x64(True):
    place = places.place_of(settings(SOME), name, xr.Dataset())
    problem = jax.tree.map(lambda leaf: leaf[1], place.problem)
    value = landscapes.value_fn(problem)
    saddle, way = place.saddles[1], place.ways[1]
    gradient = jax.grad(value)(saddle)
    spectrum, vectors = np.linalg.eigh(jax.hessian(value)(saddle))
    assert np.abs(gradient).max() < 1e-14  # N terms of size 1, each rounded at 1e-16
    assert spectrum[0] == pytest.approx(-place.curvatures[1], rel=1e-9)
    if name != 'made':  # two equal ways
      assert np.abs(vectors[:, 0] @ way) == pytest.approx(1, rel=1e-9)
    assert float(value(saddle)) == pytest.approx(place.values[1], abs=1e-14)
    end = places.descended(problem, (saddle + 1e-3 * way)[None], 0.2, np.array([600]))[0]
    assert float(place.values[1] - value(end)) == pytest.approx(place.falls[1], rel=1e-4)
  assert not np.array_equal(*(np.asarray(leaf) for leaf in jax.tree.leaves(place.problem.train)[0][:2]))


def quiet(*_, **__):
  return None


def test_exits_are_those_of_the_exact_recursion():
  view = seen(quadratic_0=measure.quadratic(settings(), 0, progress=quiet))
  assert (
    effects.departure(view, momentum=True)[:3] == effects.departure(view, momentum=False)[:3] == (0, 0, 0)
  )


TINY = f"""
{SOME}; seeds.repeats=1; fields.num_features=8; fields.num_points=10; search.num_examples=32; search.num_starts=8;
network.hidden=4; network.num_examples=64; network.num_starts=64; network.num_silent=1; race.mini_batch=8;
race.multiples=(0.5, 1.0); race.near_multiples=(0.5, 1.0); race.momentum_multiples=(1.0, 3.0);
race.adam_rates=(0.01, 0.1); race.evaluations=10; race.folds=5.0; race.most_updates=50;
growth.strengths=(0.001, 0.1); growth.betas=(0.0, 0.5, 0.9); growth.repeats=2; chain.dimension=4; chain.long=4;
chain.rates=(0.2, 0.25, 0.7); chain.limit=600; training.hidden=2; training.sgd_rates=(0.3, 1.0);
training.adam_rates=(0.01, 0.03); training.num_updates=60; training.record_every=10; training.target_loss=1.5;
training.control=(1, 0.1); training.grid=((1, 0.1),)
"""


@pytest.mark.slow
def test_a_tiny_study_runs_to_its_report(tmp_path):
  config, found = ml_collections.ConfigDict(settings(TINY).model_dump(), convert_dict=True), {}
  copied = []  # races from other saddles: the same code once more, which takes long to compile
  for cell in escape.cells(config):
    if re.match('(at|near)_(made|pca|origin)', cell.name):
      copied.append(cell.name)
      continue
    result = cell.measure(*(found[need] for need in cell.needs), progress=quiet)
    found[cell.name] = result.assign_attrs(cell_wall_time_s=0.0)
  for name in copied:
    found[name] = found[re.sub('made|pca', 'network', name).replace('origin', 'silent0')]
  escape.finish(config, found, tmp_path)
  first, second = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('claims', 'claims-1'))
  ids = [f'S{number}' for number in range(1, 7)]
  assert [claim['id'] for claim in first] == [claim['id'] for claim in second] == ids
  assert {'saddles-1', 'at_network-1', 'training_sgd-1', 'deeper_0'} <= {*found}
  silent = found['at_silent0'].sel(arm='mini-batch').transpose('rate', 'seed', ...)
  assert silent.seed.values.tolist() == [1_000_000_010, 10, 11]
  chosen = np.lexsort((silent.updates.values[:, 0], ~silent.escaped.values[:, 0]))[0]
  left = silent.escaped.values[chosen, 1:]
  parts = {part['effect_name']: part['effect'] for part in first[1]['parts']}
  assert (
    parts['SGD, mini-batch: share that left, network, examples agree on the steepest way down'] == left.mean()
  )
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<svg') == len(list((tmp_path / 'figures').glob('*.svg'))) == 4


REFUSED = (
  'fields.dimensions=(2, 3, 4, 5)', 'fields.num_fields=97', 'search.widths=(1,)', 'network.num_examples=99_999',
  'race.mini_batch=65', 'growth.betas=(0.5, 0.9)', 'growth.betas=(0.0, 0.5)', 'growth.strengths=(0.01, 0.1)',
  'growth.batch_sizes=(1, 2)', 'growth.cases=((2, 0.1, 5.0),)', 'growth.cases=((100, 0.1, 0.01),)',
  'chain.rates=(0.1, 1.5)', 'chain.largest_rate=0.05', 'training.num_control_seeds=97',
  'training.control=(0, 0.1)', 'training.num_tuning=17', 'training.grid=()', 'training.batch_size=99_999',
)  # fmt: skip


@pytest.mark.parametrize('change', REFUSED)
def test_what_could_not_be_finished_is_refused_in_one_line(change):
  with pytest.raises(InputError, match=rf'^[^\n]*{change.partition("=")[0]}[^\n]*$'):
    settings(change)


def test_the_full_configuration_is_one_that_runs_with_more_seeds():
  full, quick = (escape.config.checked(module.get_config().to_dict()) for module in (saddles_full, configs))
  assert full.seeds.count > quick.seeds.count
  assert min(full.seeds.first, quick.seeds.first) >= 30_000  # pilots and earlier runs had those below
