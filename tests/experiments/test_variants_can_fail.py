"""Every claim of the study of variants can fail: made-up results, graded by the real effects and rules."""

import numpy as np
import pytest
import xarray as xr

import gdlab
from configs import variants as configs
from experiments.variants import effects
from experiments.variants.seen import BUDGETS, DRIFTS, MEASURED, MODELS, Seen, Settings
from experiments.variants.study import variants
from gdlab import theory
from gdlab.study import graded

N, MINI, COUNT, RATES, WINDOWS = 64, 32, 12, [0.1, 1.0], [16, 64]
DIMS = ('learning_rate', 'seed', 'step')


def settings():
  """The study's configuration, as small as the made-up results are."""
  config = configs.get_config()
  config.update({'batch_sizes': (1, MINI), 'train': N})
  config.seeds.update({'first': 0, 'count': COUNT, 'tuning': 8})
  config.race.update(
    {'learning_rates': tuple(RATES), 'epochs': 2, 'target_loss': 0.5, 'target_accuracy': 0.5}
  )
  config.trade.update({'learning_rates': tuple(RATES), 'tuning': 8, 'num_seeds': COUNT})
  config.stream.update({'learning_rates': tuple(RATES), 'windows': tuple(WINDOWS)})
  return Settings.checked(config.to_dict())


CONFIG = settings()
IDS, TUNING = CONFIG.seeds.ids, CONFIG.seeds.for_tuning


def view(**cells) -> Seen:
  return variants.view(variants, CONFIG, cells, {})


def jitter(*shape: int, size: float = 0.01) -> np.ndarray:
  return np.exp(size * np.random.default_rng(sum(shape)).standard_normal(shape))


def near(value: float, count: int, size: float = 0.01) -> np.ndarray:
  """Values of so many seeds (or rounds, or processes) that differ a little."""
  return value * jitter(count, size=size)


def clock(costs, *, same: bool = False) -> xr.Dataset:
  """Seconds per update by batch size."""
  seconds = np.stack(
    [
      np.full(5, cost) if same else cost * jitter(5, place + 1)[:, 0]
      for place, cost in enumerate(costs.values())
    ]
  )
  values = {'seconds_per_update': (('batch_size', 'round'), seconds), 'per_update': 1.0, 'per_example': 0.1}
  return xr.Dataset(values, {'batch_size': [*costs]}, {'num_examples': N, 'processor': 'made-up'})


CLOCK = clock({1: 1.0, MINI: 4.0, N: 8.0})


def runs(losses, steps=None, seeds=IDS, failed=()) -> xr.Dataset:
  """Runs whose losses are given by seed and step, at two rates of which the second is worse; `failed` diverged."""
  losses = np.broadcast_to(losses, (len(seeds), np.shape(losses)[-1]))
  both = np.stack([losses, losses + 1])
  status = np.full(both.shape, gdlab.RUNNING)
  status[:, list(failed), 1:] = gdlab.DIVERGED
  values = {'train_loss': (DIMS, both), 'status': (DIMS, status)}
  values |= {f'{images}_accuracy': (DIMS, 1 - both) for images in ('train', 'test')}
  steps = range(both.shape[-1]) if steps is None else steps
  return xr.Dataset(values, {'learning_rate': RATES, 'seed': list(seeds), 'step': list(steps)})


def race(**names) -> dict[str, xr.Dataset]:
  """Arms that reach the target after these updates, one more with every second seed if `varies`."""
  cells = {'timing': CLOCK}
  for name, first in names.items():
    steps = [0, 64, 128, 192] if name == 'single' else range(13)
    for kind, seeds in (('arm', IDS), ('tuning', TUNING)):
      at = np.asarray(
        [first + (steps[1] * (place % 2) if kind == 'arm' else 0) for place in range(len(seeds))]
      )
      cells[f'{kind}_{name}'] = runs(np.where(np.asarray(steps) >= at[:, None], 0.2, 0.9), steps, seeds)
  return cells


def ended(full, mini) -> dict[str, xr.Dataset]:
  """Arms with these losses after equal examples, by seed."""
  cells = {'timing': CLOCK}
  for name, losses in (('full', full), ('mini', mini)):
    curve = np.tile(np.asarray(losses)[:, None], 13)
    cells |= {f'arm_{name}': runs(curve), f'tuning_{name}': runs(curve[: len(TUNING)], seeds=TUNING)}
  return cells


def noise(factor) -> dict[str, xr.Dataset]:
  """Variances beside the law by this factor, and at N that of one example times it less 1."""
  trace, sizes = np.linspace(1, 3, COUNT), [1, 5, 10]
  found = []
  for finite in (None, 10):
    law = np.stack([theory.mean_variance(trace, size, finite) for size in sizes], axis=1)
    found.append(law * jitter(COUNT, 3) * factor)
  found[1][:, 2] = trace * (factor - 1)
  values = {
    'variance': (('replacement', 'seed', 'batch_size'), np.stack(found)),
    'covariance_trace': ('seed', trace),
  }
  coords = {'seed': IDS, 'replacement': ['with', 'without'], 'batch_size': sizes}
  return {'noise': xr.Dataset(values, coords, {'num_examples': 10})}


def identities(error) -> dict[str, xr.Dataset]:
  names = ['one_rule_in_order', 'one_rule_shuffled', 'mean_of_gradients', 'sum_of_losses']
  values = {'error': (('identity', 'seed'), np.full((4, COUNT), error))}
  return {'identities': xr.Dataset(values, {'identity': names, 'seed': IDS})}


def counts(updates) -> dict[str, xr.Dataset]:
  values = {
    'num_examples': [10_000],
    'batch_size': [128],
    'updates': [updates],
    'least_draws': [1],
    'most_draws': [1],
  }
  return {'counts': xr.Dataset({name: ('case', value) for name, value in values.items()})}


def smooth_and_timed(full, mini, single, same=False) -> dict[str, xr.Dataset]:
  """Times per update by these factors, and loss curves whose roughness goes the other way."""
  rng, costs = np.random.default_rng(0), {1: single, MINI: mini, N: full}
  noise = rng.standard_normal((COUNT, 50))
  curves = np.stack(
    [
      noise / cost * (1 if same else jitter(COUNT, place + 1)[:, :1])
      for place, cost in enumerate(costs.values())
    ]
  )
  smoothness = xr.Dataset(
    {'train_loss': (('batch_size', 'seed', 'step'), curves)}, {'batch_size': [*costs], 'seed': IDS}
  )
  return {'timing': clock(costs, same=same), 'smoothness': smoothness}


def floor(power, rising) -> dict[str, xr.Dataset]:
  """Floors that go as a power of the rate, and losses that rise at every second evaluation or at none."""
  rates = np.asarray(RATES)
  excess = rates[:, None, None] ** power * jitter(2, COUNT, 1) * np.ones(16)
  losses = np.broadcast_to(np.tile([1.0, 2.0], 8) if rising else np.arange(16, 0, -1.0), (2, COUNT, 16))
  values = {
    'excess': (DIMS, excess),
    'train_loss': (DIMS, losses),
    'status': (DIMS, np.full(losses.shape, gdlab.RUNNING)),
  }
  return {'floor': xr.Dataset(values, {'learning_rate': RATES, 'seed': IDS, 'step': range(16)})}


def trade(gain, size=0.001, measured=1) -> dict[str, xr.Dataset]:
  """Accuracies of B=1, and of B=32 so much better, with noise; by measured times so many times that."""
  dims = ('batch_size', 'learning_rate', 'seed', 'model', 'budget')
  cells = {'timing': CLOCK}
  for name, seeds in (('trade', IDS), ('trade_tuning', TUNING)):
    values = np.full((2, 2, len(seeds), len(MODELS), len(BUDGETS)), 0.9)
    signs = np.where(np.asarray([*MODELS]) == MEASURED, measured, 1)[:, None]
    values[1] += gain * signs + size * np.random.default_rng(0).standard_normal(len(seeds))[:, None, None]
    values[:, 1] -= 0.1  # the second rate is worse
    coords = {
      'batch_size': [1, MINI],
      'learning_rate': RATES,
      'seed': seeds,
      'model': [*MODELS],
      'budget': [*BUDGETS],
    }
    pair = {f'{images}_accuracy': (dims, values) for images in ('validation', 'test')}
    cells[name] = xr.Dataset(pair, coords, {'num_validation': 1, 'num_test': 1})
  return cells


def powers(factor, size=0.001, disturbed=1.0) -> dict[str, xr.Dataset]:
  """CPU times on a straight line, but those of powers of two by this factor; half of a process's rounds disturbed."""
  options = CONFIG.powers
  near = {power + side * offset for power in options.sizes for offset in options.offsets for side in (-1, 1)}
  sizes = sorted({*options.sizes, *options.between, *near})
  line = np.asarray([(1 + 0.1 * each) * (factor if each in options.sizes else 1) for each in sizes])
  seconds = line * jitter(8, 5, len(sizes), size=size)
  seconds[0, ::2] *= disturbed
  values = {'cpu_seconds': (('process', 'round', 'batch_size'), seconds)}
  return {'powers': xr.Dataset(values, {'batch_size': sizes}, {'processor': 'made-up'})}


def convex(factor, left, beyond) -> dict[str, xr.Dataset]:
  """Gaps that fall by a factor of the bound at 1/L, and what is left of them at 1.9/L and at 2.1/L."""
  gap = np.empty((2, 3, 2, 4))
  gap[:, 0] = (0.8 * factor) ** np.arange(4)
  gap[:, 1], gap[:, 2] = np.geomspace(1, left, 4), np.geomspace(1, beyond, 4)
  dims = ('problem', 'rate_times_smoothness', 'seed', 'step')
  coords = {'problem': ['linear', 'logistic'], 'rate_times_smoothness': [1.0, 1.9, 2.1]}
  return {'convex': xr.Dataset({'gap': (dims, gap), 'bound': ('problem', [0.8, 0.8])}, coords)}


def stream(full, single=1.0, size=0.01) -> dict[str, xr.Dataset]:
  """Squared errors of full batch, refitted to all or to a window, and of single examples, at every drift."""
  drifts, ids, dims = [0.0, *DRIFTS], IDS + TUNING, ('drift', 'seed')
  shape = len(drifts), len(ids)
  ones = np.ones((*shape, 2, 4))
  worse = np.asarray([1.0, 3.0])[:, None]  # the second rate, and the second window
  fulls = full * jitter(*shape, size=size)
  values = {
    'single': ((*dims, 'learning_rate', 'example'), single * ones * worse),
    'windowed': ((*dims, 'window', 'example'), fulls[..., None, None] * ones * worse),
    'full': ((*dims, 'example'), fulls[..., None] * np.ones(4)),
  }
  return {
    'stream': xr.Dataset(values, {'drift': drifts, 'seed': ids, 'learning_rate': RATES, 'window': WINDOWS})
  }


YES, NO, SAME, UNKNOWN = 'supported', 'contradicted', 'no difference', 'inconclusive'
TENTH, TRIPLE = near(0.1, COUNT), near(0.3, COUNT)
# By claim, the results that make all of its parts come out so. The last ones are of arms that are identical.
MADE = {
  'V1': {YES: identities(0.0), NO: identities(1e-3)},
  'V2': {YES: noise(1.0), NO: noise(1.2)},
  'V3': {YES: identities(0.0), NO: identities(1e-3)},
  'V4': {YES: counts(79), NO: counts(80)},
  'V5': {
    YES: smooth_and_timed(9, 3, 1),
    NO: smooth_and_timed(1, 3, 9),
    SAME: smooth_and_timed(1, 1, 1),
    UNKNOWN: smooth_and_timed(1, 1, 1, same=True),
  },
  'V6': {
    YES: race(full=8, mini=2, single=64),
    NO: race(full=1, mini=8, single=192),
    UNKNOWN: race(full=99, mini=99, single=999),  # none gets there
  },
  'V7': {YES: ended(TENTH, TENTH[::-1]), NO: ended(TRIPLE, TENTH[::-1]), UNKNOWN: ended(TENTH, TENTH)},
  'V8': {YES: floor(1, True), NO: floor(-1, False)},
  'V9': {YES: trade(0.02), NO: trade(-0.02), SAME: trade(0.0), UNKNOWN: trade(0.0, size=0.0)},
  'V10': {YES: powers(0.95), NO: powers(1.05), SAME: powers(1.0), UNKNOWN: powers(1.0, size=0.0)},
  'V10a': {YES: powers(0.95), NO: powers(1.05), SAME: powers(1.0), UNKNOWN: powers(1.0, size=0.0)},
  'V11': {YES: convex(0.9, 1e-9, 2.0), NO: convex(1.1, 1e-3, 0.5)},
  'V12': {YES: race(full=8, mini=2), NO: race(full=1, mini=8), UNKNOWN: race(full=99, mini=99)},
  'V13': {YES: stream(2.0), NO: stream(0.5), SAME: stream(1.0), UNKNOWN: stream(1.0, size=0.0)},
}


def parts(claim, cells) -> dict[str, str]:
  """The verdicts on all parts of a claim."""
  [finding] = graded.grade_all({claim: variants.claims[claim]}, view(**cells))
  return {part.effect_name: str(part.verdict) for part in finding.parts or (finding,)}


def test_no_claim_is_left_out():
  assert set(MADE) == set(variants.claims)
  assert all({YES, NO} <= set(cases) for cases in MADE.values())


@pytest.mark.parametrize(
  ('claim', 'verdict'), [(claim, each) for claim, cases in MADE.items() for each in cases]
)
def test_every_part_of_every_claim_comes_out_as_its_results_say(claim, verdict):
  found = parts(claim, MADE[claim][verdict])
  assert set(found.values()) == {verdict}, found
  assert len(found) == len(variants.claims[claim].effects)


def test_v9_is_graded_on_measured_times_and_lines_stand_beside():
  cells = trade(0.02, measured=-1)
  assert set(parts('V9', cells).values()) == {NO}
  assert effects.gain(view(**cells), BUDGETS[0], 'line').low > 0.005


def test_what_slows_rounds_whole_does_not_change_the_cost_of_neighbours():
  found = [effects.cost(view(**powers(1.0, disturbed=by)), 'odd neighbours') for by in (1.0, 3.0)]
  assert found[0][:3] == pytest.approx(found[1][:3])


def test_drifts_of_v13_may_disagree():
  mixed = stream(2.0)['stream']
  mixed.full[{'drift': -1}] = 0.5 * jitter(len(IDS + TUNING), 1)
  [finding] = graded.grade_all({'V13': variants.claims['V13']}, view(stream=mixed))
  assert finding.verdict == 'mixed'


def test_a_run_that_never_gets_there_is_a_bound():
  # 3 epochs of 64 against 2 batches of 32.
  at = lambda cells: effects.reached(view(**cells), 'loss', 'examples', 'mini')
  cells = race(full=3, mini=2)
  assert at(cells).estimate == pytest.approx(np.exp(np.mean(np.log([3, 4 / 1.5] * 6))))
  # Full batch makes 12 updates of 64 and does not get there: the ratio is at least that.
  assert at(cells | {'arm_full': runs([0.9] * 13)}).estimate == pytest.approx(np.sqrt(12 * 12 / 1.5))
  # The mini-batch's 12 updates of 32 do not: the ratio is at most 64 * 3 / (32 * 12).
  assert at(cells | {'arm_mini': runs([0.9] * 13)}).high < 1
  # A bound on the wrong side says nothing, nor does a pair of which neither gets there.
  slow = race(full=12, mini=2) | {'arm_mini': runs([0.9] * 13)}
  assert at(slow).excluded == at(race(full=99, mini=99)).excluded == COUNT
  assert parts(
    'V6',
    slow | {'arm_single': race(single=64)['arm_single'], 'tuning_single': race(single=64)['tuning_single']},
  ) == {'examples to target, full over mini': UNKNOWN, 'examples to target, full over single': YES}


def test_a_failed_run_counts_with_the_loss_it_began_with():
  cells = ended(TRIPLE, TENTH)
  cells['arm_full'] = runs([2.0, 1.0, 0.3, 0.2], failed=(1,))
  found = effects.loss_ratio(view(**cells))
  ratios = np.where(np.arange(COUNT) == 1, 2.0, 0.3) / TENTH
  assert (found.estimate, found.excluded) == (pytest.approx(np.exp(np.log(ratios).mean())), 0)


@pytest.mark.parametrize('how', ['diverged', 'not finite'])
def test_tuning_does_not_choose_a_rate_at_which_a_seed_failed(how):
  cells, every = ended(TENTH, TENTH), np.arange(len(TUNING))
  assert view(**cells).chooser('ended', 'mini')(every) == 0.1
  tuned = cells['tuning_mini'].copy(deep=True)
  if how == 'diverged':
    tuned.status[0, 0, 1:] = gdlab.DIVERGED
  else:
    tuned.train_loss[0, 0, 1:] = np.nan
  seen = view(**cells | {'tuning_mini': tuned})
  assert seen.chooser('ended', 'mini')(every) == 1.0
  assert '1 (an end of those tried) for mini' in seen.conditions('V7')


def test_a_diverged_stream_has_an_infinite_error():
  cell = stream(3.0, size=0.0)['stream']
  cell.single[:, -1, 0, 3] = np.nan  # the last of the tuning seeds
  _, choose = view(stream=cell).stream(DRIFTS[0])
  assert choose['rate'](np.arange(len(TUNING))) == 1.0


def test_budgets_are_equal_examples_and_equal_times():
  seen = view(timing=CLOCK)
  assert {name: seen.budget(name) for name in seen.three} == {'single': 128, 'mini': 4, 'full': 2}
  short = view(timing=CLOCK.assign_attrs(num_examples=70))  # an epoch is 32 + 32 + 6
  np.testing.assert_array_equal(short.clock('examples', 'mini', np.arange(5)), [0, 32, 64, 70, 102])
  # An update of 32 takes 4 s, so budgets are 256 s and more; one of 1 takes 1 s, on the line 1 + B / 10 1.1 s.
  exact = CLOCK.assign(seconds_per_update=clock({1: 1.0, MINI: 4.0, N: 8.0}, same=True).seconds_per_update)
  seen = view(timing=exact)
  assert seen.ends(MINI).sel(model=MEASURED).values.tolist() == [64, 256, 1024]
  assert seen.ends(1).sel(budget='short').values.tolist() == [256, 232, 284, 196, 237, 228]


def test_the_worst_step_is_held_against_the_bound():
  cell = convex(1.0, 1e-9, 2.0)['convex']
  cell.gap[:, 0] = [8.0, 4, 1e-12, 1e-12]
  seen = view(convex=cell)
  # The factor 1 of the last step is rounding: its gap is below 1e-9 of the first.
  assert effects.worst_contraction(seen, 'linear').estimate == pytest.approx(0.5 / 0.8)
  assert effects.remaining_gap(seen, 'linear', 2.1).estimate == pytest.approx(2)


def test_variances_are_held_against_the_law_at_every_batch_size():
  cell = noise(1.0)['noise']
  # (1 - 5/10) * 10/9 / 5 of the trace is the variance of 5 of 10; 1/5 with replacement.
  trace = cell.covariance_trace.values
  cell.variance[:, :, 0], cell.variance[:, :, 1] = trace, trace / 9
  assert effects.variance_ratio(view(noise=cell), 'without')[:3] == pytest.approx((1, 1, 1))
  assert effects.variance_ratio(view(noise=cell), 'with')[:3] == pytest.approx((5 / 9, 5 / 9, 1))


def test_neighbours_are_held_against_powers():
  cell = powers(1.0, size=0.0)['powers']
  cell.cpu_seconds[..., cell.batch_size.values.tolist().index(64)] *= 0.5
  seen = view(powers=cell)
  assert effects.cost(seen, 'neighbours 4 away').estimate == pytest.approx(2 ** (1 / 3))
  # 48 lies half-way between 32 (4.2) and 64 (3.7), 80 a quarter of the way from 64 to 128 (13.8), 96 half of it.
  ratios = 5.8 / 3.95, 9 / (0.75 * 3.7 + 0.25 * 13.8), 10.6 / 8.75
  assert effects.cost(seen, 'between').estimate == pytest.approx(np.prod(ratios) ** (1 / 3))
