"""Barriers against closed forms; networks aligned with their permuted copies, and what cannot be aligned."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from flax import linen as nn
from flax import nnx

from gdlab import analysis, problems
from gdlab.core.errors import InputError
from gdlab.core.types import Examples

N, CLASSES, WIDTHS = 40, 3, (12, 9)
EPS = np.finfo(np.float64).eps
LOSS = optax.softmax_cross_entropy_with_integer_labels


def data():
  rng = np.random.default_rng(0)
  return rng.normal(size=(N, 5)), rng.integers(0, CLASSES, N)


class Stack(nnx.Module):
  """Layers whose names are not in order."""

  def __init__(self, rngs):
    dtype = jnp.result_type(float)
    self.one = nnx.Linear(5, WIDTHS[0], param_dtype=dtype, rngs=rngs)
    self.norm = nnx.BatchNorm(WIDTHS[0], param_dtype=dtype, rngs=rngs)
    self.between = nnx.Linear(WIDTHS[0], WIDTHS[1], use_bias=False, param_dtype=dtype, rngs=rngs)
    self.last = nnx.Linear(WIDTHS[1], CLASSES, param_dtype=dtype, rngs=rngs)

  def __call__(self, x):
    return self.last(jnp.tanh(self.between(jax.nn.relu(self.one(x)))))


class Plain(Stack):
  def __init__(self, rngs):
    super().__init__(rngs)
    del self.norm


class Residual(nn.Module):
  """A chain by its shapes, but its hidden units have an order: what is added to them has one."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Dense(5)(x)) + x
    return nn.Dense(CLASSES)(x)


class Pooled(nn.Module):
  """A convolution is no Dense layer."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(CLASSES)(nn.Conv(2, (3, 3))(x).mean(axis=(1, 2)))


class Wide(nn.Module):
  """A stack with a gain that belongs to no layer."""

  @nn.compact
  def __call__(self, x):
    gain = self.param('gain', nn.initializers.ones, (2, 2))
    return nn.Dense(CLASSES)(x) * gain[0, 0]


MODELS = {
  'plain': lambda: problems.from_linen(problems.MLP(WIDTHS, CLASSES), data(), LOSS),
  'batch norm': lambda: problems.from_linen(problems.MLP(WIDTHS, CLASSES, batch_norm=True), data(), LOSS),
  'nnx': lambda: problems.from_nnx(Plain, data(), LOSS),
}
LAYERS = {'nnx': ('one', 'between', 'last')}


def shapes_of(problem):
  return jax.eval_shape(problem.init, jax.random.key(0))


def filled(tree, seed, low=-1.5, high=1.5):
  """Every number drawn anew: units that differ in all they have, and weights that are far from 0."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: rng.uniform(low, high, leaf.shape), tree)


def agreeing(problem, params, state):
  """The problem with the labels that this network gives: it is then a good solution, and a mixture of two is not."""
  labels = jnp.arange(CLASSES)[:, None] * jnp.ones((1, N), int)
  losses = jax.jit(
    jax.vmap(lambda y: problem.metrics(params, state, Examples(problem.train.inputs, y))['loss'])
  )
  return dataclasses.replace(problem, train=Examples(problem.train.inputs, losses(labels).argmin(axis=0)))


class AlignmentTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))

  @parameterized.parameters('batch norm', 'nnx')
  def test_a_permuted_copy_is_brought_back(self, kind):
    problem, layers = MODELS[kind](), LAYERS.get(kind)
    params, state = shapes_of(problem)
    params, state = filled(params, 1), filled(state, 2, 0.5, 1.5)
    problem = agreeing(problem, params, state)
    stack = analysis.dense_stack(params, state, layers=layers)
    self.assertEqual(stack.widths, WIDTHS)
    rng = np.random.default_rng(3)
    orders = [rng.permutation(width) for width in WIDTHS]
    copy, copy_state = analysis.permute_units(params, state, stack, orders)
    self.assertTrue(any((a != b).any() for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(copy))))

    aligned = analysis.align(problem, params, copy, copy_state, layers=layers)
    # Values are moved and never computed with: every bit comes back, and the permutation is the inverse.
    jax.tree.map(np.testing.assert_array_equal, (aligned.params, aligned.model_state), (params, state))
    for order, found in zip(orders, aligned.permutations):
      np.testing.assert_array_equal(order[found], np.arange(len(order)))

    before = analysis.interpolate(problem, params, copy, state, copy_state, num_points=11)
    after = analysis.interpolate(problem, params, aligned.params, state, aligned.model_state, num_points=11)
    self.assertGreater(before.train_barrier.item(), 1e-2)

    # On the way (1 - t) w + t w differs from w by 2 eps |w| at most, and the loss by |gradient| times that; its own
    # evaluation, a mean of N losses after sums of some 12 terms of size |loss|, by some N eps.
    def value(moved):
      return problem.metrics(*moved, problem.train)['loss'].mean()

    gradient = jax.jit(jax.grad(value))((params, state))
    moved = sum(
      float(jnp.sum(jnp.abs(g * w)))
      for g, w in zip(jax.tree.leaves(gradient), jax.tree.leaves((params, state)))
    )
    tolerance = 2 * EPS * moved + N * EPS * float(value((params, state)))
    self.assertLess(tolerance, 1e-12)
    self.assertLessEqual(after.train_barrier.item(), tolerance)

  def test_permutation_leaves_the_function_exactly(self):
    # Whole numbers are added without rounding in any order: outputs agree to the bit.
    problem = MODELS['plain']()
    params, _ = shapes_of(problem)
    rng = np.random.default_rng(4)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.integers(-3, 4, leaf.shape), float), params)
    stack = analysis.dense_stack(params)
    copy, _ = analysis.permute_units(params, (), stack, [rng.permutation(width) for width in WIDTHS])
    inputs = jnp.asarray(rng.integers(-5, 6, (50, 5)), float)
    module = problems.MLP(WIDTHS, CLASSES)
    np.testing.assert_array_equal(
      module.apply({'params': params}, inputs), module.apply({'params': copy}, inputs)
    )

  def test_weights_are_matched_as_well_as_by_trying_all(self):
    # One hidden layer of 5: an assignment problem, whose 120 solutions can be tried.
    problem = problems.from_linen(problems.MLP((5,), CLASSES), data(), LOSS)
    shapes, _ = shapes_of(problem)
    first, second = filled(shapes, 5), filled(shapes, 6)
    stack = analysis.dense_stack(first)

    def distance(order):
      moved, _ = analysis.permute_units(second, (), stack, [np.array(order)])
      return sum(np.sum((a - b) ** 2) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(moved)))

    best = min(itertools.permutations(range(5)), key=distance)
    np.testing.assert_array_equal(analysis.match_weights(first, second, stack)[0], best)

  def test_deep_matching_never_ends_further_away_than_it_began(self):
    problem = MODELS['plain']()
    shapes, _ = shapes_of(problem)
    stack = analysis.dense_stack(shapes)
    for seed in range(5):
      first, second = filled(shapes, 10 + seed), filled(shapes, 20 + seed)
      orders = analysis.match_weights(first, second, stack)

      def distance(moved, first=first):
        return sum(np.sum((a - b) ** 2) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(moved)))

      self.assertLess(distance(analysis.permute_units(second, (), stack, orders)[0]), distance(second))

  def test_activations_are_matched(self):
    rng = np.random.default_rng(7)
    first = [rng.normal(size=(200, width)) for width in WIDTHS]
    orders = [rng.permutation(width) for width in WIDTHS]
    # Scaled, shifted and noisy: what correlates is still the same unit's.
    second = [3 * a[:, p] - 2 + 0.3 * rng.normal(size=a.shape) for a, p in zip(first, orders)]
    first[0][:, 2] = 7.0  # one unit is dead
    found = analysis.match_activations(first, second)
    for order, match in zip(orders, found):
      np.testing.assert_array_equal(order[match], np.arange(len(order)))
    for bad in ([first[0]], [a[:-1] for a in first], [a[:, 0] for a in first]):
      with self.assertRaisesRegex(InputError, 'alike'):
        analysis.match_activations(first, bad)
    with self.assertRaisesRegex(InputError, 'alike'):
      analysis.match_activations([first[0][:1]], [first[0][:1]])

  def test_align_takes_given_permutations(self):
    problem = MODELS['plain']()
    params = filled(shapes_of(problem)[0], 8)
    orders = [np.roll(np.arange(width), 1) for width in WIDTHS]
    aligned = analysis.align(problem, params, params, permutations=orders)
    np.testing.assert_array_equal(
      aligned.params['Dense_0']['kernel'], np.roll(params['Dense_0']['kernel'], 1, axis=1)
    )
    for bad in (orders[:1], [orders[0], orders[1][:-1]], [orders[0], np.zeros(WIDTHS[1], int)]):
      with self.assertRaisesRegex(InputError, 'permutations'):
        analysis.align(problem, params, params, permutations=bad)


class RefusalTest(parameterized.TestCase):
  def test_what_is_no_stack(self):
    images = np.zeros((4, 4, 4, 1)), np.array([0, 1, 2, 0])
    for module, given, message in (
      (Residual(), data(), 'changes its losses'),
      (Wide(), data(), 'gain'),
      (Pooled(), images, 'Conv_0'),
    ):
      problem = problems.from_linen(module, given, LOSS)
      shapes, state = shapes_of(problem)
      params = filled(shapes, 9)
      with self.assertRaisesRegex(InputError, message):
        analysis.align(problem, params, params, state)

  def test_layers(self):
    problem = MODELS['nnx']()
    params, _ = shapes_of(problem)
    # By name 'between' comes before 'one': the widths do not chain, and the message says what to give.
    with pytest.raises(InputError, match='layers='):
      analysis.dense_stack(params)
    for layers in (('one', 'last'), ('one', 'between', 'last', 'last'), ('one', 'between', 'end')):
      with pytest.raises(InputError, match='layers must be'):
        analysis.dense_stack(params, layers=layers)
    # One normalisation for two hidden layers: whose is it?
    params, state = shapes_of(problems.from_nnx(Stack, data(), LOSS))
    with pytest.raises(InputError, match='normalisation'):
      analysis.dense_stack(params, state, layers=LAYERS['nnx'])
    with pytest.raises(InputError, match='nested dictionaries'):
      analysis.dense_stack([jnp.ones((2, 2))])

  def test_names_are_ordered_by_their_numbers(self):
    params = {f'Dense_{k}': {'kernel': jnp.ones((k + 2, k + 3))} for k in range(12)}
    stack = analysis.dense_stack(params)
    self.assertEqual([path[0] for path in stack.kernels], [f'Dense_{k}' for k in range(12)])
    self.assertEqual(stack.biases, (None,) * 12)


class BarrierTest(parameterized.TestCase):
  def test_double_well(self):
    # Between the wells of D (x^2 - 1)^2 the line rises by D; with a tilt t x, its ends differ and it still does.
    with jax.enable_x64(True):
      problem = problems.landscapes.double_well(depth=2.0, tilt=0.3)
      line = analysis.interpolate(problem, jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0]), num_points=21)
    self.assertEqual(dict(line.sizes), {'t': 21})
    x = 2 * line.t.values - 1
    np.testing.assert_allclose(line.train_loss, 2 * (x**2 - 1) ** 2 + 0.3 * x, atol=20 * EPS)
    np.testing.assert_allclose(line.train_barrier, 2.0, rtol=20 * EPS)
    self.assertNotIn('test_barrier', line)

  def test_definition(self):
    self.assertEqual(analysis.barrier([0.0, 0.0, 0.0]), 0.0)
    self.assertEqual(analysis.barrier([4.0, 1.0, 0.0]), 0.0)  # convex
    self.assertEqual(analysis.barrier([1.0, 3.0, 3.0]), 1.0)  # below the higher end, above the line
    self.assertEqual(analysis.barrier([1.0, np.inf, 1.0]), np.inf)
    self.assertEqual(analysis.barrier([0.0, 4.0, 8.0], [0.0, 1.0, 4.0]), 2.0)
    for values, positions in (
      ([1.0], None),
      ([[1.0, 2.0]], None),
      ([1.0, np.nan], None),
      ([np.inf, 1.0, 1.0], None),
      ([1.0, 2.0], [1.0, 0.0]),
    ):
      with self.assertRaises(InputError):
        analysis.barrier(values, positions)

  def test_a_loss_that_is_not_finite_is_an_infinite_barrier(self):
    problem = problems.landscapes.booth()
    far = np.float32([1e30, 1e30])
    self.assertEqual(analysis.interpolate(problem, -far, far, num_points=4).train_barrier.item(), np.inf)
    with self.assertRaisesRegex(InputError, 'second'):
      analysis.interpolate(problem, far, np.ones(3, np.float32))
    with self.assertRaisesRegex(InputError, 'num_points'):
      analysis.interpolate(problem, far, far, num_points=1)
