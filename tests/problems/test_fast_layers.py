"""A user's own layers with the fast products: equal to the plain module, to rounding, and the module as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import gdlab
from gdlab._cpu import patches
from gdlab._cpu.patches import conv_general_dilated

CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels
EPSILON = np.finfo(np.float32).eps


def data(*shape, num_classes=3):
  generator = np.random.default_rng(0)
  return generator.normal(size=shape).astype(np.float32), generator.integers(0, num_classes, shape[0])


CONVOLUTIONS = {
  'plain': {'kernel_size': (3, 3)},
  'strided': {'kernel_size': (3, 3), 'strides': 2},
  'uneven strides': {'kernel_size': (2, 3), 'strides': (3, 1), 'padding': 'VALID'},
  'dilated': {'kernel_size': (3, 2), 'kernel_dilation': (1, 2)},
  'padded by hand': {'kernel_size': (3, 3), 'padding': ((2, 0), (1, 3))},
  'circular': {'kernel_size': (3, 3), 'padding': 'CIRCULAR'},
  'one by one': {'kernel_size': (1, 1)},
  'wider than the image': {'kernel_size': (9, 9)},
}
LEFT_TO_XLA = {
  'grouped': {'kernel_size': (3, 3), 'feature_group_count': 2},
  'between the pixels': {'kernel_size': (3, 3), 'input_dilation': 2, 'padding': ((1, 1), (1, 1))},
  'of a precision': {'kernel_size': (3, 3), 'precision': 'highest'},
}


class LinenNet(nn.Module):
  """A convolution with these options, and two Dense layers, one of them shared."""

  options: tuple

  @nn.compact
  def __call__(self, images):
    images = nn.relu(nn.Conv(4, **dict(self.options))(images))
    dense = nn.Dense(8)
    return nn.Dense(3)(dense(nn.relu(dense(images.reshape(images.shape[0], -1)[:, :8]))))


class NnxNet(nnx.Module):
  """The same with a convolution of one axis too, behind a batch of two axes."""

  def __init__(self, options, rngs):
    self.convolution = nnx.Conv(2, 4, rngs=rngs, **options)
    self.line = nnx.Conv(4, 4, (3,), padding='CAUSAL', rngs=rngs)
    self.dense = nnx.Linear(4, 3, rngs=rngs)

  def __call__(self, images):
    return self.dense(nnx.relu(self.line(nnx.relu(self.convolution(images)))).mean((1, 2)))


def linen_pair(options):
  module = LinenNet(tuple(options.items()))
  problem = gdlab.problems.from_linen(module, data(6, 7, 6, 2), CROSS_ENTROPY)
  return problem, lambda params, inputs: module.apply({'params': params}, inputs)


def nnx_pair(options):
  make = lambda rngs: NnxNet(options, rngs)
  problem = gdlab.problems.from_nnx(make, data(6, 7, 6, 2), CROSS_ENTROPY)

  def plain(params, inputs):
    module = make(nnx.Rngs(0))
    nnx.update(module, params)
    return module(inputs)

  return problem, plain


def losses(problem, plain):
  params, state = problem.init(jax.random.key(1))
  mask, key = jnp.ones(6, bool), jax.random.key(0)

  def ours(params):
    return jnp.mean(problem.loss(params, state, problem.train, mask, key)[0])

  def theirs(params):
    return jnp.mean(CROSS_ENTROPY(plain(params, problem.train.inputs), problem.train.targets))

  return ours, theirs, params


def convolutions(function, params):
  return str(jax.make_jaxpr(function)(params)).count('conv_general_dilated[')


def assert_equal_to_rounding(ours, theirs, params):
  """Sums of at most 7 * 6 * 18 products in each of four layers: 64 roundings of the largest are far more than met."""
  for mine, other in zip(
    jax.tree.leaves(jax.value_and_grad(ours)(params)),
    jax.tree.leaves(jax.value_and_grad(theirs)(params)),
    strict=True,
  ):
    assert mine.dtype == other.dtype
    np.testing.assert_allclose(
      mine, other, rtol=0, atol=64 * EPSILON * max(1, float(jnp.max(jnp.abs(other))))
    )


@pytest.mark.parametrize('pair', [linen_pair, nnx_pair])
@pytest.mark.parametrize('name', [*CONVOLUTIONS, *LEFT_TO_XLA])
def test_losses_and_gradients_are_those_of_the_plain_module(name, pair):
  ours, theirs, params = losses(*pair((CONVOLUTIONS | LEFT_TO_XLA)[name]))
  assert_equal_to_rounding(ours, theirs, params)
  assert convolutions(theirs, params) > 0  # the module that the user has is as it was
  assert convolutions(ours, params) == (1 if name in LEFT_TO_XLA else 0)


def test_convolutions_too_large_for_patches_are_left_to_xla(monkeypatch):
  monkeypatch.setattr(
    patches, 'MOST_BYTES', 6 * 7 * 6 * 9 * 2 * 4 - 1
  )  # rows x columns x bytes, by hand, less one
  ours, _, params = losses(*linen_pair({'kernel_size': (3, 3)}))
  assert convolutions(ours, params) == 1


def test_an_operation_of_the_user_s_own_stays():
  calls = []

  def own(*arguments, **options):
    calls.append(1)
    return jax.lax.dot_general(*arguments, **options)

  for problem in (
    gdlab.problems.from_linen(nn.Dense(3, dot_general=own), data(6, 4), CROSS_ENTROPY),
    gdlab.problems.from_nnx(
      lambda rngs: nnx.Linear(4, 3, dot_general=own, rngs=rngs), data(6, 4), CROSS_ENTROPY
    ),
  ):
    params, state = problem.init(jax.random.key(0))
    calls.clear()
    problem.metrics(params, state, problem.train)
    assert calls


def test_a_module_behind_the_bridge_is_fast_too():
  make = lambda rngs: nnx.bridge.ToNNX(LinenNet((('kernel_size', (3, 3)),)), rngs=rngs).lazy_init(
    jnp.zeros((1, 7, 6, 2))
  )
  problem = gdlab.problems.from_nnx(make, data(6, 7, 6, 2), CROSS_ENTROPY)
  params, state = problem.init(jax.random.key(0))
  mask = jnp.ones(6, bool)
  assert (
    convolutions(lambda p: problem.loss(p, state, problem.train, mask, jax.random.key(0))[0], params) == 0
  )


def test_lifted_layers_and_plain_ones_are_equal():
  class Lifted(nn.Module):
    """Copies of a Dense layer along an axis, and checkpoints of another."""

    @nn.compact
    def __call__(self, inputs):
      copies = nn.vmap(
        nn.Dense, variable_axes={'params': 0}, split_rngs={'params': True}, in_axes=None, axis_size=3
      )
      return nn.remat(nn.Dense)(3)(copies(5)(inputs).mean(0))

  module = Lifted()
  problem = gdlab.problems.from_linen(module, data(6, 4), CROSS_ENTROPY)
  plain = lambda params, inputs: module.apply({'params': params}, inputs)
  assert_equal_to_rounding(*losses(problem, plain))


def test_the_user_s_module_keeps_its_attributes():
  module = nn.Dense(3)
  problem = gdlab.problems.from_linen(module, data(6, 4), CROSS_ENTROPY)
  params, state = problem.init(jax.random.key(0))
  problem.metrics(params, state, problem.train)
  assert module.dot_general is None
  outside = str(jax.make_jaxpr(lambda p: module.apply({'params': p}, problem.train.inputs))(params))
  assert 'custom_jvp' not in outside  # which `product` is
  inside = str(jax.make_jaxpr(lambda p: problem.metrics(p, state, problem.train))(params))
  assert 'custom_jvp' in inside


def test_half_precision_stays():
  inputs, kernel = jnp.ones((2, 5, 5, 3), jnp.bfloat16), jnp.ones((3, 3, 3, 4), jnp.bfloat16)
  numbers = jax.lax.conv_dimension_numbers(inputs.shape, kernel.shape, ('NHWC', 'HWIO', 'NHWC'))
  found = conv_general_dilated(inputs, kernel, (1, 1), 'SAME', dimension_numbers=numbers)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found[:, 1:-1, 1:-1], 27.0)


class Bare(nnx.Linear):
  """A layer that makes its own parameters and does without the operation of its kind."""

  def __init__(self, rngs):
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), (4, 3)))

  def __call__(self, inputs):
    return inputs @ self.kernel


def test_a_layer_that_does_without_the_operation_is_left_alone():
  problem = gdlab.problems.from_nnx(lambda rngs: Bare(rngs), data(6, 4), CROSS_ENTROPY)
  params, state = problem.init(jax.random.key(0))
  logits = problem.train.inputs @ params['kernel']
  np.testing.assert_allclose(
    problem.metrics(params, state, problem.train)['loss'],
    CROSS_ENTROPY(logits, problem.train.targets),
    rtol=1e-5,
  )
