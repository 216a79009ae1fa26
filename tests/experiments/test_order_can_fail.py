"""Every part of every claim of the study of orders can fail: made-up results that support it, and that do not."""

import re

import numpy as np
import pytest
import xarray as xr

from configs import order as configs
from experiments.order import exact
from experiments.order.effects import BENCHES, View
from experiments.order.study import CONSTRUCTED, FLOORS, LIE, ORDERS, QUADRATIC, REDUCED, order
from gdlab.claims import Verdict

NOT = (Verdict.CONTRADICTED, Verdict.NO_DIFFERENCE)


def settings():
  config = configs.get_config()
  config.update_from_flattened_dict({'seeds.first': 10, 'reduced.multiples': (0.2, 1 / 3)})
  return order.config.checked(config.to_dict())


CONFIG = settings()
IDS, TUNING = CONFIG.seeds.ids, CONFIG.seeds.for_tuning
COUNT, RATES = len(IDS), np.array([0.01, 0.02, 0.04])


def jitter(number, size=0.003):
  """So that intervals have a width; another for every series."""
  return np.exp(size * np.random.default_rng(number).standard_normal(COUNT))


def trained(bench, loss, swing):
  """Two rates, the second worse; in the last epoch the loss goes up and down by half of a swing."""
  arms, seeds = BENCHES[bench], [*TUNING, *IDS]
  steps, turns = np.arange(8), np.array([0, 0, 0, 0.5, -0.5, 0.5, -0.5, 0])
  values = np.empty((len(arms), 2, len(seeds), len(steps)))
  for row, arm in enumerate(arms):
    own = np.concatenate([np.ones(len(TUNING)), jitter(row)])[:, None]
    mean = {'sorted': 5.0, 'with replacement': 1.5}.get(arm, 2.0 if arm[0] == 'b' else 1.0)
    amount = {'sorted': 0.5}.get(arm, 0.1)
    level, high = loss.get(arm, mean), swing.get(arm, amount)
    values[row] = np.stack([own * (level + high * turns), own * (2 * level + high * turns)])
  values[..., 0] = 10
  coords = {'arm': [*arms], 'learning_rate': [0.1, 0.2], 'seed': seeds, 'step': steps}
  runs = {'loss': ([*coords], values), 'status': ([*coords], np.zeros(values.shape, int))}
  return xr.Dataset(runs, coords, {'epoch': 4})


def floors(names, slopes, factors, law=None):
  values = [
    factors.get(name, 1)
    * (RATES[:, None] ** slopes.get(name, 2) if law is None else np.array(law[row])[:, None])
    * jitter(row)
    for row, name in enumerate(names)
  ]
  coords = {'order': [*names], 'learning_rate': RATES, 'seed': IDS}
  return xr.DataArray(np.stack(values), coords, ('order', 'learning_rate', 'seed'))


def quadratic(slopes, factors):
  """Floors by the exact law, times a power of the rate, and factors."""
  law = [[exact.floor(name, rate, 8) for rate in RATES] for name in QUADRATIC]
  bent = [np.array(own) * RATES ** slopes.get(name, 0) for name, own in zip(QUADRATIC, law, strict=True)]
  values = {'floor': floors(QUADRATIC, {}, factors, bent), 'exact': (('order', 'learning_rate'), law)}
  return xr.Dataset(values)


def published(slopes, factors, worst):
  n, k, square = np.empty((3, len(CONSTRUCTED), 2, 3))
  jitters = np.empty((len(CONSTRUCTED), COUNT))
  for row, name in enumerate(CONSTRUCTED):
    own = slopes.get(name, ORDERS[name])
    n[row], k[row] = [[4, 8, 16], [4, 4, 4]], [[4, 4, 4], [4, 8, 16]]
    square[row] = (n[row] / 4) ** own[0] * (k[row] / 4) ** own[1] * (worst if name == 'sorted' else 1)
    jitters[row] = 1 if name == 'sorted' else jitter(row)
  law = square / np.array([factors.get(name, 1) for name in CONSTRUCTED])[:, None, None]
  dims = ('order', 'along', 'point')
  values = {'n': (dims, n), 'k': (dims, k), 'exact': (dims, law)}
  values['square'] = (*dims, 'seed'), square[..., None] * jitters[:, None, None]
  return xr.Dataset(values, {'order': [*CONSTRUCTED], 'along': ['n', 'k'], 'seed': IDS})


def importance(ratios):
  kinds = {'optimal': (0.5, 0.5, 0.5), 'learned': (1, 0.6, 0.6), 'drawn': (1, 1, 1)} | ratios
  values = {'variance.uniform': np.ones((COUNT, 3))}
  for number, (kind, levels) in enumerate(kinds.items()):
    base = values['variance.optimal'] if kind == 'drawn' else 1.0
    values[f'variance.{kind}'] = base * np.array(levels) * jitter(number)[:, None]
  return xr.Dataset({name: (('seed', 'step'), each) for name, each in values.items()}, {'seed': IDS})


def reduced(fall, late, stall):
  """Errors that fall by a factor each pass, from the middle on by a power of it; those of SGD by `stall`, once."""
  passes = np.arange(1, 65)
  square = np.empty((3, COUNT, 2, 64))
  for row, name in enumerate(REDUCED):
    power = np.minimum(passes, 30) + late.get(name, 1) * np.maximum(passes - 30, 0)
    one = np.exp(-fall.get(name, 0.75) * power)
    square[row] = one if name != 'SGD' else np.where(passes > 56, stall, 1.0)
    square[row] *= jitter(row)[:, None, None] ** (0.1 * passes if name != 'SGD' else 1)
    square[row] *= jitter(row + 9)[:, None, None] ** (passes > 56)
  coords = {'estimator': [*REDUCED], 'seed': IDS, 'multiple': [0.2, 1 / 3], 'passes': passes}
  return xr.Dataset({'square': ([*coords], square)}, coords, {'smoothness': 1.0})


def pairs(slopes, factors):
  names = ('reshuffled', 'paired reversal')
  given = {('variance', 'reshuffled'): 2, ('variance', 'paired reversal'): 3}
  given |= {('logistic', 'reshuffled'): 2, ('logistic', 'paired reversal'): 3} | slopes
  values = {
    variable: np.stack(
      [jitter(n)[:, None] * RATES ** (2 * given[variable, name]) for n, name in enumerate(names)]
    )
    for variable in ('variance', 'logistic')
  }
  law = np.stack([RATES ** (2 * given['variance', name]) / factors.get(name, 1) for name in names])
  values['exact'] = np.broadcast_to(law[:, None], values['variance'].shape)
  coords = {'order': [*names], 'seed': IDS, 'rate': RATES}
  return xr.Dataset({name: ([*coords], each) for name, each in values.items()}, coords)


def blocks(ratios):
  own = dict.fromkeys(LIE, 0.5) | ratios
  values = [[jitter(n), own[layout] * jitter(n + 7)] for n, layout in enumerate(LIE)]
  coords = {'layout': [*LIE], 'order': ['reshuffled', 'blocks'], 'seed': IDS}
  return xr.Dataset({'variance': ([*coords], np.stack(values))}, coords)


def view(
  loss=(), swing=(), logistic=(), level=(), bent=(), off=(), orders=(), error=(), worst=9.0, variance=(), fall=(),
  late=(), stall=1.0, deviation=(), spread=(), block=(),
) -> View:  # fmt: skip
  """What supports every part, but for what is given."""
  slopes = {'with replacement': 1, 'reshuffled': 2} | dict(logistic)
  factors = {'reshuffled': 0.1, 'shuffled once': 0.1} | dict(level)
  cells = {f'training_{bench}': trained(bench, dict(loss), dict(swing)) for bench in BENCHES}
  cells['logistic_floors'] = xr.Dataset({'floor': floors(FLOORS, slopes, factors)})
  cells['quadratic_floors'] = quadratic(dict(bent), dict(off))
  cells['published'] = published(dict(orders), dict(error), worst)
  cells |= {'importance': importance(dict(variance)), 'reduced': reduced(dict(fall), dict(late), stall)}
  cells |= {'pairs': pairs(dict(deviation), dict(spread)), 'blocks': blocks(dict(block))}
  return View(order, CONFIG, cells, {})


# Of which parts (by id and a part of the words), what makes them fail.
FAILS = [
  ('O1', '^(?!control).*swing', {'swing': {'sorted': 0.1}}),
  ('O1', 'loss, sorted over', {'loss': {'sorted': 1.0}}),
  ('O1', 'random order$', {'loss': {'unsorted': 0.5}}),
  ('O1', 'control', {'swing': {'unsorted': 0.5}}),
  ('O1a', 'buffer of 1 %', {'loss': {'buffer of 1 %': 1.0}}),
  ('O1a', 'buffer of 10 %', {'loss': {'buffer of 10 %': 0.5}}),
  ('O1a', 'buffer of 50 %', {'loss': {'buffer of 50 %': 1.0}}),
  ('O1a', 'blocks', {'loss': {'blocks of 5 %': 1.0}}),
  ('O2', 'logistic.*slope.*with replacement', {'logistic': {'with replacement': 2}}),
  ('O2', 'logistic.*slope.*reshuffled', {'logistic': {'reshuffled': 1}}),
  ('O2', 'floor reshuffled over', {'level': {'reshuffled': 1e4}}),
  ('O2', 'slope of 3', {'bent': {'reshuffled': -1}}),
  ('O2', 'exact value, with', {'off': {'with replacement': 1.2}}),
  ('O2', 'exact value, reshuffled', {'off': {'reshuffled': 0.8}}),
  ('O2', 'loss, with replacement', {'loss': {'with replacement': 1.0}}),
  ('O3', 'loss, shuffled once', {'loss': {'shuffled once': 1.5}}),
  ('O3', 'floor shuffled once', {'level': {'shuffled once': 5}}),
  *(('O3', f'slope.*{words}: ', {'orders': {name: (1, 1)}}) for name, words in {
    'with replacement': 'with replacement', 'reshuffled': 'reshuffled', 'biased': 'differ',
    'shuffled once': 'shuffled once', 'sorted': 'sorted'}.items()),
  *(('O3', f'exact value, .*{words}$', {'error': {name: 1.3}}) for name, words in {
    'with replacement': 'with replacement', 'reshuffled': 'reshuffled', 'shuffled once': 'once',
    'sorted': 'sorted'}.items()),
  ('O3', 'worst case', {'worst': 0.01}),
  ('O4', 'proportion', {'variance': {'optimal': (1, 1, 1)}}),
  ('O4', 'learned', {'variance': {'learned': (1, 1.5, 1.5)}}),
  ('O4', 'drawn', {'variance': {'drawn': (1.2, 1.2, 1.2)}}),
  ('O5', 'SVRG: fall', {'late': {'SVRG': 0.5}}),
  ('O5', 'SAGA: fall', {'late': {'SAGA': 0.5}}),
  ('O5', 'SVRG over SGD', {'fall': {'SVRG': 0.02}}),
  ('O5', 'SAGA over SGD', {'fall': {'SAGA': 0.02}}),
  ('O5', 'guarantees', {'fall': {'SAGA': 0.1}, 'late': {'SAGA': 1.0}}),
  ('O5', 'control', {'stall': 0.3}),
  ('O6', 'least squares.*slope.*reshuffled', {'deviation': {('variance', 'reshuffled'): 3}}),
  ('O6', 'least squares.*slope.*paired', {'deviation': {('variance', 'paired reversal'): 2}}),
  ('O6', 'logistic.*slope.*reshuffled', {'deviation': {('logistic', 'reshuffled'): 3}}),
  ('O6', 'logistic.*slope.*paired', {'deviation': {('logistic', 'paired reversal'): 2}}),
  ('O6', 'all orders, reshuffled', {'spread': {'reshuffled': 1.2}}),
  ('O6', 'all orders, paired', {'spread': {'paired reversal': 0.8}}),
  ('O6', 'quadratic: log-log', {'bent': {'paired reversal': -2}}),
  ('O6', 'quadratic: floor over', {'off': {'paired reversal': 1.2}}),
  ('O6', 'random order', {'block': {'drawn': 1.0}}),
  ('O6', 'in turn', {'block': {'alternating': 1.0}}),
  ('O6', 'sorted by class', {'block': {'sorted': 5.0}}),
]  # fmt: skip
PARTS = [(name, effect) for name, asked in order.claims.items() for effect in asked.effects]


def judged(effect, seen):
  """As grading does, without its correction."""
  interval = effect.measure(seen)
  assert not interval.excluded
  return effect.rule.judge(interval)


def test_what_is_said_supports_every_part():
  seen = view()
  assert {
    effect.name: judged(effect, seen) for _, effect in PARTS if judged(effect, seen) != 'supported'
  } == {}


@pytest.mark.parametrize(
  ('name', 'words', 'change'), FAILS, ids=[f'{name}-{words}' for name, words, _ in FAILS]
)
def test_a_part_can_fail(name, words, change):
  found = [effect for each, effect in PARTS if each == name and re.search(words, effect.name)]
  assert found
  seen = view(**change)
  for effect in found:
    verdict = judged(effect, seen)
    assert verdict in NOT or (effect.rule.premise and verdict is Verdict.INCONCLUSIVE), effect.name


def test_every_part_is_among_them():
  missing = [
    effect.name for each, effect in PARTS
    if not any(each == name and re.search(words, effect.name) for name, words, _ in FAILS)
  ]  # fmt: skip
  assert missing == []


def test_runs_that_failed_count_with_their_first_loss():
  seen = view()
  cell = seen.cell('training_mini')
  cell.status.loc[{'arm': 'with replacement'}] = 1
  words = 'perceptron, mini-batch: loss, with replacement over reshuffled'
  failed = next(effect for name, effect in PARTS if effect.name == words)
  assert failed.measure(seen).estimate == pytest.approx(10, rel=0.01)
