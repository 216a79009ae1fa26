"""The models against Flax's own convolution and pooling."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab._cpu.convolution import greatest
from gdlab.core.errors import InputError
from gdlab.problems import CNN, MLP, PatchConv


class Reference(nn.Module):
  """CNN((4, 6), 3, kernel_size=...) with Flax's convolution and pooling."""

  kernel_size: int

  @nn.compact
  def __call__(self, x):
    for features in (4, 6):
      x = nn.Conv(features, (self.kernel_size,) * 2, param_dtype=jnp.float64)(x)
      x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
    return nn.Dense(3, param_dtype=jnp.float64)(x.reshape(x.shape[0], -1))


class Normalised(nn.Module):
  """One block of a CNN with BatchNorm, as a user of Flax writes it."""

  @nn.compact
  def __call__(self, x, *, train, mask):
    x = nn.Conv(4, (3, 3), param_dtype=float)(x)
    norm = nn.BatchNorm(not train, param_dtype=float, force_float32_reductions=False)
    x = nn.relu(norm(x, mask=mask[:, None, None, None]))
    return nn.Dense(5, param_dtype=float)(nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1))


class ModelsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.parameters((5, 7, 9), (3, 8, 6), (1, 6, 5))
  def test_cnn_is_flax_conv_and_max_pool(self, kernel_size, height, width):
    rng = np.random.default_rng(0)
    images, weights = rng.normal(size=(2, height, width, 2)), rng.normal(size=(2, 3))
    reference, model = Reference(kernel_size), CNN((4, 6), 3, kernel_size)
    conv_params = jax.jit(reference.init)(jax.random.key(0), images)['params']
    # Biases start at 0, which would hide a lost or doubled one.
    conv_params = jax.tree.map(lambda leaf: leaf + 0.1, conv_params)

    def patched(params):
      flat = lambda conv: {
        'bias': conv['bias'],
        'kernel': conv['kernel'].reshape(-1, conv['kernel'].shape[-1]),
      }
      blocks = {f'PatchConv_{i}': {'Dense_0': flat(params[f'Conv_{i}'])} for i in range(2)}
      return {**blocks, 'Dense_0': params['Dense_0']}

    def value(apply):
      return jax.jit(jax.value_and_grad(lambda params: jnp.sum(weights * apply(params))))

    expected, gradient = value(lambda params: reference.apply({'params': params}, images))(conv_params)
    found, patched_gradient = value(lambda params: model.apply({'params': params}, images))(
      patched(conv_params)
    )
    # Sums of at most 5*5*4 products of numbers of order 1, twice: some hundred eps.
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    chex.assert_trees_all_close(patched_gradient, patched(gradient), rtol=1e-11, atol=1e-12)

  def test_cnn_normalises_as_flax_before_it_pools(self):
    """Loss, gradient and new statistics in training, with an example that is not counted."""
    rng = np.random.default_rng(0)
    images, weights, mask = (
      rng.normal(size=(3, 8, 4, 2)),
      rng.normal(size=(3, 5)),
      np.asarray([1, 0, 1], bool),
    )
    model, reference = CNN((4,), 5, batch_norm=True), Normalised()
    variables = jax.jit(model.init)(jax.random.key(0), images)
    conv, dense = variables['params']['PatchConv_0']['Dense_0'], variables['params']['Dense_0']
    kernel = {'kernel': conv['kernel'].reshape(3, 3, 2, 4), 'bias': conv['bias']}
    theirs = {
      'params': {'Conv_0': kernel, 'BatchNorm_0': variables['params']['BatchNorm_0'], 'Dense_0': dense},
      'batch_stats': variables['batch_stats'],
    }

    def value(model, variables):
      def loss(params):
        outputs, state = model.apply(
          {**variables, 'params': params}, images, train=True, mask=mask, mutable=['batch_stats']
        )
        return jnp.sum(mask[:, None] * weights * outputs), state

      return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])

    (found, state), gradient = value(model, variables)
    (expected, their_state), their_gradient = value(reference, theirs)
    # Sums of at most 8*4*3 numbers of order 1, after a division by a standard deviation: some hundred eps.
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    chex.assert_trees_all_close(state, their_state, rtol=1e-12)
    for layer, other in (('Dense_0', 'Dense_0'), ('BatchNorm_0', 'BatchNorm_0')):
      chex.assert_trees_all_close(gradient[layer], their_gradient[other], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
      gradient['PatchConv_0']['Dense_0']['kernel'].reshape(3, 3, 2, 4),
      their_gradient['Conv_0']['kernel'],
      rtol=1e-11,
      atol=1e-12,
    )

  def test_equal_maxima_share_the_gradient(self):
    """As in JAX's maximum over an axis; small whole numbers make ties of two, three and four."""
    arrays = np.random.default_rng(0).integers(0, 3, (4, 200)).astype(float)
    self.assertEqual(set(np.sum(arrays == arrays.max(axis=0), axis=0)), {1, 2, 3, 4})
    found = jax.grad(lambda arrays: jnp.sum(jnp.sin(greatest(*arrays))))(arrays)
    expected = jax.grad(lambda arrays: jnp.sum(jnp.sin(jnp.max(arrays, axis=0))))(arrays)
    # A product with 1/n here, a quotient by n there: two roundings apart, 2 eps = 4.4e-16 each way.
    np.testing.assert_allclose(found, expected, rtol=1e-15)

  def test_no_convolution_primitive(self):
    model, images = CNN((4,), 3, batch_norm=True), jnp.ones((2, 8, 8))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    gradient = jax.grad(lambda v: model.apply(v, images, train=True, mutable=['batch_stats'])[0].sum())
    program = str(jax.make_jaxpr(gradient)(variables))
    self.assertIn('dot_general', program)
    for primitive in ('conv_general_dilated', 'reduce_window', 'select_and_scatter', 'select_and_gather'):
      self.assertNotIn(primitive, program)

  @parameterized.parameters(MLP((5,), 3), CNN((2, 3), 3))
  def test_images_may_be_flat_or_without_channels(self, model):
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    expected = model.apply(variables, images)
    self.assertEqual(expected.shape, (2, 3))
    for inputs in (images[..., 0], images.reshape(2, 16)):
      np.testing.assert_array_equal(model.apply(variables, inputs), expected)

  def test_linear_model_without_hidden_layers(self):
    inputs = np.random.default_rng(0).normal(size=(4, 5))
    variables = MLP((), 2).init(jax.random.key(0), inputs)
    expected = inputs @ np.asarray(variables['params']['Dense_0']['kernel'])
    # Sums of five products in another order.
    np.testing.assert_allclose(MLP((), 2).apply(variables, inputs), expected, rtol=1e-13, atol=1e-15)

  def test_dropout_drops_at_its_rate(self):
    model = MLP((64,), 3, dropout_rate=0.25)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(50, 8, 8)))
    variables = jax.jit(model.init)(jax.random.key(0), inputs)

    def units(**options):
      watch = lambda module, _: isinstance(module, nn.Dropout)
      found = model.apply(variables, inputs, capture_intermediates=watch, **options)[1]['intermediates']
      return np.asarray(jax.tree.leaves(found)[0])

    kept, dropped = units(), units(train=True, rngs={'dropout': jax.random.key(1)})
    alive = kept != 0
    found = dropped[alive]
    share, count = np.mean(found == 0), alive.sum()
    # Five standard errors of a binomial share, and the kept units scaled to keep their mean.
    self.assertLess(abs(share - 0.25), 5 * np.sqrt(0.25 * 0.75 / count))
    np.testing.assert_allclose(found[found != 0], kept[alive][found != 0] / 0.75, rtol=1e-14)

  def test_equal_models_are_equal(self):
    self.assertEqual(hash(MLP([3, 2])), hash(MLP((3, 2))))
    self.assertEqual(CNN([3]), CNN((3,)))
    self.assertNotEqual(CNN((3,)), CNN((3,), dropout_rate=0.1))

  @parameterized.parameters(
    (lambda: MLP((3, 0)), r'features\[1\] must be a whole number >= 1, got 0'),
    (lambda: MLP((2.5,)), r'features\[0\].*2\.5'),
    (lambda: MLP(num_outputs=-1), 'num_outputs.*-1'),
    (lambda: MLP(dropout_rate=1.0), 'dropout_rate.*1.0'),
    (lambda: CNN(dropout_rate=-0.1), r'dropout_rate.*\[0, 1\).*-0.1'),
    (lambda: CNN(kernel_size=2), 'kernel_size.*odd.*2'),
    (lambda: CNN((4, 4)).init(jax.random.key(0), np.ones((1, 3, 8))), r'at least 4 pixels.*\(1, 3, 8\)'),
    (lambda: CNN().init(jax.random.key(0), np.ones((1, 15))), r'\(1, 15\)'),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()

  def test_patch_conv_parameter_count(self):
    params = PatchConv(7, 5).init(jax.random.key(0), np.ones((1, 6, 6, 3)))['params']
    self.assertEqual(sum(leaf.size for leaf in jax.tree.leaves(params)), 5 * 5 * 3 * 7 + 7)
