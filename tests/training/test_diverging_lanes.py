"""Lanes that diverge, by their rate or by NaN in the data, leave their neighbours as they are, bit for bit."""

import dataclasses

import numpy as np
import optax
import pytest
from tiny_runs import PLAN, problem, sweep

import gdlab

TOO_HIGH = 1e20


@pytest.mark.parametrize('plan', [PLAN, gdlab.Plan(1, 2, host_steps=True)], ids=['map', 'host steps'])
@pytest.mark.parametrize('failing', [1, 2, 4], ids=['one', 'half', 'all'])
def test_rates_that_diverge_leave_the_others_alone(plan, failing, as_users_compile):
  rates = [0.05, 0.1, 0.15, 0.2]
  sound = sweep({'learning_rate': rates}, plan=plan)
  mixed = sweep(
    {'learning_rate': [TOO_HIGH * (place + 1) for place in range(failing)] + rates[failing:]}, plan=plan
  )
  last = mixed.status.isel(step=-1).values
  assert (last[:failing] == gdlab.DIVERGED).all()
  assert (last[failing:] == gdlab.RUNNING).all()
  for name in sound.data_vars:
    alike = (own.isel(learning_rate=slice(failing, None)) for own in (mixed[name], sound[name]))
    assert np.array_equal(*alike, equal_nan=True), name


@pytest.mark.parametrize('plan', [PLAN, gdlab.Plan(1, 2, host_steps=True)], ids=['map', 'host steps'])
def test_a_nan_in_the_data_reaches_only_the_runs_that_draw_it(plan, as_users_compile):
  own = problem(with_test=False)
  inputs = np.array(own.train.inputs)
  inputs[3] = np.nan
  broken = dataclasses.replace(own, train=own.train._replace(inputs=inputs))

  def drawn(learning_rate):
    """Two examples of eleven in each of four updates: some of the runs never draw the fourth."""
    sampler = gdlab.sampling.with_replacement(2)
    return gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(learning_rate, momentum=0.5))

  def run(made):
    grid, options = {'learning_rate': [0.1]}, {'num_steps': 4, 'eval_every': 4, 'record_every': 1}
    return gdlab.sweep(made, drawn, grid, seeds=12, plan=plan, progress=False, **options)

  found, sound = run(broken), run(own)
  running = (found.status.isel(step=-1) == gdlab.RUNNING).values[0]
  assert 2 < running.sum() < 10
  for name in ('batch_loss', 'grad_norm', 'update_norm', 'param_norm', 'status', 'updates', 'examples'):
    alike = (each[name].values[0][running] for each in (found, sound))
    assert np.array_equal(*alike, equal_nan=True), name
