"""Points that are no grid, steps that differ by program, and probes of trees."""

import jax
import numpy as np
import optax
import pytest

import gdlab
from gdlab import InputError

PROBLEM = gdlab.problems.quadratic([1.0, 0.25], noise=0.1, num_examples=16)
TRIALS = {'learning_rate': [0.1, 0.2, 0.1, 0.4], 'momentum': [0.9, 0.5, 0.9, 0.0], 'batch_size': [4, 2, 8, 4]}


def descent(learning_rate, momentum=0.5, batch_size=4):
  optimizer = optax.sgd(learning_rate, momentum=momentum)
  return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(batch_size), optimizer=optimizer)


def sweep(grid=None, *, num_steps=12, **options):
  return gdlab.sweep(PROBLEM, descent, grid, num_steps=num_steps, seeds=3, progress=False, **options)


def same(one, other):
  for name in one.data_vars:
    np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))


def test_a_trial_is_the_run_of_a_grid_with_that_point_alone():
  plan = gdlab.Plan(1, 1)
  result = sweep(points=TRIALS, plan=plan)
  assert dict(result.train_loss.sizes) == {'trial': 4, 'seed': 3, 'step': 13}
  for name, values in TRIALS.items():
    np.testing.assert_array_equal(result[name], values)
  for trial in range(4):
    grid = {name: [values[trial]] for name, values in TRIALS.items()}
    same(result.isel(trial=trial), sweep(grid, plan=plan).squeeze([*grid]))


def test_trials_at_every_point_of_a_grid():
  plan = gdlab.Plan(1, 1)
  result = sweep(
    {'batch_size': [2, 4]}, points={'learning_rate': [0.1, 0.3], 'momentum': [0.0, 0.9]}, plan=plan
  )
  assert result.train_loss.dims == ('trial', 'batch_size', 'seed', 'step')
  one = sweep({'batch_size': [4], 'learning_rate': [0.3], 'momentum': [0.9]}, plan=plan)
  same(result.sel(trial=1, batch_size=4), one.squeeze(['batch_size', 'learning_rate', 'momentum']))


def test_parts_of_trials_make_up_the_whole():
  plan = gdlab.Plan(1, 1)
  parts = [sweep(points=TRIALS, plan=plan, part=(number, 5)) for number in range(5)]
  merged = gdlab.merge(parts)
  same(sweep(points=TRIALS, plan=plan), merged)
  np.testing.assert_array_equal(merged.learning_rate, TRIALS['learning_rate'])


def test_the_best_trial_is_found_and_selects_its_runs():
  result = sweep(points=TRIALS)
  best = gdlab.best(result, 'train_loss')
  means = result.train_loss.isel(step=-1).mean('seed').values
  assert best.point == {'trial': int(np.argmin(means))}
  assert result.sel(best.point).train_loss.dims == ('seed', 'step')


@pytest.mark.parametrize(
  ('points', 'message'),
  [
    (
      {'learning_rate': [0.1], 'momentum': [0.1, 0.2]},
      'points must hold one value of every hyperparameter for each',
    ),
    ({'learning_rat': [0.1]}, "unknown hyperparameter 'learning_rat'; did you mean 'learning_rate'"),
    ({'learning_rate': [], 'momentum': []}, r"points\['learning_rate'\] must hold at least one value"),
    ({'learning_rate': [0.1, 'low']}, r"points\['learning_rate'\] must hold values of one kind"),
    ({'momentum': [0.1]}, "grid must hold 'learning_rate', which descent needs"),
    ({'learning_rate': [0.1, float('nan')]}, r"points\['learning_rate'\] must hold finite numbers"),
    ([0.1], 'points must be a mapping'),
    ({'trial': [1]}, 'hyperparameter must have a name that results do not use themselves'),
  ],
)
def test_points_that_are_none_are_refused(points, message):
  with pytest.raises(InputError, match=message):
    sweep(points=points)


def test_a_hyperparameter_in_both_is_refused():
  message = "points and grid must have different hyperparameters, got 'learning_rate' in both"
  with pytest.raises(InputError, match=message):
    sweep({'learning_rate': [0.1]}, points={'learning_rate': [0.1]})


def test_equal_epochs_over_batch_sizes():
  plan = gdlab.Plan(1, 1)
  epochs = lambda batch_size: 4 * 16 // batch_size
  grid = {'batch_size': [2, 16], 'learning_rate': [0.1]}
  result = sweep(grid, num_steps=epochs, eval_every=4, plan=plan)
  assert result.attrs['num_steps'] == [32, 4]
  last = result.isel(step=-1, learning_rate=0)
  np.testing.assert_array_equal(last.updates.transpose('batch_size', 'seed'), [[32] * 3, [4] * 3])
  np.testing.assert_array_equal(last.epoch, 4.0)
  for size in (2, 16):
    alone = sweep(
      {'batch_size': [size], 'learning_rate': [0.1]}, num_steps=epochs(size), eval_every=4, plan=plan
    )
    same(result.sel(batch_size=[size], step=alone.step), alone)
    # A run that is over stays as it ended.
    np.testing.assert_array_equal(
      result.train_loss.sel(batch_size=size).isel(step=-1), alone.train_loss.isel(step=-1, batch_size=0)
    )


def test_between_the_records_of_a_run_counts_go_on_and_measurements_are_missing():
  result = sweep(
    {'batch_size': [4, 8], 'learning_rate': [0.1]}, num_steps=lambda batch_size: 24 // batch_size * 2
  )
  slow = result.sel(batch_size=8, learning_rate=0.1)  # 6 updates, a record of each
  fast = result.sel(batch_size=4, learning_rate=0.1)
  np.testing.assert_array_equal(slow.updates.isel(seed=0), [*range(7), *[6] * 6])
  assert np.isfinite(fast.train_loss).all()
  uneven = sweep(
    {'batch_size': [4, 8], 'learning_rate': [0.1]}, num_steps=lambda batch_size: batch_size, eval_every=3
  )
  np.testing.assert_array_equal(uneven.step, [0, 3, 4, 6, 8])
  eight = uneven.sel(batch_size=8, learning_rate=0.1).isel(seed=0)
  np.testing.assert_array_equal(eight.updates, [0, 3, 3, 6, 8])
  np.testing.assert_array_equal(np.isnan(eight.train_loss), [False, False, True, False, False])


def test_runs_that_end_early_are_censored_at_their_own_end():
  result = sweep(
    {'batch_size': [4, 8], 'learning_rate': [0.1]}, num_steps=lambda batch_size: 24 // batch_size
  )
  losses = result.train_loss.sel(learning_rate=0.1)
  first_crossing, clocks = gdlab.statistics.first_crossing, result.updates.sel(learning_rate=0.1)
  found = first_crossing(clocks, losses, 0.0)
  assert found.censored.all()
  np.testing.assert_array_equal(found.time, [[6] * 3, [3] * 3])
  for times in (result.step, result.step.values):
    with pytest.raises(InputError, match='times must be the clocks of the runs'):
      first_crossing(times, losses.sel(batch_size=8), 0.0)
  with pytest.raises(InputError, match='times must be the clocks of the runs'):
    first_crossing(result.step, losses.sel(batch_size=8).values, 0.0)
  alike = sweep({'batch_size': [4, 8], 'learning_rate': [0.1]}, num_steps=lambda batch_size: 6)
  np.testing.assert_array_equal(first_crossing(alike.step, alike.train_loss, 0.0).time.ravel(), [6] * 6)


@pytest.mark.parametrize(
  ('num_steps', 'message'),
  [
    (
      lambda learning_rate: 3,
      'num_steps must be a function of hyperparameters that are not floats, and learning_rate',
    ),
    (lambda width: 3, "grid must hold 'width', which <lambda> needs"),
    (lambda: 0, 'num_steps must be a whole number >= 1, got 0'),
    (lambda: 1.5, 'num_steps must be a whole number >= 1, got 1.5'),
  ],
)
def test_steps_of_no_use_are_refused(num_steps, message):
  with pytest.raises(InputError, match=message):
    sweep({'learning_rate': [0.1]}, num_steps=num_steps)


def test_halving_needs_equal_steps():
  with pytest.raises(InputError, match='num_steps must be a number with halving'):
    sweep({'learning_rate': [0.1, 0.2]}, num_steps=lambda: 8, halving=gdlab.Halving((4,)))


def test_a_probe_may_return_a_tree():
  probes = {'all': lambda problem, state: {'w': state.params, 'steps': [state.step, 2.0]}}
  result = sweep({'learning_rate': [0.1]}, probes=probes)
  step = jax.jit(descent(0.1).step)
  ids = gdlab.core.seeds.stream_keys(np.full(3, 1, np.int32))
  state = descent(0.1).init(ids, PROBLEM)
  for number in range(13):
    found = result.isel(learning_rate=0).sel(seed=1, step=number)
    np.testing.assert_allclose(found['all.w'], state.params, rtol=1e-6)
    assert int(found['all.steps.0']) == number
    assert float(found['all.steps.1']) == 2.0
    state, _ = step(state, PROBLEM)


def test_parts_of_unequal_steps_survive_the_disk(tmp_path):
  plan, epochs = gdlab.Plan(1, 1), lambda batch_size: 8 // batch_size
  options = {'num_steps': epochs, 'plan': plan}
  grid = {'batch_size': [2, 8], 'learning_rate': [0.1]}
  for number in range(2):
    gdlab.save(sweep(grid, part=(number, 2), **options), tmp_path / f'{number}.nc')
  merged = gdlab.merge([gdlab.load(tmp_path / f'{number}.nc') for number in range(2)])
  same(sweep(grid, **options), merged)


def test_a_probe_of_whole_numbers_here_and_floats_there_is_of_floats():
  def numbers(problem, state):
    return state.step + (1 if problem.num_examples == 16 else 0.25)

  result = gdlab.sweep(
    lambda size: gdlab.problems.quadratic([1.0, 0.25], noise=0.1, num_examples=size),
    lambda size: descent(0.1),
    {'size': [16, 8]},
    num_steps=2,
    seeds=1,
    probes={'numbers': numbers},
    progress=False,
  )
  np.testing.assert_array_equal(result.numbers.isel(seed=0), [[1, 2, 3], [0.25, 1.25, 2.25]])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'keep': 'params', 'probes': {'params': lambda problem, state: state.params}},
      'probe must have another name with',
    ),
    (
      {'probes': {'learning_rate': lambda problem, state: 1.0}},
      'probe must have a name that no hyperparameter has',
    ),
    ({'params': np.array([1e300, 2.0])}, 'params must be finite, got 1e[+]300'),
    ({'keep': 'all'}, "keep must be None or 'params'"),
    ({'plan': gdlab.Plan(host_steps=np.array([1, 2]))}, 'plan.host_steps must be True, False or None'),
  ],
)
def test_what_would_not_come_out_right_is_refused(options, message):
  with pytest.raises(InputError, match=message):
    sweep({'learning_rate': [0.1]}, **options)


def test_what_is_kept_has_one_shape():
  with pytest.raises(InputError, match='keep must be None where parameters differ in shape'):
    gdlab.sweep(
      lambda size: gdlab.problems.quadratic([1.0] * size),
      lambda size: descent(0.1, batch_size=1),
      {'size': [2, 3]},
      num_steps=2,
      seeds=1,
      keep='params',
      progress=False,
    )
