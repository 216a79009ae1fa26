"""Numbers that change when they come in, and misfits (issue 18, D and F): right values, or one line."""

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
EPS = float(np.finfo(np.float32).eps)

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
    (nn.Dense(3), (X, np.where(Y > 1, -100, Y)), r'labels in \[0, 2\].*got -100 \(replace labels.*mask'),
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
