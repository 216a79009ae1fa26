"""The study of minima: measurements with a closed form, arms with a known end, and a small run of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import gdlab
from configs import minima as defaults
from configs import minima_mnist
from experiments.minima import effects, measure, networks
from experiments.minima.figures import minima
from experiments.minima.study import Settings
from gdlab.claims import read_claims

TINY = {
  'seeds': {'first': 7, 'count': 3, 'tuning': 2, 'repeats': 1}, 'members': 2, 'ensembles': 3, 'ensemble_widths': (4,),
  'valleys': {'num_seeds': 4, 'num_examples': 64, 'batch_sizes': (1, 4), 'learning_rates': (0.02, 0.04), 'records': 2,
              'updates': 1000, 'lower_rate': 0.02, 'learning_rate': 0.04, 'return_updates': 50},
  'escape': {'num_seeds': 6, 'barriers': (1.5, 3.0)},
  'dose': {'num_seeds': 4, 'num_tuning_seeds': 2, 'updates': 50,
           'levels': (0.0, 4.0, 8.0)},
  'dose_network': {'num_seeds': 4, 'num_tuning_seeds': 2, 'updates': 10, 'hidden': 4, 'levels': (0.0, 0.001, 0.01)},
  'fork': {'num_seeds': 3, 'num_tuning_seeds': 2, 'hidden': 16, 'images': 100, 'learning_rates': (0.1, 0.3),
           'tuning_epochs': 1, 'early': 5, 'late': 100, 'updates': 200, 'settle': 50, 'points': 7},
  'widths': {'hidden': (2, 4), 'images': 100, 'learning_rates': (0.03, 0.1), 'epochs': 2, 'points': 5},
}  # fmt: skip


def given(changes):
  config = defaults.get_config()
  with config.ignore_type():
    config.update(changes)
  return config


def test_measurements_with_closed_forms():
  exact = gdlab.theory.mean_first_passage_time(lambda x: (x**2 - 1) ** 2, 0.25, start=-1, end=1, wall=-2.1)
  coarse, fine = (measure.mean_times(4.0, rate, num=800)['mean_chain'] for rate in (0.004, 0.002))
  assert fine == pytest.approx(exact, rel=0.005)
  # Its error is of the order of the step, so two steps extrapolate to a better value.
  assert 2 * fine - coarse == pytest.approx(exact, rel=0.002)
  draws = np.asarray(measure.with_data('tilted', 0.0, 0.1, 3.0, 64).train, float)
  assert abs(draws.mean()) < 1e-6
  assert np.mean(draws**2) == pytest.approx(3.0, rel=1e-5)
  options = Settings.checked(defaults.get_config().to_dict()).valleys
  assert options.expected(4, 0.02) == pytest.approx(options.escapes)
  assert options.graded == [(1, 0.01), (4, 0.02), (4, 0.04)]
  watch = measure.passages(near=-1.0, far=1.0)
  place, state = jnp.zeros(1), watch.init(jnp.zeros(1))
  for target in (-1.5, 0.9, 1.0, 0.0, -1.0, 2.0, -3.0):  # the first is no return, for nobody had been there
    updates, state = watch.update(target - place, state, place)
    place = place + updates
  assert state.tolist() == [7, 3, 5]


def test_scores_of_probabilities():
  found = networks.scores(np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]), np.array([0, 1]))
  assert found == {'error': 0.5, 'nll': pytest.approx(1.5 * np.log(2))}


def test_images_are_drawn_anew_and_none_is_used_twice():
  one, other = (networks.drawn('digits', 4, 100, seed, held_out=50) for seed in (1, 2))
  sizes = [len(part.targets) for part in (one.train, one.validation, one.test)]
  assert sizes == [100, 50, networks.IMAGES['digits'] - 150]
  assert not (np.asarray(one.train.inputs) == np.asarray(other.train.inputs)).all()
  whole = networks.whole('digits', 4)
  pooled, parts = (
    np.sort([np.asarray(part.inputs, float).sum() for part in each])
    for each in ((whole.train, whole.test), (one.train, one.validation, one.test))
  )
  assert pooled.sum() == pytest.approx(parts.sum(), rel=1e-6)
  assert networks.drawn('digits', 4, 100, 1).validation is None


def test_mnist_keeps_its_test_set(monkeypatch):
  monkeypatch.setitem(networks.DATASETS, 'mnist', gdlab.problems.digits)  # MNIST itself is not always there
  one, other = (networks.drawn('mnist', 3, 100, seed) for seed in (1, 2))
  assert [len(part.targets) for part in (one.train, one.validation, one.test)] == [100, 1, 360]
  assert (np.asarray(one.test.inputs) == np.asarray(other.test.inputs)).all()
  assert not (np.asarray(one.train.inputs) == np.asarray(other.train.inputs)).all()


def test_descent_of_a_fork_is_that_of_gdlab():
  problem = networks.drawn('digits', 4, 64, 0)
  params, key = problem.init(jax.random.key(0))[0], jax.random.key(1)
  method = networks.stochastic(0.1, 8)
  state = method.init(key, problem, params)
  for _ in range(3):
    state = method.step(state, problem)[0]
  found = networks.descended(problem, params, key, 0.1, 3, 8)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, state.params)
  moved, flat = (ravel_pytree(each)[0] for each in (networks.perturbed(params, key), params))
  assert float(jnp.linalg.norm(moved - flat) / jnp.linalg.norm(flat)) == pytest.approx(1e-3, rel=1e-3)


def test_the_spread_is_that_within_draws_of_the_data():
  within = np.array([-1.0, 1.0])[None, :, None] + np.array([0.0, 10.0, 50.0])[:, None, None]
  assert effects.spread(within, relative=False) == pytest.approx(np.sqrt(2))
  assert effects.spread(within, relative=True) == pytest.approx(np.sqrt(2) / 20)
  within[0, 0] = np.inf  # a network that diverged
  assert effects.spread(within, relative=False) == np.inf


def test_what_the_study_could_not_finish_with_is_refused():
  for words, changes in {
    'ensemble_widths should be among widths.hidden': {'ensemble_widths': (5,)},
    'lower_rate should be below learning_rate': {'valleys': {'lower_rate': 0.02}},
    'batch_sizes should hold 1 and mini_batch': {'valleys': {'batch_sizes': (2, 4)}},
    'escapes should be below': {'valleys': {'escapes': 1000.0}},
    'escape.num_seeds should be at most 10000': {'escape': {'num_seeds': 10_001}},
    'levels should start with 0': {'dose': {'levels': (1.0, 2.0, 4.0)}},
    'levels .* should have at least 3 items': {'dose': {'levels': (0.0, 2.0)}},
    'fork.early should be below fork.late': {'fork': {'early': 600}},
    'ensembles should be at least seeds.count, 20': {'ensembles': 19},
    'members should be a multiple of 2': {'members': 3},
    'widths.hidden .* should have at least 2 items': {'widths': {'hidden': (4,)}},
  }.items():
    with pytest.raises(gdlab.InputError, match=words):
      Settings.checked(given(changes).to_dict())


def test_no_random_stream_is_used_twice():
  for module in (defaults, minima_mnist):
    config = Settings.checked(module.get_config().to_dict())
    streams = range(1, 1 + len(config.escape.barriers) * len(config.escape.batch_sizes))
    sets = [config.again(number) for number in range(3)]
    escapes = [ids + config.streams * stream for own in sets for stream in streams
               for ids in [np.array(own.ids(config.escape.num_seeds))]]  # fmt: skip
    inits = [own.inits(seed) for own in sets for seed in own.ids(config.ensembles)]
    for used in (np.concatenate(escapes), np.concatenate(inits)):
      assert np.unique(used).size == used.size


def test_on_mnist_only_the_claims_on_networks_are_asked():
  config = Settings.checked(minima_mnist.get_config().to_dict())
  assert config.seeds.repeats == 0
  names = {cell.name.split('_')[0] for cell in minima._cells(config, 0)}
  assert names == {'dose', 'width'}
  asked = [name for name, when in minima._when.items() if when is None or when(config)]
  assert asked == ['N4', 'N5', 'N6', 'N6a', 'N6b', 'N7']


def test_a_small_run_of_the_whole_study(tmp_path):
  config, found, quiet = given(TINY), {}, lambda done, total: None
  for cell in minima.cells(config):
    measured = cell.measure(*(found[need] for need in cell.needs), progress=quiet)
    found[cell.name] = measured.assign_attrs(cell_wall_time_s=1.0)
  assert found['leave_good'].seed.values.tolist() == [7, 8, 9, 10]
  assert found['width_4-1'].seed.values.tolist() == [100_007 + place for place in range(3)]
  # The controls of the forks: full batch from beside the fork ends in the same valley, another initialisation not.
  for name in ('fork', 'fork-1'):
    ends = found[name].barrier.sel(fork='late')
    assert (ends.sel(arm='perturbed') < effects.MARGIN).all()
    assert (ends.sel(arm='other') > effects.MARGIN).all()
  minima.finish(config, found, tmp_path)
  for number, name in enumerate(('claims.json', 'claims-1.json')):
    graded = read_claims(tmp_path / name)
    assert [claim.id for claim in graded] == list(minima.claims)
    own = minima.seen(Settings.checked(config.to_dict()), number, found)
    slope = effects.barrier_slope(own, 'barrier', relative=False)
    assert graded[-4].parts[-1].effect == slope.estimate
  assert (tmp_path / 'report.html').read_text().count('<svg') == 7
