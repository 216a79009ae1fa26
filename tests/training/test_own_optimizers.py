"""Mistakes in an optimizer of one's own: each is refused in one line that says what to change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdlab
from gdlab import InputError

DATA = jnp.linspace(-1, 1, 8)
PER_EXAMPLE = 'per-example'
MEAN = lambda tree: jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), tree)


def own(update, init=lambda params: ()):
  return optax.GradientTransformation(init, update)


def refusal(optimizer, **estimator):
  """The message of a run with it on a problem with the parameters a, float[3], and b, float[]."""
  loss = lambda params, x: jnp.sum((params['a'] * x + params['b']) ** 2)
  problem = gdlab.problems.from_function(loss, {'a': jnp.ones(3), 'b': jnp.float32(0)}, data=DATA)

  def run():
    method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optimizer, **estimator)
    gdlab.run(problem, method, num_steps=2, seeds=1)

  with pytest.raises(InputError) as caught:
    run()
  message = str(caught.value)
  assert '\n' not in message
  return message


@pytest.mark.parametrize(
  ('update', 'expected'),
  [
    (lambda g, s, p: (jnp.zeros(4), s), "a tree with the leaves ['a'] (3,), ['b'] (), got (4,)"),
    (lambda g, s, p: ({'a': g['a']}, s), "a tree with the leaves ['a'] (3,), ['b'] (), got ['a'] (3,)"),
    (lambda g, s, p: (jax.tree.map(jnp.sum, g), s), "(3,) for ['a'], got ()"),
    (lambda g, s, p: (s, g), 'got none: update must return (updates, state) in this order'),
    (lambda g, s, p: g['a'], 'optimizer must return (updates, state) from its update, got '),
  ],
)
def test_a_wrong_return_names_the_leaves(update, expected):
  message = refusal(own(update))
  assert expected in message
  assert PER_EXAMPLE not in message


@pytest.mark.parametrize('inside', [False, True])
def test_an_update_without_params(inside):
  optimizer = own(lambda g, s: (g, s))
  message = refusal(optax.chain(optimizer, optax.sgd(0.1)) if inside else optimizer)
  assert '(updates, state, params=None)' in message
  assert PER_EXAMPLE not in message


@pytest.mark.parametrize(
  'update',
  [
    lambda g, s, p: (g if g['b'] > 0 else p, s),
    lambda g, s, p: (g if g['a'] > 0 else p, s),
    lambda g, s, p: (jax.tree.map(lambda leaf: -0.1 * np.sign(np.asarray(leaf)), g), s),
    lambda g, s, p: (jax.tree.map(lambda leaf: leaf * float(g['b']), g), s),
  ],
)
def test_a_look_at_a_value(update):
  message = refusal(own(update))
  assert message.startswith('optimizer cannot make an update of one gradient for the batch (')
  assert message.endswith('use jnp.where in place of if, and jax.numpy in place of NumPy')


def test_gradients_of_examples_are_mentioned_to_those_who_need_them():
  of_examples = own(lambda g, s, p: (jax.tree.map(lambda leaf: -0.1 * leaf, MEAN(g)), s))
  assert refusal(of_examples).endswith(
    'it takes per-example gradients, so it needs estimator=gdlab.estimators.per_example(stacked=True)'
  )
  stacked = gdlab.estimators.per_example(stacked=True)
  assert refusal(optax.sgd(0.1), estimator=stacked).endswith('an estimator that is not stacked')
