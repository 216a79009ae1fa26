"""Shapes that broadcast, and per-example gradients (issue 18, B): right values, or one line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import gdlab
from gdlab.problems import Mixing, from_linen, mixing

S = gdlab.sampling
rng = np.random.default_rng(0)
N, B = 100, 32
X = rng.normal(size=(N, 6)).astype(np.float32) * np.linspace(0.5, 3, 6, dtype=np.float32)
Y = rng.integers(0, 3, N)
# Sums of at most 1e3 float32 terms in another order, of descent that contracts.
ROUNDING = 1e4 * float(np.finfo(np.float32).eps)


@pytest.mark.parametrize(('outputs', 'targets'), [((), (1,)), ((1,), ()), ((2, 1), (2,)), ((1, 4), (4, 1))])
def test_outputs_and_targets_that_broadcast_to_pairs(outputs, targets):
  class Shaped(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(int(np.prod(outputs)))(x).reshape(-1, *outputs)

  y = np.ones((N, *targets), np.float32)
  squared = lambda o, t: ((o - t) ** 2).reshape(len(o), -1).mean(-1)
  if len(outputs) + 1 == len(targets) or len(outputs) == len(targets) + 1:
    with jax.numpy_rank_promotion('allow'), pytest.raises(gdlab.InputError, match=r'float32\[7.*float32\[7'):
      from_linen(Shaped(), (X, y), squared)
  else:  # within an example pairs are the user's affair
    from_linen(Shaped(), (X, y), squared)


def test_targets_of_another_rank_that_the_loss_knows_of():
  # A mean and a variance for one target: shapes that would broadcast, and a loss that does not set them against others.
  gaussian = lambda o, t: (o[:, 0] - t[:, 0]) ** 2 / jnp.exp(o[:, 1]) + o[:, 1]
  problem = from_linen(nn.Dense(2), (X, np.ones((N, 1))), gaussian)
  assert mixing(problem) == Mixing(False, False, False)


def column_losses(params, model_state, examples, mask, key):
  return optax.sigmoid_binary_cross_entropy(examples[0] @ params, examples[1]), model_state


def test_a_problem_of_ones_own_with_losses_in_columns():
  train = jnp.asarray(X), jnp.asarray(Y[:, None] > 0, jnp.float32)
  problem = gdlab.Problem(
    init=lambda key: (jnp.zeros((6, 1)), ()),
    loss=column_losses,
    metrics=lambda p, s, e: {'loss': column_losses(p, s, e, None, None)[0]},
    name='columns',
    train=train,
  )
  method = gdlab.algorithm(sampler=S.reshuffle(B), optimizer=optax.sgd(0.1))
  with pytest.raises(gdlab.InputError, match=r'loss must return one number per example.*\(7, 1\)'):
    method.step(method.init(jax.random.key(0), problem), problem)
  with pytest.raises(
    gdlab.InputError, match=r"metric 'loss' must return one number per example.*\(100, 1\)|\(7, 1\)"
  ):
    gdlab.evaluate(problem, jnp.zeros((6, 1)))
  with pytest.raises(gdlab.InputError, match='one number per example'):
    gdlab.run(problem, method, num_steps=1, seeds=1)


# Per-example gradients for optimizers that want them.


def kernel_problem():
  """Least squares in one array, [6, 2]: its rows are no examples."""
  train = jnp.asarray(X), jnp.asarray(X[:, :2])

  def losses(params, model_state, examples, mask=None, key=None):
    return jnp.sum((examples[0] @ params - examples[1]) ** 2, -1), model_state

  return gdlab.Problem(
    lambda key: (jnp.zeros((6, 2)), ()), losses, lambda p, s, e: {'loss': losses(p, s, e)[0]}, 'kernel', train
  )


@pytest.mark.parametrize(
  'optimizer',
  [
    # What optax.contrib.dpsgd is made of; it hands on a seed that Optax itself warns of.
    optax.chain(optax.contrib.differentially_private_aggregate(1e3, 0.0, key=0), optax.sgd(0.01)),
    optax.chain(gdlab.transforms.noise_scale(), optax.sgd(0.01)),
  ],
)
def test_optimizers_of_per_example_gradients(optimizer):
  problem = kernel_problem()
  plain = gdlab.algorithm(sampler=S.reshuffle(B), optimizer=optimizer)
  with pytest.raises(gdlab.InputError, match=r'updates of the parameters.*per_example\(stacked=True\)'):
    plain.step(plain.init(jax.random.key(0), problem), problem)
  stacked = gdlab.estimators.per_example(stacked=True)
  result = gdlab.run(
    problem,
    gdlab.algorithm(sampler=S.reshuffle(B), optimizer=optimizer, estimator=stacked),
    num_steps=40,
    seeds=2,
    eval_every=40,
  )
  expected = gdlab.run(
    problem,
    gdlab.algorithm(sampler=S.reshuffle(B), optimizer=optax.sgd(0.01)),
    num_steps=40,
    seeds=2,
    eval_every=40,
  )
  # Nothing is clipped and no noise added, so both are gradient descent; also with 4 examples in each fourth batch.
  for name in ('train_loss', 'grad_norm', 'param_norm'):
    np.testing.assert_allclose(result[name], expected[name], rtol=ROUNDING, atol=ROUNDING)


def test_stacked_gradients_for_an_optimizer_that_wants_one():
  problem = kernel_problem()
  method = gdlab.algorithm(
    sampler=S.reshuffle(B), optimizer=optax.sgd(0.1), estimator=gdlab.estimators.per_example(stacked=True)
  )
  with pytest.raises(gdlab.InputError, match=r"updates of the parameters' shapes"):
    method.step(method.init(jax.random.key(0), problem), problem)
  with pytest.raises(gdlab.InputError, match='estimator must estimate one gradient'):
    gdlab.estimators.microbatched(4, gdlab.estimators.per_example(stacked=True))
