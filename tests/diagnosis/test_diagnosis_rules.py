"""Every rule of a diagnosis on records written by hand: it speaks where it must, and not just beside."""

import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr

import gdlab
from gdlab import DIVERGED
from gdlab.core.errors import InputError
from gdlab.core.types import Examples
from gdlab.diagnosis import Cause, Severity

STEPS = np.arange(0, 210, 10)
FALLING = 2.0 * np.exp(-STEPS / 50.0) + 0.02


def record(train=FALLING, *, test=None, rate=0.1, curvature=2.0, layers=None, diverged_at=None, **others):
  """A result of one run: by default a sound one whose rate is 0.1 of 2/curvature."""
  train = np.asarray(train, float)
  shape = np.ones(len(STEPS))
  gradient = np.sqrt(np.abs(train)) * shape
  rates = rate(STEPS) if callable(rate) else rate * shape
  batch = train * np.where(np.arange(len(STEPS)) % 2, 0.9, 1.1)
  values = {
    'train_loss': train,
    'test_loss': train + 0.01 if test is None else np.asarray(test, float),
    'batch_loss': np.where(STEPS > 0, batch, np.nan),
    'grad_norm': np.where(STEPS > 0, 1.2 * gradient, np.nan),
    'param_norm': np.where(STEPS > 0, 5.0, np.nan),
    'diagnosis_gradient': gradient,
    'diagnosis_curvature': curvature * shape,
  } | {
    name: value for name, value in others.items() if name not in ('diagnosis_sketch', 'diagnosis_saturated')
  }
  values['update_norm'] = rates * values['grad_norm']
  values['status'] = np.zeros(len(STEPS), np.int8)
  values['updates'] = STEPS
  if diverged_at is not None:
    values['status'] = np.where(diverged_at <= STEPS, DIVERGED, 0).astype(np.int8)
    values['updates'] = np.minimum(STEPS, diverged_at - 5)
  layers = np.tile([[1.0, 5.0, 0.1]], (3, 1)) if layers is None else np.asarray(layers, float)
  layers = layers if layers.ndim == 3 else np.tile(layers, (len(STEPS), 1, 1))  # the same at every evaluation
  variables = {name: (('seed', 'step'), np.asarray(value)[None]) for name, value in values.items()}
  variables['diagnosis_layers'] = (('seed', 'step', 'layer', 'number'), layers[None])
  for name in ('diagnosis_sketch', 'diagnosis_saturated'):
    if name in others:
      variables[name] = (('seed', 'step', *'ab'[: np.ndim(others[name]) - 1]), np.asarray(others[name])[None])
  return xr.Dataset(variables, {'seed': [0], 'step': STEPS})


def causes(result, *args, **options):
  (run,) = gdlab.diagnose(result, *args, **options).runs
  return [finding.cause for finding in run.findings]


FLAT = np.full(len(STEPS), 2.0)
SWING = 1.0 + 0.5 * np.where(np.arange(len(STEPS)) % 2, 1.0, -1.0)
EDGE = 1 + (SWING - 1) / 1e3


def way(share):
  """A sketch whose way between two evaluations has this cosine with the gradient: a right-angled triangle."""
  sketch = np.zeros((len(STEPS), 2, 64))
  sketch[:, 1, 0] = 2.0
  sketch[:, 0, 0] = share * STEPS
  sketch[:, 0, 1] = np.sqrt(1 - share**2) * STEPS
  return sketch


def marked(first, answers=0.0, gradient=1.0):
  """Two layers, the first with these checksums over the evaluations, the second with ever new ones."""
  one = np.ones(len(STEPS))
  rows = [
    [gradient * one, 5 * one, 0 * one, first * one, answers * one],
    [one, 5 * one, 0 * one, STEPS, 0 * one],
  ]
  return np.moveaxis(np.array(rows), 2, 0)


RISING = 2 + STEPS / 40.0


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    ({}, []),
    ({'diagnosis_saturated': np.tile([0.3, 0.95], (len(STEPS), 1))}, [Cause.SOFTMAX_TWICE]),
    ({'diagnosis_saturated': np.tile([0.3, 0.85], (len(STEPS), 1))}, []),
    ({'train': RISING, 'diagnosis_sketch': way(0.5)}, [Cause.ASCENT]),
    ({'train': RISING, 'diagnosis_sketch': way(-0.1)}, [Cause.PLATEAU]),
    ({'diagnosis_sketch': way(0.5)}, []),  # the loss falls: the way is bent
    # Beyond the border, at 10 times the largest stable rate, the way says nothing: it jumps across the valley.
    ({'train': RISING, 'diagnosis_sketch': way(0.5), 'curvature': 200.0}, [Cause.RATE_TOO_LARGE]),
    ({'layers': marked(7.0)}, [Cause.FROZEN_LAYER]),
    ({'layers': marked(np.where(STEPS == 50, 8.0, 7.0))}, []),
    # Without a gradient: the loss answers to the layer or not. And a layer too slow to move is not said to be frozen.
    ({'layers': marked(7.0, answers=0.1, gradient=0.0)}, [Cause.FROZEN_LAYER]),
    ({'layers': marked(7.0, gradient=0.0)}, []),
    ({'layers': marked(7.0, gradient=1e-6)}, []),
    # Frozen on purpose or not, what else is wrong is still said.
    ({'layers': marked(7.0), 'test': 2.0 * np.exp(-STEPS / 50.0) + 0.6}, [Cause.FROZEN_LAYER, Cause.OVERFITTING]),
    # The rate as a share of 2 / curvature, 1 / rate: 10 and 1.
    ({'train': FLAT * 1.01, 'curvature': 200.0}, [Cause.RATE_TOO_LARGE]),
    ({'train': 2 * 1.2**STEPS, 'curvature': 21.0}, [Cause.RATE_TOO_LARGE]),  # 1.05 times the border, blowing up
    ({'train': FLAT * 1.01, 'curvature': 20.0}, [Cause.PLATEAU]),
    # Large at the start only, and recovered: a catapult is no fault.
    ({'curvature': 200.0}, []),
    ({'train': np.where(STEPS < 40, 2.0, np.nan), 'curvature': 200.0, 'diverged_at': 40}, [Cause.RATE_TOO_LARGE]),
    ({'train': np.where(STEPS < 40, 2.0, np.nan), 'diverged_at': 40}, [Cause.NOT_FINITE]),
    ({'train': np.where(STEPS < 40, 2.0 + STEPS, np.nan), 'diverged_at': 40}, [Cause.RATE_TOO_LARGE]),
    ({'train': 2 - STEPS / 1e4, 'rate': 1e-4}, [Cause.RATE_TOO_SMALL]),
    # Nothing measured: from the path of the parameters.
    ({'train': 2 - STEPS / 1e4, 'rate': 1e-4, 'curvature': np.nan}, [Cause.RATE_TOO_SMALL]),
    ({'train': 1 + np.exp(-STEPS / 10), 'rate': lambda t: 0.1 * np.exp(-t / 10)}, [Cause.SCHEDULE_TOO_SHORT]),
    ({'rate': lambda t: 0.1 * np.exp(-t / 10)}, []),
    # Where the rate goes at the very end, as a cosine's does, nothing was lost by it.
    ({'train': 1 + np.exp(-STEPS / 10), 'rate': lambda t: 0.1 * np.where(t < 190, 1, 1e-4)}, []),
    ({'train': SWING, 'grad_norm': 3 * SWING}, [Cause.GRADIENT_NOISE]),
    ({'train': SWING}, [Cause.PLATEAU]),  # gradients that have next to no noise
    ({'train': EDGE, 'rate': 1.0, 'batch_loss': np.where(STEPS, 0.9995, np.nan)}, [Cause.EDGE_OF_STABILITY]),
    ({'train': FLAT}, [Cause.PLATEAU]),
    # At the end 0.58 of the 2.54 that training gained is missing, then 0.38 of 2.34: 0.23 and 0.16.
    ({'test': 2.0 * np.exp(-STEPS / 50.0) + 0.6}, [Cause.OVERFITTING]),
    ({'test': 2.0 * np.exp(-STEPS / 50.0) + 0.4}, []),
    ({'test': 2.0 + STEPS / 1e3}, [Cause.MEMORISING]),
    ({'train': FLAT, 'layers': [[1e-6, 5, 0], [1e-3, 5, 0], [1, 5, 0]]}, [Cause.VANISHING_GRADIENTS]),
    ({'layers': [[1e-6, 5, 0], [1e-3, 5, 0], [1, 5, 0]]}, []),
    ({'train': FLAT, 'layers': [[100, 5, 0], [10, 5, 0], [1, 5, 0]]}, [Cause.EXPLODING_GRADIENTS]),
    ({'train': FLAT, 'layers': [[0.0, 5, 1], [1, 5, 0], [1, 5, 0]]}, [Cause.DEAD_LAYER]),
    ({'train': FLAT, 'layers': [[1.0, 5, 0.6], [1, 5, 0], [1, 5, 0]]}, [Cause.PLATEAU]),
  ],
)  # fmt: skip
def test_a_rule_names_its_cause(options, expected):
  assert causes(record(**options)) == expected


def test_momentum_moves_the_border_to_two_plus_two_beta():
  # Rate times curvature is 4: twice the border of plain descent, 1.05 of that of heavy ball at 0.9.
  result = record(FLAT * 1.01, rate=0.1, curvature=40.0)
  assert causes(result, rate=0.1) == [Cause.RATE_TOO_LARGE]
  assert causes(result, rate=0.1, momentum=0.9) == [Cause.PLATEAU]


def test_the_rate_may_be_given_as_number_schedule_or_array():
  result = record(FLAT * 1.01, rate=1e-9, curvature=200.0)
  assert causes(result) == [Cause.RATE_TOO_SMALL]
  for rate in (0.1, lambda step: 0.1, xr.DataArray([0.1], {'seed': [0]}, ('seed',))):
    assert causes(result, rate=rate) == [Cause.RATE_TOO_LARGE]


def test_a_plain_result_without_probes_or_test_set_is_read_as_far_as_it_goes():
  plain = ['train_loss', 'batch_loss', 'grad_norm', 'update_norm', 'param_norm', 'status', 'updates']
  assert causes(record()[plain]) == []
  assert causes(record(2 - STEPS / 1e4, rate=1e-4)[plain]) == [Cause.RATE_TOO_SMALL]
  assert causes(record(SWING)[plain]) == [Cause.GRADIENT_NOISE]


@pytest.fixture(scope='module')
def digits():
  return gdlab.problems.digits()


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (lambda x: x * 255, 'not scaled'),
    (lambda x: x + 100, 'not scaled'),
    (lambda x: x * 0 + 1, '100% of the input features'),
    (lambda x: x.at[17].set(np.inf), 'the first is example 17'),
  ],
)
def test_bad_inputs_come_first(digits, change, words):
  inputs, targets = digits.train
  bad = dataclasses.replace(digits, train=Examples(change(inputs), targets))
  (run,) = gdlab.diagnose(record(FLAT * 1.01, curvature=200.0), bad).runs
  assert run.cause is Cause.BAD_DATA
  assert words in run.findings[0].words


def test_sound_data_have_neighbours_that_agree_and_shuffled_labels_do_not(digits):
  data = gdlab.diagnosis.look_at_data(digits)
  assert data.findings == ()
  np.testing.assert_allclose(data.chance, np.log(10), rtol=1e-3)  # the ten digits are about as frequent
  assert data.agreement > 0.95  # nearest neighbours classify the digits
  shuffled = np.random.default_rng(0).permutation(np.asarray(digits.train.targets))
  wrong = gdlab.diagnosis.look_at_data(
    dataclasses.replace(digits, train=digits.train._replace(targets=jax.numpy.asarray(shuffled)))
  )
  assert abs(wrong.agreement_z) < 4
  one = dataclasses.replace(digits, train=digits.train._replace(targets=0 * digits.train.targets))
  assert 'same label' in gdlab.diagnosis.look_at_data(one).findings[0].words


def test_layers_are_named_and_the_diagnosis_prints(digits):
  layers = [[0.0, 5, 1.0], [1.0, 5, 0.0]]
  printed = str(gdlab.diagnose(record(FLAT, layers=layers), digits))
  for words in (
    "['Dense_0']['kernel']",
    '100% of the units',
    'DEAD LAYER (fatal)',
    'Try: ',
    'dead units = 1',
  ):
    assert words in printed
  assert 'nothing found' in str(gdlab.diagnose(record(), digits))
  assert Severity.MILD < Severity.FATAL


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'result': 3}, 'result must be a Dataset'),
    ({'problem': 3}, 'problem must be a gdlab Problem'),
    ({'momentum': 1.0}, 'momentum must be'),
    ({'rate': -1.0}, 'rate must be'),
    ({'algorithm': lambda: None}, 'problem must be given with algorithm'),
  ],
)
def test_bad_arguments_are_refused(options, message):
  with pytest.raises(InputError, match=message):
    gdlab.diagnose(options.pop('result', record()), **options)
