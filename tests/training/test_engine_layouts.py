"""The engine's promises about layouts: same bits under one plan, no exchange between lanes, one compilation."""

import re
import threading

import jax
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from tiny_runs import OPTIONS, assert_close, assert_same, problem, sgd

import gdlab
from gdlab import Plan
from gdlab.core.seeds import seed_ids
from gdlab.training.grid import check_grid
from gdlab.training.plan import check_plan
from gdlab.training.records import records_factory
from gdlab.training.setup import make_programs


def network():
  """A small perceptron on 40 points with 100 stable updates: matrix products, whose rounding depends on layouts."""
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(40, 6)).astype(np.float32)
  labels = (inputs.sum(axis=1) > 0).astype(np.int32)
  loss = optax.softmax_cross_entropy_with_integer_labels
  return gdlab.problems.from_linen(gdlab.problems.MLP((16,), 2), (inputs, labels), loss)


NETWORK = network()
LONG = {'num_steps': 100, 'eval_every': 50, 'record_every': 10, 'progress': False}


def momentum_sgd(learning_rate, momentum):
  return gdlab.algorithm(
    sampler=gdlab.sampling.reshuffle(16), optimizer=optax.sgd(learning_rate, momentum=momentum)
  )


def run_network(seeds, plan, rates=(0.05,)):
  grid = {'learning_rate': list(rates), 'momentum': [0.9]}
  return gdlab.sweep(NETWORK, momentum_sgd, grid, seeds=seeds, plan=plan, **LONG)


class BitsTest(parameterized.TestCase):
  @parameterized.parameters((1, 2), (2, 1), (4, 2))
  @pytest.mark.usefixtures('as_users_compile')
  def test_a_seed_is_the_same_bit_for_bit_whatever_runs_beside_it(self, num_devices, lanes_at_once):
    plan = Plan(lanes_at_once, num_devices, 50)
    alone = run_network([3], plan)
    # Other numbers of lanes, which fill neither the devices nor the blocks; another place; other neighbours.
    assert_same(run_network(11, plan._replace(lanes_per_block=3)).sel(seed=[3]), alone)
    beside = run_network([9, 3, 8], plan, rates=(0.5, 0.05))
    assert_same(beside.sel(learning_rate=[0.05], seed=[3]), alone)

  @parameterized.parameters(
    (Plan(2, 1),), (Plan(1, 2),), (Plan(3, 4),), (Plan(1, 1, 10),), (Plan(data_parallel=4),)
  )
  def test_plans_agree_to_rounding_after_100_stable_steps(self, plan):
    assert_close(run_network(5, plan), run_network(5, Plan(1, 1, 50)), rtol=1e-5)

  @parameterized.parameters((1, 4, None), (2, 2, 3), (1, 1, None))
  @pytest.mark.usefixtures('as_users_compile')
  def test_programs_of_their_own_give_the_same_bits(self, lanes_at_once, num_devices, lanes_per_block):
    plan = Plan(lanes_at_once, num_devices, 20, lanes_per_block, program_per_device=True)
    apart, rates = run_network(5, plan, rates=(0.05, 0.5)), (0.05, 0.5)
    self.assertEqual(apart.attrs['plan_program_per_device'], 1)
    assert_same(apart, run_network(5, plan._replace(program_per_device=False), rates=rates))

  def test_halving_moves_lanes_between_programs_of_their_own(self):
    nothing = optax.GradientTransformation(
      lambda params: np.zeros((0,)), lambda updates, state, params: (updates, state)
    )

    def make(learning_rate):  # with a part of the state that has no elements
      optimizer = optax.chain(nothing, optax.sgd(learning_rate, momentum=0.9))
      return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(16), optimizer=optimizer)

    def run(apart):
      plan = Plan(1, 4, 25, program_per_device=apart)
      grid, halving = {'learning_rate': [0.001, 0.01, 0.05, 0.1]}, gdlab.Halving((50,))
      return gdlab.sweep(NETWORK, make, grid, seeds=3, plan=plan, halving=halving, **LONG)

    compiling = []

    def listen(event, duration, fun_name=None, **_):
      if event.endswith('backend_compile_duration') and fun_name in ('jit(start)', 'jit(advance)'):
        compiling.append(threading.current_thread())

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
      halved = run(True)
    finally:
      jax.monitoring.unregister_event_duration_listener(listen)
    self.assertLen(compiling, 2 * 4)
    self.assertNotIn(threading.main_thread(), compiling)  # which would compile one after another
    assert_same(halved, run(False))
    self.assertTrue((halved.status == gdlab.STOPPED).any())

  def test_a_plan_that_was_found_is_written_down_and_gives_the_same_bits(self):
    found = run_network(5, None)
    plan = Plan(*(int(found.attrs[f'plan_{name}']) for name in Plan._fields))
    assert_same(run_network(5, plan), found)


def lowered_programs(plan, num_lanes=5):
  """What a sweep compiles."""
  points = check_grid({'learning_rate': [0.1], 'momentum': [0.9]}, None, momentum_sgd, None)
  records, ids = records_factory(4, (), 2), seed_ids(num_lanes)
  with jax.debug_key_reuse(False):
    [program] = make_programs(
      NETWORK, momentum_sgd, points, ids, 8, records, (), check_plan(plan), (0, 1), None, False
    )
    return list(program.lowered(program.records.chunks(8)[0][0]))


def compiled_updates(plan, num_lanes=5):
  """The compiled program that advances the lanes of a sweep."""
  return lowered_programs(plan, num_lanes)[-1].compile()


COLLECTIVES = (
  'all-reduce',
  'all-gather',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
  'collective-broadcast',
)


@pytest.mark.parametrize(
  ('plan', 'exchanges'), [(Plan(1, 4), False), (Plan(2, 4), False), (Plan(1, data_parallel=2), True)]
)
def test_lanes_exchange_nothing_and_a_shared_batch_does(plan, exchanges):
  text = compiled_updates(plan).as_text()
  assert any(f' {name}' in text for name in COLLECTIVES) == exchanges


@pytest.mark.parametrize('model', [gdlab.problems.MLP((64,), 2), gdlab.problems.CNN((4, 6), 2)])
def test_what_shares_a_batch_exchanges_sums_only(model):
  """In whatever layout of its own a model computes; more rows than a transposed copy has in a block."""
  images, labels = np.ones((512, 8, 8), np.float32), np.zeros(512, np.int32)
  loss = optax.softmax_cross_entropy_with_integer_labels
  shared, descent = gdlab.problems.from_linen(model, (images, labels), loss), sgd(0.1, 256)
  with (
    jax.debug_key_reuse(False),
    jax.set_mesh(jax.make_mesh((4,), ('data',), (jax.sharding.AxisType.Auto,))),
  ):
    state = descent.init(jax.random.key(0), shared)
    text = jax.jit(descent.step).lower(state, shared).compile().as_text()
  exchanged = set(re.findall(rf'= \(?f32\[.*? ({"|".join(COLLECTIVES)})\(', text))  # of indices, a few more
  assert exchanged == {'all-reduce'}


def test_the_carried_lanes_are_updated_in_place():
  memory = compiled_updates(Plan(1, 1), num_lanes=200).memory_analysis()
  weights = 6 * 16 + 16 + 16 * 2 + 2
  # All lanes' parameters and momenta come in and go out in the same buffers, and no copy of them is kept beside.
  assert memory.alias_size_in_bytes >= 200 * 2 * 4 * weights
  assert memory.temp_size_in_bytes < 100 * 2 * 4 * weights


def test_every_device_has_a_program_of_its_own():
  programs = lowered_programs(Plan(1, 2, program_per_device=True))
  devices = [jax.tree.leaves(program.compile().input_shardings)[0].device_set for program in programs]
  assert devices == [{device} for device in jax.local_devices()[:2] for _ in ('start', 'advance')]


@pytest.mark.parametrize(('plan', 'copies'), [(None, 1), (Plan(num_devices=2, program_per_device=True), 2)])
def test_a_sweep_of_1024_lanes_is_one_compilation(plan, copies):
  compiled, traced = [], []

  def listen(event, duration, fun_name=None, **_):
    if event.endswith('backend_compile_duration'):
      compiled.append(fun_name)

  def make(learning_rate, momentum):
    traced.append(isinstance(learning_rate, jax.core.Tracer))
    return gdlab.algorithm(
      sampler=gdlab.sampling.sequential(4), optimizer=optax.sgd(learning_rate, momentum=momentum)
    )

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    grid = {'learning_rate': [0.01 * 2**k for k in range(8)], 'momentum': [0.0, 0.5, 0.9, 0.95]}
    result = gdlab.sweep(
      problem(), make, grid, num_steps=3, seeds=32, eval_every=3, progress=False, plan=plan
    )
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert dict(result.sizes) == {'learning_rate': 8, 'momentum': 4, 'seed': 32, 'step': 2}
  assert compiled.count('jit(advance)') == compiled.count('jit(start)') == copies
  assert sum(traced) == 3  # once to see what a lane costs, and once in each of the two programs


class DataParallelTest(parameterized.TestCase):
  @pytest.mark.slow
  def test_lanes_follow_one_another_where_devices_share_batches(self):
    # Two of the four devices, for three lanes.
    split = run_network(3, Plan(1, None, 50, data_parallel=2))
    assert_close(split, run_network(3, Plan(1, 1, 50)), rtol=1e-5)

  @jax.enable_x64(True)
  def test_batch_normalisation_sees_the_whole_batch(self):
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(32, 4)), rng.integers(0, 2, 32).astype(np.int32))
    model = gdlab.problems.MLP((8,), 2, batch_norm=True)
    normed = gdlab.problems.from_linen(model, data, optax.softmax_cross_entropy_with_integer_labels)
    runs = [
      gdlab.run(normed, sgd(0.1, 16), num_steps=20, seeds=2, eval_every=10, plan=plan, progress=False)
      for plan in (Plan(1, 1), Plan(1, 4, data_parallel=4))
    ]
    assert_close(*runs, rtol=1e-12)  # float64 roundings of 20 updates, with room

  def test_lanes_of_a_tiny_problem_follow_one_another_too(self):
    tiny = gdlab.run(problem(), sgd(0.1, 4), seeds=8, plan=Plan(data_parallel=2), **OPTIONS)
    assert tiny.attrs['plan_lanes_at_once'] == 1

  def test_a_batch_that_does_not_divide_is_refused(self):
    with self.assertRaisesRegex(
      gdlab.InputError,
      r'^batch sizes must be multiples of the 4 devices that share a batch, got 6 '
      r'\(reshuffle\(B, drop_remainder=True\) leaves out the smaller last batch of an epoch\)$',
    ):
      gdlab.run(problem(), sgd(0.1, 6), seeds=1, plan=Plan(1, 4, data_parallel=4), **OPTIONS)

  def test_a_plain_loop_under_a_mesh_is_shared_too(self):
    mesh = jax.make_mesh((4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    descent = momentum_sgd(0.05, 0.9)

    def losses():
      with jax.debug_key_reuse(False):
        state = descent.init(jax.random.key(1), NETWORK)
        step = jax.jit(descent.step)
        for _ in range(5):
          state, info = step(state, NETWORK)
      return info, step.lower(state, NETWORK).compile().as_text()

    alone, text = losses()
    with jax.set_mesh(mesh):
      shared, shared_text = losses()
    np.testing.assert_allclose(shared.loss, alone.loss, rtol=1e-5)
    assert 'all-reduce' in shared_text
    assert 'all-reduce' not in text
