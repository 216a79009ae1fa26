"""Every part of every claim of the study of methods can fail: made-up results that support it, and that do not."""

import functools

import numpy as np
import pytest
import xarray as xr

from configs import methods as configs
from experiments.methods import arms, exact, figures, measure  # noqa: F401, all cells and sections
from experiments.methods.study import BETAS, Settings, methods
from gdlab import theory

YES, NO, SAME, OPEN = 'supported', 'contradicted', 'no difference', 'inconclusive'
SEEDS = 12


@functools.cache
def config() -> Settings:
  made = configs.get_config()
  made.update({'images': 'digits', 'text': 'excerpt', 'seeds': {'first': 0, 'count': SEEDS, 'tuning': 3}})
  return Settings.checked(made.to_dict())


def noise(number: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(number).normal(0, 0.003, shape)


def runs(rates, speeds, number: int = 0, start: float = 2.0, accuracy: float = 0.9) -> xr.Dataset:
  """Losses start * exp(-speed * share of the run) at every rate; a speed below 0 ends above the start."""
  ids = [*config().seeds.for_tuning, *config().seeds.ids]
  own = np.broadcast_to(np.asarray(speeds, float), len(rates))[:, None, None]
  speed = own + noise(number, len(rates), len(ids), 1)
  loss = start * np.exp(-speed * np.linspace(0, 1, 21))
  right = accuracy + noise(number + 1, *loss.shape)
  columns = {f'{kind}_loss': loss for kind in ('train', 'validation', 'test')}
  columns |= {'test_accuracy': right, 'status': 0 * loss}
  dims = ('learning_rate', 'seed', 'step')
  return xr.Dataset(
    {name: (dims, value) for name, value in columns.items()},
    {'learning_rate': [*rates], 'seed': ids, 'step': range(21)},
  )


def races(speeds=None, accuracies=None):
  """All arms on all benches: their speeds and accuracies by `bench_arm` or by arm."""
  speeds, accuracies, cells = speeds or {}, accuracies or {}, {}
  for number, entry in enumerate(arms.entries(config())):
    arm = entry.split('_', 1)[1]
    speed = speeds.get(entry, speeds.get(arm, 1.0))
    rates = arms.grid(config(), arm)['learning_rate']
    cells[f'race_{entry}'] = runs(rates, speed, number, accuracy=accuracies.get(arm, 0.9))
  return cells


def quadratics(power: float, damped: float, missed: int = 0):
  conditions, rules = np.asarray(config().quadratic.conditions), [*exact.METHODS]
  powers = np.array([1.0, power, power, power])
  updates = 10 * conditions[:, None, None] ** powers[:, None] * np.exp(noise(0, len(conditions), 4, SEEDS))
  path = np.array([1, damped, damped, damped])[:, None] * np.exp(noise(1, len(conditions), 4, SEEDS))
  columns = {'updates': updates, 'path': path, 'missed': missed + 0 * path}
  coords = {'condition': conditions, 'rule': rules, 'seed': range(SEEDS)}
  return {'quadratic': xr.Dataset({n: (tuple(coords), v) for n, v in columns.items()}, coords)}


def laws(power: float):
  """All methods with one power of the condition number."""
  cells = quadratics(power, 0.5)
  powers = np.asarray(config().quadratic.conditions)[:, None, None] ** power
  cells['quadratic'].updates[:] = 10 * powers * np.exp(noise(4, 5, 4, SEEDS))
  return cells


def wells(usual: float, other: float):
  """Shares of runs in the deeper well."""
  place = np.where(np.linspace(0, 1, 400) < np.array([usual, other, other])[:, None], -1.0, 1.0)[..., None]
  columns = {'place': (('trial', 'seed', 'step'), place), 'status': (('trial', 'seed', 'step'), 0 * place)}
  return {'valleys': xr.Dataset(columns, {'trial': ['usual', 'equal', 'effective']}, {'ridge': 0.1})}


def slopes(adam: float, plain: float = 0.0):
  gradient = np.exp(np.linspace(-5, 0, 50)) * np.exp(noise(0, SEEDS, 50))
  rms = [[gradient, gradient ** (1 + power) * np.exp(noise(1, SEEDS, 50))] for power in (adam, plain)]
  rms[1][1] = gradient ** (1 + plain)
  values = np.moveaxis(np.asarray(rms), 2, 1)
  return {
    'sizes': xr.Dataset({'rms': (('rule', 'seed', 'kind', 'parameter'), values)}, {'rule': ['adam', 'plain']})
  }


def overfitted(rise: float, falls: float, adaptive: float):
  """Validation losses that rise by a factor from their least, training losses that fall by one meanwhile."""
  cells = {}
  for number, arm in enumerate(('heavy_ball', 'rmsprop', 'adam')):
    cell = runs(arms.grid(config(), arm)['learning_rate'], 1.0, number)
    share = np.abs(np.linspace(-1, 1, 21))
    level = adaptive if arm != 'heavy_ball' else 1.0
    cell['train_loss'] = cell.train_loss * 0 + 0.02 * np.exp(np.log(falls) * np.linspace(-1, 1, 21))
    cell['train_loss'] = cell.train_loss * np.exp(noise(number, 6, SEEDS + 3, 1))
    cell['validation_loss'] = (
      level * rise**share * np.exp(noise(number + 9, 6, SEEDS + 3, 21)) + 0 * cell.train_loss
    )
    cells[f'overfit_{arm}'] = cell
  return cells


def ordered(loss: float, game: float, together, after):
  """Shares of systems that break, and speeds of networks at each rate."""
  each = np.linspace(0, 1, 2000)
  converges = [[each >= 0, each >= share] for share in (loss, game)]
  columns = {'converges': (('kind', 'order', 'draw'), np.asarray(converges))}
  cells = {'orders': xr.Dataset(columns, {'kind': ['loss', 'game'], 'order': ['together', 'after']})}
  rates = config().order.rates
  return cells | {'layers_together': runs(rates, together), 'layers_after': runs(rates, after, 1)}


def exploding(none, clipped):
  speeds = {clip: none if clip == 'none' else clipped for clip in measure.CLIPS}
  return {f'explosion_{clip}': runs(config().explosion.rates, speed, 3) for clip, speed in speeds.items()}


def learnt(plain: float, sign: float, adam: float, natural: float, balanced: float):
  """Times to the loss with powers of the share, and speeds of Adam on bigrams."""
  options = config().classes
  shares = exact._shares(options.count)
  margin = np.log((options.count - 1) / np.expm1(options.loss))
  flow = theory.class_time(shares, options.loss, num_classes=options.count) / options.flow_rate
  updates = [flow * shares ** (plain + 1), margin / 2 / options.sign_rate * shares**sign, 50 * shares**adam]
  columns = {'updates': (('rule', 'share'), np.asarray(updates))}
  cells = {'one_hot': xr.Dataset(columns, {'rule': ['plain', 'sign', 'adam'], 'share': shares})}
  for number, (model, kind, arm) in enumerate(measure.KINDS):
    speed = {'natural': natural, 'balanced': balanced}[kind] if arm == 'adam' else 1.0
    cells[f'pairs_{model}_{kind}_{arm}'] = runs(getattr(options, arm), speed, number)
  return cells


def bordered(early: float, late: float):
  """Preconditioned sharpness over the border, at first and at last."""
  limits = np.array([(2 + 2 * b1) / ((1 - b1) * config().border.rate) for b1 in BETAS])
  level = np.linspace(early, late, 31).clip(None, late) if early < late else np.full(31, late)
  level = np.where(np.arange(31) > 15, late, level)
  values = limits[:, None, None] * level * np.exp(noise(0, len(BETAS), SEEDS, 1))
  dims = ('b1', 'seed', 'step')
  columns = {'sharpness': (dims, values), 'status': (dims, 0 * values)}
  return {'border': xr.Dataset(columns, {'b1': [*BETAS], 'step': range(31)})}


def small(one: float, fixed: float, half: float):
  """Speeds of single examples, with beta_2 left as it is, and in bfloat16; the others have 1."""
  speeds = {'float32_small': one, 'float32_middle': one, 'float32_fixed': fixed, 'bfloat16_small': half}
  rates = config().small.learning_rates
  names = ['_'.join(kind) for kind in measure.SMALL]
  return {f'small_{name}': runs(rates, speeds.get(name, 1.0), n) for n, name in enumerate(names)}


def window(adam, ball):
  return races({'adam': adam, 'heavy_ball': ball})


texts = {f'{bench}_adam': 4.0 for bench in arms.TEXTS}
images = {f'{bench}_adam': 4.0 for bench in arms.IMAGES}
FLAT, PEAK = [1.0] * 6, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
# Of every claim: what supports all its parts, and what refutes each of them.
WORLDS = {
  'M1': (
    lambda: quadratics(0.5, 0.5),
    [lambda: quadratics(1.0, 1.0, 1), lambda: laws(0.5)],
  ),
  'M2': (lambda: races({'heavy_ball': 2.0}), [lambda: races({'plain': 2.0}), races]),
  'M3': (lambda: wells(0.0, 0.5), [lambda: wells(0.5, 0.0), lambda: wells(0.3, 0.3)]),
  'M4': (lambda: window(FLAT, PEAK), [lambda: window(PEAK, FLAT), lambda: window(FLAT, FLAT)]),
  'M5': (
    lambda: races(accuracies={'heavy_ball_cosine': 0.95}),
    [lambda: races(accuracies={'heavy_ball_cosine': 0.85})],
  ),
  'M6': (lambda: races(texts), [lambda: races(images), races]),
  'M7': (lambda: slopes(-1.0), [lambda: slopes(0.5, -1.0), lambda: slopes(0.0)]),
  'M8': (
    lambda: overfitted(2.0, 0.1, 2.0),
    [lambda: overfitted(1.0, 1.5, 0.5), lambda: overfitted(1.0, 0.1, 1.0)],
  ),
  'M9': (
    lambda: ordered(0.3, 0.3, [1, 1, 1, 1, 1], [2, 1, 1, 1, -1]),
    [lambda: ordered(0.0, 0.0, [1, 1, 1, 1, 1], [1, 1, 1, 1, 1])],
  ),
  'M10': (lambda: races({'rmsprop': 2.0}), [lambda: races({'rmsprop': 0.5})]),
  'M11': (
    lambda: exploding([0.1, 0.1, 0.1, -1], [0.1, 0.1, 0.1, 2]),
    [lambda: exploding([2, 2, 2, 2], [0.1, 0.1, 0.1, -1])],
  ),
  'M12': (lambda: learnt(-1, 0, 0, 4.0, 1.0), [lambda: learnt(-0.5, -0.5, -0.5, 1.0, 4.0)]),
  'M13': (lambda: bordered(0.2, 1.0), [lambda: bordered(2.0, 2.0)]),
  'M14': (lambda: small(1.2, 0.5, 1.2), [lambda: small(0.5, 1.0, 0.5)]),
}


def judged(claim: str, cells) -> list[str]:
  """The verdict on each part by itself, as a claim of one part would have it."""
  seen, found = methods.view(methods, config(), cells, {}), []
  for effect in methods.claims[claim].effects:
    interval = effect.measure(seen)
    finite = np.isfinite(interval[:3]).all() and not interval.excluded
    known = finite and (interval.low < interval.high or interval.confidence == 1)
    found.append(str(effect.rule.judge(interval)) if known else OPEN)
  return found


def test_no_claim_is_left_out():
  assert WORLDS.keys() == methods.claims.keys()


@pytest.mark.parametrize('claim', WORLDS)
def test_every_part_can_hold_and_can_fail(claim):
  supports, refutes = WORLDS[claim]
  parts = methods.claims[claim].effects
  assert {
    effect.name: verdict for effect, verdict in zip(parts, judged(claim, supports())) if verdict != YES
  } == {}
  failed = [judged(claim, cells()) for cells in refutes]
  for effect, verdicts in zip(parts, zip(*failed, strict=True), strict=True):
    assert ({OPEN, NO} if effect.rule.premise else {NO, SAME}) & {*verdicts}, (effect.name, verdicts)
