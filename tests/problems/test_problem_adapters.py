"""Both adapters under JAX's transformations, and in evaluation against NumPy and Flax used by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from flax import nnx
from flax_cases import (
  CLASSES,
  Float64,
  N,
  batch_of,
  descend,
  dropout_twin,
  images,
  initialise,
  linen_net,
  loss,
  nnx_net,
  start,
  step,
)

from gdlab.problems import MLP, from_linen


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
    found = problem.loss.model.flags
    self.assertEqual((*(name for name, *_ in found.arguments), *(['mask'] if found.mask else [])), flags)

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
