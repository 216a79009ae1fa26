"""Every part of every claim of the study of batch sizes can fail: made-up results that support it, and that do not."""

import functools

import numpy as np
import pytest
import xarray as xr

from configs import batch_size as configs
from experiments.batch_size import arms, effects
from experiments.batch_size.study import LABELS, NORMALISED, Settings, batch_size

YES, NO, SAME, OPEN = 'supported', 'contradicted', 'no difference', 'inconclusive'
SEEDS, RATE, SIZES = 12, 0.1, (1, 2, 4, 16, 64, 256)


@functools.cache
def config() -> Settings:
  made = configs.get_config()
  few = {'num_seeds': SEEDS, 'learning_rates': (0.2, 0.5), 'momenta': (0.0,)}
  made.update(
    {'seeds': {'count': SEEDS, 'tuning': 3}, 'learning_rates': (0.2, 0.5), 'momenta': (0.0,), 'epochs': 2}
  )
  made.update({'cnn': few | {'epochs': 2}, 'norm': few, 'updates': 40})
  made.update({'sharpness': {'settings': ((0.2, 0.0), (0.5, 0.0)), 'num_seeds': SEEDS}})
  made.update(
    {'steps': {'batch_sizes': SIZES, 'num_seeds': SEEDS}, 'growth': {'learning_rates': (RATE, 0.4)}}
  )
  made.update({'ramp': {'adam': (RATE, 0.4), 'normalised': (RATE, 0.4), 'num_seeds': SEEDS}})
  return Settings.checked(made.to_dict())


def view(cells):
  return batch_size.view(batch_size, config(), cells, {})


def dataset(dims, columns, *coordinates) -> xr.Dataset:
  return xr.Dataset(
    {name: (dims, np.array(value)) for name, value in columns.items()},
    dict(zip(dims, coordinates, strict=True)),
  )


def noise(number: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(number).normal(0, 0.001, shape)


def trained(bench: str, accuracies, noisy: float = 1.0):
  """Tuning and runs of a bench: setting 1 validates better, and has each arm's test accuracy; setting 0 has 0.3."""
  cells = {}
  on = [arm for arm in arms.tuned_arms(config()) if arm.bench.name == bench]
  for arm, accuracy in zip(on, accuracies, strict=True):
    steps = sorted({0, *arm.budgets.values()})
    loss = np.linspace(3, 0.5 * arm.bench.target, len(steps))
    for cell, count in (('tuning', 3), ('runs', SEEDS)):
      own = np.reshape([0.3, accuracy], (2, 1, 1)) + noisy * noise(arm.batch_size + arm.ghost, 2, count, 1)
      values = {'validation_accuracy': np.reshape([0.2, 0.9], (2, 1, 1)), 'validation_loss': 1.0}
      values |= {f'population.{name}': value for name, value in values.items()}
      values |= {
        'updates': np.array(steps),
        'train_loss': loss,
        'test_accuracy': own,
        'population.test_accuracy': own,
        'status': 0,
      }
      columns = {name: value + np.zeros((2, count, len(steps))) for name, value in values.items()}
      cells[f'{cell}_{arm}'] = dataset(('setting', 'seed', 'step'), columns, [0, 1], range(count), steps)
  return cells


def compared(*accuracies: float, noisy: float = 1.0):
  """All benches of the claims on small and large batches."""
  found = [trained(bench, accuracies, noisy) for bench in ('clean', 'noisy', 'cnn')]
  return {name: cell for each in found for name, cell in each.items()}


def sharp(follow: float, ratio: float, noisy: float = 1.0):
  """Measures that go with the gap so far, and are so many times as large with every larger batch."""
  cells = compared(0.9, 0.9)
  for bench in LABELS:
    for place, size in enumerate(config().sharpness.batch_sizes):
      own, gap = noise(place, SEEDS, 4), noise(place + 9, SEEDS, 4)
      measure = ratio**place * np.exp(noisy * (follow * gap + 0.3 * own))
      columns = dict.fromkeys(('keskar', 'eigenvalue', 'trace', 'adaptive'), measure)
      columns['loss_gap'] = gap * (noisy > 0) + follow * place * (ratio != 1)
      found = dataset(('seed', 'setting'), columns, range(SEEDS), range(4))
      cells[f'sharpness_{bench}_b{size}'] = found
      cells[f'own_{bench}_b{size}'] = found.isel(setting=[0, 1])
  return cells


def taken(law, scale: float, noisy: float = 1.0):
  """Updates to the target by a law of B, and noise scales."""
  cells = {}
  for size in SIZES:
    for cell, count in (('search', 3), ('steps', SEEDS)):
      steps = law(size) * np.exp(20 * noisy * noise(size, count))
      steps = np.stack([steps, 2 * steps])  # the other rate is slower
      columns = {'steps': steps, 'censored': steps < 0}
      cells[f'{cell}_{size}'] = dataset(('learning_rate', 'seed'), columns, [0.1, 0.2], range(count))
  square = np.exp(20 * noisy * noise(7, 3, SEEDS))
  columns = {'trace': scale * square[::-1], 'square': square}
  return cells | {
    f'scales_{SIZES[-1]}': dataset(('loss', 'seed'), columns, list(config().steps.losses), range(SEEDS))
  }


def slowed(growth: float, kept: float, updates: int, noisy: float = 1.0):
  """Three ways whose losses at the ends of stages are so many times that of decay; both rates are stable."""
  cells, epochs = {}, config().growth.epochs[-1] + 1
  rates = list(config().growth.learning_rates)
  for place, (way, factor) in enumerate(zip(effects.WAYS, (growth, 1.0, kept), strict=True)):
    loss = factor * np.exp(noisy * noise(place, 2, SEEDS, epochs)) * np.linspace(2, 1, epochs)
    columns = {'train_loss': loss, 'test_loss': loss, 'status': 0 * loss}
    made = np.linspace(0, updates if way == 'growth' else 1000, epochs)
    cells[f'way_{way}'] = dataset(('learning_rate', 'seed', 'step'), columns, rates, range(SEEDS), made)
  return cells | {'first_stage': cells['way_kept'].isel(seed=[0, 1, 2])}


def ramped(growth: float, others: float, updates: int, noisy: float = 1.0):
  """Losses of a growing batch, and of the controls, so many times that of a decaying rate; exact ones as well."""
  cells, epochs = {}, config().growth.epochs[-1] + 1
  factors = np.array([growth, 1.0, others, others])
  for method in NORMALISED:
    loss = np.exp(noisy * noise(5, 4, 2, SEEDS, epochs)) * factors[:, None, None, None]
    dims, rates = ('way', 'learning_rate', 'seed', 'step'), list(getattr(config().ramp, method))
    columns = {'train_loss': loss, 'test_loss': loss, 'status': 0 * loss}
    found = dataset(dims, columns, [*effects.RAMPS], rates, range(SEEDS), range(epochs))
    made = np.linspace(0, 1, epochs) * np.array([[updates], [1000], [1000], [updates]])
    cells[f'ramp_{method}'] = found.assign(made=(('way', 'step'), made))
    cells[f'ramp_stage_{method}'] = found.sel(way='kept').isel(seed=[0, 1, 2])
  exact = np.repeat(factors[:, None], 3, axis=1) if noisy else np.full((4, 3), np.nan)
  return cells | {'ramp_exact': dataset(('way', 'stage'), {'loss': exact}, [*effects.RAMPS], range(3))}


def stopped(gains, risen, noisy: float = 1.0):
  """By bench: test accuracy falls so far after the least validation loss, which then rises by so much."""
  cells = compared(0.9, 0.9)
  for bench in LABELS:
    for cell in ('tuning', 'runs'):
      runs = cells[f'{cell}_{bench}_b32']
      at = runs.step.values / arms.Arm(arms.benches(config())[bench], 32).budgets['epochs']
      runs.train_loss[:] = 1 - 0.1 * at  # is least at the end
      runs.validation_loss[:] = np.where(at > 0, 1 + risen[bench] * (at >= 1), 2.0)
      runs.test_accuracy[:] = 0.9 - gains[bench] * (at >= 1) + noisy * noise(3, *runs.test_accuracy.shape)
  return cells


bend = lambda size: 30 * (1 + 20 / size)
both = lambda value: dict.fromkeys(LABELS, value)
ghosts = lambda *accuracies, noisy=1.0: trained('norm', accuracies, noisy)
# Of every claim: what supports all its parts, what refutes each of them, and arms that are the same.
WORLDS = {
  'G3': (lambda: sharp(1, 2), [lambda: sharp(1, 0.5), lambda: sharp(1, 1)], lambda: sharp(1, 1, 0)),
  'G4': (lambda: sharp(1, 1.01), [lambda: sharp(-1, 0.99), lambda: sharp(-1, 1)], lambda: sharp(1, 1, 0)),
  'G5': (
    lambda: taken(bend, 20),
    [lambda: taken(lambda size: 600 / size**2, 20), lambda: taken(bend, 500)],
    lambda: taken(lambda size: 100, 20, 0),
  ),
  'G6': (
    lambda: ghosts(0.95, 0.9, 0.93),
    [lambda: ghosts(0.95, 0.95, 0.95), lambda: ghosts(0.95, 0.9, 0.9)],
    lambda: ghosts(0.9, 0.9, 0.9, noisy=0),
  ),
  'G7': (
    lambda: slowed(1, 0.5, 600),
    [lambda: slowed(1.5, 1, 1200)],
    lambda: slowed(1, 1, 1000, 0),
  ),
  'G9': (
    lambda: ramped(1, 1.5, 600),
    [lambda: ramped(1.5, 1, 1200)],
    lambda: ramped(1, 1, 1000, 0),
  ),
  'G8': (
    lambda: stopped(both(0.05), both(0.5)),
    [lambda: stopped(both(-0.05), both(0.5)), lambda: stopped(both(0), both(0))],
    lambda: stopped(both(0), both(0.5), 0),
  ),
  'G8a': (
    lambda: stopped({'clean': 0, 'noisy': 0.05}, {'clean': 0, 'noisy': 0.5}),
    [lambda: stopped({'clean': 0.05, 'noisy': 0}, {'clean': 0, 'noisy': 0.5})],
    lambda: stopped(both(0), {'clean': 0, 'noisy': 0.5}, 0),
  ),
}
gain = lambda: compared(0.97, 0.95), [lambda: compared(0.94, 0.95), lambda: compared(0.95, 0.95)]
WORLDS |= {claim: (*gain, lambda: compared(0.95, 0.95, noisy=0)) for claim in ('G1', 'G1a', 'G2')}
WORLDS |= {'G3a': WORLDS['G3'], 'G4a': WORLDS['G4']}


def judged(claim: str, cells) -> list[str]:
  """The verdict on each part by itself, as a claim of one part would have it."""
  seen, found = view(cells), []
  for effect in batch_size.claims[claim].effects:
    interval = effect.measure(seen)
    finite = np.isfinite(interval[:3]).all() and not interval.excluded
    known = finite and (interval.low < interval.high or interval.confidence == 1)
    found.append(str(effect.rule.judge(interval)) if known else OPEN)
  return found


def test_no_claim_is_left_out():
  assert WORLDS.keys() == batch_size.claims.keys()


@pytest.mark.parametrize('claim', WORLDS)
def test_every_part_can_hold_and_can_fail(claim):
  supports, refutes, same = WORLDS[claim]
  assert set(judged(claim, supports())) == {YES}
  failed = [judged(claim, cells()) for cells in refutes]
  for place, verdicts in enumerate(zip(*failed, strict=True)):
    effect = batch_size.claims[claim].effects[place]
    assert ({OPEN} if effect.rule.premise else {NO, SAME}) & {*verdicts}, effect.name
  assert set(judged(claim, same())) == {OPEN}
