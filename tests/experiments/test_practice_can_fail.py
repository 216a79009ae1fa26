"""Every part of every claim of the study of practice can fail: made-up results that support it, and that do not."""

import ast

import numpy as np
import pytest
import xarray as xr

from configs import practice as configs
from experiments.practice import checks, effects, seen
from experiments.practice.squares import PENALTIES
from experiments.practice.study import practice
from gdlab import RUNNING, statistics
from gdlab.claims import Claim, grade

FEW = (
  'seeds.count=10; seeds.tuning=4; some=10; few=10; few_tuning=4; squares.sizes=(16, 32); mnist.asked=True'
)


def settings(changes=''):
  """The study's configuration with few sizes, and changes such as 'few=2; squares.ratio=4'."""
  config = configs.get_config()
  entries = [each.split('=', 1) for each in f'{FEW};{changes}'.split(';') if each.strip()]
  config.update_from_flattened_dict({name.strip(): ast.literal_eval(value) for name, value in entries})
  return practice.config.checked(config.to_dict())


IDS, TUNING = settings().seeds.ids, settings().seeds.for_tuning
COUNT = len(IDS)
JITTER = np.exp(0.01 * np.random.default_rng(0).standard_normal(COUNT))  # so that intervals have a width


def view(cells):
  return seen.Seen(practice, settings(), cells, {})


def verdict(effect, cells):
  """As the claim's grading has it."""
  claim = Claim('one', 'one', {effect.name: effect.rule._replace(premise=False)})
  intervals = {effect.name: effect.measure(view(cells))}
  return grade(claim, intervals, num_seeds=COUNT, conditions='made up').verdict.value


def counted(forward, update, law=1.0, shared=6.0):
  """Operations of so many M B, over the law so many times, all depths alike."""
  work = 1000.0 * np.array([64, 512] * len(seen.DEPTHS))
  columns = {'depth': np.repeat(seen.DEPTHS, 2), 'batch_size': work / 1000, 'parameters': 1000 + 0 * work}
  columns |= {'forward': forward * work, 'update': update * work, 'law': update * work / law}
  found = {name: ('network', values) for name, values in columns.items()}
  return {'counts': xr.Dataset(found | {'shared': shared})}


def kept(ratio):
  """Memory in bfloat16 so many times that in float32."""
  coords = {'activation': [*seen.ACTIVATIONS], 'dtype': [*seen.DTYPES]}
  columns = {name: ([*coords], [[ratio * 1000, 1000]] * 2) for name in ('kept', 'temporary')}
  return {'memory': xr.Dataset(columns, coords)}


def trained(arms, equal=0.1, **columns):
  """Tuning and runs of arms at two rates, whose values do not depend on the rate but for the choice: 0.5."""
  cells = {}
  for place, (arm, accuracy) in enumerate(arms.items()):
    for cell, ids in (('tuning', TUNING), ('runs', IDS)):
      shape, rates = (2, len(ids), 2), [equal, 0.5]
      jitter = JITTER[: len(ids)] ** (place + 1)
      values = {'test_accuracy': np.minimum(accuracy * np.ones(shape) * jitter[:, None] ** 0.1, 1)}
      values |= {'validation_accuracy': np.ones(shape) * np.array([0.8, 0.9])[:, None, None]}
      values |= {'validation_loss': np.ones(shape), 'status': np.full(shape, RUNNING)}
      for number, (name, each) in enumerate(columns.items()):
        values[name] = each[arm] * np.ones(shape) * jitter[:, None] ** (1 + number / 20)
      dims = ('learning_rate', 'seed', 'step')
      found = {name: (dims, each) for name, each in values.items()}
      cells[f'{cell}_{arm}'] = xr.Dataset(found, {'learning_rate': rates, 'seed': ids, 'step': [0, 9]})
  return cells


def shared(error, unweighted=0.3):
  columns = {
    name: (('seed', 'devices'), np.full((COUNT, 2), error)) for name in ('error', 'normed', 'trained')
  }
  columns |= {'weighted': ('seed', np.full(COUNT, error)), 'unweighted': ('seed', np.full(COUNT, unweighted))}
  return {'shards': xr.Dataset(columns, {'seed': IDS, 'devices': [*seen.DEVICES]})}


def differed(central, forward, rounding, found=2.0, misjudged=0, wrong=5e-4, least=0.0):
  """Errors with such slopes; those of the wrong gradient are at least so large."""
  h = checks.STEPS
  fall = 1e-16 * h**rounding
  right = np.stack([0.3 * h**central + fall, h**forward + fall]) + least
  both = np.stack([right, right + wrong])[None] * JITTER[:, None, None, None] ** np.log(h)
  coords = {'seed': IDS, 'gradient': ['right', 'wrong'], 'kind': ['central', 'forward'], 'step': h}
  columns = {'error': ([*coords], both), 'order': ('seed', found * JITTER**0.1)}
  return {'differences': xr.Dataset(columns | {'misjudged': ('seed', np.full(COUNT, misjudged))}, coords)}


def fitting(sound, broken):
  """Which share of the networks fits; with 40 seeds, of which shares are known better."""
  shares = dict.fromkeys(seen.SOUND, sound) | dict.fromkeys(seen.BROKEN, broken)
  return {
    f'overfit_{name}': xr.Dataset({'fits': ('seed', np.arange(40) < share * 40)})
    for name, share in shares.items()
  }


def landscapes(plain, normed, population=(1.0, 1.0)):
  """Curvature and smoothness, and so many times that with population statistics, without and with BatchNorm."""
  arms = {'plain': plain, 'normed': normed}
  columns = {f'landscape.{name}': arms for name in ('train', 'smoothness')}
  columns['landscape.population'] = {
    arm: arms[arm] * ratio for arm, ratio in zip(arms, population, strict=True)
  }
  return trained(dict.fromkeys(arms, 0.9), **columns)


def penalised(distance, thrown, moved):
  shape = len(PENALTIES), COUNT
  columns = {'distance': distance, 'thrown': thrown, 'moved': moved, 'gradient': distance}
  found = {name: (('penalty', 'seed'), np.full(shape, value)) for name, value in columns.items()}
  return {'penalties': xr.Dataset(found, {'penalty': [*PENALTIES]})}


def timed(small, large):
  """Seconds of other methods over those of mini-batches on the smaller and the larger problem; the second rate wins."""
  cells, ids = {}, TUNING + IDS
  coords = {
    'target': [*settings().squares.targets],
    'multiple': [0.1, 1.0],
    'way': [*seen.METHODS],
    'seed': ids,
  }
  for size, ratio in ((16, small), (32, large)):
    shape = [len(values) for values in coords.values()]
    seconds = np.ones(shape) * np.array([ratio, ratio, 1.0])[:, None]
    seconds[..., 2, -COUNT:] *= JITTER
    steps = np.full(shape, 100)
    steps[:, 0] = 200
    columns = {'seconds': seconds, 'steps': steps, 'reached': steps > 0}
    cells[f'squares_{size}'] = xr.Dataset({name: ([*coords], each) for name, each in columns.items()}, coords)
  return cells


halves = lambda ratio, change: kept(ratio) | trained({'bfloat16': 0.9 + change, 'float32': 0.9})
layers = lambda one, more: trained({'one': one, 'two': more, 'three': more})
# By claim: results that support every part of it, and results that support none.
SYNTHETIC = {
  'P1': (counted(1, 2), counted(2, 6)),
  'P1a': (counted(2, 6), counted(3, 3, shared=1.0)),
  'P1b': (counted(2, 6, law=1.01), counted(2, 6, law=1.5)),
  'P2': (halves(0.5, 0.0), halves(0.9, -0.05)),
  'P2a': (kept(0.5), kept(0.9)),
  'P3': (shared(1e-15), shared(1e-3, 1e-15)),
  'P4': (differed(2, 1, -1), differed(1, 0.5, -0.5, found=1.0, misjudged=1, wrong=0.0, least=1e-6)),
  'P5': (fitting(1.0, 0.0), fitting(0.1, 0.0)),
  'P5a': (fitting(1.0, 0.0), fitting(1.0, 0.9)),
  'P6': (layers(0.9, 0.97), layers(0.97, 0.9)),
  'P7': (landscapes(3.0, 1.0), landscapes(1.0, 2.0)),
  'P7a': (landscapes(3.0, 1.0, (1.0, 2.0)), landscapes(3.0, 1.0, (1.5, 1.0))),
  'P8': (penalised(1e-14, 0.5, 0.3), penalised(1e-3, 2.0, 0.0)),
  'P9': (timed(0.5, 2.0), timed(2.0, 0.5)),
  'P9a': (timed(0.5, 2.0), timed(2.0, 0.5)),
  'P9b': (timed(0.5, 2.0), timed(2.0, 0.5)),
}  # fmt: skip
PARTS = [(claim, effect) for claim, asked in practice.claims.items() for effect in asked.effects]


def test_no_claim_is_left_out():
  assert SYNTHETIC.keys() == practice.claims.keys()


@pytest.mark.parametrize(('claim', 'effect'), PARTS, ids=[f'{claim} {each.name}' for claim, each in PARTS])
def test_every_part_can_be_supported_and_can_fail(claim, effect):
  good, bad = SYNTHETIC[claim]
  assert verdict(effect, good) == 'supported'
  assert verdict(effect, bad) in (
    ('inconclusive',) if effect.rule.premise else ('contradicted', 'no difference')
  )


@pytest.mark.parametrize(('claim', 'cells'), [
  ('P7', landscapes(1.0, 1.0)),
  ('P9', timed(1.0, 1.0)),
])  # fmt: skip
def test_arms_that_are_alike_are_no_evidence(claim, cells):
  assert {verdict(effect, cells) for effect in practice.claims[claim].effects} == {'no difference'}


def test_a_failed_run_has_no_accuracy_and_an_undefined_error_is_none():
  cells = halves(0.5, 0.0)
  cells['runs_bfloat16'].status[1, 0, 1] = RUNNING + 1
  found = effects.accuracy(view(cells), ['bfloat16', 'float32'])
  assert found.estimate == pytest.approx(-0.9 / COUNT, abs=0.002)
  cells = shared(1e-15)
  cells['shards'].error[0, 0] = np.nan
  assert verdict(practice.claims['P3'].effects[0], cells) == 'inconclusive'


def test_the_interval_of_the_clock_allows_for_another_rate():
  narrow = effects.time_ratio(view(timed(0.5, 2.0)), seen.METHODS[0], -1, 0)
  cells = timed(0.5, 2.0)
  steps = cells['squares_32'].steps
  steps[0, 0, 2, :2] = (
    50  # two of the four tuning seeds prefer the first, with which all takes three times as long
  )
  cells['squares_32'].seconds[0, 0, 2] *= 3
  wide = effects.time_ratio(view(cells), seen.METHODS[0], -1, 0)
  assert wide.low < 1 < narrow.low
  assert isinstance(wide, statistics.Interval)


def test_the_words_name_rates_at_an_end():
  told = view(halves(0.5, 0.0)).conditions('P2')
  assert told.endswith('0.5 (an end of those tried) (bfloat16), 0.5 (an end of those tried) (float32)')
