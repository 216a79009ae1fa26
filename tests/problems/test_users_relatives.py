"""Relatives of the issue's inputs that a reader brought to break its first mends: right values, or one line."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from one_line import refused

import gdlab
from gdlab.problems import Mixing, from_linen, from_nnx, mixing

ce = optax.softmax_cross_entropy_with_integer_labels
rng = np.random.default_rng(0)
N = 40
X = rng.normal(size=(N, 3)).astype(np.float32)
Y = (X @ np.array([1, 2, -1], np.float32)).astype(np.float32)
C = rng.integers(0, 3, N)
W = rng.random(N).astype(np.float32)
MASK, KEY = jnp.ones(N, bool), jax.random.key(0)
ALL = Mixing(True, True, True)


# What mixes examples by counting them or by giving them places.


def class_balanced(outputs, targets):
  counts = jnp.bincount(targets, length=3)
  return ce(outputs, targets) * len(targets) / (3 * counts[targets])


class Experts(nn.Module):
  """Each example goes to one of two experts, the first two that come to each."""

  @nn.compact
  def __call__(self, x):
    expert = (x[:, 0] > 0).astype(int)
    place = jnp.cumsum(jax.nn.one_hot(expert, 2, dtype=int), axis=0)[jnp.arange(len(x)), expert] - 1
    slots = jnp.zeros((2, 2, 3)).at[expert, place].set(x, mode='drop')
    kernel = self.param('kernel', nn.initializers.normal(), (2, 3, 3))
    out = jnp.einsum('ecd,edf->ecf', slots, kernel)
    return jnp.where((place < 2)[:, None], out[expert, jnp.minimum(place, 1)], x)


def test_losses_that_count_and_layers_with_places_mix():
  sorted_labels = np.sort(C)  # the first fourteen are of one class
  assert mixing(from_linen(nn.Dense(3), (X, sorted_labels), class_balanced)) == ALL
  assert mixing(from_linen(Experts(), (X, C), ce)) == ALL
  ids = np.arange(7) % 5

  class Centred(nn.Module):
    @nn.compact
    def __call__(self, ids):
      x = jnp.zeros((len(ids), 4)).at[:, :3].add(nn.Embed(5, 3)(ids))
      return nn.Dense(3)(x - x.mean(0, keepdims=True))

  assert mixing(from_linen(Centred(), (ids, ids % 3), ce)) == ALL


# What is shared, and what targets and outputs hold.


def test_a_module_that_is_there_twice_shares_its_parameters():
  class Layers(nn.Module):
    features: Any

    @nn.compact
    def __call__(self, x):
      for count in self.features:
        x = nn.Dense(count)(x)
      return x

  shared = Layers([3, 3])
  net = nn.Sequential([shared, shared])
  params, _ = from_linen(net, (X, C), ce).init(KEY)
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  assert count(params) == count(net.init(KEY, X)['params']) == 24


class Named(nn.Module):
  @nn.compact
  def __call__(self, x):
    return {'mean': nn.Dense(1)(x)[:, 0], 'logits': nn.Dense(3)(x)}


class Sows(nn.Module):
  @nn.compact
  def __call__(self, x):
    self.sow('losses', 'size', jnp.sum(x**2, -1))
    return nn.Dense(1)(x)[:, 0]


@pytest.mark.parametrize(
  ('module', 'targets', 'loss', 'options'),
  [
    (
      Named(),
      {'y': Y[:, None], 'w': W},
      lambda o, t: (t['w'][:, None] * (o['mean'] - t['y']) ** 2).mean(-1),
      {},
    ),
    (Named(), Y[:, None], lambda o, t: ((o['mean'] - t) ** 2).mean(-1), {}),
    (Sows(), Y[:, None], lambda o, t: ((o[0] - t) ** 2).mean(-1), {'sown': ('losses',)}),
    (nn.Dense(1), {'y': Y[:, None], 'w': W}, lambda o, t: (t['w'] * (o - t['y']) ** 2).mean(-1), {}),
  ],
)
def test_pairs_by_broadcasting_in_trees(module, targets, loss, options):
  with jax.numpy_rank_promotion('allow'):
    refused(
      r'sets every example against every other.*broadcast to pairs',
      from_linen,
      module,
      (X, targets),
      loss,
      **options,
    )


def test_shapes_that_broadcast_and_mean_it():
  # Nothing here sets an example against another: a weight for each, in a shape of its own.
  loss = lambda o, t: t['w'] * (o[:, 0] - t['y'][:, 0]) ** 2
  problem = from_linen(nn.Dense(1), (X, {'y': Y[:, None], 'w': W}), loss)
  assert mixing(problem) == Mixing(False, False, False)


@pytest.mark.parametrize('wrong', [-1, 3])
@pytest.mark.parametrize(
  ('module', 'pack', 'loss'),
  [
    (Named(), lambda c: c, lambda o, t: ce(o['logits'], t)),
    (nn.Dense(3), lambda c: {'label': c, 'w': W}, lambda o, t: t['w'] * ce(o, t['label'])),
  ],
)
def test_labels_out_of_range_in_trees(wrong, module, pack, loss):
  from_linen(module, (X, pack(C)), loss)
  bad = C.copy()
  bad[5] = wrong
  refused(rf'labels in \[0, 2\].*got {wrong}', from_linen, module, (X, pack(bad)), loss)


def test_whole_numbers_that_are_no_labels():
  lengths = {'label': C, 'length': C + 10, 'shift': -C}
  loss = lambda o, t: ce(o, t['label']) / t['length'] + t['shift']
  from_linen(nn.Dense(3), (X, lengths), loss)


def test_a_shape_that_fits_one_size_of_batch_by_chance():
  loss = lambda o, t: (t * o**2).mean(-1)
  with jax.numpy_rank_promotion('allow'):
    refused(r'float32\[11, 7\]', from_linen, nn.Dense(7), (X, W), loss)


# Modes.


class Frozen(nn.Module):
  """Transfer learning: statistics that stay, and Dropout."""

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=True)(nn.Dense(4)(x))
    return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


def test_frozen_batch_norm_is_meant_by_naming_the_flag():
  message = refused('BatchNorm that is off in training', from_linen, Frozen(), (X, C), ce)
  assert "flags={'train': True} if it is meant so" in message
  problem = from_linen(Frozen(), (X, C), ce, flags={'train': True})
  params, state = problem.init(KEY)
  one, two = (problem.loss(params, state, problem.train, MASK, jax.random.key(k)) for k in (0, 1))
  assert not np.allclose(one[0], two[0])
  jax.tree.map(np.testing.assert_array_equal, dict(one[1]), dict(state))


class Depth(nn.Module):
  """Stochastic depth by its own draws, beside frozen statistics, and a mode that has to be told."""

  @nn.compact
  def __call__(self, x, train):
    x = nn.BatchNorm(use_running_average=True)(nn.Dense(4)(x))
    kept = jax.random.bernoulli(self.make_rng('depth'), 0.5, (len(x), 1)) if train else 1.0
    return nn.Dense(3)(x + kept * nn.Dense(4)(x))


def test_a_mode_without_dropout():
  problem = from_linen(Depth(), (X, C), ce, flags={'train': True})
  params, state = problem.init(KEY)
  one, two = (problem.loss(params, state, problem.train, MASK, jax.random.key(k))[0] for k in (0, 1))
  assert not np.allclose(one, two)


def test_flags_none_tells_an_nnx_module_nothing():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.norm = nnx.BatchNorm(3, use_running_average=True, rngs=rngs)
      self.last = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
      return self.last(self.norm(x))

  problem = from_nnx(Net, (X, C), ce, flags={})
  params, state = problem.init(KEY)
  _, moved = problem.loss(params, state, problem.train, MASK, KEY)
  jax.tree.map(np.testing.assert_array_equal, dict(moved), dict(state))
  assert mixing(problem) == Mixing(False, False, False)
  _, moved = from_nnx(Net, (X, C), ce).loss(params, state, problem.train, MASK, KEY)
  assert not np.allclose(moved['norm']['mean'], state['norm']['mean'])


class Spectral(nn.Module):
  @nn.compact
  def __call__(self, x, update_stats=False):
    return nn.SpectralNorm(nn.Dense(3))(x, update_stats=update_stats)


class Fitting(nn.Module):
  @nn.compact
  def __call__(self, x, is_fitting=False, double=False):
    x = nn.Dense(3)(x)
    noise = jax.random.normal(self.make_rng('noise'), x.shape) if is_fitting else 0.0
    return (2 if double else 1) * (x + noise)


def test_switches_that_are_told_by_what_they_do():
  problem = from_linen(Spectral(), (X, C), ce)
  params, state = problem.init(KEY)
  _, moved = problem.loss(params, state, problem.train, MASK, KEY)
  assert any(
    not np.allclose(a, b) for a, b in zip(jax.tree.leaves(dict(moved)), jax.tree.leaves(dict(state)))
  )
  refused(r"draws only with is_fitting=True.*flags=\{'is_fitting': True\}", from_linen, Fitting(), (X, C), ce)
  from_linen(Fitting(), (X, C), ce, flags={'is_fitting': True})
  from_linen(Fitting(), (X, C), ce, flags={})


def test_flags_of_modules_within_an_nnx_module():
  class Inner(nnx.Module):
    def __init__(self, rngs):
      self.training, self.drop = False, nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
      return self.drop(x, deterministic=not self.training)

  class Outer(nnx.Module):
    def __init__(self, rngs):
      self.inner, self.last = Inner(rngs), nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
      return self.last(self.inner(x))

  problem = from_nnx(Outer, (X, C), ce)
  params, state = problem.init(KEY)
  one, two = (problem.loss(params, state, problem.train, MASK, jax.random.key(k))[0] for k in (0, 1))
  assert not np.allclose(one, two)


def test_an_attribute_of_a_usual_name_that_is_no_mode():
  class Told(nn.Module):
    inference: str = 'exact'

    @nn.compact
    def __call__(self, x):
      return nn.Dense(3)(x) * (2.0 if self.inference == 'exact' else 1.0)

  problem = from_linen(Told(), (X, C), ce)
  params, state = problem.init(KEY)
  found = problem.metrics(params, state, problem.train)['loss']
  np.testing.assert_allclose(found, ce(Told().apply({'params': params}, X), C), rtol=1e-6)


class Steps(nn.Module):
  """A sequence model whose `mask` says which steps count."""

  @nn.compact
  def __call__(self, x, mask=None):
    x = x if mask is None else jnp.where(mask[..., None], x, 0)
    return nn.Dense(3)(x.mean(1))


@pytest.mark.parametrize('length', [7, 8, 11, 12, 5])
def test_a_mask_that_means_something_else(length):
  sequences = rng.normal(size=(N, length, 3)).astype(np.float32)
  with jax.numpy_rank_promotion('allow'):
    refused(r"flags=\{'mask': None\}", from_linen, Steps(), (sequences, C), ce)
    problem = from_linen(Steps(), (sequences, C), ce, flags={'mask': None})
    params, state = problem.init(KEY)
    found, _ = problem.loss(params, state, problem.train, MASK, KEY)
  np.testing.assert_allclose(found, ce(Steps().apply({'params': params}, sequences), C), rtol=1e-6)


# Bare errors, and refusals of sound things.


def test_modules_that_fail_in_training_alone():
  class Synced(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
      return nn.Dense(3)(nn.BatchNorm(use_running_average=not train, axis_name='batch')(x))

  class Wrong(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
      return nn.Dense(3)(x) @ jnp.ones((4, 3)) if train else nn.Dense(3)(x)

  refused('Synced fails in training mode: NameError.*axis name', from_linen, Synced(), (X, C), ce)
  refused('Wrong fails in training mode: TypeError', from_linen, Wrong(), (X, C), ce)


def test_perturbations_and_intermediates_are_left_alone():
  class Perturbed(nn.Module):
    @nn.compact
    def __call__(self, x):
      return self.perturb('p', nn.Dense(3)(x))

  class Keeps(nnx.Module):
    def __init__(self, rngs):
      self.last, self.kept = nnx.Linear(3, 3, rngs=rngs), nnx.Intermediate(jnp.zeros(3))

    def __call__(self, x):
      return self.last(x)

  for problem in (from_linen(Perturbed(), (X, C), ce), from_nnx(Keeps, (X, C), ce)):
    method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(8), optimizer=optax.sgd(0.1))
    state = method.init(KEY, problem)
    state, info = method.step(state, problem)
    assert np.isfinite(info.loss)


def test_linen_behind_the_bridge():
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
      return nn.Dense(3)(
        nn.Dropout(0.5, deterministic=not train)(nn.BatchNorm(use_running_average=not train)(x))
      )

  make = lambda rngs: nnx.bridge.lazy_init(nnx.bridge.ToNNX(Net(), rngs=rngs), jnp.zeros((1, 3)))
  refused('ToNNX.*(training mode|off in training)', from_nnx, make, (X, C), ce)


def test_sizes_of_a_sampler_in_any_order():
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
      return nn.Dense(3)(nn.BatchNorm(use_running_average=not train)(x))

  sampler = gdlab.sampling.sequential(12)._replace(sizes=lambda count: (12, 4))
  method = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.1))
  problem = from_linen(Net(), (X, C), ce)
  state, step = method.init(KEY, problem), jax.jit(method.step)
  for _ in range(4):
    state, info = step(state, problem)
    assert np.isfinite(info.loss)


def test_an_optimizer_that_cannot_take_stacked_gradients():
  aggregate = optax.contrib.differentially_private_aggregate(1.0, 0.0, key=0)
  method = gdlab.algorithm(
    sampler=gdlab.sampling.reshuffle(8),
    optimizer=optax.MultiSteps(optax.chain(aggregate, optax.sgd(0.1)), 2),
    estimator=gdlab.estimators.per_example(stacked=True),
  )
  problem = from_linen(nn.Dense(3), (X, C), ce)
  state = method.init(KEY, problem)
  with pytest.raises(
    gdlab.InputError, match='optimizer cannot make an update of one gradient for every slot'
  ) as caught:
    method.step(state, problem)
  assert '\n' not in str(caught.value)


def test_a_loss_that_needs_a_large_batch():
  nearest = lambda o, t: jax.lax.top_k(-jnp.sum((o[:, None] - o[None]) ** 2, -1), 14)[0].mean(-1) + t
  assert mixing(from_linen(nn.Dense(3), (X, Y), nearest)) == ALL


def test_a_batch_norm_that_is_never_called():
  class Spare(nnx.Module):
    def __init__(self, rngs):
      self.last, self.norm = nnx.Linear(3, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x):
      return self.last(x)

  assert mixing(from_nnx(Spare, (X, C), ce)) == Mixing(False, False, False)
