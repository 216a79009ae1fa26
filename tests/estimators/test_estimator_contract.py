"""What every estimator promises: protocol, dtypes, one trace, lanes, NaN, padding, and honest counts."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from estimator_cases import Truth, batch_of
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gdlab
from gdlab import estimators
from gdlab.core.errors import InputError
from gdlab.core.types import EstimateInfo, Estimator, Problem
from gdlab.estimators import (
  batch_mean,
  data_parallel,
  microbatched,
  per_example,
  per_example_clipped,
  saga,
  sam,
  storm,
  svrg,
)

N, B, STEPS = 6, 3, 7


def on_one_device(estimator):
  """For `data_parallel`, which needs an axis of devices around it."""
  mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
  everywhere = PartitionSpec()
  estimate = jax.shard_map(
    estimator.estimate, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
  )
  return Estimator(estimator.init, estimate)


# Evaluations of update t of a batch of b examples, beside each.
ESTIMATORS = {
  'batch_mean': (batch_mean, lambda t, b: b),
  'microbatched': (lambda: microbatched(2), lambda t, b: b),
  'per_example': (per_example, lambda t, b: b),
  'per_example_clipped': (lambda: per_example_clipped(0.5), lambda t, b: b),
  'svrg': (lambda: svrg(3, block_size=4), lambda t, b: 2 * b + N * (t % 3 == 0)),
  'saga': (saga, lambda t, b: b),
  'storm': (lambda: storm(0.3), lambda t, b: b * (1 if t == 0 else 2)),
  'sam': (lambda: sam(0.1), lambda t, b: 2 * b),
  'data_parallel': (lambda: on_one_device(data_parallel('data')), lambda t, b: b),
  'microbatched_sam': (lambda: microbatched(2, sam(0.1, adaptive=True)), lambda t, b: 2 * b),
}
# By the hyperparameter that may be traced, and two values of it.
TRACED = {
  'per_example_clipped': (per_example_clipped, 0.1, 2.0),
  'storm': (storm, 0.3, 1.0),
  'sam': (sam, 0.0, 0.4),
}


def test_every_estimator_is_listed_and_documented():
  public = {name for name in estimators.__all__ if not isinstance(getattr(estimators, name), type)}
  assert public == set(ESTIMATORS) - {'microbatched_sam'}
  assert {name for name in public if f'| `{name}(' not in estimators.__doc__} == set()


@functools.cache
def problem_of(called=None):
  """Least squares with noise from the key; params with a scalar, an empty leaf and nesting; floats as state."""
  truth = Truth(count=N)

  def loss(params, model_state, examples, mask, key):
    inputs, targets = examples
    if called is not None:
      # Of the examples too, so that a vmap over examples calls it for each of them.
      jax.debug.callback(called, jnp.sum(mask & jnp.isfinite(targets)))
    noise = 0.1 * jax.random.uniform(key, targets.shape, targets.dtype)
    outputs = inputs @ params['inner'][0] + (1 + noise) * params['bias'] + jnp.sum(params['inner'][1])
    seen = jnp.sum(jnp.where(mask, targets, 0)) / jnp.maximum(1, jnp.sum(mask))
    return (outputs - targets) ** 2 / 2, {'mean': 0.9 * model_state['mean'] + 0.1 * seen.astype(float)}

  def init(key):
    weights = jax.random.normal(key, (3,))
    return {'inner': (weights, jnp.zeros((0,))), 'bias': jnp.float32(0.5)}, {'mean': jnp.zeros(())}

  with jax.ensure_compile_time_eval():  # arrays, also where the first to ask is being traced
    train = (jnp.asarray(truth.inputs, jnp.float32), jnp.asarray(truth.targets, jnp.float32))
  return Problem(init, loss, lambda p, s, e: {'loss': e[1]}, 'nested', train)


def algorithm(estimator):
  return gdlab.algorithm(sampler=gdlab.sampling.sequential(B), optimizer=optax.sgd(0.05), estimator=estimator)


def descend(estimator, key, num_steps=STEPS):
  """The final state and the Info of every update."""
  composed, problem = algorithm(estimator), problem_of()
  step = lambda state, _: composed.step(state, problem)
  return jax.lax.scan(step, composed.init(key, problem), None, num_steps)


def keys(count):
  return jax.random.split(jax.random.key(5), count)


@functools.cache
def together(name):
  """Three seeds side by side."""
  return jax.jit(jax.vmap(lambda key: descend(ESTIMATORS[name][0](), key)))(keys(3))


def closest(found, expected, roundings=200):
  """Equal to within so many roundings of numbers of order 10, in float32."""
  atol = roundings * 10 * np.finfo(np.float32).eps
  chex.assert_trees_all_close(found, expected, rtol=0, atol=atol)


class ContractTest(parameterized.TestCase):
  @parameterized.product(name=tuple(ESTIMATORS), dtype=(jnp.float32, jnp.bfloat16), x64=(False, True))
  def test_kinds_shapes_and_dtypes(self, name, dtype, x64):
    with jax.enable_x64(x64):
      problem, estimator = problem_of(), ESTIMATORS[name][0]()
      self.assertIsInstance(estimator, Estimator)
      params, model_state = jax.eval_shape(problem.init, jax.random.key(0))
      params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, dtype), params)
      model_state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model_state)
      state = estimator.init(problem, params)
      arguments = (state, problem, params, model_state, batch_of([1, 1, 4]), jax.random.key(0))
      gradient, after, info = jax.eval_shape(estimator.estimate, *arguments)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradient, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    self.assertIsInstance(info, EstimateInfo)
    self.assertEqual((info.loss.shape, info.losses.shape), ((), (B,)))
    self.assertEqual((info.gradient_evaluations.shape, info.gradient_evaluations.dtype), ((), jnp.int32))
    self.assertEqual(info.model_state['mean'].dtype, model_state['mean'].dtype)
    if info.gradients is not None:
      expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((B, *leaf.shape), leaf.dtype), params)
      chex.assert_trees_all_equal_shapes_and_dtypes(info.gradients, expected)

  @parameterized.parameters(*ESTIMATORS)
  def test_a_plain_loop_and_what_the_loss_was_asked_for(self, name):
    # Rows that the loss function saw unmasked while it ran, noted outside of the compiled program.
    rows = []
    problem, composed = problem_of(lambda count: rows.append(int(count))), algorithm(ESTIMATORS[name][0]())
    chex.clear_trace_counter()
    # Donated: no array is in the state twice.
    step = jax.jit(chex.assert_max_traces(composed.step, n=1), donate_argnums=0)
    state = composed.init(keys(3)[0], problem)
    if name == 'data_parallel':  # or the second step's state would lie otherwise than the first one's
      mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
      state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    with jax.debug_key_reuse(True):
      for t in range(STEPS):
        rows.clear()
        state, info = jax.block_until_ready(step(state, problem))
        jax.effects_barrier()
        self.assertEqual(sum(rows), info.gradient_evaluations, f'update {t}')
        self.assertEqual(info.gradient_evaluations, ESTIMATORS[name][1](t, B))
    # The same as the first of three lanes.
    final, infos = together(name)
    closest(state.params, jax.tree.map(lambda leaf: leaf[0], final.params))
    closest(info.loss, infos.loss[0, -1])

  def test_what_an_optimizer_evaluates_by_itself_is_told_by_its_state_and_not_counted(self):
    rows = []
    problem, steps = problem_of(lambda count: rows.append(int(count))), 3
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(15))
    composed = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=search)
    step, state = jax.jit(composed.step), composed.init(jax.random.key(0), problem)
    for _ in range(steps):
      rows.clear()
      with jax.debug_key_reuse(False):  # a search asks for one loss again and again, noise and all
        state, info = jax.block_until_ready(step(state, problem))
      jax.effects_barrier()
      searched = int(optax.tree.get(state.optimizer, 'info').num_linesearch_steps)
      self.assertEqual(info.gradient_evaluations, N)
      self.assertGreater(searched, 0)
      self.assertEqual(sum(rows), N * (1 + searched))

  @parameterized.parameters(*ESTIMATORS)
  def test_seeds_side_by_side_are_counted_and_differ(self, name):
    final, infos = together(name)
    expected = [ESTIMATORS[name][1](t, B) for t in range(STEPS)]
    np.testing.assert_array_equal(infos.gradient_evaluations, [expected] * 3)
    self.assertLen(set(np.asarray(final.params['bias']).tolist()), 3)

  @parameterized.parameters('svrg', 'storm')
  def test_lanes_out_of_step_do_not_disturb_one_another(self, name):
    problem, composed = problem_of(), algorithm(ESTIMATORS[name][0]())
    step, pair = jax.jit(composed.step), jax.jit(jax.vmap(composed.step, in_axes=(0, None)))
    first, second = (composed.init(jax.random.key(seed), problem) for seed in (1, 2))
    second, _ = step(second, problem)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    for _ in range(4):
      both, infos = pair(both, problem)
      first, one = step(first, problem)
      second, other = step(second, problem)
      np.testing.assert_array_equal(
        infos.gradient_evaluations, [one.gradient_evaluations, other.gradient_evaluations]
      )
    for lane, alone in enumerate((first, second)):
      closest(jax.tree.map(lambda leaf, lane=lane: leaf[lane], both.params), alone.params)

  @parameterized.parameters(*TRACED)
  def test_hyperparameters_side_by_side_in_one_trace(self, name):
    make, *values = TRACED[name]
    traces = []

    def final(value):
      traces.append(None)
      return descend(make(value), jax.random.key(2))[0].params

    both, alone = jax.jit(jax.vmap(final))(jnp.array(values)), jax.jit(final)
    self.assertLen(traces, 1)
    for lane, value in enumerate(values):
      closest(jax.tree.map(lambda leaf, lane=lane: leaf[lane], both), alone(value))
    self.assertGreater(abs(both['bias'][0] - both['bias'][1]), 1e-4)


@functools.cache
def compiled(name):
  estimator = ESTIMATORS[name][0]()
  return estimator, jax.jit(estimator.estimate)


def estimates(name, problem, batches):
  """Gradient and info on one batch after another, at one point."""
  estimator, run = compiled(name)
  params, model_state = problem.init(jax.random.key(0))
  state, found = estimator.init(problem, params), []
  for t, batch in enumerate(batches):
    gradient, state, info = run(state, problem, params, model_state, batch, jax.random.key(t))
    found.append((gradient, info))
  return found


class PaddingAndNanTest(parameterized.TestCase):
  @parameterized.parameters(*ESTIMATORS)
  def test_padding_adds_exactly_nothing(self, name):
    problem = problem_of()
    poisoned = dataclasses.replace(
      problem, train=(problem.train[0].at[5].set(jnp.nan), problem.train[1].at[4].set(jnp.inf))
    )
    # A full gradient has to see all examples.
    poisoned = problem if name == 'svrg' else poisoned
    weights = [0.0, 0.6, 0.4, 0.0]
    padded = [batch_of([5, 1, 2, 4], weights), batch_of([4, 2, 2, 5], weights)]
    harmless = [batch_of([0, 1, 2, 3], weights), batch_of([3, 2, 2, 0], weights)]
    found, expected = estimates(name, poisoned, padded), estimates(name, problem, harmless)
    chex.assert_trees_all_equal(found, expected)  # bit for bit
    self.assertTrue(np.isfinite(found[1][0]['bias']))
    np.testing.assert_array_equal(np.asarray(found[1][1].losses)[[0, 3]], 0)

  @parameterized.parameters(*ESTIMATORS)
  def test_a_nan_is_passed_on_and_stays_where_documented(self, name):
    problem = problem_of()
    poisoned = dataclasses.replace(problem, train=(problem.train[0].at[5].set(jnp.nan), problem.train[1]))
    found = estimates(name, poisoned, [batch_of([1, 5, 2, 0]), batch_of([1, 3, 2, 0])])
    finite = [bool(np.isfinite(gradient['bias'])) for gradient, _ in found]
    self.assertEqual(finite, [False, name not in ('saga', 'storm', 'svrg')])


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda: svrg(0), r'^period must be a whole number >= 1, got 0$'),
    (lambda: svrg(2.5), r'^period must be a whole number >= 1, got 2.5 '),
    (lambda: svrg(2, block_size=0), r'^block_size must be a whole number >= 1, got 0$'),
    (lambda: storm(-0.1), r'^a must be a real number in \[0, 1\], got -0.1$'),
    (lambda: storm(1.5), r'^a must be a real number in \[0, 1\], got 1.5$'),
    (lambda: storm('1'), r"^a must be a real number in .*, got '1'$"),
    (lambda: storm(None), r'^a must be a real number in .*, got None$'),
  )
  def test_arguments_out_of_range(self, make, message):
    with self.assertRaisesRegex(InputError, message):
      make()
