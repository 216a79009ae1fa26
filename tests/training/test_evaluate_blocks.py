"""Mean metrics over a data set in blocks, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

import gdlab
from gdlab.core.evaluation import block_size
from gdlab.core.types import Problem

BLOCK = 2048  # examples of a block: sizes below, at and above one and two of them


def problem_of(train, test=None):
  def metrics(params, model_state, examples):
    shifted = examples['x'] + params + model_state
    return {'loss': shifted**2, 'positive': shifted > 0, 'whole': jnp.asarray(shifted, jnp.int32)}

  return Problem(None, None, metrics, 'numbers', train, test)


class EvaluateTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 5000)
  def test_every_example_counts_once(self, size):
    x = np.random.default_rng(0).normal(size=size) * 3
    with jax.enable_x64(True):
      found = gdlab.evaluate(problem_of({'x': jnp.asarray(x)}), jnp.asarray(0.5), jnp.asarray(0.25))
    shifted = x + 0.75
    self.assertEqual(set(found), {'train_loss', 'train_positive', 'train_whole'})
    # A sum of positive terms errs by at most its length in eps.
    rtol = (size + 4) * np.finfo(np.float64).eps
    np.testing.assert_allclose(found['train_loss'], np.mean(shifted**2), rtol=rtol)
    np.testing.assert_allclose(found['train_positive'], np.mean(shifted > 0), rtol=rtol)
    np.testing.assert_allclose(found['train_whole'], np.mean(shifted.astype(int)), rtol=rtol)

  @parameterized.parameters(1, 82, 83, 84, 167, 200)
  def test_large_examples_come_in_smaller_blocks_and_count_once(self, size):
    # 784 floats each: 2^18 bytes hold 83 of them.
    x = np.random.default_rng(0).normal(size=(size, 784)).astype(np.float32)
    self.assertEqual(block_size({'x': jnp.asarray(x)}), 83)
    metrics = lambda params, model_state, examples: {'sum': examples['x'].sum(axis=1)}
    found = gdlab.evaluate(Problem(None, None, metrics, 'wide', {'x': jnp.asarray(x)}, None), 0.0)
    # 784 x size terms of order one, summed in float32 in some tree, over a mean of `size`.
    np.testing.assert_allclose(found['train_sum'], x.sum(axis=1, dtype=np.float64).mean(), atol=1e-3)

  def test_both_splits_where_there_are_two(self):
    train, test = {'x': jnp.array([1.0, 3.0])}, {'x': jnp.array([2.0])}
    found = gdlab.evaluate(problem_of(train, test), 0.0, 0.0)
    self.assertEqual(
      {name: float(value) for name, value in found.items()},
      {
        'train_loss': 5.0,
        'train_positive': 1.0,
        'train_whole': 2.0,
        'test_loss': 4.0,
        'test_positive': 1.0,
        'test_whole': 2.0,
      },
    )

  def test_a_missing_value_is_not_hidden(self):
    x = jnp.ones(BLOCK + 5).at[BLOCK + 2].set(jnp.nan)
    self.assertTrue(np.isnan(gdlab.evaluate(problem_of({'x': x}), 0.0, 0.0)['train_loss']))
