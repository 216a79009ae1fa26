"""Optax's schedules swept over each of their numbers: the right rates, or one line that names gdlab's counterpart."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.training.checks import COUNTERPARTS

STEPS = 12


def line():
  loss = lambda w, examples: w * examples  # its gradient is 1 everywhere
  return Problem(
    init=lambda key: (jnp.zeros(()), ()),
    loss=lambda w, model_state, examples, mask, key: (loss(w, examples), model_state),
    metrics=lambda w, model_state, examples: {'loss': loss(w, examples)},
    name='line',
    train=jnp.ones(1),
  )


def swept(schedule, **grid):
  def make(**numbers):
    return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(schedule(**numbers)))

  options = {'num_steps': STEPS, 'seeds': 1, 'eval_every': 1, 'progress': False, 'plan': gdlab.Plan(2, 1)}
  return gdlab.sweep(line(), make, grid, **options).train_loss.isel(seed=0)


# Every schedule of Optax's with numbers to start from, floats all.
SCHEDULES = {
  'constant_schedule': {'value': 0.1},
  'polynomial_schedule': {
    'init_value': 0.1,
    'end_value': 0.01,
    'power': 2.0,
    'transition_steps': 5.0,
    'transition_begin': 1.0,
  },
  'linear_schedule': {'init_value': 0.1, 'end_value': 0.01, 'transition_steps': 5.0, 'transition_begin': 1.0},
  'exponential_decay': {
    'init_value': 0.1,
    'transition_steps': 5.0,
    'decay_rate': 0.5,
    'transition_begin': 1.0,
    'end_value': 0.01,
  },
  'cosine_decay_schedule': {'init_value': 0.1, 'decay_steps': 5.0, 'alpha': 0.1, 'exponent': 2.0},
  'linear_onecycle_schedule': {
    'transition_steps': 10.0,
    'peak_value': 0.1,
    'pct_start': 0.3,
    'pct_final': 0.8,
    'div_factor': 25.0,
    'final_div_factor': 100.0,
  },
  'cosine_onecycle_schedule': {
    'transition_steps': 10.0,
    'peak_value': 0.1,
    'pct_start': 0.3,
    'div_factor': 25.0,
    'final_div_factor': 100.0,
  },
  'warmup_constant_schedule': {'init_value': 0.01, 'peak_value': 0.1, 'warmup_steps': 3.0},
  'warmup_cosine_decay_schedule': {
    'init_value': 0.01,
    'peak_value': 0.1,
    'warmup_steps': 3.0,
    'decay_steps': 10.0,
    'end_value': 0.01,
    'exponent': 2.0,
  },
  'warmup_exponential_decay_schedule': {
    'init_value': 0.01,
    'peak_value': 0.1,
    'warmup_steps': 3.0,
    'transition_steps': 10.0,
    'decay_rate': 0.5,
    'transition_begin': 0.0,
    'end_value': 0.01,
  },
}
# And those that take their numbers in mappings and lists.
BY_ONE_NUMBER = {
  'piecewise_constant_schedule': lambda x: optax.piecewise_constant_schedule(0.1, {3: x}),
  'piecewise_interpolate_schedule': lambda x: optax.piecewise_interpolate_schedule('linear', 0.1, {3: x}),
  'sgdr_schedule': lambda x: optax.sgdr_schedule(
    [{'init_value': 0.0, 'peak_value': x, 'warmup_steps': 2, 'decay_steps': 5}]
  ),
  'reduce_on_plateau': lambda x: optax.contrib.reduce_on_plateau(x) and optax.constant_schedule(0.1),
}
OTHERS = {'join_schedules', 'inject_hyperparams', 'inject_stateful_hyperparams'}


def test_all_schedules_of_optax_are_here():
  public = {name for name in vars(optax.schedules) if name.islower() and not name.startswith('_')}
  assert public & {*SCHEDULES, *BY_ONE_NUMBER, *OTHERS} == public
  assert {*COUNTERPARTS} == {*SCHEDULES, *BY_ONE_NUMBER} - {'constant_schedule'}
  for text in COUNTERPARTS.values():
    names = set(text.replace('(', ' ').replace('.', ' ').replace(',', ' ').split())
    assert names & {*gdlab.schedules.__all__}, text


@pytest.mark.parametrize(
  ('name', 'argument'), [(name, argument) for name, numbers in SCHEDULES.items() for argument in numbers]
)
def test_swept_by_one_number_it_is_right_or_refused(name, argument):
  numbers = SCHEDULES[name]
  make = getattr(optax.schedules, name)
  try:
    found = swept(lambda **given: make(**(numbers | given)), **{argument: [numbers[argument]]})
  except InputError as error:
    message = str(error)
    assert message.startswith(
      f'float hyperparameters are traced ({argument}), and optax.{name} takes some'
    ), message
    assert f'use gdlab.schedules.{COUNTERPARTS[name]} ' in message
    assert '\n' not in message
    assert name != 'constant_schedule'
  else:
    rates = [float(make(**numbers)(count)) for count in range(STEPS)]
    # Sums of 12 rates of at most 0.1 in float32.
    expected = np.concatenate([[0], -np.cumsum(rates)])
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=STEPS * 1.2 * np.finfo(np.float32).eps)


@pytest.mark.parametrize('name', sorted(BY_ONE_NUMBER))
def test_swept_inside_a_mapping_it_is_refused(name):
  with pytest.raises(
    InputError, match=rf'^float hyperparameters are traced \(x\), and optax\.{name} takes'
  ) as caught:
    swept(BY_ONE_NUMBER[name], x=[0.5])
  assert f'use gdlab.schedules.{COUNTERPARTS[name]} ' in str(caught.value)
  assert '\n' not in str(caught.value)


def test_other_code_that_looks_at_a_number_is_named_as_it_is():
  for look in (lambda x: 1 if x > 0 else 0, lambda x: int(x), lambda x: {x: 1}[x]):
    with pytest.raises(
      InputError, match=r'^float hyperparameters are traced \(x\), and make_algorithm needs one'
    ) as caught:
      swept(lambda x, look=look: look(x) * optax.constant_schedule(0.1)(0), x=[0.5])
    assert '\n' not in str(caught.value)


def test_without_traced_numbers_the_error_stays_what_it_is():
  with pytest.raises(TypeError, match='unhashable'):
    swept(lambda n: {jnp.int32(n): 1}, n=[1])


def test_joined_schedules_take_traced_boundaries():
  joined = lambda x: optax.join_schedules([optax.constant_schedule(0.5), optax.constant_schedule(0.25)], [x])
  found = swept(joined, x=[3.0, 5.0])
  for boundary in (3, 5):
    rates = np.where(np.arange(STEPS) < boundary, 0.5, 0.25)
    np.testing.assert_array_equal(found.sel(x=boundary), np.concatenate([[0], -np.cumsum(rates)]))
