"""Labels through programs, held against what numbers do: an output without a label may not change with the input."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from jax import lax

from gdlab.core.dependence import follow, trace

ROWS = 4
OWN = np.asarray([1, 2, 4, 8], np.uint32)
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
MASK = np.asarray([True, True, True, False])


def labels_of(function, *known):
  """Labels of the output for rows labelled 1, 2, 4, 8, and the operations that had no rule."""
  args = jax.ShapeDtypeStruct(X.shape, X.dtype), *known
  found = follow(trace(function, args), args, (OWN, *[0] * len(known)))
  return found.labels, set(found.doubt)


def rows_that_matter(function, *known):
  """By changing one row after the other: a lower bound on the labels."""
  base = np.asarray(function(jnp.asarray(X), *known))
  found = np.zeros(base.shape, np.uint32)
  for row in range(ROWS):
    for change in (0.7, -1.3):
      moved = X.copy()
      moved[row] += change * np.asarray([1.0, -0.5, 2.0], np.float32)
      found |= np.where(np.asarray(function(jnp.asarray(moved), *known)) != base, OWN[row], 0).astype(
        np.uint32
      )
  return found


def row_numbers(x):
  return jnp.abs(100 * x.sum(1)).astype(int)


def row_keys(x):
  return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), row_numbers(x))


# Every function and the labels worked out by hand; each row of the output by itself unless it says otherwise.
ALONE = {
  'elementwise': lambda x: jnp.tanh(x) * 2 + jnp.where(x > 0, x, 0),
  'row sums': lambda x: x.sum(1),
  'softmax of rows': lambda x: jax.nn.log_softmax(x)[:, 0],
  'picked by a known index': lambda x: x[jnp.arange(ROWS), jnp.asarray([0, 2, 1, 0])],
  'picked by the row': lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1, keepdims=True), 1)[:, 0],
  'picked by arange and the row': lambda x: x[jnp.arange(ROWS), jnp.argmax(x, 1)],
  'keys of rows': lambda x: jax.vmap(lambda key: jax.random.normal(key, (2,)))(row_keys(x)),
  'keys split and folded': lambda x: jax.vmap(
    lambda key: jax.random.uniform(jax.random.fold_in(jax.random.split(key, 3)[1], 7))
  )(row_keys(x)),
  'keys as numbers': lambda x: jax.random.key_data(
    jax.random.wrap_key_data(jax.random.key_data(row_keys(x)))
  ),
  'seeds': lambda x: jax.random.key_data(jax.vmap(jax.random.key)(row_numbers(x))),
  'embedding': lambda x: jnp.ones((5, 3))[jnp.argmax(x, 1)],
  'flattened and back': lambda x: jnp.tanh(x.reshape(-1)).reshape(ROWS, 3),
  'transposed products': lambda x: (jnp.ones((2, 3)) @ x.T).T,
  'diagonal of all pairs': lambda x: jnp.diagonal(x @ x.T),
  'row products': lambda x: jnp.einsum('bi,bi->b', x, x),
  'attention within rows': lambda x: jnp.einsum('bi,bj->bij', x, x).sum((1, 2)),
  'running sums of rows': lambda x: jnp.cumsum(x, 1),
  'sorted rows': lambda x: jnp.sort(x, 1),
  'top of rows': lambda x: lax.top_k(x, 2)[0],
  'pooled': lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 1), 'VALID'),
  'convolved': lambda x: lax.conv_general_dilated(x[:, None], jnp.ones((2, 1, 2)), (1,), 'SAME')[:, 0],
  'mapped over rows': lambda x: lax.map(lambda row: jnp.cos(row).sum(), x),
  'scanned along rows': lambda x: lax.scan(lambda c, column: (c + column, None), jnp.zeros(ROWS), x.T)[0],
  'a long scan': lambda x: lax.scan(lambda c, _: (jnp.sin(c), c), x, length=100)[0],
  'while': lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1],
  'checkpoint': lambda x: jax.checkpoint(jnp.tanh)(x),
  'vmap': lambda x: jax.vmap(lambda row: jnp.linalg.norm(row))(x),
  'Fourier transform of rows': lambda x: jnp.abs(jnp.fft.fft(x)),
  'inverse of matrices': lambda x: jnp.linalg.cholesky(jnp.einsum('bi,bj->bij', x, x) + 3 * jnp.eye(3)[None])[
    :, 0
  ],
  'stacked and split': lambda x: jnp.concatenate([x, -x], 1)[:, 1:4],
  'padded': lambda x: jnp.pad(x, ((0, 0), (1, 2))),
  'rolled': lambda x: jnp.roll(x, 1, axis=1),
  'a known branch': lambda x: lax.cond(
    jnp.arange(2)[0] == 0, jnp.sin, lambda x: x - x.mean(0, keepdims=True), x
  ),
  'sliced at a known place': lambda x: lax.dynamic_slice(x, (jnp.int32(0), jnp.int32(1)), (ROWS, 2)),
  'put into columns': lambda x: jnp.zeros((ROWS, 6)).at[:, jnp.asarray([0, 4, 2])].set(x),
  'put into a window': lambda x: jnp.zeros((ROWS, 6)).at[:, 1:4].set(x),
  'added at the row and its argument': lambda x: (
    jnp.zeros((ROWS, 3)).at[jnp.arange(ROWS), jnp.argmax(x, 1)].add(x[:, 0])
  ),
  'put by a vmap': lambda x: jax.vmap(lambda row: jnp.zeros(3).at[jnp.argmax(row)].set(row[0]))(x),
  'a loop over rows': lambda x: lax.fori_loop(
    0, ROWS, lambda i, total: total.at[i].set(x[i].sum()), jnp.zeros(ROWS)
  ),
  'dropout': lambda x: jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, x.shape), x, 0),
}
TOGETHER = {
  'a key of all rows': lambda x: jax.random.normal(
    jax.random.fold_in(jax.random.key(0), row_numbers(x).sum()), (ROWS,)
  ),
  'centred': lambda x: x - x.mean(0, keepdims=True),
  'all pairs': lambda x: (x @ x.T).sum(1),
  'broadcast pairs': lambda x: ((x[None, :, 0] - x[:, :1]) ** 2).mean(-1),
  'the largest': lambda x: x[:, 0] == x[:, 0].max(),
  'ranks': lambda x: jnp.argsort(x, axis=0)[:, 0],
  'rolled rows': lambda x: jnp.roll(x, 1, axis=0) + x,
  'unknown place': lambda x: jnp.broadcast_to(x[jnp.argmax(x[0])][None], x.shape),
  'a branch of the batch': lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
  'running sums': lambda x: jnp.cumsum(x, 0),
  'neighbours': lambda x: lax.conv_general_dilated(x.T[:, None], jnp.ones((1, 1, 3)), (1,), 'SAME')[:, 0].T,
  'counted': lambda x: jnp.bincount(jnp.argmax(x, 1), length=3)[jnp.argmax(x, 1)] * x[:, 0],
  'sums of segments': lambda x: jax.ops.segment_sum(x, jnp.argmax(x, 1), 3)[:, 0],
  'capacity': lambda x: jnp.zeros((2, 3)).at[0, jnp.cumsum(x[:, 0] > 0)].set(x[:, 0], mode='drop')[0],
  'scanned over rows': lambda x: lax.scan(lambda c, row: (c + row, c + row), jnp.zeros(3), x)[1],
}


class AloneTest(parameterized.TestCase):
  @parameterized.named_parameters(*ALONE.items())
  def test_every_row_by_itself(self, function):
    labels, doubt = labels_of(function)
    self.assertEmpty(doubt)
    self.assertFalse((labels & ~OWN.reshape(-1, *[1] * (labels.ndim - 1))).any())

  @parameterized.named_parameters(*ALONE.items(), *TOGETHER.items())
  def test_no_label_is_missing(self, function):
    labels, _ = labels_of(function)
    missing = rows_that_matter(function) & ~labels
    self.assertFalse(missing.any())

  @parameterized.named_parameters(*TOGETHER.items())
  def test_rows_together(self, function):
    labels, doubt = labels_of(function)
    self.assertEmpty(doubt)
    self.assertTrue((labels & (labels - 1)).any())


class MaskTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('where', lambda x, mask: jnp.mean(x, 0, where=mask[:, None])),
    ('select', lambda x, mask: jnp.where(mask[:, None], x, 0).sum(0)),
    ('product', lambda x, mask: (mask[:, None] * x).sum(0) / mask.sum()),
    ('sliced', lambda x, mask: x[:3].sum(0)),
  )
  def test_padding_is_left_out(self, function):
    labels, doubt = labels_of(function, MASK)
    self.assertEmpty(doubt)
    self.assertTrue((labels == 7).all())

  def test_padding_that_is_left_in(self):
    labels, _ = labels_of(lambda x, mask: jnp.where(mask[:, None], x - x.mean(0, keepdims=True), 0), MASK)
    self.assertTrue((labels[:3] & 8).all())
    self.assertFalse(labels[3].any())

  def test_a_mask_that_is_not_known(self):
    args = jax.ShapeDtypeStruct(X.shape, X.dtype), jax.ShapeDtypeStruct((ROWS,), bool)
    found = follow(trace(lambda x, mask: jnp.where(mask[:, None], x, 0).sum(0), args), args, (OWN, 0))
    self.assertTrue((found.labels == 15).all())


class DoubtTest(parameterized.TestCase):
  def test_an_operation_without_a_rule_mixes_and_says_so(self):
    def host(x):
      return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(X.shape, X.dtype), x)

    labels, doubt = labels_of(host)
    self.assertTrue((labels == 15).all())
    self.assertEqual(doubt, {'pure_callback'})

  def test_no_doubt_where_no_label_comes_by(self):
    _, doubt = labels_of(lambda x: x + jnp.zeros((1, 3)).at[:, jnp.asarray([0, 1])].add(1.0))
    self.assertEmpty(doubt)


class WordsTest(parameterized.TestCase):
  @parameterized.parameters(jnp.uint32, jnp.uint16)
  def test_bits_of_words(self, dtype):
    labels, doubt = labels_of(lambda x: lax.bitcast_convert_type(x, dtype))
    self.assertEmpty(doubt)
    self.assertFalse((labels & ~OWN.reshape(-1, *[1] * (labels.ndim - 1))).any())
