"""Inputs that used to end in errors of JAX, NumPy or Flax, or came back as something else: one line each."""

import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from tiny_runs import OPTIONS, PLAN, STEPS, problem, stream_sgd, sweep

import gdlab
from gdlab.core.errors import InputError


def refused(message, function, *args, **options):
  with pytest.raises(InputError, match=f'^{message}') as caught:
    function(*args, **options)
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 400


def run(descent=None, **options):
  return gdlab.run(problem(), descent or stream_sgd(0.1), seeds=1, plan=PLAN, **(OPTIONS | options))


@pytest.mark.parametrize(
  ('module', 'adapter'),
  [
    (nn.Dense(2), r'from_linen\(module, ...\)'),
    (nn.Dense, r'from_linen\(module, ...\)'),
    (nnx.Linear(2, 2, rngs=nnx.Rngs(0)), r'from_nnx\(make_module, ...\)'),
    (nnx.Linear, r'from_nnx\(make_module, ...\)'),
  ],
)
def test_flax_modules_in_place_of_a_problem(module, adapter):
  message = f'problem must be a gdlab Problem, such as gdlab.problems.{adapter} makes of a Flax module'
  refused(message, gdlab.run, module, stream_sgd(0.1), num_steps=1, seeds=1)
  refused(message, gdlab.sweep, module, stream_sgd, {'learning_rate': [0.1]}, num_steps=1, seeds=1)


@pytest.mark.parametrize('values', [[None, 0.5], [0.5, 'auto'], [1, 'auto'], ['plain', None], [True, sum]])
def test_grids_of_more_than_one_kind(values):
  message = r"grid\['momentum'\] must hold values of one kind, .*: sweep over their names"
  refused(message, sweep, {'momentum': values}, make=lambda momentum: stream_sgd(0.1))


@pytest.mark.parametrize('values', [[1, 2], [0.5, 2], [True, False], ['a', 'b']])
def test_what_a_grid_is_given_comes_back(values):
  found = sweep({'kind': values}, make=lambda kind: stream_sgd(0.1), num_steps=1, probes={})
  assert found.kind.values.tolist() == values


def test_objects_come_back_by_their_names():
  found = sweep({'kind': [None, sum]}, make=lambda kind: stream_sgd(0.1), num_steps=1, probes={})
  assert found.kind.values.tolist() == ['None', 'builtins.sum']


LONG = [[0.1, 0.2], *([0.3] for _ in range(2000))]


def test_long_and_ragged_lists_are_cut_short():
  refused(
    r"grid\['learning_rate'\] must hold .* hashable values, got \[0.1, 0.2\]$", sweep, {'learning_rate': LONG}
  )
  refused(r'grid must be a mapping .*\.\.\.$', sweep, LONG)
  repeated = [0.1, 0.1, *np.linspace(0.2, 1, 500).tolist()]
  refused(
    r"grid\['learning_rate'\] must hold distinct values, got .*\.\.\.$", sweep, {'learning_rate': repeated}
  )
  refused(r'seeds\[0\] must be a whole number .*, got \[0.1, 0.2\]', sweep, seeds=LONG)
  refused(r'seeds must be distinct, got .*\.\.\.$', sweep, seeds=[0] * 500)
  refused(r"seeds\['init'\]\[0\] must be a whole number", sweep, seeds={'init': LONG})
  names = {f'name{number}': [0.1] for number in range(200)}
  refused(r"unknown hyperparameter 'name0'", sweep, names)
  refused("seeds must be a whole number >= 1, got 'three'", sweep, seeds='three')
  refused(
    r'halving.steps must be increasing, at least one, got .*\.\.\.$', sweep, halving=gdlab.Halving((5,) * 90)
  )


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (lambda problem, state: {}, 'must return an array of numbers or a pytree of such, got {}'),
    (
      lambda problem, state: {'a': [state.step, 'good']},
      'must return an array of numbers or a pytree of such, got ',
    ),
    (lambda problem, state: None, 'must return an array of numbers or a pytree of such, got None'),
    (lambda problem, state: 'good', "must return an array of numbers or a pytree of such, got 'good'"),
    (lambda problem, state: state.key, 'must return an array of numbers or a pytree of such, got '),
    (7.0, r'must be a function \(problem, state\) -> array, got 7.0'),
  ],
)
def test_probes_that_measure_no_array(value, message):
  refused(rf"probes\['size'\] {message}", run, probes={'size': value})


def test_probes_that_are_no_mapping_of_names():
  refused(r'probes must be a mapping from name to function, got \[<function', run, probes=[lambda *_: 1.0])
  refused('probe must have a string for a name, got 3', run, probes={3: lambda problem, state: 1.0})
  refused('hyperparameter must have a string for a name, got 3', sweep, {3: [0.1]})


def test_probes_of_numbers_and_flags_are_welcome():
  probes = {'whole': lambda problem, state: 3, 'flag': lambda problem, state: state.step > 3}
  result = run(probes=probes)
  assert result.whole.values[0].tolist() == [3, 0, 3, 0, 3, 0, 3]  # 0 between evaluations
  assert result.flag.values[0].tolist() == [step > 3 and step % 4 == 0 for step in STEPS]


def test_a_state_that_does_not_keep_its_kind_is_refused_before_anything_is_compiled():
  def kept(init, update):
    return gdlab.algorithm(
      sampler=gdlab.sampling.sequential(4), optimizer=optax.GradientTransformation(init, update)
    )

  wider = kept(lambda params: np.float16(0), lambda updates, state, params: (updates, state + np.float32(1)))
  refused(
    r'an update must keep the shapes and types of the state, got float32\[\] for float16\[\] at .optimizer',
    run,
    wider,
  )
  grown = kept(lambda params: (), lambda updates, state, params: (updates, (1.0,)))
  refused(r"an update must keep the structure of the state, got another at \['.optimizer\[0\]'\]", run, grown)
