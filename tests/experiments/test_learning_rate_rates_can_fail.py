"""Every part of L1, L3-L11 and L14 can fail: made-up results that support it, and that do not."""

import numpy as np
import pytest
import xarray as xr

from configs import learning_rate as configs
from experiments.learning_rate.rates import claims, effects, exact, tasks
from experiments.learning_rate.study import steps
from gdlab import statistics, theory
from gdlab.claims import Claim, grade
from gdlab.study import View

CLAIMS = ('L1', 'L3', 'L4', 'L5', 'L6', 'L7', 'L8', 'L9', 'L10', 'L11', 'L14')
CONFIG = steps.config.checked(configs.get_config().to_dict())
RATES = CONFIG.rates
TUNING, IDS = tasks.for_tuning(CONFIG), tasks.ids(CONFIG)
ALL, COUNT = TUNING + IDS, len(IDS)
JITTER = np.exp(0.01 * np.random.default_rng(0).standard_normal(len(ALL)))  # so that intervals have a width


def seen(cells) -> View:
  return View(steps, CONFIG, cells, {})


def verdict(effect, view):
  """As the claim's grading has it."""
  claim = Claim('one', 'one', {effect.name: effect.rule._replace(premise=False)})
  return grade(
    claim, {effect.name: effect.measure(view)}, num_seeds=COUNT, conditions='made up'
  ).verdict.value


def dataset(columns, **coords) -> xr.Dataset:
  """Variables with the dims of the coordinates, multiplied by the jitter of the seeds where there are any."""
  dims = [*coords]
  shape = [len(values) for values in coords.values()]
  factor = np.ones(shape)
  if 'seed' in dims:
    own = [1] * len(dims)
    own[dims.index('seed')] = -1
    factor = np.resize(JITTER, len(coords['seed'])).reshape(own) * factor
  return xr.Dataset(
    {name: (dims, np.broadcast_to(values, shape) * factor) for name, values in columns.items()}, coords
  ).assign(status=(dims, np.zeros(shape, int)))


def runs(losses, rates, variables, step=(0, 640, 1280), **coords) -> xr.Dataset:
  """Runs that end at these losses, [..., rate], and were there half way."""
  losses = np.asarray(losses, float)[..., None, None] * np.ones((len(ALL), len(step)))
  # Each loss has noise of its own, so that no two arms are the same.
  losses = losses * np.exp(0.02 * np.random.default_rng(1).standard_normal(losses.shape))
  return dataset(dict.fromkeys(variables, losses), **coords, learning_rate=[*rates], seed=ALL, step=[*step])


def trained(values, free=1.0, scale=0.1):
  """All arms on all tasks: the loss of every schedule at its best rate, which is the third; others are worse."""
  cells, bowl = {}, np.array([3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
  for task in tasks.TASKS:
    variables = ['excess'] if task == 'regression' else ['train_loss', 'validation_loss', 'test_loss']
    rates, size = getattr(RATES.schedules, f'{task}_rates'), 1e-3 if task == 'regression' else 1.0
    table = size * np.array([values.get(name, 1.0) for name in tasks.SCHEDULES])[:, None] * bowl
    cells[f'trained_{task}_fixed'] = runs(table, rates, variables, schedule=[*tasks.SCHEDULES])
    for arm in effects.FREE:
      tried = RATES.schedules.prodigy_rates if arm == 'Prodigy' else rates
      cells[f'trained_{task}_{arm}'] = runs(size * free * bowl, tried, variables).assign(
        scale=(('learning_rate', 'seed', 'step'), np.full((8, len(ALL), 3), scale))
      )
  return cells


ORDER = dict(zip(tasks.BOUNDED, (1.5, 1.3, 1.1, 1.03, 1.0), strict=True))  # as the bound has it
REVERSED = dict(zip(tasks.BOUNDED, (1.0, 1.03, 1.1, 1.3, 1.5), strict=True))
OTHERS = {'step': 1.0, 'exponential': 1.0, 'linear, for T/2': 1.5, 'linear, for 2T': 1.5}
BEYOND = dict.fromkeys(tasks.SCHEDULES, 1000000.0)  # the bound of a convex function


def borders(error):
  names = [f'{method} {beta:g}' if beta else method for method, beta in exact.trials(RATES.quadratics)]
  found = xr.Dataset(
    {'over_formula': (('method', 'seed'), np.full((len(names), 4), 1 + error))}, {'method': names}
  )
  return {f'border_{condition}': found for condition in RATES.quadratics.conditions}


def transferred(shift, full, steep=0.5):
  """Losses after training whose best rate is moved so many places by a change; full batch as given at all rates."""
  rates = RATES.transfer.learning_rates
  place = np.arange(len(rates))
  cells = {}
  for change in claims.CHANGES:
    best = 6 + (0 if change == 'base' else shift)
    cells[f'transfer_{change}'] = runs(
      np.exp(steep * np.abs(place - best)), rates, ['train_loss'], step=(0, 64)
    )
  losses = np.stack([np.full(len(rates), 2.3), full, full])[:, :, None] * np.ones(len(ALL))
  losses[1:] *= np.exp(0.005 * np.random.default_rng(4).standard_normal(losses[1:].shape))
  cells['transfer_full'] = dataset(
    {'train_loss': losses.transpose(1, 2, 0)}, learning_rate=[*rates], seed=ALL, step=[0, 5, 200]
  )
  return cells


def full_batch(small, large):
  """Losses of full batch: at rates below the best, at the best (place 8), above."""
  count = len(RATES.transfer.learning_rates)
  return np.array([small] * 8 + [0.1] + [large] * (count - 9))


def warmed(without, gain, fails=False):
  """Runs train at so many peaks without warm-up and at two more with it, which takes a factor off their loss.

  Graded runs do as tuning runs do, or none trains.
  """
  cells = {}
  for method, peaks in (('SGD', RATES.warm_up.sgd_peaks), ('Adam', RATES.warm_up.adam_peaks)):
    place, rows = np.arange(len(peaks)), []
    for share in RATES.warm_up.shares:
      good = place < (without + 2 if share else 4)
      rows.append(np.where(good, 0.1 / np.where(share, gain ** (place > 1), 1), 2.3))
    losses = np.stack(rows)[:, :, None, None] * np.ones((len(ALL), 2))
    losses *= np.exp(0.01 * np.random.default_rng(2).standard_normal(losses.shape))
    losses[:, :, len(TUNING) :] = 2.3 if fails else losses[:, :, len(TUNING) :]
    cells[f'warm_up_{method}'] = dataset(
      {'train_loss': losses}, share=[*RATES.warm_up.shares], peak=[*peaks], seed=ALL, step=[0, 200]
    )
  return cells


def decayed(falls, constant, fast, floor, level):
  """The excess of each exponent at a sixteenth of the updates and at the end."""
  cells, last = {}, RATES.decays.updates
  for kind in claims.KINDS:
    law = floor * exact.floor(kind, RATES.decays.first_rate)
    ends = {0.0: (law / constant, law), 2.0: (1.0, fast)}
    values = np.array([ends.get(exponent, (level, level * falls)) for exponent in RATES.decays.exponents])
    values = values[:, None, :] * np.exp(
      0.02 * np.random.default_rng(3).standard_normal((len(values), 64, 2))
    )
    coords = {'exponent': [*RATES.decays.exponents], 'seed': [*range(64)], 'step': [last // 16, last]}
    cells[f'decays_{kind}'] = xr.Dataset({'excess': ([*coords], values)}, coords)
  return cells


def batches(follows, examples=1.0, noise=100.0, test=1.0, far=3.0):
  """The fastest rate follows its rule to B=64, or only beyond it; examples and test loss at B=16, examples at 1024.

  Where B=1024 takes as many examples, it does so at all rates.
  """
  cells = {}
  for method, slope in claims.RULES.items():
    rates = np.array(getattr(RATES.batches, f'{method.lower()}_rates'))
    for size in RATES.batches.batch_sizes:
      octaves = np.log2(min(size, 64) / 4 if follows else max(size, 64) / 64)
      away = np.log2(rates / rates[3]) - slope * octaves
      taken = 4000 / size * {16: examples, 1024: far}.get(size, 1.0) * np.exp(0.2 * away**2)
      if far == 1 and size == 1024:
        taken = 4000 / size * np.ones_like(rates)
      values = taken[:, None] * np.exp(
        0.01 * np.random.default_rng(size).standard_normal((rates.size, len(ALL)))
      )
      columns = {'steps': values, 'censored': np.zeros(values.shape, bool)}
      columns['test_loss'] = values / taken[:, None] * (test if size == 16 else 1.0)
      coords = {'learning_rate': rates, 'seed': ALL}
      cells[f'batch_{method}_{size}'] = xr.Dataset(
        {name: ([*coords], each) for name, each in columns.items()}, coords
      )
  moments = {'trace': noise * np.resize(JITTER, COUNT), 'square': np.resize(JITTER[::-1], COUNT)}
  return cells | {
    'noise_16': xr.Dataset({name: ('seed', each) for name, each in moments.items()}, {'seed': IDS})
  }


def searched(worst, bound, cosine, back, own):
  """Line searches: errors from the worst start, steps over the bound, cosines, and the typical rate's logarithm."""
  cells, seeds = {}, 16
  for condition in RATES.quadratics.conditions:
    rate = theory.line_search_rate(float(condition), 1.0)
    jitter = 1 + 0.001 * np.arange(seeds)[:, None]
    left = np.stack([np.full((seeds, 64), rate * (1 + worst)), np.full((seeds, 64), rate**own) ** jitter])
    left[1, 0, 0] = rate * bound
    columns = {
      'left': left,
      'turn': np.full(left.shape, cosine),
      'return': back * np.stack([jitter**0.1] * 2) * np.ones(left.shape),
    }
    cells[f'cauchy_{condition}'] = xr.Dataset(
      {name: (('start', 'seed', 'step'), values) for name, values in columns.items()}
      | {'rate': ('seed', np.full(seeds, rate))},
      {'start': ['worst', 'random']},
    )
  return cells


# By claim: results that support every part of it, and results that support none.
SYNTHETIC = {
  'L1': (
    borders(1e-13) | transferred(0, full_batch(2.2, 9.0)),
    borders(1e-3) | transferred(0, full_batch(0.5, 1.0)),
  ),
  'L3': (trained(ORDER | {'constant': 1.3} | OTHERS), trained({'constant': 0.8})),
  'L4': (warmed(4, 2.0), warmed(0, 1.0)),
  'L5': (decayed(0.2, 1.0, 1.0, 1.0, 0.4), decayed(0.9, 0.5, 0.3, 3.0, 0.4)),
  'L6': (trained(OTHERS, free=1.0), trained(OTHERS, free=1.5, scale=1.0)),
  'L7': (transferred(3, full_batch(2.2, 9.0)), transferred(1, full_batch(2.2, 9.0), 0.02)),
  'L8': (batches(True), batches(False)),
  'L9': (batches(True), batches(False, 3.0, 1.0, 1.5, 1.0)),
  'L10': (trained(OTHERS | ORDER, free=1.0), trained({}, free=1.5)),
  'L11': (searched(0, 1, 0, 0.99, 1.1), searched(1e-3, 1.1, 0.1, 0.5, 2.0)),
  'L14': (trained(ORDER), trained(REVERSED)),
}
PARTS = [(claim, effect) for claim in CLAIMS for effect in steps.claims[claim].effects]


@pytest.mark.parametrize(('claim', 'effect'), PARTS, ids=[f'{claim} {each.name}' for claim, each in PARTS])
def test_every_part_can_be_supported_and_can_fail(claim, effect):
  good, bad = map(seen, SYNTHETIC[claim])
  assert verdict(effect, good) == 'supported'
  if effect.name.startswith('control, absolute regression'):
    bad = seen(trained(BEYOND))
  if effect.name.endswith('that train with it'):
    bad = seen(warmed(4, 2.0, fails=True))
  fails = ('inconclusive',) if effect.rule.premise else ('contradicted', 'no difference')
  assert verdict(effect, bad) in (*fails, 'contradicted')


def test_a_run_that_failed_loses_and_is_not_left_out():
  cells = trained(ORDER)
  view = seen(cells)
  assert effects.chooser(view, 'network', ('linear',))(effects.tuning(view)) == 2
  cells['trained_network_fixed'].status.loc[
    {'schedule': 'linear', 'learning_rate': RATES.schedules.network_rates[2]}
  ] = 1
  assert effects.chooser(view, 'network', ('linear',))(effects.tuning(view)) in (1, 3)
  failed = trained(ORDER)
  one = {'schedule': 'linear', 'learning_rate': RATES.schedules.network_rates[2], 'seed': IDS[0]}
  failed['trained_network_fixed'].status.loc[one] = 1
  found = effects.loss_ratio(seen(failed), 'network', ('linear',), ('constant',))
  assert found.estimate == np.inf


def test_what_knows_no_horizon_is_chosen_half_way():
  cells = trained(ORDER)
  for arm in effects.FREE:
    cells[f'trained_network_{arm}'].validation_loss[4, :, 1] = 1e-3  # the best half way, and not at the end
  view = seen(cells)
  trial = effects.chooser(view, 'network', effects.FREE)(effects.tuning(view))
  assert effects.rate(view, 'network', effects.FREE, trial)[:2] == (
    'plateau',
    RATES.schedules.network_rates[4],
  )
  ratio = effects.loss_ratio(view, 'network', effects.FREE, tasks.FIXED).estimate
  assert ratio == pytest.approx(3, rel=0.05)  # judged at the end


def test_the_vertex_of_a_parabola_is_the_fastest_rate():
  rates = np.array(RATES.batches.sgd_rates)
  cell = dataset({'test_loss': 1.0}, learning_rate=rates, seed=ALL)
  taken = np.exp(0.3 * np.log(rates / 0.37)[:, None] ** 2) * np.ones(len(ALL))
  cell = cell.assign(
    steps=(('learning_rate', 'seed'), taken),
    censored=(('learning_rate', 'seed'), np.zeros(taken.shape, bool)),
  )
  np.testing.assert_allclose(effects.fastest_rates(seen({'batch_SGD_4': cell}), 'SGD', 4), 0.37, rtol=1e-6)


def test_a_multiple_that_was_not_tried_is_unknown():
  view = seen(transferred(0, full_batch(2.2, 9.0)))
  losses = effects.ended(view, 'full')
  assert np.isnan(effects._at_multiple(losses, losses.learning_rate.values[-1], 2.0)).all()


def test_shares_of_rank_correlations_are_of_the_bounds_order():
  order = effects.bounds(RATES.schedules.updates)
  assert statistics.rank_correlation(order, [5, 4, 3, 2, 1]) == 1
