"""The Linen and the NNX adapter against one another, against Flax used by hand, and against NumPy.

Problems built alike compile once, so the tests share few models and one shape of batch: most of the time here
is the compiler's.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from flax import nnx

from gdlab.objective import batch_loss
from gdlab.problems import CNN, MLP, from_linen, from_nnx
from gdlab.types import Batch

N, SIDE, CLASSES = 24, 4, 3
loss = optax.softmax_cross_entropy_with_integer_labels
NET = MLP((8,), CLASSES, batch_norm=True, dropout_rate=0.3)


def images():
  rng = np.random.default_rng(0)
  return rng.normal(size=(N, SIDE, SIDE)), rng.integers(0, CLASSES, N)


class Bridged(nnx.Module):
  """NET as an NNX module, by Flax's own bridge."""

  def __init__(self, rngs):
    self.inner = nnx.bridge.ToNNX(NET, rngs=rngs).lazy_init(jnp.zeros((1, SIDE, SIDE)))

  def __call__(self, x, *, train, mask):
    return self.inner(x, train=train, mask=mask, mutable=['batch_stats'])


class Twin(nnx.Module):
  """NET written in NNX's own style."""

  def __init__(self, rngs, dropout_rate=0.0):
    dtype = jnp.result_type(float)
    self.hidden = nnx.Linear(SIDE * SIDE, 8, param_dtype=dtype, rngs=rngs)
    self.norm = nnx.BatchNorm(8, param_dtype=dtype, rngs=rngs)
    self.dropout = nnx.Dropout(dropout_rate, rngs=rngs)
    self.out = nnx.Linear(8, CLASSES, param_dtype=dtype, rngs=rngs)

  def __call__(self, x, *, mask):
    x = self.norm(self.hidden(x.reshape(x.shape[0], -1)), mask=mask[:, None])
    return self.out(self.dropout(jax.nn.relu(x)))


class Dropouts(nnx.Module):
  """Two Dropout layers side by side, and a variable that counts calls in training mode."""

  def __init__(self, rngs):
    self.scale = nnx.Param(jnp.ones(()))
    self.first, self.second = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
    self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

  def __call__(self, x, *, deterministic):
    if not deterministic:
      self.calls[...] += 1
    return jnp.stack([self.first(x * self.scale), self.second(x * self.scale)], axis=1)


def dropout_twin(rngs):
  return Twin(rngs, dropout_rate=0.3)


def largest(outputs, targets):
  return outputs.max(axis=-1)


def linen_net():
  return from_linen(NET, images(), loss, metrics={'largest': largest})


def nnx_net():
  return from_nnx(dropout_twin, images(), loss)


def linen_calm():
  """Without Dropout."""
  return from_linen(MLP((8,), CLASSES, batch_norm=True), images(), loss)


def linen_cnn():
  return from_linen(CNN((4, 4), CLASSES, batch_norm=True), images(), loss)


def nnx_calm():
  return from_nnx(Twin, images(), loss)


@functools.partial(jax.jit, static_argnums=0)
def initialise(init, key):
  return init(key)


def start(problem):
  """Initial parameters and state, the same at every call."""
  return initialise(problem.init, jax.random.key(0))


@jax.jit
def step(params, state, batch, key, problem):
  """One step of gradient descent."""
  objective = functools.partial(batch_loss, problem)
  (value, state), gradient = jax.value_and_grad(objective, has_aux=True)(params, state, batch, key)
  return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), state, value, gradient


def batch_of(*indices, padding=(0, 2, 20)):
  """A batch of the given examples, then padding slots that point at other ones."""
  weights = jnp.array([1 / len(indices)] * len(indices) + [0] * len(padding), float)
  return Batch(jnp.array([*indices, *padding], jnp.int32), weights)


def descend(problem, params, state):
  """Trains for 20 steps in a plain loop; returns parameters, state and the losses."""
  rng, losses = np.random.default_rng(1), []
  for t in range(20):
    batch = batch_of(*rng.choice(N, 5, replace=False))
    params, state, value, _ = step(params, state, batch, jax.random.fold_in(jax.random.key(2), t), problem)
    losses.append(float(value))
  return params, state, losses


class Float64(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))


class Parity(Float64):
  """Identical training from identical parameters."""

  def assert_trained_alike(self, found, expected):
    """Compares parameters, state, losses.

    Both do the same operations on the same numbers: what the compiler may reorder is rounding, 1e-16 of each
    number, amplified in 20 steps. One unit dropped otherwise in one step would show at 1e-2.
    """
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-11)
    chex.assert_trees_all_close(found[:2], expected[:2], rtol=1e-9, atol=1e-11)

  def test_linen_behind_the_bridge_trains_as_linen(self):
    linen, bridged = linen_net(), from_nnx(Bridged, images(), loss)
    params, state = start(linen)
    # The bridge puts all collections under one attribute.
    nnx_params, nnx_state = {'inner': params}, {'inner': state['batch_stats']}
    chex.assert_trees_all_equal_structs((nnx_params, nnx_state), start(bridged))
    expected = descend(linen, params, state)
    params, state, losses = descend(bridged, nnx_params, nnx_state)
    self.assert_trained_alike((params['inner'], {'batch_stats': state['inner']}, losses), expected)

  def test_nnx_written_by_hand_trains_as_linen(self):
    linen, twin = linen_calm(), nnx_calm()
    names = {'Dense_0': 'hidden', 'BatchNorm_0': 'norm', 'Dense_1': 'out'}

    def renamed(params, state):
      return {names[name]: leaf for name, leaf in params.items()}, {
        'norm': state['batch_stats']['BatchNorm_0']
      }

    chex.assert_trees_all_equal_structs(renamed(*start(linen)), start(twin))
    params, state, losses = descend(linen, *start(linen))
    found = descend(twin, *renamed(*start(linen)))
    self.assert_trained_alike(found, (*renamed(params, state), losses))

  def test_nnx_streams(self):
    problem = from_nnx(Dropouts, (np.ones((N, 4)), np.ones(N)), lambda out, _: out[:, 0].sum(-1))
    params, state = start(problem)
    train = functools.partial(problem.loss.model.train, params, state, jnp.ones((N, 4)), jnp.ones(N, bool))
    out, updated = train(jax.random.key(3))
    again, _ = train(jax.random.key(3))
    other, _ = train(jax.random.key(4))
    np.testing.assert_array_equal(out, again)
    self.assertTrue(np.all((out == 0) | (out == 2)))
    # 96 fair coins agree all at once with probability 2^-96.
    self.assertFalse(np.array_equal(out, other))
    self.assertFalse(np.array_equal(out[:, 0], out[:, 1]))
    self.assertEqual((int(state['calls']), int(updated['calls'])), (0, 1))


class Padding(Float64):
  """Slots of weight 0 change nothing, whatever they point at."""

  @parameterized.parameters(linen_calm, linen_cnn, nnx_calm)
  def test_padding_is_invisible(self, build):
    problem, key = build(), jax.random.key(1)
    params, state = start(problem)
    plain = step(params, state, batch_of(3, 1, 4, 5, 9, padding=()), key, problem)
    padded = step(params, state, batch_of(3, 1, 4, 5, 9), key, problem)
    # Sums over 5 examples in another order: some eps.
    chex.assert_trees_all_close(padded, plain, rtol=1e-10, atol=1e-13)

    # The same slots with weight show what the test would see if the mask were lost.
    _, seen, _, _ = step(params, state, batch_of(3, 1, 4, 5, 9, 0, 2, 20, padding=()), key, problem)
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), seen, plain[1])
    self.assertGreater(min(jax.tree.leaves(moved)), 1e-4)

    # Padding alone, as the last part of a split batch may be: no NaN, no gradient, no change of state.
    nothing = Batch(jnp.arange(8, dtype=jnp.int32), jnp.zeros(8))
    _, kept, value, gradient = step(params, state, nothing, key, problem)
    expected = state, jnp.zeros(()), jax.tree.map(jnp.zeros_like, gradient)
    chex.assert_trees_all_equal((kept, value, gradient), expected)


class Transformations(Float64):
  """vmap, scan, dtypes, and how often is compiled."""

  @parameterized.parameters(linen_net, nnx_net)
  def test_lanes_in_a_scan_are_plain_loops(self, build):
    problem, indices = build(), (0, 1, 2, 3, 4)
    keys = jax.random.split(jax.random.key(0), 3)

    def lane(key):
      def body(carry, t):
        params, state, value, _ = step(*carry, batch_of(*indices), jax.random.fold_in(key, t), problem)
        return (params, state), value

      return jax.lax.scan(body, problem.init(key), jnp.arange(4))[1]

    with jax.debug_key_reuse(False):  # each lane's one key initialises and is folded into as well
      found = jax.jit(jax.vmap(lane))(keys)
      for i in range(3):
        (params, state), values = initialise(problem.init, keys[i]), []
        for t in range(4):
          key = jax.random.fold_in(keys[i], t)
          params, state, value, _ = step(params, state, batch_of(*indices), key, problem)
          values.append(value)
        # Batched matrix products are summed in another order: eps, amplified in 4 steps.
        np.testing.assert_allclose(found[i], values, rtol=1e-10)
    self.assertLen(set(np.asarray(found[:, 0]).tolist()), 3)

  @parameterized.product(build=(linen_net, nnx_net), x64=(False, True))
  def test_types_stay(self, build, x64):
    self.enterContext(jax.enable_x64(x64))
    problem = build()
    args = jax.eval_shape(problem.init, jax.random.key(0))
    params, state, value, _ = jax.eval_shape(step, *args, batch_of(0, 1), jax.random.key(1), problem)
    self.assertEqual((params, state), args)
    self.assertEqual(
      {str(leaf.dtype) for leaf in jax.tree.leaves((params, state, value))}, {str(problem.train.inputs.dtype)}
    )
    self.assertEqual(str(problem.train.inputs.dtype), 'float64' if x64 else 'float32')

  @parameterized.parameters(linen_net, nnx_net)
  def test_equal_problems_compile_once(self, build):
    traces = []

    @jax.jit
    def value(problem, params, state):
      traces.append(None)
      return problem.metrics(params, state, problem.train)['loss']

    for _ in range(2):
      problem = build()
      value(problem, *start(problem))
    self.assertLen(traces, 1)


class Evaluation(Float64):
  def test_metrics_are_in_evaluation_mode(self):
    problem = linen_net()
    params, state, _ = descend(problem, *start(problem))
    found = problem.metrics(params, state, problem.train)

    inputs, labels = images()
    params, state = jax.tree.map(np.asarray, (params, state))
    dense, norm, out = params['Dense_0'], params['BatchNorm_0'], params['Dense_1']
    running = state['batch_stats']['BatchNorm_0']
    hidden = inputs.reshape(N, -1) @ dense['kernel'] + dense['bias']
    hidden = (hidden - running['mean']) / np.sqrt(running['var'] + 1e-5) * norm['scale'] + norm['bias']
    logits = np.maximum(hidden, 0) @ out['kernel'] + out['bias']
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(N), labels]
    self.assertEqual(list(found), ['loss', 'largest'])
    np.testing.assert_allclose(found['loss'], losses, rtol=1e-12)
    np.testing.assert_allclose(found['largest'], logits.max(-1), rtol=1e-12)

  def test_trained_parameters_go_back_into_an_nnx_module(self):
    problem = nnx_net()
    params, state, _ = descend(problem, *start(problem))
    module = dropout_twin(nnx.Rngs(5))
    nnx.update(module, params, dict(state))
    module.eval()
    logits = module(problem.train.inputs, mask=jnp.ones(N, bool))
    found = problem.metrics(params, state, problem.train)['loss']
    np.testing.assert_allclose(found, loss(logits, problem.train.targets), rtol=1e-12)

  @parameterized.parameters(
    (nn.Dense(CLASSES), ()),
    (nn.Dropout(0.5), ('deterministic',)),
    (MLP((), CLASSES), ('train', 'mask')),
  )
  def test_a_module_is_given_what_its_call_names(self, module, flags):
    problem = from_linen(module, (np.ones((N, CLASSES)), np.zeros(N, int)), loss)
    self.assertEqual(problem.loss.model.flags, flags)

  def test_use_running_average_and_mask(self):
    # One feature per example and statistics over none but the batch: BatchNorm(axis=()) on inputs [B].
    inputs = np.arange(4.0)
    problem = from_linen(
      nn.BatchNorm(axis=(), use_scale=False, use_bias=False), (inputs, inputs), jnp.subtract
    )
    params, state = problem.init(jax.random.key(0))
    mask = jnp.array([True, True, True, False])
    found, state = problem.loss(params, state, problem.train, mask, jax.random.key(1))
    # The mean of 0, 1, 2 is 1 and their variance 2/3; running statistics begin at 0 and 1 and move by 1 %.
    np.testing.assert_allclose(found, (inputs - 1) / np.sqrt(2 / 3 + 1e-5) - inputs, rtol=1e-12)
    moved = state['batch_stats']
    np.testing.assert_allclose([moved['mean'], moved['var']], [0.01, 0.99 + 0.01 * 2 / 3], rtol=1e-12)
    found = problem.metrics(params, state, problem.train)['loss']
    expected = (inputs - 0.01) / np.sqrt(0.99 + 0.01 * 2 / 3 + 1e-5) - inputs
    np.testing.assert_allclose(found, expected, rtol=1e-12)
