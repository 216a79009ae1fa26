"""What a reader brought to break optimizers, starts and complex parameters: right values, or one line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import gdlab
from gdlab import transforms
from gdlab.problems import from_linen, from_nnx, with_penalty

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4)).astype(np.float32)
Y = rng.normal(size=(40, 3)).astype(np.float32)
FULL = gdlab.sampling.full_batch()


def squares(outputs, targets):
  return ((outputs - targets) ** 2).mean(-1)


class Complex(nn.Module):
  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', lambda key: jax.random.normal(key, (4, 3), jnp.complex64))
    return jnp.abs(x @ kernel)


PLAIN, COMPLEX = from_linen(nn.Dense(3), (X, Y), squares), from_linen(Complex(), (X, Y), squares)


def point():
  """|z - (2 + 3i)|^2 from 1 + i."""
  losses = lambda params, examples: jnp.abs(params - examples) ** 2
  return gdlab.Problem(
    lambda key: (jnp.asarray(1 + 1j, jnp.complex64), ()),
    lambda params, state, examples, mask, key: (losses(params, examples[:, 0] + 1j * examples[:, 1]), state),
    lambda params, state, examples: {'loss': losses(params, examples[:, 0] + 1j * examples[:, 1])},
    'point',
    jnp.asarray([[2.0, 3.0]]),
  )


def sam(rho, **options):
  ascent = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
  return optax.contrib.sam(optax.sgd(0.1), ascent, **options)


def test_opaque_sam_descends_in_complex_parameters():
  method = gdlab.algorithm(sampler=FULL, optimizer=sam(0.001, opaque_mode=True))
  result = gdlab.run(point(), method, num_steps=40, seeds=1, eval_every=20)
  # Gradient 2(z - c): the distance shrinks by 0.8 an update, up to 0.1 * 2 * rho each time.
  assert result.train_loss[0, -1] < (5**0.5 * 0.8**40 + 0.2 * 0.001 / 0.2) ** 2 * 1.1


def test_transparent_sam_is_measured_where_it_counts():
  method = gdlab.algorithm(sampler=FULL, optimizer=sam(0.5))
  result = gdlab.run(PLAIN, method, num_steps=6, seeds=1, eval_every=1)
  plain = from_linen(nn.Dense(3), (X, Y), squares)
  params, _ = plain.init(gdlab.core.seeds.stream_keys(jnp.zeros(3, jnp.int32)).init)
  loss = lambda params: squares(nn.Dense(3).apply({'params': params}, X), Y).mean()
  expected = [loss(params)]
  for _ in range(3):
    g = jax.grad(loss)(params)
    norm = optax.tree.norm(g)
    at = jax.tree.map(lambda p, g, norm=norm: p + 0.5 * g / norm, params, g)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(at))
    expected += [expected[-1], loss(params)]
  # Three SAM steps of sums of 120 float32 terms.
  np.testing.assert_allclose(result.train_loss[0], expected, rtol=1e-5)


def test_noise_inside_lookahead_is_refused():
  inner = optax.chain(optax.sgd(0.05), transforms.langevin_noise(0.1, 0.05))
  method = gdlab.algorithm(sampler=FULL, optimizer=optax.lookahead(inner, 3, 0.5))
  with pytest.raises(gdlab.InputError, match=r'outside of optax\.lookahead.*same for all seeds'):
    method.init(jax.random.key(0), PLAIN)


@pytest.mark.parametrize(
  ('optimizer', 'match'),
  [
    (optax.lookahead(optax.lbfgs(), 3, 0.5), 'cannot make an update'),
    (optax.clip(1.0), 'cannot make an update'),
    (optax.contrib.schedule_free(optax.sgd(0.1), 0.1, b1=0.0), 'b1 > 0'),
  ],
)
def test_optimizers_that_do_not_fit_are_one_line(optimizer, match):
  problem = COMPLEX if 'clip' in optimizer.update.__qualname__ else PLAIN
  method = gdlab.algorithm(sampler=FULL, optimizer=optimizer)
  with pytest.raises(gdlab.InputError, match=match) as caught:
    method.step(method.init(jax.random.key(0), problem), problem)
  assert '\n' not in str(caught.value)


def test_lookahead_says_nothing(caplog):
  gdlab.algorithm(sampler=FULL, optimizer=optax.lookahead(optax.sgd(0.1), 3, 0.5)).init(
    jax.random.key(0), PLAIN
  )
  assert not caplog.records


# Complex numbers: half of the variance of JAX's complex normals is in each part.


def draws(transform, count=20_000):
  """One update of nothing, for many complex parameters."""
  zeros = jnp.zeros(count, jnp.complex64)
  updates, _ = transform.update(zeros, transform.init(zeros), zeros)
  return np.asarray(updates)


@pytest.mark.parametrize(
  ('transform', 'variance'),
  [
    (transforms.langevin_noise(0.5, 0.01), 2 * 0.5 * 0.01),
    (transforms.annealed_gradient_noise(1.0, 0.0), 1.0),
  ],
)
def test_noise_of_complex_parameters_is_that_of_their_parts(transform, variance):
  drawn = draws(transform)
  for part in (drawn.real, drawn.imag):
    # The variance of n normals has a standard error of sqrt(2 / n): five of them.
    np.testing.assert_allclose(part.var(), variance, rtol=5 * (2 / len(part)) ** 0.5)


def test_a_ball_of_one_complex_number_is_a_disc():
  perturb = transforms.perturb_at_saddle(1.0, 1.0, 1, learning_rate=1.0)
  zero = jnp.zeros((), jnp.complex64)
  state = perturb.init(zero)
  one = lambda key: perturb.update(zero, state, zero, grad=zero, key=key)[0]
  radii = np.abs(jax.vmap(one)(jax.random.split(jax.random.key(0), 4000)))
  # Uniform in a disc: mean radius 2/3, variance 1/18; five standard errors.
  np.testing.assert_allclose(radii.mean(), 2 / 3, atol=5 * (1 / 18 / 4000) ** 0.5)


def test_penalties_and_distances_of_complex_parameters():
  params, state = COMPLEX.init(jax.random.key(0))
  kernel = np.asarray(params['kernel'])
  loss = ((np.abs(X @ kernel) - Y) ** 2).mean()
  found = gdlab.evaluate(with_penalty(COMPLEX, l2=0.5), params, state)['train_loss']
  np.testing.assert_allclose(found, loss + 0.25 * (np.abs(kernel) ** 2).sum(), rtol=1e-5)
  moved = {'kernel': params['kernel'] + (0.3 - 0.4j)}
  distance = gdlab.analysis.distance_from_init(moved, params)
  np.testing.assert_allclose(distance.layers['kernel'], 0.5 * 12**0.5, rtol=1e-5)
  np.testing.assert_allclose(distance.total, 0.5 * 12**0.5, rtol=1e-5)


def test_what_is_of_real_parameters_alone():
  params, _ = COMPLEX.init(jax.random.key(0))
  with pytest.raises(gdlab.InputError, match='must be real'):
    gdlab.check_gradients(COMPLEX, params, key=jax.random.key(0))
  with pytest.raises(gdlab.InputError, match='complex'):
    transforms.gradient_statistics().init(params)


# What comes in.


@pytest.mark.parametrize(
  ('train', 'match'),
  [
    (np.full((10, 1), 3_000_000_000), 'must fit int32.*got 3000000000'),
    (np.ma.masked_greater(X, 1), 'masked'),
  ],
)
def test_data_of_a_problem_of_ones_own(train, match):
  problem = gdlab.Problem(
    lambda key: (jnp.zeros(()), ()),
    lambda p, s, e, mask, key: (p + e[:, 0], s),
    lambda p, s, e: {'loss': e[:, 0].astype(float)},
    'own',
    train,
  )
  method = gdlab.algorithm(sampler=FULL, optimizer=optax.sgd(0.1))
  with pytest.raises(gdlab.InputError, match=match):
    gdlab.run(problem, method, num_steps=1, seeds=1)
  with pytest.raises(gdlab.InputError, match=match):
    method.init(jax.random.key(0), problem)


@pytest.mark.parametrize(
  ('change', 'match'),
  [
    (lambda leaf: leaf.astype(int), 'must be floats, got int32'),
    (lambda leaf: leaf[:1], "problem's structure and shapes"),
    (lambda leaf: np.full(leaf.shape, np.nan, np.float32), 'must be finite, got nan'),
    (lambda leaf: np.ma.masked_all(leaf.shape, np.float32), 'masked'),
  ],
)
def test_parameters_to_start_from(change, match):
  method = gdlab.algorithm(sampler=FULL, optimizer=optax.sgd(0.1))
  params, _ = PLAIN.init(jax.random.key(0))
  with pytest.raises(gdlab.InputError, match=match):
    method.init(jax.random.key(0), PLAIN, params=jax.tree.map(change, params))
  with pytest.raises(gdlab.InputError, match=r'problem must be a gdlab Problem|module'):
    method.init(jax.random.key(0), nn.Dense(3))


def test_time_stamps_and_lists():
  stamps = 1.7e9 + np.arange(40.0)[:, None]
  with pytest.raises(gdlab.InputError, match=r'keep its differences.*subtract an offset'):
    from_linen(nn.Dense(3), (stamps, Y), squares)
  from_linen(nn.Dense(3), (stamps - stamps[0], Y), squares)
  from_linen(nn.Dense(3), (np.full((40, 1), 1e9), Y), squares)
  problem = from_linen(nn.Dense(3), (X.tolist(), Y.tolist()), squares)
  np.testing.assert_array_equal(problem.train.inputs, X)
  with pytest.raises(gdlab.InputError, match='must fit int32'):
    from_linen(nn.Embed(5, 3), ([3_000_000_000] * 40, Y), squares)
  with pytest.raises(gdlab.InputError, match='rectangular') as caught:
    from_linen(nn.Dense(3), ([[1.0] * (1 + row % 2) for row in range(40)], Y), squares)
  assert len(str(caught.value)) < 400


def test_what_makes_no_nnx_module():
  from flax import nnx

  with pytest.raises(gdlab.InputError, match='Linen module Dense: use from_linen'):
    from_nnx(nn.Dense(3), (X, Y), squares)
  with pytest.raises(gdlab.InputError, match=r'nnx.Rngs alone: TypeError.*out_features'):
    from_nnx(nnx.Linear, (X, Y), squares)
