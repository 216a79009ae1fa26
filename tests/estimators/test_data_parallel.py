"""data_parallel on four devices against the joint batch on one."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from estimator_cases import Float64, Truth, batch_of, close, stepper
from jax.sharding import AxisType, PartitionSpec

from gdlab.core.errors import InputError
from gdlab.core.types import Batch, Problem
from gdlab.estimators import (
  batch_mean,
  data_parallel,
  microbatched,
  per_example,
  per_example_clipped,
  sam,
  storm,
  svrg,
)

DEVICES, SIZE = 4, 30
# Two slots for each device; in all a weighted mean over eight, with one slot of padding.
INDICES = np.array([4, 0, 0, 5, 1, 2, 3, 5], np.int32)
WEIGHTS = np.array([0.1, 0.15, 0.05, 0.2, 0.25, 0.0, 0.125, 0.125])
JOINT = Batch(INDICES, WEIGHTS)
# The weights on each device are those of a mean over its own slots, here times the number of devices.
PARTS = Batch(INDICES, WEIGHTS * DEVICES)


def on_devices(estimator, problem, model_state=(), check_vma=False):
  """A compiled `(state, params, batch) -> (gradient, state, info)` on all devices, the batch split over them."""
  mesh = jax.make_mesh((DEVICES,), ('data',), axis_types=(AxisType.Auto,))
  whole, parts = PartitionSpec(), PartitionSpec('data')

  def estimate(state, params, batch, problem, key):
    gradient, state, info = estimator.estimate(state, problem, params, model_state, batch, key)
    joint = (info.loss, info.model_state, info.gradient_evaluations)
    return gradient, state, joint, info.losses

  sharded = jax.shard_map(
    estimate,
    mesh=mesh,
    in_specs=(whole, whole, parts, whole, whole),
    out_specs=(whole, whole, whole, parts),
    check_vma=check_vma,
  )
  run = jax.jit(sharded)
  return lambda state, params, batch: run(
    state, jnp.asarray(params), jax.tree.map(jnp.asarray, batch), problem, jax.random.key(0)
  )


class JointBatchTest(Float64):
  @parameterized.named_parameters(
    ('batch_mean', batch_mean, False),
    ('batch_mean_checked', batch_mean, True),
    ('per_example', per_example, False),
    ('per_example_checked', per_example, True),
    ('clipped', lambda: per_example_clipped(1.0), False),
    ('microbatched', lambda: microbatched(1), False),
    ('svrg', lambda: svrg(2, block_size=4), False),
    ('storm', lambda: storm(0.3), False),
    ('storm_checked', lambda: storm(0.3), True),
    ('svrg_checked', lambda: svrg(2, block_size=4), True),
    ('microbatched_checked', lambda: microbatched(1), True),
    ('clipped_checked', lambda: per_example_clipped(1.0), True),
  )
  def test_equals_one_device(self, make, check_vma):
    truth = Truth()
    problem = truth.problem()
    several = data_parallel('data', make())
    together, alone = on_devices(several, problem, (), check_vma), stepper(make(), problem)
    states = [estimator.init(problem, jnp.asarray(truth.start)) for estimator in (several, make())]
    w = truth.start
    for _ in range(3):
      found = together(states[0], w, PARTS)
      expected = alone(states[1], w, JOINT)
      states = [found[1], expected[1]]
      close(found[0], expected[0], SIZE)
      close(found[2][0], expected[2].loss, SIZE)
      close(found[3], expected[2].losses, SIZE)
      w = w - 0.05 * np.asarray(expected[0])

  def test_counts_are_added_up(self):
    truth = Truth()
    problem = truth.problem()
    for make, expected in ((batch_mean, 7), (lambda: sam(0.1), 14), (lambda: svrg(5), 14 + DEVICES * 6)):
      estimator = data_parallel('data', make())
      state = estimator.init(problem, jnp.asarray(truth.start))
      self.assertEqual(on_devices(estimator, problem)(state, truth.start, PARTS)[2][2], expected)

  @parameterized.parameters(False, True)
  def test_sam_has_a_perturbation_on_every_device(self, check_vma):
    truth = Truth()
    problem, estimator = truth.problem(), data_parallel('data', sam(0.3))
    state = estimator.init(problem, jnp.asarray(truth.start))
    found = on_devices(estimator, problem, (), check_vma)(state, truth.start, PARTS)[0]
    alone = stepper(sam(0.3), problem)
    slices = [batch_of(PARTS.indices[i : i + 2], PARTS.weights[i : i + 2]) for i in range(0, 8, 2)]
    expected = [np.asarray(alone(sam(0.3).init(problem, None), truth.start, piece)[0]) for piece in slices]
    close(found, np.mean(expected, axis=0), SIZE)

  def test_under_a_mapped_axis_of_vmap(self):
    truth = Truth()
    problem, estimator = truth.problem(), data_parallel('data')
    pieces = jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(DEVICES, 2), PARTS)
    estimate = lambda batch: estimator.estimate(
      estimator.init(problem, None), problem, jnp.asarray(truth.start), (), batch, jax.random.key(0)
    )
    gradients, _, info = jax.jit(jax.vmap(estimate, axis_name='data'))(pieces)
    close(gradients, np.broadcast_to(truth.batch(truth.start, INDICES, WEIGHTS), (DEVICES, 3)), SIZE)
    np.testing.assert_array_equal(info.gradient_evaluations, [7] * DEVICES)


class StateAndKeyTest(Float64):
  @parameterized.parameters(False, True)
  def test_model_state_is_agreed_on(self, check_vma):
    truth = Truth()

    def loss(w, model_state, examples, mask, key):
      seen = jnp.sum(examples[0][:, 0] * mask) / jnp.sum(mask)
      new = {'mean': 0.9 * model_state['mean'] + 0.1 * seen, 'calls': model_state['calls'] + 1}
      return (examples[0] @ w - examples[1]) ** 2 / 2, new

    problem = Problem(None, loss, None, 'with state', (jnp.asarray(truth.inputs), jnp.asarray(truth.targets)))
    estimator = data_parallel('data')
    before = {'mean': jnp.asarray(2.0), 'calls': jnp.int32(3)}
    run = on_devices(estimator, problem, before, check_vma)
    after = run(estimator.init(problem, None), truth.start, PARTS)[2][1]
    inputs = truth.inputs[INDICES, 0] * (WEIGHTS != 0)
    seen = inputs.reshape(DEVICES, 2).sum(axis=1) / (WEIGHTS != 0).reshape(DEVICES, 2).sum(axis=1)
    close(after['mean'], 0.9 * 2 + 0.1 * seen.mean(), 10)
    self.assertEqual(after['calls'], 4)

  def test_devices_have_keys_of_their_own(self):
    truth = Truth()

    def loss(w, model_state, examples, mask, key):
      return jnp.broadcast_to(jax.random.normal(key) * w[0], mask.shape), model_state

    problem = Problem(None, loss, None, 'noise', (jnp.asarray(truth.inputs), jnp.asarray(truth.targets)))
    estimator = data_parallel('data')
    losses = np.asarray(on_devices(estimator, problem)(estimator.init(problem, None), [1.0], PARTS)[3])
    self.assertLen(set(losses[WEIGHTS != 0]), DEVICES)


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(0, None, ((),), (('data', 1),), (['data'],))
  def test_no_name(self, axis):
    with self.assertRaisesRegex(InputError, '^axis must be the name of a mapped axis .*, got '):
      data_parallel(axis)
