"""Parameters of a problem back in the user's module: the plain module's outputs give the problem's metrics."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict
from flax_cases import CLASSES, NET, SIDE, Bridged, dropout_twin, images

import gdlab
from gdlab import problems
from gdlab.core.errors import InputError

loss = optax.softmax_cross_entropy_with_integer_labels


class Normed(nn.Module):
  """Dense, BatchNorm and Dropout, told the mode by an argument."""

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x.reshape(x.shape[0], -1)))
    return nn.Dense(CLASSES)(nn.Dropout(0.3, deterministic=not train)(nn.relu(x)))


class Tied(nn.Module):
  """One Dense layer called three times, in a list of layers."""

  layers: list

  @nn.compact
  def __call__(self, x):
    x = x.reshape(x.shape[0], -1)
    for layer in self.layers:
      x = nn.tanh(layer(x))
    return nn.Dense(CLASSES)(x)


class Sowing(nn.Module):
  """Hands a value to the loss that is no part of the model's state."""

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(CLASSES)(x.reshape(x.shape[0], -1))
    self.sow('losses', 'size', (x**2).mean(-1))
    return x


class TiedNnx(nnx.Module):
  """Embedding and output share one matrix; layers in a list."""

  def __init__(self, rngs):
    self.first = nnx.Linear(SIDE * SIDE, CLASSES, use_bias=False, rngs=rngs)
    self.layers = nnx.List([nnx.Linear(CLASSES, CLASSES, rngs=rngs) for _ in range(2)])
    self.last = nnx.Linear(SIDE * SIDE, CLASSES, rngs=rngs)
    self.last.kernel = self.first.kernel

  def __call__(self, x):
    x = x.reshape(x.shape[0], -1)
    out = self.first(x)
    for layer in self.layers:
      out = jnp.tanh(layer(out))
    return out + self.last(x)


class Attribute(nnx.Module):
  """Told the mode by an attribute of its own."""

  def __init__(self, rngs):
    self.training = True
    self.out = nnx.Linear(SIDE * SIDE, CLASSES, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    x = self.dropout(x.reshape(x.shape[0], -1), deterministic=not self.training)
    return self.out(x)


TIED = Tied([nn.Dense(SIDE * SIDE)] * 3)
LINEN = {
  'batch norm and dropout': (Normed(), {'train': False}, {}),
  'tied': (TIED, {}, {}),
  'own network': (NET, {'train': False, 'mask': None}, {}),
  'sown': (Sowing(), {}, {'sown': ()}),
}
NNX = {
  'batch norm and dropout': (dropout_twin, {'mask': jnp.ones(24, bool)}),
  'tied': (TiedNnx, {}),
  'attribute': (Attribute, {}),
  'bridge': (Bridged, {'train': False, 'mask': jnp.ones(24, bool)}),
}


@functools.cache
def trained(make):
  """A problem, and parameters and state after some updates, which no initialisation gives."""
  problem = make()
  method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(8), optimizer=optax.sgd(0.2))
  result = gdlab.run(problem, method, num_steps=6, seeds=2, keep='params', plan=gdlab.Plan(1, 1))
  return problem, *gdlab.kept_params(problem, result.isel(seed=1)), result.isel(seed=1, step=-1)


@functools.cache
def linen(name):
  module, _, options = LINEN[name]
  return trained(lambda: problems.from_linen(module, images(), loss, **options))


@functools.cache
def from_make(name):
  return trained(lambda: problems.from_nnx(NNX[name][0], images(), loss))


def mean_loss(outputs):
  labels = images()[1]
  logits = np.asarray(outputs, float)
  return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels])


class LinenTest(parameterized.TestCase):
  @parameterized.parameters(*LINEN)
  def test_the_plain_module_gives_the_metrics(self, name):
    module, arguments, _ = LINEN[name]
    problem, params, state, last = linen(name)
    variables = gdlab.to_flax(problem, params, state)
    inputs = jnp.asarray(images()[0], jnp.float32)
    outputs = module.apply(variables, inputs, **arguments)
    # Float32 sums over 16 inputs and 24 examples; the run's own program and this one.
    np.testing.assert_allclose(mean_loss(outputs), last.train_loss, rtol=1e-5)
    # And they are variables of the module's own form.
    own = module.init(jax.random.key(0), inputs, **arguments)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, {name: own[name] for name in variables})

  def test_batch_statistics_are_there_and_are_the_runs(self):
    problem, params, state, _ = linen('batch norm and dropout')
    variables = gdlab.to_flax(problem, params, state)
    self.assertEqual({*variables}, {'params', 'batch_stats'})
    self.assertGreater(float(jnp.abs(variables['batch_stats']['BatchNorm_0']['mean']).max()), 0)

  def test_problems_made_of_it_have_the_module_still(self):
    problem, params, state, _ = linen('batch norm and dropout')
    expected = gdlab.to_flax(problem, params, state)
    for other in (problems.with_penalty(problem, l2=0.1), problems.split(problem, validation=4)):
      chex.assert_trees_all_equal(gdlab.to_flax(other, params, state), expected)

  def test_half_precision_is_cast_to_the_types_of_the_module(self):
    problem = problems.from_linen(
      nn.Dense(CLASSES, param_dtype=jnp.bfloat16), (np.ones((4, 2)), np.zeros(4, int)), loss
    )
    params, _ = problem.init(jax.random.key(0))
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    chex.assert_trees_all_equal(gdlab.to_flax(problem, wide)['params'], params)

  def test_under_jit(self):
    problem, params, state, _ = linen('batch norm and dropout')
    inputs = jnp.asarray(images()[0], jnp.float32)
    call = lambda variables: Normed().apply(variables, inputs, train=False)
    found = jax.jit(lambda params, state: call(gdlab.to_flax(problem, params, state)))(params, state)
    np.testing.assert_allclose(found, call(gdlab.to_flax(problem, params, state)), rtol=1e-5, atol=1e-6)


class NnxTest(parameterized.TestCase):
  @parameterized.parameters(*NNX)
  def test_the_plain_module_gives_the_metrics(self, name):
    make, arguments = NNX[name]
    problem, params, state, last = from_make(name)
    module = gdlab.to_flax(problem, params, state)
    self.assertIsInstance(module, nnx.Module)
    outputs = module(jnp.asarray(images()[0], jnp.float32), **arguments)
    np.testing.assert_allclose(mean_loss(outputs), last.train_loss, rtol=1e-5)
    self.assertEqual(nnx.graphdef(module), nnx.graphdef(self.in_evaluation(make)))

  def in_evaluation(self, make):
    module = make(nnx.Rngs(0))
    module.eval()
    if hasattr(module, 'training'):
      module.training = False
    return module

  def test_shared_weights_are_one(self):
    problem, params, state, _ = from_make('tied')
    module = gdlab.to_flax(problem, params, state)
    self.assertIs(module.last.kernel, module.first.kernel)
    np.testing.assert_array_equal(module.last.kernel[...], params['first']['kernel'])
    np.testing.assert_array_equal(module.layers[1].bias[...], params['layers'][1]['bias'])

  def test_training_mode_is_one_call_away(self):
    problem, params, state, _ = from_make('batch norm and dropout')
    module = gdlab.to_flax(problem, params, state)
    inputs, mask = jnp.asarray(images()[0], jnp.float32), jnp.ones(24, bool)
    calm = [module(inputs, mask=mask) for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    np.testing.assert_array_equal(module.norm.mean[...], state['norm']['mean'])
    module.train()
    noisy = [module(inputs, mask=mask) for _ in range(2)]
    self.assertGreater(float(jnp.abs(noisy[0] - noisy[1]).max()), 0)

  def test_every_call_makes_a_module(self):
    problem, params, state, _ = from_make('tied')
    one, other = (gdlab.to_flax(problem, params, state) for _ in range(2))
    one.first.kernel[...] = jnp.zeros_like(one.first.kernel[...])
    np.testing.assert_array_equal(other.first.kernel[...], params['first']['kernel'])


class RefusalsTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      lambda p, s: (p, ()),
      r"model_state must have the structure of the problem.s own, got one that differs at .*\['batch_stats'\]",
    ),
    (
      lambda p, s: ({**p, 'more': jnp.ones(1)}, s),
      r"params must .* got one that differs at .*params\['more'\]",
    ),
    (lambda p, s: (None, s), r"params must .* got one that differs at .*\['BatchNorm_0'\]\['bias'\]"),
    (lambda p, s: (FrozenDict(p), s), 'params must .* got a FrozenDict with other nodes than the dict'),
    (
      lambda p, s: (p | {'Dense_1': p['Dense_1'] | {'bias': jnp.ones(7)}}, s),
      r"params\['Dense_1'\]\['bias'\] must be like float32\[3\], got float32\[7\]",
    ),
    (
      lambda p, s: (p | {'Dense_1': p['Dense_1'] | {'bias': np.ones(3, int)}}, s),
      r"params\['Dense_1'\]\['bias'\] must be like float32\[3\], got int32\[3\]",
    ),
  )
  def test_what_is_not_like_the_problem(self, change, message):
    problem, params, state, _ = linen('batch norm and dropout')
    with self.assertRaisesRegex(InputError, message) as caught:
      gdlab.to_flax(problem, *change(params, state))
    self.assertNotIn('\n', str(caught.exception))

  def test_problems_without_a_module(self):
    for problem in (problems.quadratic([1.0]), problems.from_function(jnp.sum, jnp.ones(2))):
      with self.assertRaisesRegex(InputError, 'problem must be made of a Flax module, .*, got'):
        gdlab.to_flax(problem, jnp.ones(1))
    with self.assertRaisesRegex(InputError, 'problem must be a gdlab Problem'):
      gdlab.to_flax(nn.Dense(2), {})
    changed = dataclasses.replace(problems.digits(), init=lambda key: ((), ()))
    with self.assertRaisesRegex(InputError, "must be made of a Flax module, .*, got 'digits'"):
      gdlab.to_flax(changed, ())
