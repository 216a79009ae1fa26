"""Models and losses of users that mix the examples of a batch (issue 18, A and B): right values, or one line.

Every expected number comes from a plain loop here: Flax's own `apply`, Optax's own `update`, batches cut by NumPy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import gdlab
from gdlab.problems import Mixing, from_linen, from_nnx, mixing

ce = optax.softmax_cross_entropy_with_integer_labels
S = gdlab.sampling
rng = np.random.default_rng(0)
N, B = 100, 32
X = rng.normal(size=(N, 6)).astype(np.float32) * np.linspace(0.5, 3, 6, dtype=np.float32)
Y = rng.integers(0, 3, N)
# Sums of at most 1e3 float32 terms in another order, through a few layers, divided by a standard deviation.
ROUNDING = 1e4 * float(np.finfo(np.float32).eps)


class Net(nn.Module):
  """BatchNorm as Flax's own examples have it, without a mask."""

  norm: str = 'batch'

  @nn.compact
  def __call__(self, x, train=True):
    x = nn.Dense(8)(x)
    if self.norm == 'batch':
      x = nn.BatchNorm(use_running_average=not train)(x)
    elif self.norm == 'group':
      x = nn.GroupNorm(num_groups=2)(x)
    elif self.norm == 'instance':
      x = nn.InstanceNorm()(x[..., None])[..., 0]
    elif self.norm == 'spectral':
      return nn.SpectralNorm(nn.Dense(3))(nn.relu(x), update_stats=train)
    return nn.Dense(3)(nn.relu(x))


class NnxNet(nnx.Module):
  def __init__(self, rngs):
    self.first, self.last = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)

  def __call__(self, x):
    return self.last(nnx.relu(self.norm(self.first(x))))


class Encoders(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(4)(x[:, :3]), nn.Dense(4)(x[:, 3:])


def contrastive(outputs, targets):
  del targets
  return ce(outputs[0] @ outputs[1].T, jnp.arange(len(outputs[0])))


def cosine_contrastive(outputs, targets):
  del targets
  one, two = (side / jnp.linalg.norm(side, axis=1, keepdims=True) for side in outputs)
  return ce(10 * one @ two.T, jnp.arange(len(one)))


def triplet(outputs, targets):
  """With the hardest negative of the batch: a loss whose dependence a small change need not show."""
  distances = jnp.sum((outputs[0][:, None] - outputs[1][None]) ** 2, -1)
  other = targets[:, None] != targets[None]
  negative = jnp.min(jnp.where(other, distances, jnp.inf), axis=1)
  return jax.nn.relu(1.0 + jnp.diagonal(distances) - negative)


def batches(sampler, steps, count=N, seed=1):
  state = sampler.init(jax.random.key(seed), count)
  for _ in range(steps):
    batch, state = sampler.sample(state)
    real = np.asarray(batch.weights) != 0
    yield np.asarray(batch.indices)[real]


def linen_step(module, loss, **flags):
  """One update of a plain loop on a batch of any size."""
  optimizer = optax.sgd(0.1)

  def step(params, state, opt_state, x, y):
    def mean(params):
      variables = {'params': params, **state}
      outputs, updated = module.apply(variables, x, mutable=list(state), **flags)
      return loss(outputs, y).mean(), updated

    (value, updated), gradient = jax.value_and_grad(mean, has_aux=True)(params)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), updated, opt_state, value

  return jax.jit(step), optimizer


def compare(problem, step, optimizer, steps=8, **options):
  """Losses and parameters of gdlab.algorithm beside the plain loop's, batch for batch; 8 updates hold two epochs."""
  sampler = S.reshuffle(B)
  method = gdlab.algorithm(sampler=sampler, optimizer=optimizer, **options)
  streams = gdlab.streams(jax.random.key(0))._replace(order=jax.random.key(1))
  state = method.init(streams, problem)
  params, model_state = state.params, dict(state.model_state)
  opt_state = optimizer.init(params)
  ours = jax.jit(method.step)
  for indices in batches(sampler, steps):
    state, info = ours(state, problem)
    x, y = problem.train.inputs[indices], problem.train.targets[indices]
    params, model_state, opt_state, value = step(params, model_state, opt_state, x, y)
    np.testing.assert_allclose(info.loss, value, rtol=ROUNDING)
    assert int(info.examples) == len(indices)
  for mine, plain in zip(
    jax.tree.leaves((state.params, dict(state.model_state))), jax.tree.leaves((params, dict(model_state)))
  ):
    np.testing.assert_allclose(mine, plain, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize('sampler', [S.single(), S.reshuffle(1), S.reshuffle(33), S.with_replacement(1)])
def test_one_example_alone_has_no_others_to_be_compared_with(sampler):
  method = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.1))
  with pytest.warns(
    UserWarning, match="single one of the 100 examples, and the training losses of problem 'Net'"
  ):
    method.init(jax.random.key(0), from_linen(Net(), (X, Y), ce))
  method.init(jax.random.key(0), from_linen(Net('group'), (X, Y), ce))  # alone is as good there


def test_batches_without_a_single_example_are_no_trouble():
  for sampler in (S.reshuffle(B), S.reshuffle(33, drop_remainder=True), S.full_batch()):
    gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.1)).init(
      jax.random.key(0), from_linen(Net(), (X, Y), ce)
    )


@pytest.mark.parametrize(
  ('norm', 'expected'),
  [
    ('batch', Mixing(training=True, evaluation=False, padding=True)),
    ('group', Mixing(False, False, False)),
    ('instance', Mixing(False, False, False)),
    ('spectral', Mixing(False, False, False)),
  ],
)
def test_norms_against_a_plain_loop(norm, expected):
  problem = from_linen(Net(norm), (X, Y), ce)
  assert mixing(problem) == expected
  compare(problem, *linen_step(Net(norm), ce, train=True))


def test_batch_norm_of_nnx_against_a_plain_loop():
  problem = from_nnx(NnxNet, (X, Y), ce)
  assert mixing(problem) == Mixing(training=True, evaluation=False, padding=True)
  graphdef, _, _ = nnx.split(NnxNet(nnx.Rngs(0)), nnx.Param, ...)
  optimizer = optax.sgd(0.1)

  def step(params, state, opt_state, x, y):
    def mean(params):
      module = nnx.merge(graphdef, params, state, copy=True)
      module.train()
      return ce(module(x), y).mean(), nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param)))

    (value, updated), gradient = jax.value_and_grad(mean, has_aux=True)(params)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), updated, opt_state, value

  compare(problem, jax.jit(step), optimizer)


@pytest.mark.parametrize('loss', [contrastive, cosine_contrastive, triplet])
def test_losses_over_the_batch_against_a_plain_loop(loss):
  problem = from_linen(Encoders(), (X, Y), loss)
  assert mixing(problem) == Mixing(training=True, evaluation=True, padding=True)
  compare(problem, *linen_step(Encoders(), loss))


def test_the_issues_numbers_are_those_of_the_real_examples():
  # Eight real examples in batch 7 of 200: their loss, not one that counts 24 copies of one of them.
  x, y = rng.normal(size=(200, 6)).astype(np.float32), rng.integers(0, 3, 200)
  problem = from_linen(Net(), (x, y), ce)
  method = gdlab.algorithm(sampler=S.sequential(B), optimizer=optax.sgd(0.0))
  state = method.init(jax.random.key(0), problem)
  losses = []
  for _ in range(7):
    before = dict(state.model_state)
    state, info = jax.jit(method.step)(state, problem)
    losses.append(info.loss)
  outputs, _ = Net().apply({'params': state.params, **before}, x[192:], mutable=['batch_stats'])
  np.testing.assert_allclose(losses[-1], ce(outputs, y[192:]).mean(), rtol=ROUNDING)


def test_evaluation_of_a_loss_over_the_batch_is_that_of_all_examples():
  problem = from_linen(Encoders(), (X, Y), contrastive, test=(X[:30], Y[:30]))
  params, state = problem.init(jax.random.key(0))
  found = gdlab.evaluate(problem, params, state)
  for split, x in (('train', X), ('test', X[:30])):
    one, two = (np.asarray(side, np.float64) for side in Encoders().apply({'params': params}, x))
    scores = one @ two.T
    losses = (
      np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1) - np.diagonal(scores)
    )
    np.testing.assert_allclose(found[f'{split}_loss'], losses.mean(), rtol=ROUNDING)


@pytest.mark.parametrize(
  'estimator',
  [
    gdlab.estimators.microbatched(16),
    gdlab.estimators.microbatched(12),
    gdlab.estimators.storm(0.5),
    gdlab.estimators.sam(0.05),
    gdlab.estimators.svrg(4, block_size=30),
  ],
)
def test_estimators_of_batches_never_see_padding(estimator):
  # Of a batch loss that is NaN where padding gets in, every update would be NaN from the fourth on.
  problem = from_linen(Net(), (X, Y), ce)
  method = gdlab.algorithm(sampler=S.reshuffle(B), optimizer=optax.sgd(0.1), estimator=estimator)
  result = gdlab.run(problem, method, num_steps=10, seeds=2, eval_every=5)
  assert np.isfinite(result.train_loss).all()
  assert (result.status == gdlab.RUNNING).all()


def test_slices_of_a_mixing_problem_against_a_plain_loop():
  # microbatched(12) of 32: slices of 12, 12 and 8, BatchNorm within each, each mean weighted by its share.
  problem = from_linen(Net(), (X, Y), ce)
  method = gdlab.algorithm(
    sampler=S.sequential(B), optimizer=optax.sgd(1.0), estimator=gdlab.estimators.microbatched(12)
  )
  state = method.init(jax.random.key(0), problem)
  params, stats = state.params, dict(state.model_state)

  def total(params):
    value, kept = 0.0, stats
    for cut in (slice(0, 12), slice(12, 24), slice(24, 32)):
      outputs, kept = Net().apply({'params': params, **kept}, X[cut], mutable=['batch_stats'])
      value += ce(outputs, Y[cut]).sum() / B
    return value

  value, gradient = jax.value_and_grad(total)(params)
  state, info = method.step(state, problem)
  np.testing.assert_allclose(info.loss, value, rtol=ROUNDING)
  jax.tree.map(
    lambda new, old, g: np.testing.assert_allclose(new, old - g, rtol=ROUNDING, atol=ROUNDING),
    state.params,
    params,
    gradient,
  )


def test_samplers_of_unknown_sizes_are_refused_with_the_ones_to_take():
  problem = from_linen(Net(), (X, Y), ce)
  for sampler in (S.poisson(0.2, 40), S.batch_size_schedule(32, lambda step: 8 + step)):
    method = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.1))
    with pytest.raises(
      gdlab.InputError, match=r"known sizes.*'Net' mix.*reshuffle\(B\).*drop_remainder=True"
    ):
      method.init(jax.random.key(0), problem)


def test_a_loop_of_ones_own_gets_nan_and_no_wrong_number():
  problem = from_linen(Net(), (X, Y), ce)
  params, state = problem.init(jax.random.key(0))
  mean = gdlab.estimators.batch_mean()
  whole = gdlab.Batch(jnp.arange(4), jnp.full(4, 1 / 4))
  padded = gdlab.Batch(jnp.arange(4), jnp.asarray([1 / 3, 1 / 3, 1 / 3, 0]))
  for batch, finite in ((whole, True), (padded, False)):
    gradient, _, info = mean.estimate((), problem, params, state, batch, jax.random.key(1))
    assert bool(jnp.isfinite(info.loss)) == finite
    assert bool(jnp.isfinite(gradient['Dense_0']['kernel']).any()) == finite


ALONE = {
  'per_example': lambda problem, *at: _first_step(problem, gdlab.estimators.per_example()),
  'per_example_clipped': lambda problem, *at: _first_step(problem, gdlab.estimators.per_example_clipped(1.0)),
  'saga': lambda problem, *at: _first_step(problem, gdlab.estimators.saga()),
  'sampled_noise_scale': lambda problem, *at: gdlab.analysis.sampled_noise_scale(
    problem, *at, jax.random.key(0), num_examples=20
  ),
  'per_example_gradients': lambda problem, *at: gdlab.analysis.per_example_gradients(
    problem, *at, jax.random.key(0), jnp.arange(4)
  ),
}


def _first_step(problem, estimator):
  method = gdlab.algorithm(sampler=S.reshuffle(B), optimizer=optax.sgd(0.1), estimator=estimator)
  return method.step(method.init(jax.random.key(0), problem), problem)


@pytest.mark.parametrize('name', ALONE)
@pytest.mark.parametrize(('module', 'loss'), [(Net(), ce), (Encoders(), contrastive)])
def test_what_takes_examples_one_by_one_refuses_problems_that_mix_them(name, module, loss):
  problem = from_linen(module, (X, Y), loss)
  at = problem.init(jax.random.key(0))
  with pytest.raises(gdlab.InputError, match=r'of one example alone.*depends on the others.*batch_mean'):
    ALONE[name](problem, *at)


def test_analysis_by_blocks_refuses_what_it_would_get_wrong():
  from gdlab.analysis import evaluation_losses, full_loss, training_losses

  encoders, net = from_linen(Encoders(), (X, Y), contrastive), from_linen(Net(), (X, Y), ce)
  key = jax.random.key(0)
  params, state = encoders.init(key)
  with pytest.raises(gdlab.InputError, match='block_size must be at least 100'):
    full_loss(encoders, state, key, block_size=50, losses=evaluation_losses)(params)
  found = full_loss(encoders, state, key, block_size=100, losses=evaluation_losses)(params)
  np.testing.assert_allclose(found, gdlab.evaluate(encoders, params, state)['train_loss'], rtol=ROUNDING)
  params, state = net.init(key)
  with pytest.raises(gdlab.InputError, match='equal blocks'):
    full_loss(net, state, key, block_size=15, losses=training_losses)(params)
  assert jnp.isfinite(full_loss(net, state, key, block_size=25, losses=training_losses)(params))
  both = from_linen(Encoders(), (X, Y), contrastive, test=(X, Y))
  at = both.init(key)
  with pytest.raises(gdlab.InputError, match='metrics of single examples'):
    gdlab.analysis.generalisation_gap(both, *at)


class Scattered(nn.Module):
  """A model with an operation through which labels are not followed: two small batches decide."""

  joint: bool = False

  @nn.compact
  def __call__(self, x):
    x = jnp.zeros_like(x).at[:, jnp.arange(6)].add(x)
    return nn.Dense(3)(x - x.mean(0, keepdims=True) if self.joint else x)


@pytest.mark.parametrize('joint', [False, True])
@pytest.mark.parametrize('inside_jit', [False, True])
def test_in_doubt_two_small_batches_decide(joint, inside_jit):
  problem = gdlab.problems.digits()  # anything: replaced below
  module = Scattered(joint)
  made = from_linen(module, (X, Y), ce)
  problem = gdlab.Problem(
    made.init, lambda *args: made.loss(*args), lambda *args: made.metrics(*args), 'scattered', made.train
  )
  if inside_jit:
    found = []
    jax.jit(lambda problem: found.append(mixing(problem)) or 0)(problem)
    assert found == [Mixing(joint, joint, joint)]
  else:
    assert mixing(problem) == Mixing(joint, joint, joint)
