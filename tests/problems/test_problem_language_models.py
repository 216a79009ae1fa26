"""The two language models against NumPy, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import special

from gdlab.core.errors import InputError
from gdlab.problems.language_models import GRU, Transformer

V, T = 5, 6
SMALL = functools.partial(Transformer, width=8, num_layers=2, num_heads=2, max_context=10)
SMALL_GRU = functools.partial(GRU, width=4, num_layers=2)
MODELS = {'tied': SMALL, 'untied': functools.partial(SMALL, tied=False), 'gru': SMALL_GRU}


def ids(count=3, seed=0):
  return np.random.default_rng(seed).integers(0, V, (count, T)).astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def init(net, key):
  return net.init(key, jnp.zeros((1, T), jnp.int32))


@functools.partial(jax.jit, static_argnums=0)
def apply(net, variables, inputs):
  return net.apply(variables, inputs)


def random_params(net):
  """Parameters none of which is special: biases are not 0, scales not 1."""
  leaves, treedef = jax.tree.flatten(init(net, jax.random.key(0)))
  rng = np.random.default_rng(1)
  return jax.tree.unflatten(treedef, [rng.normal(size=leaf.shape) / 2 for leaf in leaves])


def dense(params, x):
  return x @ params['kernel'] + params.get('bias', 0)


def layer_norm(params, x):
  x = x - x.mean(-1, keepdims=True)
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * params['scale'] + params['bias']


def transformer(params, inputs, num_layers):
  """Logits [T, V] of one sequence, position by position."""
  x = params['Embed_0']['embedding'][inputs] + params['positions'][: len(inputs)]
  for i in range(num_layers):
    attention = params[f'MultiHeadDotProductAttention_{i}']
    y = layer_norm(params[f'LayerNorm_{2 * i}'], x)
    q, k, v = (
      np.einsum('tw,whd->htd', y, attention[n]['kernel']) + attention[n]['bias'][:, None]
      for n in ('query', 'key', 'value')
    )
    mixed = np.zeros_like(q)
    for t in range(len(inputs)):
      scores = np.einsum('hd,hsd->hs', q[:, t], k[:, : t + 1]) / np.sqrt(q.shape[-1])
      mixed[:, t] = np.einsum('hs,hsd->hd', special.softmax(scores, axis=-1), v[:, : t + 1])
    x = x + np.einsum('htd,hdw->tw', mixed, attention['out']['kernel']) + attention['out']['bias']
    y = dense(params[f'Dense_{2 * i}'], layer_norm(params[f'LayerNorm_{2 * i + 1}'], x))
    # The approximation of Hendrycks and Gimpel, which Flax has by default.
    y = y / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    x = x + dense(params[f'Dense_{2 * i + 1}'], y)
  x = layer_norm(params[f'LayerNorm_{2 * num_layers}'], x)
  last = f'Dense_{2 * num_layers}'
  return dense(params[last], x) if last in params else x @ params['Embed_0']['embedding'].T


def gru(params, inputs, num_layers):
  x = params['Embed_0']['embedding'][inputs]
  for i in range(num_layers):
    cell = params[f'GRUCell_{i}']
    state, outputs = np.zeros(x.shape[1]), []
    for row in x:
      r = special.expit(dense(cell['ir'], row) + dense(cell['hr'], state))
      z = special.expit(dense(cell['iz'], row) + dense(cell['hz'], state))
      n = np.tanh(dense(cell['in'], row) + r * dense(cell['hn'], state))
      state = (1 - z) * n + z * state
      outputs.append(state)
    x = np.stack(outputs)
  return dense(params['Dense_0'], x)


class ModelsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(jax.enable_x64(True))

  @parameterized.parameters(*MODELS)
  def test_forward_pass_is_numpys(self, name):
    net = MODELS[name](V)
    params = random_params(net)
    by_hand = gru if name == 'gru' else transformer
    expected = [by_hand(params['params'], row, 2) for row in ids()]
    # Some 100 operations on numbers of order 10.
    np.testing.assert_allclose(apply(net, params, ids()), expected, rtol=1e-11, atol=1e-11)

  @parameterized.parameters(*MODELS)
  def test_no_look_ahead(self, name):
    net = MODELS[name](V)
    params, inputs = random_params(net), ids(1)
    before = np.asarray(apply(net, params, inputs))
    for position in range(T):
      changed = inputs.copy()
      changed[0, position] = (changed[0, position] + 1) % V
      difference = np.abs(np.asarray(apply(net, params, changed)) - before).max(axis=(0, 2))
      np.testing.assert_array_equal(difference[:position], 0)
      self.assertTrue((difference[position:] > 1e-6).all(), difference)

  @parameterized.parameters(*MODELS)
  def test_first_predictions_are_nearly_uniform(self, name):
    net = MODELS[name](V)
    logits = apply(net, init(net, jax.random.key(0)), ids())
    losses = -np.take_along_axis(special.log_softmax(logits, axis=-1), ids()[..., None], axis=-1)
    # The last norm has outputs of size 1, and 8 of them meet weights of size 0.02: logits of size s = 0.06. The
    # GRU's state is of the size of its inputs, 0.02, and meets weights of size 0.5 = 1/sqrt(4): 0.02. Logits of
    # size s change a loss by about s, at most 3s.
    np.testing.assert_allclose(losses, np.log(V), atol=0.2)
    self.assertGreater(np.std(logits), 1e-3)

  @parameterized.parameters(
    # Embedding and positions; per layer two norms, four projections, two Dense; the last norm.
    ('tied', 8 * (5 + 10) + 2 * (2 * 16 + 4 * (64 + 8) + (8 * 32 + 32) + (32 * 8 + 8)) + 16),
    ('untied', 8 * (5 + 10) + 2 * (2 * 16 + 4 * (64 + 8) + (8 * 32 + 32) + (32 * 8 + 8)) + 16 + 45),
    # Embedding; per layer three products of the input with biases, three of the state of which one has a bias.
    ('gru', 5 * 4 + 2 * (3 * (16 + 4) + 3 * 16 + 4) + 5 * 4 + 5),
  )
  def test_number_of_parameters(self, name, expected):
    shapes = jax.eval_shape(MODELS[name](V).init, jax.random.key(0), ids())
    self.assertEqual(sum(leaf.size for leaf in jax.tree.leaves(shapes)), expected)
    self.assertEqual({str(leaf.dtype) for leaf in jax.tree.leaves(shapes)}, {'float64'})

  @parameterized.parameters(
    (lambda: Transformer(0), 'vocabulary_size.*>= 1, got 0'),
    (lambda: Transformer(5, width=6), 'width must be a multiple of num_heads = 4, got 6'),
    (lambda: Transformer(5, num_layers=1.5), 'num_layers.*1.5'),
    (lambda: GRU(5, width=0), 'width.*got 0'),
    (
      lambda: jax.eval_shape(Transformer(5, max_context=3).init, jax.random.key(0), ids()),
      'sequences must not be longer than max_context = 3, got 6',
    ),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()
