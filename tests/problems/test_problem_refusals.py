"""Bad data and functions are refused where they are given, with argument, value and what is allowed."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from flax import nnx

from gdlab.core.errors import InputError
from gdlab.problems import MLP, from_linen, from_nnx

X, Y = np.ones((6, 4), np.float32), np.array([0, 1, 2, 0, 1, 2])
loss = optax.softmax_cross_entropy_with_integer_labels


def squared(outputs, targets):
  return ((outputs - targets) ** 2).sum(-1)


def with_nan():
  x = X.copy()
  x[4, 2] = np.nan
  return x


def linear(rngs):
  return nnx.Linear(4, 3, rngs=rngs)


class Unhashable(nn.Module):
  widths: list

  def __call__(self, x):
    return x


class RefusalsTest(parameterized.TestCase):
  @parameterized.parameters(
    ((X, Y[:5]), r'as many inputs as targets.*data\.inputs has 6.*data\.targets has 5'),
    ((X[:0], Y[:0]), r'data\.inputs must hold at least one example.*\(0, 4\)'),
    ((with_nan(), Y), r'data\.inputs must be finite, got nan at index \(4, 2\)'),
    ((X * np.inf, Y), r'data\.inputs must be finite, got inf'),
    ((X.astype(object), Y), r'data\.inputs must have a float, integer or boolean dtype, got object'),
    ((X * 1j, Y), 'dtype, got complex'),
    ((X.astype(str), Y), 'dtype, got <U'),
    ((X, [[1], [2, 3]]), r'data\.targets must be a rectangular array of numbers, got \[\[1\], \[2, 3\]\]'),
    (({'a': X, 'b': X[:3]}, Y), r"data\.inputs\['b'\] has 3"),
    (((), Y), r'data\.inputs must hold at least one array'),
    ((X, Y, Y), r'data must be a pair \(inputs, targets\)'),
    (X, r'data must be a pair'),
    ((X, Y + 1), r'data\.targets must be labels in \[0, 2\].*3 outputs.*got 3'),
    ((X, Y - 1), r'data\.targets must be labels in \[0, 2\].*got -1'),
  )
  def test_data(self, data, message):
    for build in (lambda: from_linen(nn.Dense(3), data, loss), lambda: from_nnx(linear, data, loss)):
      with self.assertRaisesRegex(InputError, message) as caught:
        build()
      self.assertNotIn('\n', str(caught.exception))

  @parameterized.parameters(
    ({'test': (X, Y + 1)}, r'test\.targets must be labels in \[0, 2\].*got 3'),
    ({'test': (X[:, :2], Y)}, r'test must hold examples like those of the training data.*\(2,\)'),
    ({'test': (X, Y.astype(float))}, r'test must hold examples like.*float32'),
    ({'test': (X, Y[:2])}, r'test\.targets has 2'),
    ({'metrics': {'loss': loss}}, "metrics must not hold 'loss'"),
    ({'metrics': {'accuracy': 'accuracy'}}, "accuracy must be a function.*'accuracy'"),
    (
      {'metrics': {'mean': lambda o, t: o.mean()}},
      r'mean must return one number per example.*got shape \(\)',
    ),
    ({'metrics': {'all': lambda o, t: o}}, r'all must return.*\(7,\) for a batch of 7, got shape \(7, 3\)'),
  )
  def test_options(self, options, message):
    with self.assertRaisesRegex(InputError, message):
      from_linen(nn.Dense(3), (X, Y), loss, **options)

  def test_loss_that_mixes_examples(self):
    # The classic slip: outputs [B, 1] minus targets [B] is [B, B].
    def slip(outputs, targets):
      return (outputs - targets[None]) ** 2

    with self.assertRaisesRegex(InputError, r'loss must return.*got shape \(7, 7\)'):
      from_linen(nn.Dense(1), (X, X[:, 0]), slip)

  @parameterized.parameters(
    (lambda: from_linen(MLP, (X, Y), loss), 'module must be an instance of flax.linen.Module.*MLP'),
    (
      lambda: from_linen(Unhashable(np.ones(1)), (X, X), squared),
      'the model must be hashable.*Unhashable[^\n]*$',
    ),
    (lambda: from_nnx(linear(nnx.Rngs(0)), (X, Y), loss), 'make_module must be a function'),
    (lambda: from_nnx(3, (X, Y), loss), 'make_module must be a function.*3'),
    (lambda: from_nnx(lambda rngs: jnp.ones(3), (X, Y), loss), 'make_module must return an nnx.Module'),
  )
  def test_models(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()

  @parameterized.parameters(
    (nn.Dense(1), (X, Y + 5), lambda outputs, targets: squared(outputs, targets[:, None])),
    (nn.Dense(4), (X, X), squared),
    (MLP((), 3), (np.stack([X, X], 1).astype(np.uint8), Y.astype(np.uint8)), loss),
    (nn.Dense(3), [X.tolist() and jnp.asarray(X), Y.astype(bool)], lambda outputs, targets: outputs[:, 0]),
  )
  def test_what_is_allowed(self, module, data, function):
    self.assertEqual(from_linen(module, data, function).num_examples, 6)

  def test_floats_take_the_default_type_and_labels_stay_integers(self):
    problem = from_linen(nn.Dense(3), (X.astype(np.float16), Y), loss)
    self.assertEqual(
      (str(problem.train.inputs.dtype), str(problem.train.targets.dtype)), ('float32', 'int32')
    )

  def test_data_is_a_copy(self):
    inputs, labels = X.copy(), Y.astype(np.int32)
    problem = from_linen(nn.Dense(3), (inputs, labels), loss)
    inputs[:], labels[:] = 7, 1
    np.testing.assert_array_equal(problem.train.inputs, X)
    np.testing.assert_array_equal(problem.train.targets, Y)
