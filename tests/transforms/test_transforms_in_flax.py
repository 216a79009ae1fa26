"""The transforms in plain Flax loops with optax.chain, Linen's and NNX's, and no gdlab runner."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

from gdlab import transforms

RATE, STEPS = 0.05, 30


def data():
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(16, 4)).astype(np.float32)
  return jnp.asarray(inputs), jnp.asarray(np.tanh(inputs @ rng.normal(size=4)), jnp.float32)


def everything():
  """All transforms that take the gradient of a batch, in one chain."""
  return transforms.freeze_non_finite(
    optax.chain(
      transforms.annealed_gradient_noise(1e-4, 0.55),
      transforms.gradient_statistics(every=10),
      optax.sgd(RATE, momentum=0.9),
      transforms.coordinate_updates(),
      transforms.perturb_at_saddle(1e-3, 1e-2, 5, learning_rate=RATE),
      transforms.langevin_noise(1e-6, RATE),
      transforms.average_iterates(transforms.uniform_weights(STEPS // 2)),
    )
  )


class LinenNet(nn.Module):
  """One hidden layer."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(1)(jnp.tanh(nn.Dense(8)(x)))[:, 0]


class NnxNet(nnx.Module):
  """The same."""

  def __init__(self, rngs):
    self.hidden, self.out = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)

  def __call__(self, x):
    return self.out(jnp.tanh(self.hidden(x)))[:, 0]


def check(opt_state, losses, params):
  """What every loop is to end with."""
  assert losses[-1] < losses[0] / 2
  status = transforms.freeze_status(opt_state)
  assert (bool(status.frozen), int(status.updates)) == (False, STEPS)
  found = transforms.statistics(opt_state)
  assert int(found.update) == 20
  assert 0 < float(found.whole.norm) < 100
  averaged = transforms.averaged_params(opt_state, like=params)
  assert jax.tree.structure(averaged) == jax.tree.structure(params)
  distance = float(optax.tree.norm(optax.tree.sub(averaged, params)))
  assert 0 < distance < float(optax.tree.norm(params))


def test_in_a_linen_loop_with_a_train_state():
  inputs, targets = data()
  net = LinenNet()
  state = TrainState.create(
    apply_fn=net.apply, params=net.init(jax.random.key(0), inputs)['params'], tx=everything()
  )

  @jax.jit
  def step(state):
    loss = lambda params: jnp.mean((state.apply_fn({'params': params}, inputs) - targets) ** 2)
    value, gradient = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=gradient), value

  losses = []
  for _ in range(STEPS):
    state, value = step(state)
    losses.append(float(value))
  check(state.opt_state, losses, state.params)


def test_in_an_nnx_loop_with_an_optimizer():
  inputs, targets = data()
  model = NnxNet(nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, everything(), wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer):
    value, gradient = nnx.value_and_grad(lambda model: jnp.mean((model(inputs) - targets) ** 2))(model)
    optimizer.update(model, gradient, grad=gradient)
    return value

  losses = [float(step(model, optimizer)) for _ in range(STEPS)]
  check(nnx.as_pure(optimizer.opt_state), losses, nnx.as_pure(nnx.state(model, nnx.Param)))


def test_the_noise_scale_in_a_loop_over_per_example_gradients():
  inputs, targets = data()
  net = LinenNet()
  params = net.init(jax.random.key(0), inputs)
  transform = optax.chain(transforms.noise_scale(0.9), optax.adam(0.01))
  state = transform.init(params)

  def loss(params, x, y):
    return jnp.mean((net.apply(params, x) - y) ** 2)

  @jax.jit
  def step(params, state):
    rows = jax.vmap(jax.grad(loss), (None, 0, 0))(params, inputs[:, None], targets[:, None])
    updates, state = transform.update(rows, state, params)
    return optax.apply_updates(params, updates), state

  before = loss(params, inputs, targets)
  for _ in range(STEPS):
    params, state = step(params, state)
  assert loss(params, inputs, targets) < before / 2
  found = transforms.noise_scale_estimate(state)
  np.testing.assert_allclose(found.scale, found.covariance_trace / found.gradient_square, rtol=1e-6)
  assert 0 < found.covariance_trace < 1000
