"""What users' modules call their modes, sow, draw and hold (issue 18, C, D and F): right values, or one line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from one_line import refused

import gdlab
from gdlab.problems import from_linen, from_nnx

ce = optax.softmax_cross_entropy_with_integer_labels
rng = np.random.default_rng(0)
N = 40
X = rng.normal(size=(N, 6)).astype(np.float32)
Y = rng.integers(0, 3, N)
MASK = jnp.ones(N, bool)
EPS = float(np.finfo(np.float32).eps)


def linen_net(flag, off_means):
  """A net with Dropout and BatchNorm, switched on where its flag says so; `off_means`: the flag says 'off'."""
  on = (lambda value: not value) if off_means else (lambda value: value)

  body = (
    f'def call(self, x, {flag}={bool(off_means)}):\n'
    f'  training = on({flag})\n'
    '  x = nn.BatchNorm(use_running_average=not training)(nn.Dense(8)(x))\n'
    '  return nn.Dense(3)(nn.Dropout(0.5, deterministic=not training)(x))\n'
  )
  names = {'nn': nn, 'on': on}
  exec(body, names)
  return type('Net', (nn.Module,), {'__call__': nn.compact(names['call']), '__annotations__': {}})()


NAMES = {
  'train': False,
  'training': False,
  'is_training': False,
  'deterministic': True,
  'use_running_average': True,
  'inference': True,
}


@pytest.mark.parametrize(('flag', 'off_means'), [*NAMES.items(), ('fitting', False), ('frozen', True)])
def test_every_usual_name_and_others_by_flags(flag, off_means):
  module = linen_net(flag, off_means)
  flags = None if flag in NAMES else {flag: not off_means}
  if flags is not None:
    refused('BatchNorm that is off in training.*flags=', from_linen, module, (X, Y), ce)
  problem = from_linen(module, (X, Y), ce, flags=flags)
  params, state = problem.init(jax.random.key(0))
  key = jax.random.key(3)
  losses, moved = problem.loss(params, state, problem.train, MASK, key)
  rngs = {
    'params': jax.random.fold_in(jax.random.fold_in(key, 0), 0)
  }  # as documented in gdlab.problems.linen
  variables = {'params': params, **state}
  outputs, expected = module.apply(variables, X, rngs=rngs, mutable=['batch_stats'], **{flag: not off_means})
  np.testing.assert_allclose(losses, ce(outputs, Y), rtol=100 * EPS)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=100 * EPS), dict(moved), dict(expected))
  found = problem.metrics(params, state, problem.train)['loss']
  np.testing.assert_allclose(found, ce(module.apply(variables, X, **{flag: off_means}), Y), rtol=100 * EPS)
  assert not np.allclose(found, losses, rtol=0.01)


class Told(nn.Module):
  """The mode as an attribute."""

  deterministic: bool = True

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(nn.Dropout(0.5, deterministic=self.deterministic)(x))


class Anything(nn.Module):
  @nn.compact
  def __call__(self, x, **kwargs):
    return nn.Dense(3)(nn.Dropout(0.5, deterministic=not kwargs.get('train', False))(x))


class Moded(nn.Module):
  @nn.compact
  def __call__(self, x, mode='evaluation'):
    return nn.Dense(3)(nn.Dropout(0.5, deterministic=mode != 'training')(x))


class NnxTold(nnx.Module):
  def __init__(self, rngs):
    self.last, self.drop, self.training = nnx.Linear(6, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), False

  def __call__(self, x):
    return self.last(self.drop(x, deterministic=not self.training))


@pytest.mark.parametrize(
  ('make', 'module', 'flags'),
  [
    (from_linen, Told(), None),
    (from_linen, Anything(), {'train': True}),
    (from_linen, Moded(), {'mode': ('training', 'evaluation')}),
    (from_nnx, NnxTold, None),
    (from_nnx, lambda rngs: nnx.Sequential(nnx.Dropout(0.5, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)), None),
    (from_nnx, lambda rngs: nnx.Sequential(nnx.Linear(6, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)), None),
  ],
)
def test_modes_as_attributes_keywords_and_values(make, module, flags):
  problem = make(module, (X, Y), ce, flags=flags)
  params, state = problem.init(jax.random.key(0))
  one, two = (problem.loss(params, state, problem.train, MASK, jax.random.key(k))[0] for k in (0, 1))
  has_dropout = (
    'Dropout' in str(problem.loss.model.graphdef if make is from_nnx else module) or flags is not None
  )
  assert (not np.allclose(one, two)) == (has_dropout or isinstance(module, Told))
  evaluated = [problem.metrics(params, state, problem.train)['loss'] for _ in range(2)]
  np.testing.assert_array_equal(*evaluated)


def test_a_mode_that_cannot_be_told_is_refused_unless_it_is_meant():
  refused('Anything holds a Dropout that is off in training', from_linen, Anything(), (X, Y), ce)
  refused('Moded holds a Dropout that is off in training', from_linen, Moded(), (X, Y), ce)
  stuck = nn.Sequential([nn.Dropout(0.5, deterministic=True), nn.Dense(3)])
  refused('Sequential holds a Dropout', from_linen, stuck, (X, Y), ce)
  always = nn.Sequential([nn.Dropout(0.5, deterministic=False), nn.Dense(3)])
  refused('Dropout that is on in evaluation', from_linen, always, (X, Y), ce)
  for module in (stuck, always, Anything()):
    from_linen(module, (X, Y), ce, flags={})
  refused('other makes none in training', from_linen, Anything(), (X, Y), ce, flags={'other': True})
  refused("did you mean 'mode'", from_linen, Moded(), (X, Y), ce, flags={'mod': ('training', 'evaluation')})
  refused(
    r"flags\['mode'\] must be True or False", from_linen, Moded(), (X, Y), ce, flags={'mode': 'training'}
  )
  refused('flags must be a mapping', from_linen, Moded(), (X, Y), ce, flags=True)


def test_attention_with_dropout_in_both_apis():
  class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
      x = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5)(
        x[:, None] * jnp.arange(1.0, 5.0)[None, :, None], deterministic=deterministic
      )
      return nn.Dense(3)(x.mean(1))

  class Nnx(nnx.Module):
    def __init__(self, rngs):
      self.attention = nnx.MultiHeadAttention(2, 6, dropout_rate=0.5, decode=False, rngs=rngs)
      self.last = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
      return self.last(self.attention(x[:, None] * jnp.arange(1.0, 5.0)[None, :, None]).mean(1))

  for problem in (from_linen(Linen(), (X, Y), ce), from_nnx(Nnx, (X, Y), ce)):
    params, state = problem.init(jax.random.key(0))
    one, two = (problem.loss(params, state, problem.train, MASK, jax.random.key(k))[0] for k in (0, 1))
    assert not np.allclose(one, two)


# Draws in evaluation, and sown values.


class Noisy(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(x) + jax.random.normal(self.make_rng('noise'), (3,))[None]


class NnxNoisy(nnx.Module):
  def __init__(self, rngs):
    self.last, self.rngs = nnx.Linear(6, 3, rngs=rngs), nnx.Rngs(noise=rngs.params())

  def __call__(self, x):
    return self.last(x) + jax.random.normal(self.rngs.noise(), (3,))[None]


@pytest.mark.parametrize(
  'make', [lambda: from_linen(Noisy(), (X, Y), ce), lambda: from_nnx(NnxNoisy, (X, Y), ce)]
)
def test_what_is_drawn_in_evaluation_is_the_same_each_time(make):
  problem = make()
  method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(8), optimizer=optax.sgd(0.1))
  result = gdlab.run(problem, method, num_steps=4, seeds=2, eval_every=2)
  assert (result.status == gdlab.RUNNING).all()
  params, state = problem.init(jax.random.key(0))
  np.testing.assert_array_equal(*(problem.metrics(params, state, problem.train)['loss'] for _ in range(2)))


class Sows(nn.Module):
  collection: str = 'losses'
  accumulates: bool = False

  @nn.compact
  def __call__(self, x):
    h = nn.Dense(3)(x)
    options = {'reduce_fn': jnp.add, 'init_fn': lambda: jnp.zeros(len(x))} if self.accumulates else {}
    self.sow(self.collection, 'size', jnp.sum(h**2, -1), **options)
    return h


class Loss(nnx.Variable):
  pass


class NnxSows(nnx.Module):
  def __init__(self, rngs):
    self.last = nnx.Linear(6, 3, rngs=rngs)

  def __call__(self, x):
    h = self.last(x)
    self.sow(Loss, 'size', jnp.sum(h**2, -1))
    return h


def test_sown_values_are_handed_on_or_left_out_by_choice():
  refused(r"Sows sows values into 'losses'.*sown=\('losses',\).*sown=\(\)", from_linen, Sows(), (X, Y), ce)
  refused(r'NnxSows sows values of type Loss.*sown=\(Loss,\)', from_nnx, NnxSows, (X, Y), ce)
  refused("sown must name collections.*'losses'.*'loses'", from_linen, Sows(), (X, Y), ce, sown=('loses',))
  refused('sown must name types', from_nnx, NnxSows, (X, Y), ce, sown=(nnx.Cache,))
  refused('sown must be a tuple', from_linen, Sows(), (X, Y), ce, sown='losses')
  from_linen(Sows('intermediates'), (X, Y), ce)  # left out as in Flax, where nobody asks for them


@pytest.mark.parametrize('accumulates', [False, True])
def test_sown_values_of_linen_against_a_plain_loop(accumulates):
  module = Sows(accumulates=accumulates)
  first = (lambda sown: sown['losses']['size']) if accumulates else (lambda sown: sown['losses']['size'][0])
  loss = lambda outputs, y: ce(outputs[0], y) + 0.1 * first(outputs[1])
  check_sown(from_linen(module, (X, Y), loss, sown=('losses',)), from_linen(module, (X, Y), ce, sown=()))


def test_sown_values_of_nnx_against_a_plain_loop():
  loss = lambda outputs, y: ce(outputs[0], y) + 0.1 * outputs[1]['Loss']['size'][0]
  check_sown(from_nnx(NnxSows, (X, Y), loss, sown=(Loss,)), from_nnx(NnxSows, (X, Y), ce, sown=()))


def check_sown(handed, left_out):
  """Ten updates of softmax regression with and without 0.1 |outputs|^2, written out in NumPy."""
  for problem, weight in ((handed, 0.1), (left_out, 0.0)):
    method = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.1))
    state = method.init(jax.random.key(0), problem)
    params = state.params.get('Dense_0', state.params.get('last'))
    w, b = (np.asarray(params[name], np.float64) for name in ('kernel', 'bias'))
    step = jax.jit(method.step)
    for _ in range(10):
      state, _ = step(state, problem)
      outputs = X.astype(np.float64) @ w + b
      p = np.exp(outputs - outputs.max(1, keepdims=True))
      gradient = (p / p.sum(1, keepdims=True) - np.eye(3)[Y] + 2 * weight * outputs) / N
      w, b = w - 0.1 * X.T.astype(np.float64) @ gradient, b - 0.1 * gradient.sum(0)
    found = state.params.get('Dense_0', state.params.get('last'))
    # Ten updates, each off by sums of 40 float32 terms of order 1.
    np.testing.assert_allclose(found['kernel'], w, atol=400 * EPS)
    np.testing.assert_allclose(found['bias'], b, atol=400 * EPS)
    assert jax.tree.leaves(state.model_state) == []
