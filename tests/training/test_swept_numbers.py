"""A swept number acts as the Python float it stands for: on the types of a run, and on its values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.training.programs import weak

N, STEPS, RATE = 8, 6, 0.0625  # a rate that every type holds exactly


def data():
  rng = np.random.default_rng(0)
  return rng.normal(size=(N, 3)), rng.normal(size=N)


def least_squares(dtype=None):
  """Parameters of a type on data of JAX's default one; the loss is computed in the wider."""
  inputs, targets = data()
  loss = lambda w, examples: (examples[0] @ w.astype(examples[0].dtype) - examples[1]) ** 2 / 2
  return Problem(
    init=lambda key: (jnp.asarray([0.5, -0.25, 0.125], dtype or float), ()),
    loss=lambda w, model_state, examples, mask, key: (loss(w, examples), model_state),
    metrics=lambda w, model_state, examples: {'loss': loss(w, examples)},
    name='least squares',
    train=(jnp.asarray(inputs), jnp.asarray(targets)),
  )


# Optax's optimizers whose state is kept from one update to the next in the type of the updates.
OPTIMIZERS = {
  'sgd': optax.sgd,
  'momentum': lambda rate: optax.sgd(rate, momentum=0.5),
  'nesterov': lambda rate: optax.sgd(rate, momentum=0.5, nesterov=True),
  'average of updates': lambda rate: optax.chain(optax.sgd(rate), optax.ema(0.5)),
  'schedule-free': optax.contrib.schedule_free_sgd,
  'rmsprop': optax.rmsprop,
  'rmsprop, momentum': lambda rate: optax.rmsprop(rate, momentum=0.5),
  'adagrad': optax.adagrad,
  'adadelta': optax.adadelta,
  'adam': lambda rate: optax.adam(rate, eps=2**-10),
  'adamw': lambda rate: optax.adamw(rate, eps=2**-10),
  'amsgrad': lambda rate: optax.amsgrad(rate, eps=2**-10),
  'nadam': lambda rate: optax.nadam(rate, eps=2**-10),
  'adamax': lambda rate: optax.adamax(rate, eps=2**-10),
  'radam': lambda rate: optax.radam(rate, eps=2**-10),
  'adabelief': lambda rate: optax.adabelief(rate, eps=2**-10),
  'yogi': lambda rate: optax.yogi(rate, eps=2**-10),
  'adan': lambda rate: optax.adan(rate, eps=2**-10),
  'lion': optax.lion,
  'sign': optax.sign_sgd,
  'signum': optax.signum,
  'rprop': optax.rprop,
  'lars': lambda rate: optax.lars(rate, trust_coefficient=0.5),
  'lamb': optax.lamb,
  'fromage': optax.fromage,
  'novograd': optax.novograd,
  'adafactor': optax.adafactor,
  'sm3': optax.sm3,
  'optimistic': optax.optimistic_gradient_descent,
  'schedule': lambda rate: optax.sgd(lambda count: rate / (1 + count), momentum=0.5),
}


@functools.partial(jax.jit, static_argnames='make')
def descend(make, w, rate):
  """The parameters after each update of a plain Optax loop on a quadratic bowl, as one scan."""
  optimizer = make(rate)

  def step(carry, _):
    w, state = carry
    gradient = (w * jnp.asarray([1.0, 0.5, 2.0], w.dtype)).astype(w.dtype)
    updates, state = optimizer.update(gradient, state, w)
    w = optax.apply_updates(w, updates)
    return (w, state), w

  return jax.lax.scan(step, (w, optimizer.init(w)), None, length=STEPS)[1]


class WeakTest(parameterized.TestCase):
  @parameterized.product(
    name=tuple(OPTIMIZERS),
    kind=(('bfloat16', False), ('float16', False), ('float32', False), ('float32', True)),
  )
  def test_a_lane_is_the_loop_with_the_constant(self, name, kind):
    dtype, x64 = kind
    make = OPTIMIZERS[name]
    with jax.enable_x64(x64), jax.numpy_rank_promotion('allow'):  # Optax's rprop and LARS promote scalars
      w = jnp.asarray([0.5, -0.25, 0.125], dtype)
      expected = np.asarray(descend(lambda _: make(RATE), w, 0), np.float64)
      lanes = lambda rates: jax.vmap(lambda rate: descend(lambda _: make(weak({'r': rate})['r']), w, 0))(
        rates
      )
      found = np.asarray(jax.jit(lanes)(jnp.asarray([RATE, 2 * RATE], float)), np.float64)
    self.assertTrue(np.isfinite(expected).all())
    # The same operations in the same types, fused otherwise: each update may round to the neighbouring number, half an
    # eps away at most where parameters are below 1.
    tolerance = STEPS * float(jnp.finfo(dtype).eps) / 2
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=tolerance)
    self.assertTrue((found[0] != found[1]).any())  # the rate is heard


def make(rate, name):
  return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=OPTIMIZERS[name](rate))


OPTIONS = {
  'num_steps': STEPS,
  'seeds': 1,
  'eval_every': STEPS,
  'probes': {'w': lambda problem, state: state.params},
  'progress': False,
}


@pytest.mark.parametrize('name', ['rmsprop', 'average of updates', 'schedule-free', 'momentum'])
@pytest.mark.parametrize(('dtype', 'x64'), [('bfloat16', False), ('float32', True)])
def test_a_sweep_keeps_the_types_that_a_run_keeps(name, dtype, x64):
  with jax.enable_x64(x64):
    problem, plan = least_squares(dtype), gdlab.Plan(2, 1)
    alone = gdlab.run(problem, make(RATE, name), plan=plan, **OPTIONS)
    swept = gdlab.sweep(problem, make, {'rate': [RATE, 2 * RATE], 'name': [name]}, plan=plan, **OPTIONS)
  found = swept.w.sel(rate=RATE, name=name).values
  assert found.dtype == alone.w.dtype
  # As above; the parameters stay below 1 here too.
  tolerance = STEPS * float(jnp.finfo(dtype).eps) / 2
  np.testing.assert_allclose(found, alone.w.values, rtol=0, atol=tolerance)
  assert np.abs(alone.w.values[0, -1] - alone.w.values[0, 0]).max() > 2 * tolerance  # it moved


def adam(b2):
  optimizer = optax.adam(RATE, b2=b2, eps=2**-10)
  return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optimizer)


def numpy_adam(b2, steps):
  inputs, targets = (array.astype(np.float32).astype(float) for array in data())
  w, m, v = np.array([0.5, -0.25, 0.125]), 0, 0
  path = [w]
  for t in range(1, steps + 1):
    gradient = inputs.T @ (inputs @ w - targets) / N
    m, v = 0.9 * m + 0.1 * gradient, b2 * v + (1 - b2) * gradient**2
    w = w - RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - b2**t)) + 2**-10)
    path.append(w)
  return np.array(path)


def test_a_traced_constant_near_1_is_as_exact_as_float32_allows():
  b2, steps = 0.9999, 50
  options = OPTIONS | {'num_steps': steps, 'eval_every': 1, 'plan': gdlab.Plan(1, 1)}
  traced = gdlab.run(least_squares(), adam, hyperparameters={'b2': b2}, **options)
  constant = gdlab.run(least_squares(), adam(b2), **options)
  assert traced.w.dims == constant.w.dims
  assert float(traced.b2) == b2
  truth = numpy_adam(b2, steps)
  by_trace, by_constant = (np.abs(result.w.values[0] - truth).max(axis=1) for result in (traced, constant))
  eps = np.finfo(np.float32).eps
  # The first update is about the rate: v is (1 - b2) g^2, divided by 1 - b2 in the same rounding; some 10 operations
  # on numbers below 1.
  assert by_trace[1] < 10 * eps
  # A Python float is 1 - b2 in float64 where the gradient's square is weighed, and in float32 where that is undone.
  missing = abs(float(np.float32(b2)) - b2) / (1 - b2)
  np.testing.assert_allclose(by_constant[1], RATE * missing / 2, rtol=0, atol=10 * eps)
  # Update t rounds b2^t to half an eps of t (1 - b2), half of which is the root's; all of one sign at the worst.
  worst = np.cumsum(RATE / 2 * eps / 2 / (np.arange(1, steps + 1) * (1 - b2)))
  assert (by_trace[1:] < worst + 10 * eps).all()
  assert by_trace[-1] < by_constant[-1] / 4


def test_a_run_of_a_factory_is_the_point_of_a_sweep():
  options = OPTIONS | {'plan': gdlab.Plan(1, 1)}
  numbers = {'rate': RATE, 'name': 'momentum'}
  alone = gdlab.run(least_squares(), make, hyperparameters=numbers, **options)
  point = gdlab.sweep(least_squares(), make, {name: [value] for name, value in numbers.items()}, **options)
  assert dict(alone.sizes) == {'seed': 1, 'step': 2, 'w_0': 3}
  for name in alone.data_vars:
    np.testing.assert_array_equal(alone[name], point[name].isel(rate=0, name=0))


@pytest.mark.parametrize(
  ('algorithm', 'numbers', 'message'),
  [
    (make, {'rat': RATE, 'name': 'sgd'}, "unknown hyperparameter 'rat'; did you mean 'rate'"),
    (make, [RATE], r'hyperparameters must be a mapping from name to value, got \[0.0625\]'),
    (adam(0.9), {'b2': 0.9}, 'algorithm must be a function of the hyperparameters, got Algorithm'),
    (None, {'b2': 0.9}, 'algorithm must be a function of the hyperparameters, got None'),
    (adam, None, r'algorithm must come from gdlab.algorithm\(...\), got <function adam'),
  ],
)
def test_a_run_refuses_hyperparameters_that_do_not_fit(algorithm, numbers, message):
  with pytest.raises(InputError, match=f'^{message}') as caught:
    gdlab.run(least_squares(), algorithm, hyperparameters=numbers, **OPTIONS)
  assert '\n' not in str(caught.value)
