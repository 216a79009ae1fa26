"""Every part of L2, L12, L13 and L15 can fail: made-up results that support it, and that do not."""

import ast

import numpy as np
import pytest
import xarray as xr

from configs import learning_rate as configs
from experiments.learning_rate.edge import effects, figures  # noqa: F401  (registers the claims)
from experiments.learning_rate.study import steps
from gdlab.claims import Claim, grade
from gdlab.study import View

FEW = (
  'seeds.first=10; seeds.count=16; edge.batches.num_seeds=16; edge.warm.num_seeds=16; edge.climb.updates=100'
)
FEW += '; edge.climb.every=10; edge.warm.lengths=(0, 50); edge.warm.updates=100'


def settings(changes=''):
  """The study's configuration with few sizes, and changes such as 'edge.climb.every=5'."""
  config = configs.get_config()
  entries = [each.split('=', 1) for each in f'{FEW};{changes}'.split(';') if each.strip()]
  config.update_from_flattened_dict({name.strip(): ast.literal_eval(value) for name, value in entries})
  return steps.config.checked(config.to_dict())


CONFIG = settings()
EDGE, IDS = CONFIG.edge, CONFIG.seeds.ids
# So that intervals have a width.
JITTER, ASIDE = np.exp(0.01 * np.random.default_rng(0).standard_normal((2, len(IDS))))
RECORDS = np.arange(0, EDGE.climb.updates + 1, EDGE.climb.every)


def verdict(effect, cells):
  """As the claim's grading has it."""
  claim = Claim('one', 'one', {effect.name: effect.rule._replace(premise=False)})
  interval = effect.measure(View(steps, CONFIG, cells, {}))
  return grade(claim, {effect.name: interval}, num_seeds=len(IDS), conditions='made up').verdict.value


def climbed(end=1.0, start=0.5, control=0.4, swing=0.1, diverged=False, loss=1.0):
  """Sharpness over the border that rises within half of the records and swings there; losses as of the flow."""
  borders = [*EDGE.climb.borders, EDGE.climb.control]
  rise = np.minimum(1.0, np.arange(len(RECORDS)) / (len(RECORDS) // 2))
  swings = swing * np.where(np.arange(len(RECORDS)) % 2, 1, -1) * (rise == 1)
  ratio = np.stack([np.multiply.outer(JITTER, start + (end - start) * rise + swings)] * len(borders))
  ratio[:, ::2, -1] *= 1.5  # some runs are aside once, so that shares have a width
  ratio[-1] = control * JITTER[:, None] * np.ones(len(RECORDS))
  status = np.full(ratio.shape, int(diverged))
  shape = (len(borders), len(IDS), EDGE.climb.updates)
  coords = {'border': borders, 'seed': IDS, 'record': RECORDS, 'step': np.arange(1, EDGE.climb.updates + 1)}
  dims = ('border', 'seed', 'record')
  columns = {'sharpness': (dims, ratio * np.array(borders)[:, None, None]), 'status': (dims, status)}
  columns['loss'] = (('border', 'seed', 'step'), loss * JITTER[:, None] * np.ones(shape))
  return {f'climb_{method}': xr.Dataset(columns, coords) for method in ('plain', 'Polyak', 'Nesterov')}


def beside(mean_loss=1.0, alone=0.5, sharpness=1.0):
  """A flow that is at the edge in the second half."""
  shape = (len(EDGE.climb.borders), len(IDS), len(RECORDS))
  coords = {'border': [*EDGE.climb.borders], 'seed': IDS, 'record': RECORDS}
  borders = np.array(EDGE.climb.borders)[:, None, None]
  columns = {'variance': np.ones(shape) * (len(RECORDS) // 2 <= np.arange(len(RECORDS)))}
  columns |= {'mean_loss': np.full(shape, mean_loss), 'loss': np.full(shape, alone)}
  columns['sharpness'] = sharpness * borders * np.ones(shape)
  return {'flow': xr.Dataset({name: ([*coords], each) for name, each in columns.items()}, coords)}


def modelled(square=1.0, identity=1.0):
  options, noises = EDGE.model, [EDGE.model.little, *EDGE.model.noises]
  right = (options.learning_rate * np.array(noises)) ** 2
  gap = -identity * right[:, None] * JITTER / (2 * options.learning_rate)
  columns = {
    'square': 0.3 * square * np.ones_like(gap) * JITTER**0.1,
    'gap_square': gap,
    'gap2_square': 0 * gap,
  }
  coords = {'noise': noises, 'seed': IDS}
  return {
    'model': xr.Dataset(
      {name: ([*coords], each) for name, each in columns.items()}, coords, {'variance': 0.3}
    )
  }


def batched(seen=1.0, full=0.5, start=0.5, last=1.0, control=0.2, diverged=False):
  found = {}
  for name, rate in {'b2': 0.2, 'b4': 0.3, 'control': 0.05}.items():
    level = control if name == 'control' else seen
    path = np.concatenate([[start], np.full(11, level), np.full(4, level * last)])
    values = np.multiply.outer(JITTER, path) * 2 / rate
    values[:, -1] *= ASIDE
    dims = ('seed', 'step')
    columns = {'batch_sharpness': (dims, values), 'sharpness': (dims, values / path * full)}
    columns['status'] = (dims, np.full(values.shape, int(diverged)))
    found[f'batches_{name}'] = xr.Dataset(columns, {'seed': IDS}, {'learning_rate': rate})
  return found


def warmed(without, with_it, first=10.0, after=0.3, slow=1.0):
  """Losses that fall up to a largest good peak each, in units of 2/first, slower with warm-up; sharpness by the end."""
  found = {}
  for kind in ('sharp', 'flat', 'adam', 'adam_v0'):
    peaks = np.array(EDGE.warm.adam_peaks if kind.startswith('adam') else EDGE.warm.peaks)
    sharp = first * JITTER[:, None]
    multiples = peaks * sharp / 2
    below = 0.5 * EDGE.warm.target * (peaks / peaks[0]) ** -0.01
    pairs = ((without, ASIDE[:, None]), (with_it, slow))
    losses = [below * factor * np.where(multiples <= border, 1, 20) for border, factor in pairs]
    shape = np.ones(len(peaks)) * sharp
    curvature = np.stack([np.stack([shape, after * shape * ASIDE[:, None]])] * 2)
    coords = {'length': [0.0, 50.0], 'seed': IDS, 'peak': peaks}
    columns = {'loss': (('length', 'seed', 'peak'), np.stack(losses))}
    columns['sharpness'] = (('length', 'step', 'seed', 'peak'), curvature)
    found[f'warm_{kind}'] = xr.Dataset(columns, coords | {'step': [0, 50]})
  return found


MORE, LESS = warmed(0.5, 2.0), warmed(2.0, 2.1)
# By claim, for each part in order: cells that support it, and others with what they give.
CASES = {
  'L2': [
    *[(climbed(), climbed(end=1.5), 'contradicted')] * 3,
    *[(climbed(), climbed(swing=0.18, end=1.15), 'contradicted')] * 3,
    (climbed(), climbed(start=0.9), 'inconclusive'),
    (climbed(), climbed(control=1.0), 'inconclusive'),
  ],
  'L12': [
    (modelled(), modelled(square=1.2), 'contradicted'),
    (climbed() | beside(), climbed(loss=1.5) | beside(), 'contradicted'),
    (climbed(end=0.97) | beside(), climbed(end=1.3) | beside(), 'contradicted'),
    (climbed() | beside(), climbed() | beside(alone=0.9), 'inconclusive'),
  ],
  'L13': [
    *[(batched(), batched(seen=0.5), 'contradicted')] * 2,
    *[(batched(), batched(last=0.5), 'contradicted')] * 2,
    *[(batched(), batched(full=1.0), 'contradicted')] * 2,
    *[(modelled(), modelled(identity=1.3), 'contradicted')] * 2,
    *[(batched(), batched(start=1.0), 'inconclusive')] * 2,
    (batched(), batched(control=0.9), 'inconclusive'),
  ],
  'L15': [
    (MORE, LESS, 'no difference'),
    (warmed(1.5, 8.0), MORE, 'contradicted'),
    (warmed(1.5, 8.0), warmed(1.5, 8.0, slow=0.5), 'contradicted'),
    (MORE, warmed(0.5, 2.0, after=1.0), 'no difference'),
    (LESS, MORE, 'contradicted'),
    (warmed(0.05, 2.0), LESS, 'no difference'),
    (LESS, warmed(0.05, 2.0), 'contradicted'),
    (warmed(2.0, 2.1, after=1.5), LESS, 'inconclusive'),
  ],
}
PARTS = [
  pytest.param(effect, *case, id=f'{name}: {effect.name}')
  for name, cases in CASES.items()
  for effect, case in zip(steps.claims[name].effects, cases, strict=True)
]


@pytest.mark.parametrize(('effect', 'good', 'bad', 'outcome'), PARTS)
def test_each_part_can_hold_and_fail(effect, good, bad, outcome):
  assert verdict(effect, good) == 'supported'
  found = verdict(effect, bad)
  if effect.rule.premise:
    assert found != 'supported'
  else:
    assert found == outcome


def test_runs_that_diverge_support_nothing():
  plain = steps.claims['L2'].effects[:6]
  assert {verdict(effect, climbed(diverged=True)) for effect in plain} <= {'contradicted', 'inconclusive'}
  hovering = steps.claims['L13'].effects[:6]
  assert {verdict(effect, batched(diverged=True)) for effect in hovering} == {'inconclusive'}


def test_the_largest_good_peak_is_found_between_peaks():
  ratio = xr.DataArray([[0.5, 0.5, 2.0], [0.5, 0.25, 4.0], [0.5, 2.0, 0.5]], dims=('seed', 'peak'))
  found = effects.largest(ratio.assign_coords(peak=[1.0, 2.0, 4.0]))
  np.testing.assert_allclose(found, [2 * 2**0.5, 2 * 2**0.5, 4.0])
