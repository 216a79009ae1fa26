"""The best point of a sweep: worked by hand on made-up results, and a real divergence that an argmin would take."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.types import Problem

RUNNING, DIVERGED, STOPPED = gdlab.RUNNING, gdlab.DIVERGED, gdlab.STOPPED


def made(values, status, **coordinates):
  """A result of two records with these values [rate, seed] and status after the last update."""
  values, status = np.asarray(values, float), np.asarray(status, np.int8)
  first = lambda last, start: np.stack([np.full_like(last, start), last], axis=-1)
  dims = ('rate', 'seed', 'step')
  variables = {'test_loss': (dims, first(values, -9)), 'status': (dims, first(status, RUNNING))}
  variables['path'] = ((*dims, 'path_0'), np.zeros((*values.shape, 2, 3)))
  coordinates = {'rate': [0.1, 0.2, 0.4], 'seed': range(values.shape[1]), 'step': [0, 5]} | coordinates
  return xr.Dataset(variables, coordinates)


OK = np.full((3, 3), RUNNING)


def failing(place, status=DIVERGED):
  changed = OK.copy()
  changed[place] = status
  return changed


@pytest.mark.parametrize(
  ('status', 'options', 'rate', 'value'),
  [
    (OK, {}, 0.4, 1.0),  # means 3, 2, 1
    (failing((2, 0)), {}, 0.2, 2.0),
    (failing((2, 0), STOPPED), {}, 0.2, 2.0),
    (failing((2, 0)), {'summary': np.median}, 0.4, 1.0),  # medians 3, 2 and, of (inf, 0, 1), 1
    (failing((2, [0, 1])), {'summary': np.median}, 0.2, 2.0),
    (OK, {'largest': True}, 0.1, 3.0),
    (failing((0, 1)), {'largest': True}, 0.2, 2.0),
  ],
)
def test_worked_by_hand(status, options, rate, value):
  result = made([[2, 3, 4], [2, 2, 2], [2, 0, 1]], status)
  assert gdlab.best(result, 'test_loss', **options) == ({'rate': rate}, value)
  turned = result.transpose('step', 'seed', 'rate', 'path_0')
  assert gdlab.best(turned, 'test_loss', **options) == ({'rate': rate}, value)


def test_large_is_good_for_an_accuracy_unless_it_is_said():
  result = made([[2, 3, 4], [2, 2, 2], [2, 0, 1]], OK).rename(test_loss='test_accuracy')
  assert gdlab.best(result, 'test_accuracy') == ({'rate': 0.1}, 3.0)
  assert gdlab.best(result, 'test_accuracy', largest=False) == ({'rate': 0.4}, 1.0)


def test_values_that_are_not_finite_lose_too():
  for value in (np.nan, np.inf, -np.inf):
    assert gdlab.best(made([[2, 3, 4], [2, 2, 2], [value, 0, 1]], OK), 'test_loss').point == {'rate': 0.2}


def test_a_run_that_diverged_does_not_win_by_its_last_finite_loss():
  inputs = jnp.ones(1)
  loss = lambda w, examples: jnp.where(jnp.abs(w) > 9, jnp.inf, w**2 / 2) * examples
  problem = Problem(
    init=lambda key: (jnp.ones(()), ()),
    loss=lambda w, model_state, examples, mask, key: (loss(w, examples), model_state),
    metrics=lambda w, model_state, examples: {'loss': (w - 25) ** 2 * examples},
    name='cliff',
    train=inputs,
  )
  make = lambda rate: gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(rate))
  result = gdlab.sweep(
    problem,
    make,
    {'rate': [1.0, 6.0]},
    num_steps=8,
    seeds=1,
    eval_every=1,
    progress=False,
    plan=gdlab.Plan(1, 1),
  )
  last = result.train_loss.isel(step=-1, seed=0)
  # At rate 1, w is 0 from the first update on. At rate 6 it goes 1, -5, 25 and stops there, for the loss is infinite.
  np.testing.assert_array_equal(last, [625, 0])
  assert float(last.idxmin('rate')) == 6.0
  assert gdlab.best(result, 'train_loss') == ({'rate': 1.0}, 625.0)


def test_a_run_without_a_grid_is_its_own_best():
  result = made([[1.0, 3.0]] * 3, [[RUNNING, RUNNING]] * 3).isel(rate=0)
  assert gdlab.best(result, 'test_loss') == ({}, 2.0)


@pytest.mark.parametrize(
  ('result', 'variable', 'options', 'message'),
  [
    (made(np.ones((3, 3)), OK), 'test_los', {}, "unknown variable 'test_los'; did you mean 'test_loss'"),
    (
      made(np.ones((3, 3)), OK),
      'path',
      {},
      r"variable must be one number of a run, and path has the dims \('rate'",
    ),
    (
      made(np.ones((3, 3)), OK),
      'test_loss',
      {'summary': 'median'},
      "summary must be a function .* got 'median'",
    ),
    (None, 'test_loss', {}, 'result must be of gdlab.sweep or gdlab.run .* got None'),
    (made(np.ones((3, 3)), OK + 1), 'test_loss', {}, 'result must have a point .* 9 of 9 runs diverged'),
  ],
)
def test_refusals(result, variable, options, message):
  with pytest.raises(InputError, match=f'^{message}') as caught:
    gdlab.best(result, variable, **options)
  assert '\n' not in str(caught.value)
