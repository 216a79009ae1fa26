"""Every part of every claim of the study of minima can hold and can fail: made-up results through the real effects."""

import numpy as np
import pytest
import xarray as xr

from configs import minima as defaults
from experiments.minima import effects, networks
from experiments.minima.study import WIDTHS, Settings, minima
from gdlab.study.graded import grade_all

SUPPORTED, CONTRADICTED, NONE = 'supported', 'contradicted', 'no difference'
RUNS, WAITS, DRAWS, MEMBERS = 100, 800, 16, 4
SMALL = {
  'seeds': {'count': DRAWS, 'tuning': 8},
  'ensembles': DRAWS,
  'escape': {'num_seeds': WAITS},
  'valleys': {'learning_rates': (0.01, 0.02)},
  'fork': {'num_tuning_seeds': 8},
  'dose': {'levels': (0.0, 1.0, 2.0, 4.0), 'num_tuning_seeds': 40},
  'dose_network': {'levels': (0.0, 1.0, 2.0, 4.0), 'num_tuning_seeds': 40},
}


def view(**cells):
  """What one set of seeds saw, with these cells."""
  config = defaults.get_config()
  with config.ignore_type():
    config.update(SMALL)
  return minima.view(minima, Settings.checked(config.to_dict()), cells, {})


def dataset(dims, values, **coordinates):
  return xr.Dataset({name: (dims, np.asarray(value)) for name, value in values.items()}, coordinates)


def tuned(*dims, **coordinates):
  """Tuning runs of which those at the rate 0.1 are the best, on every seed."""
  coordinates = {'learning_rate': [0.1, 0.3], **coordinates, 'seed': range(8), 'step': [9]}
  losses = np.full([len(each) for each in coordinates.values()], 0.1)
  losses[1] = 1.0
  return dataset([*coordinates], {'train_loss': losses, 'status': 0 * losses}, **coordinates)


def crossings(shares, status=0, returned=0):
  """Runs of which a share, by batch size, reached the other minimum at update 100, at both rates."""
  reached = np.array([[100 * (np.arange(RUNS) < share * RUNS) for share in shares.values()]] * 2)[..., None]
  values = {'reached': reached, 'returned': returned * (reached > 0), 'status': 0 * reached + status}
  dims = ('learning_rate', 'batch_size', 'seed', 'step')
  return dataset(dims, values, learning_rate=[0.01, 0.02], batch_size=list(shares))


def forks(barriers, losses=(), choices=((0.1, 0.1),)):
  """Forks whose arms all end behind these barriers and at these losses; 0 where nothing is said."""
  arms = {name: [dict(given).get(arm, 0.0) for arm in networks.ARMS] for name, given in
          (('barrier', barriers), ('loss', losses))}  # fmt: skip
  values = {name: np.broadcast_to(own, (len(choices), 32, 2, len(own))) for name, own in arms.items()}
  runs = dataset(
    ('choice', 'seed', 'fork', 'arm'), values, fork=list(networks.FORKS), arm=list(networks.ARMS)
  )
  rates = {
    name: ('choice', list(own)) for name, own in zip(('mini_rate', 'single_rate'), zip(*choices), strict=True)
  }
  return {'fork': runs.assign_coords(rates), 'fork_tuning': tuned(batch_size=[1, 32])}


def valleys(full, mini, deep, barriers):
  poor, good = crossings({1: 1.0, 4: mini, 32: 0.0, 512: full}), crossings({1: 1.0, 4: deep})
  return {'leave_poor': poor, 'leave_good': good} | forks(barriers)


def falls(single, returned, cooled, own=1.0):
  """Single examples that are thrown into the poor valley or not, and come back `returned` updates later or not."""
  good = crossings({1: single, 4: 0.0}, returned=returned and 100 + returned)
  ends = {'single': own * single, 'hot': single, 'cooled': cooled}
  return {'leave_good': good, 'leave_sharp': good} | forks(ends, ends)


def escapes(slope=1.0, factor=1.0, alike=False):
  """Waiting times with the quantiles of exponential laws of rate exp(-slope * barrier), the longest censored.

  `alike`: the same in both batch sizes, run by run.
  """
  barriers, cells = np.array([3.0, 4.0, 5.0, 6.0]), {}
  known = dataset('barrier', dict.fromkeys(('mean_kramers', 'mean_chain'), np.exp(barriers)))
  for size, times in ((1, 1.0), (4, factor)):
    waits = -np.log(1 - (np.arange(WAITS) + 0.5) / WAITS) / (times * np.exp(-slope * barriers)[:, None])
    waits = (
      np.full_like(waits, waits.mean()) if alike else np.random.default_rng(size).permuted(waits, axis=1)
    )
    limit = np.inf if alike else np.quantile(waits, 0.9, axis=1, keepdims=True)
    values = {'time': np.minimum(waits, limit), 'censored': waits > limit}
    cells[f'escape_{size}'] = dataset(('barrier', 'seed'), values).merge(known)
  return cells


def doses(constant, annealed, noise=0.3):
  """Losses, and errors of a hundredth, at the four levels of each schedule."""
  means, rng, cells = np.array([constant, annealed], float), np.random.default_rng(0), {}
  names = {'schedule': np.repeat(networks.SCHEDULES, 4), 'level': [0.0, 1.0, 2.0, 4.0] * 2}
  coordinates = {'trial': range(8), 'seed': range(40)} | {name: ('trial', own) for name, own in names.items()}
  for where, factor in (('landscape', 1.0), ('network', 0.01)):
    for cell in ('dose', 'dose_tuning'):
      values = factor * (means.reshape(-1, 1) + noise * rng.normal(size=(8, 40)))[..., None]
      errors = {f'{images}_accuracy': 1 - values for images in ('test', 'validation')}
      found = {'train_loss': values, 'status': 0 * values} | (errors if where == 'network' else {})
      cells[f'{cell}_{where}'] = dataset(('trial', 'seed', 'step'), found, **coordinates)
  return cells


def groups(deviation=0.0, barrier=0.0, power=0.0, ratio=1.0, loss=0.05, vary=0.1):
  """Networks whose deviations and barriers are a power of the width, and whose ensembles score a share of theirs."""
  rng, cells = np.random.default_rng(0), {}
  for width in WIDTHS:
    scale, unit = (width / 4) ** power, rng.normal(size=(DRAWS, MEMBERS))
    own = {'loss': loss * (1 + deviation * scale * unit), 'error': loss * (1 + deviation * scale * unit)}
    own['nll'] = loss * (1 + vary * rng.normal(size=(DRAWS, MEMBERS)))
    found = {name: (('seed', 'network'), values) for name, values in own.items()}
    for name in networks.ORDERS:
      values = barrier * scale * (1 + vary * rng.uniform(-1, 1, size=(DRAWS, 2)))
      found[name] = (('seed', 'pair'), values)
    scores = ratio * (1 + 0.2 * deviation * rng.normal(size=DRAWS))
    whole = {f'ensemble_{name}': ('seed', scores * own[name].mean(axis=1)) for name in ('error', 'nll')}
    runs = xr.Dataset(found | whole).expand_dims(learning_rate=[0.1])
    cells[f'width_{width}'] = runs
  return cells | {'width_tuning': tuned(hidden=list(WIDTHS))}


def alone(ratio):
  """Ensembles over members that differ, so that one of them is not their mean."""
  return groups(deviation=0.05, ratio=ratio)


EVERYWHERE = dict.fromkeys(('start', 'mini', 'single'), 1.0)
SHRINK = groups(barrier=4.0, power=-1.0)
GROW = groups(barrier=0.0002, power=1.0)
SAME = groups(barrier=1.0, vary=0.0)
# Of every claim, results by what they are: as the claim says, against it, without a difference, all values the same.
WORLDS = {
  'N1': {
    'said': valleys(0.0, 1.0, 0.0, {'mini': 1.0, 'single': 1.0}),
    'against': valleys(0.5, 0.1, 0.1, {'start': 1.0}),
    'chaotic': valleys(0.0, 1.0, 1.0, EVERYWHERE | {'perturbed': 1.0}),
  },
  'N2': {
    'said': falls(1.0, 0, 1.0),
    'against': falls(1.0, 5, 0.0),
    'nobody falls': falls(0.0, 0, 0.0),
  },
  'N3': {'said': escapes(), 'against': escapes(slope=0.5, factor=2.0)},
  'N4': {
    'said': doses([20, 10, 5, 30], [20, 8, 2, 1]),
    'against': doses([1, 10, 11, 3], [1, 20, 20, 20]),
    'none': doses([10] * 4, [10] * 4),
    'same': doses([10] * 4, [10] * 4, noise=0.0),
  },
  'N5': {
    'said': groups(deviation=0.5, power=-1.0),
    'against': groups(deviation=0.1, power=0.5),
    'none': groups(deviation=0.1),
    'same': groups(),
  },
  'N6': {'said': SHRINK, 'against': GROW, 'same': SAME},
  'N6a': {'said': SHRINK, 'against': GROW, 'same': SAME},
  'N6b': {'said': SHRINK, 'against': GROW, 'same': SAME},
  'N7': {'said': alone(0.7), 'against': alone(1.3), 'none': alone(1.0), 'same': groups(vary=0.0)},
}


def verdicts(claim, world):
  """The verdicts of all parts, as the study grades them."""
  found = grade_all({claim: minima.claims[claim]}, view(**WORLDS[claim][world]))[0]
  return {part.effect_name: str(part.verdict) for part in found.parts}


def test_no_claim_is_left_out():
  assert set(WORLDS) == set(minima.claims)


@pytest.mark.parametrize('claim', WORLDS)
def test_every_part_can_hold_and_can_fail(claim):
  found = {world: verdicts(claim, world) for world in WORLDS[claim]}
  assert set(found['said'].values()) == {SUPPORTED}
  for part in found['said']:
    assert {own[part] for world, own in found.items() if world != 'said'} & {CONTRADICTED, NONE}, part
  if 'same' in found:  # arms without any spread are no evidence
    assert set(found['same'].values()) == {'inconclusive'}
  if 'none' in found:
    assert NONE in found['none'].values()
    assert SUPPORTED not in {own for part, own in found['none'].items() if 'largest width' not in part}


def test_against_is_against():
  for claim in ('N3', 'N4', 'N5', 'N7'):
    assert set(verdicts(claim, 'against').values()) == {CONTRADICTED}, claim
  assert set(verdicts('N4', 'none').values()) == {NONE}
  crossed = {
    part: own for part, own in verdicts('N1', 'chaotic').items() if 'minus full batch perturbed' in part
  }
  assert set(crossed.values()) == {NONE}  # what full batch does as well is not the noise's
  fallen = verdicts('N2', 'nobody falls')
  assert {fallen[part] for part in fallen if 'of those thrown in' in part} == {'inconclusive'}
  ratio = effects.batch_size_ratio(view(**escapes(alike=True)))
  assert ratio.low == ratio.high  # arms that are the same: inconclusive by the grading
  low = list(verdicts('N6', 'against').values())
  assert low == [NONE] * len(WIDTHS) + [CONTRADICTED]


def test_a_choice_that_other_tuning_seeds_would_not_make_widens_the_interval():
  cells = forks({'mini': 1.0}, choices=((0.1, 0.1), (0.3, 0.1)))
  sure = effects.crossed_gain(view(**cells), 'late', 'mini', 'perturbed')
  cells['fork'] = cells['fork'].copy(deep=True)
  cells['fork'].barrier[1] = 0.0
  assert (
    effects.crossed_gain(view(**cells), 'late', 'mini', 'perturbed') == sure
  )  # the other choice is not likely
  losses = cells['fork_tuning'].train_loss.copy(deep=True)
  losses.loc[{'batch_size': 32, 'learning_rate': 0.3}] = np.array([-0.7, 1.0] * 4)[:, None]
  cells['fork_tuning'] = cells['fork_tuning'].assign(train_loss=losses)
  unsure = effects.crossed_gain(view(**cells), 'late', 'mini', 'perturbed')
  assert unsure.estimate == sure.estimate
  assert unsure.high - unsure.low > 2 * (sure.high - sure.low)
