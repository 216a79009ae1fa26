"""Updates that the host makes one by one: the same runs as those of compiled loops, lane by lane the same bits."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from tiny_runs import assert_close, assert_same, problem, sgd

import gdlab
from gdlab.schedules import reduce_on_plateau

OPTIONS = {'num_steps': 25, 'eval_every': 10, 'record_every': 3, 'progress': False}


def run(algorithm, seeds, plan, **options):
  return gdlab.run(problem(), algorithm, seeds=seeds, plan=plan, **OPTIONS | options)


@pytest.mark.parametrize('lanes_at_once', [1, 2])
@pytest.mark.parametrize('num_devices', [1, 2])
def test_runs_are_those_of_the_compiled_loop(lanes_at_once, num_devices):
  listening = optax.chain(optax.sgd(0.1, momentum=0.5), reduce_on_plateau(factor=0.5, patience=1))
  for algorithm in (sgd(0.1), gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=listening)):
    stepped = run(algorithm, 5, gdlab.Plan(lanes_at_once, num_devices, host_steps=True))
    assert_close(stepped, run(algorithm, 5, gdlab.Plan(lanes_at_once, num_devices)), rtol=1e-5)
    assert stepped.attrs['plan_host_steps'] == 1


@pytest.mark.usefixtures('as_users_compile')
@pytest.mark.parametrize('lanes_at_once', [1, 2])
def test_bits_do_not_depend_on_what_runs_beside(lanes_at_once):
  plan = gdlab.Plan(lanes_at_once, host_steps=True)
  whole = run(sgd(0.1), 7, plan)
  for seeds in ([3], [6, 0], range(4)):
    assert_same(run(sgd(0.1), seeds, plan), whole.sel(seed=[*seeds]))
  assert_same(run(sgd(0.1), 7, plan._replace(lanes_per_block=2)), whole)


def test_a_lane_that_diverges_is_put_back_and_its_neighbours_never_notice():
  def make(learning_rate):
    return sgd(learning_rate)

  def sweep(rates, host_steps):
    grid, plan = {'learning_rate': rates}, gdlab.Plan(2, 1, host_steps=host_steps)
    return gdlab.sweep(problem(), make, grid, seeds=2, plan=plan, **OPTIONS)

  stepped = sweep([0.1, 1e30], True)
  assert_close(stepped, sweep([0.1, 1e30], False), rtol=1e-5)
  assert (stepped.status.sel(learning_rate=1e30).isel(step=-1) == gdlab.DIVERGED).all()
  assert_same(stepped.sel(learning_rate=[0.1]), sweep([0.1], True))


def test_halving_of_stepped_lanes():
  def make(learning_rate):
    return sgd(learning_rate)

  def sweep(host_steps):
    grid, plan = {'learning_rate': [0.001, 0.01, 0.05, 0.1]}, gdlab.Plan(1, 2, host_steps=host_steps)
    return gdlab.sweep(problem(), make, grid, seeds=3, plan=plan, halving=gdlab.Halving((10,)), **OPTIONS)

  stepped = sweep(True)
  assert_close(stepped, sweep(False), rtol=1e-5)
  assert (stepped.status.isel(step=-1) == gdlab.STOPPED).sum() == 6


class Strided(nn.Module):
  """A network whose convolution in groups is left to XLA."""

  groups: int

  @nn.compact
  def __call__(self, images):
    images = nn.relu(nn.Conv(4, (3, 3), strides=2, feature_group_count=self.groups)(images))
    return nn.Dense(2)(images.reshape(images.shape[0], -1))


def strided(groups):
  generator = np.random.default_rng(0)
  data = generator.normal(size=(12, 6, 6, 2)).astype(np.float32), generator.integers(0, 2, 12)
  loss = optax.softmax_cross_entropy_with_integer_labels
  return gdlab.problems.from_linen(Strided(groups), data, loss)


@pytest.mark.parametrize(('groups', 'expected'), [(1, 0), (2, 1)])
def test_the_host_steps_where_an_update_has_a_convolution(groups, expected):
  found = gdlab.run(strided(groups), sgd(0.1), seeds=2, **OPTIONS)
  assert found.attrs['plan_host_steps'] == expected
  for asked in (False, True):
    other = gdlab.run(strided(groups), sgd(0.1), seeds=2, plan=gdlab.Plan(1, host_steps=asked), **OPTIONS)
    assert other.attrs['plan_host_steps'] == asked
    assert_close(found, other, rtol=1e-4)


def test_a_convolution_in_the_metrics_alone_is_no_reason():
  plain = problem()

  def metrics(params, model_state, examples):
    kernel, images = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 2, 2, 1), np.float32)
    extra = jax.lax.conv_general_dilated(
      images, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    found = plain.metrics(params, model_state, examples)
    return found | {'more': found['loss'] + extra.sum()}

  convolving = dataclasses.replace(plain, metrics=metrics)
  result = gdlab.run(convolving, sgd(0.1), seeds=1, **OPTIONS)
  assert result.attrs['plan_host_steps'] == 0


@pytest.mark.parametrize(
  ('plan', 'message'),
  [
    (
      gdlab.Plan(data_parallel=2, host_steps=True),
      'plan.host_steps must be False or None where devices share a batch',
    ),
    (
      gdlab.Plan(host_steps=True, steps_per_call=5),
      'plan.steps_per_call must be 1 or None where the host makes',
    ),
    (gdlab.Plan(host_steps=3), 'plan.host_steps must be True, False or None, got 3'),
  ],
)
def test_plans_that_contradict_themselves_are_refused(plan, message):
  with pytest.raises(gdlab.InputError, match=message):
    run(sgd(0.1), 1, plan)
