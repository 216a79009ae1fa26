"""Character models: what they are trained on, their loss, and training itself."""

import functools
import os
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from flax import linen as nn
from flax import nnx
from scipy import special

import gdlab
from gdlab import sampling
from gdlab.core.errors import InputError
from gdlab.problems import text as module
from gdlab.problems.language_models import GRU, Transformer
from gdlab.problems.text import character_lm, decode, encode, read_text, shakespeare, vocabulary

SMALL = functools.partial(Transformer, width=8, num_layers=1, num_heads=2, max_context=8)
SMALL_GRU = functools.partial(GRU, width=8)


class CharactersTest(parameterized.TestCase):
  def file(self, content):
    folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    (folder / 'input.txt').write_bytes(content)
    return folder / 'input.txt'

  def test_windows(self):
    path = self.file('bananas, Ärger!'.encode())  # 15 characters; in order of code points: ' !,abegnrsÄ'
    problem = character_lm(SMALL_GRU, path, context=3, test_fraction=0.3)  # 4.5 rounds to 4
    characters = ' !,abegnrsÄ'
    self.assertEqual(vocabulary(read_text(path)), characters)
    self.assertEqual([decode(row, characters) for row in problem.train.inputs], ['ban', 'ana', 's, '])
    self.assertEqual([decode(row, characters) for row in problem.train.targets], ['ana', 'nas', ', Ä'])
    self.assertEqual([decode(row, characters) for row in problem.test.inputs], ['ger'])
    self.assertEqual([decode(row, characters) for row in problem.test.targets], ['er!'])
    self.assertEqual({str(leaf.dtype) for leaf in problem.train}, {'int32'})
    np.testing.assert_array_equal(encode('Ä a', characters), [10, 0, 3])

    dense_windows = character_lm(SMALL_GRU, path, context=3, stride=1, test_fraction=0)
    self.assertEqual(dense_windows.num_examples, 15 - 3)
    self.assertIsNone(dense_windows.test)
    self.assertEqual(decode(dense_windows.train.targets[-1], characters), 'er!')

  def test_loss_and_accuracy_are_means_over_positions(self):
    problem = character_lm(SMALL_GRU, context=8)
    params, state = problem.init(jax.random.key(0))
    examples = jax.tree.map(lambda leaf: leaf[:3], problem.test)
    found = problem.metrics(params, state, examples)
    net = SMALL_GRU(len(vocabulary(read_text())))
    log_p = special.log_softmax(
      np.asarray(net.apply({'params': params}, examples.inputs), np.float64), axis=-1
    )
    right = np.take_along_axis(log_p, np.asarray(examples.targets)[..., None], axis=-1)[..., 0]
    # float32 rounding of logits near 0 and of a mean of 8 numbers near 4.
    np.testing.assert_allclose(found['loss'], -right.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found['accuracy'], (log_p.argmax(-1) == examples.targets).mean(1), rtol=1e-6)
    losses, _ = problem.loss(params, state, examples, jnp.ones(3, bool), jax.random.key(1))
    np.testing.assert_allclose(losses, found['loss'], rtol=1e-6)

  @pytest.mark.slow
  def test_one_step_is_that_of_a_plain_loop(self):
    problem = character_lm(SMALL_GRU, context=8)
    algorithm = gdlab.algorithm(sampler=sampling.sequential(4), optimizer=optax.adam(1e-2))
    state = algorithm.init(jax.random.key(0), problem)
    start = state.params
    for _ in range(3):
      state, _ = jax.jit(algorithm.step)(state, problem)

    net, optimizer = SMALL_GRU(len(vocabulary(read_text()))), optax.adam(1e-2)

    @jax.jit
    def step(params, optimizer_state, inputs, targets):
      def loss(params):
        logits = net.apply({'params': params}, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

      updates, optimizer_state = optimizer.update(jax.grad(loss)(params), optimizer_state)
      return optax.apply_updates(params, updates), optimizer_state

    params, optimizer_state = start, optimizer.init(start)
    for t in range(3):
      rows = slice(4 * t, 4 * t + 4)
      params, optimizer_state = step(
        params, optimizer_state, problem.train.inputs[rows], problem.train.targets[rows]
      )
    # Adam's first steps are 1e-2 g/|g|: where g is a thousandth of what it sums, float32 leaves 1e-4 of it.
    chex.assert_trees_all_close(state.params, params, atol=1e-5)

  @parameterized.parameters(
    (functools.partial(Transformer, width=32, num_layers=1, num_heads=2, max_context=32), 0.2),
    (functools.partial(GRU, width=32), 0.4),
  )
  @pytest.mark.slow
  def test_training_finds_more_than_letter_frequencies(self, model, gain):
    problem = character_lm(model, context=32)
    method = gdlab.algorithm(sampler=sampling.reshuffle(16), optimizer=optax.adam(1e-2))
    run = gdlab.run(problem, method, num_steps=80, seeds=1, eval_every=80, plan=gdlab.Plan(1, 1))
    text = read_text()
    shares = np.bincount(encode(text, vocabulary(text))) / len(text)
    entropy = -np.sum(shares * np.log(shares))  # the least loss of a model that ignores the context
    self.assertLess(float(run.test_loss[0, -1]), entropy - gain)

  def test_equal_problems_compile_once(self):
    build = lambda: jax.tree.structure(character_lm(SMALL, context=8))
    self.assertEqual(build(), build())
    self.assertEqual(hash(build()), hash(build()))

  def test_excerpt(self):
    text = read_text()
    self.assertTrue(text.isascii())
    self.assertBetween(len(text), 20_000, 40_000)
    self.assertEqual(character_lm(SMALL, context=8).test.inputs.shape, ((round(0.1 * len(text)) - 1) // 8, 8))

  @parameterized.parameters(
    ({'context': 0}, 'context.*>= 1, got 0'),
    ({'context': 30_000}, r'context must be less than the length.*got 30000'),
    ({'context': 1000, 'test_fraction': 0.01}, r'context must be less than the length.*207\], got 1000'),
    ({'stride': 0}, 'stride.*>= 1, got 0'),
    ({'test_fraction': 1.0}, r'test_fraction must be a real number in \[0, 1.0\), got 1.0'),
    ({'path': 3.5}, 'path must be that of a text file, or None, got 3.5'),
    ({'test_fraction': -0.1}, r'test_fraction.*\[0, 1.0\), got -0.1'),
    ({'model': SMALL(70)}, r'model must be a function \(vocabulary_size\)'),
    ({'model': lambda size: None}, 'module must be an instance of flax.linen.Module, got None'),
    ({'model': lambda size: SMALL_GRU(size - 1), 'context': 8}, r'labels in \[0, \d+\]'),
    ({'path': 'no/such/file'}, 'no/such/file: expected a readable text file, found No such file'),
  )
  def test_refusals(self, options, message):
    with self.assertRaisesRegex(InputError, message):
      character_lm(**options)

  def test_strange_characters_and_bytes_are_refused(self):
    with self.assertRaisesRegex(InputError, "given characters, got 'c'"):
      encode('abcd', 'abde')
    for wrong in ([-1], [2], [1.5], 3, [[0]]):
      with self.assertRaisesRegex(InputError, 'ids must be'):
        decode(wrong, 'ab')
    self.assertEqual(decode([], 'ab'), '')
    with self.assertRaisesRegex(InputError, 'input.txt: expected a text in UTF-8, found .*0xff'):
      read_text(self.file(b'a\xff'))


class WritingTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 5, 20)
  def test_a_model_that_counts_goes_on_counting(self, context):
    next_one = lambda ids: 30.0 * jax.nn.one_hot((ids + 1) % 3, 3)
    written = gdlab.problems.sample_text(
      next_one, 'bc', 'abc', length=9, key=jax.random.key(0), context=context
    )
    self.assertEqual(written, 'bcabcabcabc')

  def test_the_model_sees_the_last_characters_alone(self):
    # What was seen `context` characters ago, written again: the text repeats with that period.
    first = lambda ids: 30.0 * jax.nn.one_hot(jnp.broadcast_to(ids[:, :1], ids.shape), 5)
    written = gdlab.problems.sample_text(first, 'abcd', 'abcde', length=8, key=jax.random.key(0), context=4)
    self.assertEqual(written, 'abcdabcdabcd')

  @parameterized.parameters(0.5, 1.0)
  def test_characters_come_as_often_as_predicted(self, temperature):
    logits = jnp.asarray([0.0, 1.0, -1.0])
    flat = lambda ids: jnp.broadcast_to(logits, (*ids.shape, 3))
    written = gdlab.problems.sample_text(
      flat, 'a', 'abc', length=4000, key=jax.random.key(1), context=2, temperature=temperature
    )[1:]
    shares = np.asarray([written.count(character) for character in 'abc']) / 4000
    expected = special.softmax(np.asarray(logits) / temperature)
    np.testing.assert_array_less(np.abs(shares - expected), 4 * np.sqrt(expected * (1 - expected) / 4000))

  def test_an_nnx_model_is_that_of_a_linen_one(self):
    class Bigram(nnx.Module):
      def __init__(self, size, rngs):
        self.table = nnx.Embed(size, size, rngs=rngs)

      def __call__(self, ids):
        return self.table(ids)

    problem = character_lm(lambda size: lambda rngs: Bigram(size, rngs), context=8)
    linen = character_lm(lambda size: nn.Embed(size, size), context=8)
    params, _ = linen.init(jax.random.key(0))
    ours = {'table': params}
    loss = gdlab.evaluate(problem, ours)['train_loss']
    np.testing.assert_allclose(loss, gdlab.evaluate(linen, params)['train_loss'], rtol=1e-6)
    characters = vocabulary(read_text())
    module = gdlab.to_flax(problem, ours)
    written = gdlab.problems.sample_text(
      module, 'T', characters, length=3, key=jax.random.key(0), temperature=0
    )
    by_hand = [characters.index('T')]
    for _ in range(3):
      by_hand.append(int(np.argmax(params['embedding'][by_hand[-1]])))
    self.assertEqual(written, decode(by_hand, characters))

  @parameterized.parameters(
    ({'prompt': ''}, 'prompt must have at least one character'),
    ({'prompt': 'z'}, "given characters, got 'z'"),
    ({'length': 0}, 'length must be'),
    ({'temperature': -1.0}, 'temperature must be'),
  )
  def test_refusals(self, options, message):
    given = {'prompt': 'a', 'characters': 'ab', 'length': 1, 'key': jax.random.key(0)} | options
    with self.assertRaisesRegex(InputError, message):
      gdlab.problems.sample_text(lambda ids: ids, given.pop('prompt'), given.pop('characters'), **given)


class ShakespeareTest(parameterized.TestCase):
  def test_what_is_missing_or_different_is_said(self):
    folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    with self.assertRaisesRegex(InputError, 'input.txt: expected a readable text file'):
      shakespeare(SMALL, folder)
    with self.assertRaisesRegex(InputError, 'data_dir must be the path of a folder, or None, got 3'):
      shakespeare(SMALL, 3)
    (folder / 'input.txt').write_text('First Citizen:\n')
    with self.assertRaisesRegex(
      InputError, f'expected a text with SHA-256 {module.SHAKESPEARE_SHA256}, found'
    ):
      shakespeare(SMALL, folder)
    environment = {key: value for key, value in os.environ.items() if key != 'GDLAB_DATA'}
    with (
      unittest.mock.patch.dict(os.environ, environment, clear=True),
      self.assertRaisesRegex(InputError, 'GDLAB_DATA'),
    ):
      shakespeare(SMALL)

  @unittest.skipUnless(
    Path(os.environ.get('GDLAB_DATA', ''), 'tinyshakespeare', 'input.txt').is_file(),
    'GDLAB_DATA has no tinyshakespeare',
  )
  def test_the_file(self):
    problem = shakespeare(functools.partial(GRU, width=4), context=100)
    characters = vocabulary(read_text(Path(os.environ['GDLAB_DATA'], 'tinyshakespeare', 'input.txt')))
    self.assertLen(characters, 65)
    self.assertEqual(problem.num_examples, (1_115_394 - 111_539 - 1) // 100)
    self.assertStartsWith(decode(problem.train.inputs[0], characters), 'First Citizen:\nBefore we proceed')
