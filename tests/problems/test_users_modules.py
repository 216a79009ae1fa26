"""What users' modules call their modes, sow, draw and hold (issue 18, C, D and F): right values, or one line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import gdlab
from gdlab.problems import from_linen, from_nnx

ce = optax.softmax_cross_entropy_with_integer_labels
rng = np.random.default_rng(0)
N = 40
X = rng.normal(size=(N, 6)).astype(np.float32)
Y = rng.integers(0, 3, N)
MASK = jnp.ones(N, bool)
EPS = float(np.finfo(np.float32).eps)


def refused(match, make, *args, **options):
  """That making the problem is refused in one line, which is returned."""
  with pytest.raises(gdlab.InputError, match=match) as caught:
    make(*args, **options)
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 700
  return str(caught.value)


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
  refused('is off in training', from_linen, Anything(), (X, Y), ce, flags={'other': True})
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


# D. Numbers that change when they come in.

ESTIMATORS = {
  'batch_mean': gdlab.estimators.batch_mean(),
  'microbatched': gdlab.estimators.microbatched(7),
  'per_example': gdlab.estimators.per_example(),
  'per_example_clipped': gdlab.estimators.per_example_clipped(1e9),
  'svrg': gdlab.estimators.svrg(3),
  'storm': gdlab.estimators.storm(1.0),
}


def complex_problem():
  truth = np.array([1 + 2j, -1j, 0.5])
  parts = rng.normal(size=(2, 20, 3))
  a = parts[0] + 1j * parts[1]
  y = a @ truth

  def losses(params, model_state, examples, mask=None, key=None):
    real, imaginary, y_real, y_imaginary = examples
    residual = (real + 1j * imaginary) @ params - (y_real + 1j * y_imaginary)
    return jnp.abs(residual) ** 2, model_state

  train = tuple(jnp.asarray(part) for part in (a.real, a.imag, y.real, y.imag))
  problem = gdlab.Problem(
    lambda key: (jnp.zeros(3, complex), ()),
    losses,
    lambda p, s, e: {'loss': losses(p, s, e)[0]},
    'complex',
    train,
  )
  return problem, a, y


@pytest.mark.parametrize('name', ESTIMATORS)
def test_complex_parameters_descend(name, x64):
  problem, a, y = complex_problem()
  method = gdlab.algorithm(
    sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.1, momentum=0.5), estimator=ESTIMATORS[name]
  )
  state = method.init(jax.random.key(0), problem)
  step = jax.jit(method.step)
  w, trace = np.zeros(3, complex), np.zeros(3, complex)
  for _ in range(40):
    state, info = step(state, problem)
    # |Aw - y|^2 / N rises fastest along 2 A^H (Aw - y) / N, as real and imaginary parts taken apart say too.
    trace = 2 * a.conj().T @ (a @ w - y) / 20 + 0.5 * trace
    w = w - 0.1 * trace
  np.testing.assert_allclose(state.params, w, rtol=4e-12)
  assert info.loss < 0.1


def test_complex_parameters_of_a_module():
  class Complex(nn.Module):
    @nn.compact
    def __call__(self, x):
      w = self.param('w', lambda key: jnp.ones(6, complex) * (1 + 1j))
      return jnp.real((x + 0j) @ w * (1 - 1j))

  problem = from_linen(Complex(), (X, X[:, 0]), lambda o, t: (o - t) ** 2)
  method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(8), optimizer=optax.sgd(0.01))
  result = gdlab.run(problem, method, num_steps=200, seeds=1, eval_every=100)
  assert result.train_loss[0, -1] < 0.01 * result.train_loss[0, 0]
  with pytest.raises(gdlab.InputError, match=r"params\['w'\] must be real, got complex64"):
    gdlab.analysis.sharpness(problem, *problem.init(jax.random.key(0)), jax.random.key(1))


@pytest.mark.parametrize(
  ('inputs', 'match'),
  [
    (np.array([[3_000_000_000]] * N), r'data\.inputs must fit int32.*got 3000000000'),
    (np.array([[-(2**40)]] * N), r'must fit int32.*got -1099511627776'),
    (np.array([[2**32]] * N, np.uint64), r'must fit uint32.*got 4294967296'),
    (np.ma.masked_greater(X, 2), r'masked one with \d+ masked entries'),
    ({'a': X, 'b': np.ma.masked_greater(X, 2)}, r"inputs\['b'\].*masked one"),
  ],
)
def test_numbers_that_would_change(inputs, match):
  refused(match, from_linen, nn.Dense(3), (inputs, Y), ce)


def test_numbers_that_stay(x64):
  ids = from_linen(nn.Embed(5, 3), (np.arange(N) % 5, Y), lambda o, t: ce(o, t)).train.inputs
  assert ids.dtype == jnp.int64
  unmasked = np.ma.masked_greater(X, 1e9)
  np.testing.assert_array_equal(from_linen(nn.Dense(3), (unmasked, Y), ce).train.inputs, X)


@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16])
def test_half_precision_parameters(dtype):
  problem = from_linen(nn.Dense(3, param_dtype=dtype, dtype=dtype), (X, Y), ce)
  method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(8), optimizer=optax.sgd(0.1))
  result = gdlab.run(problem, method, num_steps=20, seeds=1, eval_every=20)
  assert result.train_loss[0, -1] < result.train_loss[0, 0]


# F. Bare errors.


class Rows(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(x.reshape(len(x), 64))


@pytest.mark.parametrize(
  ('module', 'data', 'match'),
  [
    (nn.Dense(3), (X, Y[:, None]), r'loss cannot take outputs float32\[7, 3\].*int32\[7, 1\].*one axis less'),
    (nn.Dense(3), (X, Y.astype(np.float32)), r'targets float32\[7\] \(class labels are integers\)'),
    (nn.Dense(3), (X, Y > 0), r'targets bool\[7\] \(class labels are integers\)'),
    (nn.Dense(3), (X, np.where(Y > 1, -100, Y)), r'labels in \[0, 2\].*got -100 \(a label that marks.*mask'),
    (nn.Dense(3), (X, Y + 1), r'labels in \[0, 2\].*got 3 \(pass regression targets as floats\)'),
    (nn.Dense(3), (np.ones((N, 8, 8)), Y), r'inputs float32\[7, 8, 8\].*flatten'),
    (
      Rows(),
      (np.ones((N, 9, 9)), Y),
      r'Rows cannot be initialised with inputs float32\[1, 9, 9\]: TypeError.*reshape',
    ),
    (Rows(), (X, Y), r'inputs float32\[1, 6\]'),
  ],
)
def test_misfits_name_the_shapes_in_one_line(module, data, match):
  refused(match, from_linen, module, data, ce)


def test_misfits_of_nnx():
  refused(
    r'Linear does not take a batch of inputs float32\[7, 8, 8\]: TypeError',
    from_nnx,
    lambda rngs: nnx.Linear(64, 3, rngs=rngs),
    (np.ones((N, 8, 8)), Y),
    ce,
  )


def test_parameters_without_a_derivative():
  class Counts(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(3)(x) * self.param('count', lambda key: jnp.int32(2))

  refused(r"params\['count'\] must be floats, got int32", from_linen, Counts(), (X, Y), ce)


def test_sequential_takes_a_list():
  problem = from_linen(nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(3)]), (X, Y), ce)
  again = from_linen(nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(3)]), (X, Y), ce)
  assert problem.loss == again.loss
  assert hash(problem.loss) == hash(again.loss)


def test_a_problem_prints_in_one_line():
  problem = from_linen(nn.Dense(3), (X, Y), ce, test=(X[:5], Y[:5]))
  assert repr(problem) == (
    "Problem('Dense', train: 40 examples of float32[6] and int32[], test: 5 examples of float32[6] and int32[])"
  )
  assert '\n' not in repr(gdlab.problems.quadratic([1.0, 0.1]))
  assert len(repr(gdlab.problems.landscapes.himmelblau())) < 200


def test_adapters_of_lora_and_tied_embeddings():
  class Lora(nnx.Module):
    def __init__(self, rngs):
      self.last = nnx.LoRALinear(6, 3, lora_rank=2, rngs=rngs)

    def __call__(self, x):
      return self.last(x)

  class Tied(nn.Module):
    @nn.compact
    def __call__(self, x):
      embed = nn.Embed(5, 8)
      return embed.attend(jnp.tanh(embed(x)))

  lora = from_nnx(Lora, (X, Y), ce)
  params, _ = lora.init(jax.random.key(0))
  assert jax.tree.leaves(params)  # LoRA's own, which are nnx.Param too
  tied = from_linen(Tied(), (Y, Y), ce)
  for problem in (lora, tied):
    method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(8), optimizer=optax.adam(0.05))
    result = gdlab.run(problem, method, num_steps=40, seeds=1, eval_every=40)
    assert result.train_loss[0, -1] < result.train_loss[0, 0]
