"""Effects of the study of minima on made-up results whose answer is plain, true and false, with runs that fail."""

import numpy as np
import pytest
import xarray as xr

import gdlab
from configs import minima
from experiments.minima import dose, effects, kramers, valleys, width_effects
from experiments.minima.claims import CLAIMS
from experiments.minima.study import Study
from gdlab import theory
from gdlab.claims import Verdict

SEEDS = 100
FIRST = 3000


def config():
  """The study's configuration with few of everything."""
  made = minima.get_config()
  made.num_seeds = SEEDS
  made.escape.num_seeds = SEEDS
  made.valleys.num_seeds = SEEDS
  made.valleys.learning_rates = (0.01, 0.02)
  made.valleys.num_examples = 512
  made.dose.num_seeds = SEEDS
  made.escape.barriers = (3.0, 5.0)
  made.widths.hidden = (4, 16, 32)
  made.widths.pairs = SEEDS // 2
  return made


def study(**results) -> Study:
  """A study with these cells."""
  return Study(config(), results, FIRST)


def judged(claim: str, effect: str, made: Study) -> Verdict:
  """The verdict on the effect of a claim whose name holds these words."""
  named = [each for each in CLAIMS[claim].effects if effect in each.name]
  (found,) = [each for each in named if each.name == effect] or named
  return found.rule.judge(found.measure(made))


def crossings(shares, status=None, returned=None) -> xr.Dataset:
  """Runs of which a share, by batch size, reached the other minimum at update 100, at every rate."""
  sizes = list(shares)
  reached = np.array([[100 * (np.arange(SEEDS) < share * SEEDS) for share in shares.values()]] * 2)
  dims = ('learning_rate', 'batch_size', 'seed')
  values = {
    'reached': (dims, reached),
    'returned': (dims, np.zeros_like(reached) if returned is None else returned * (reached > 0)),
    'status': (dims, np.zeros_like(reached) if status is None else np.broadcast_to(status, reached.shape)),
  }
  coordinates = {'learning_rate': [0.01, 0.02], 'batch_size': sizes, 'seed': range(FIRST, FIRST + SEEDS)}
  return xr.Dataset(values, coordinates).expand_dims(step=[0], axis=-1)


@pytest.mark.parametrize(
  ('full', 'mini', 'deep', 'verdicts'),
  [
    (0.0, 1.0, 0.0, ('supported', 'supported', 'supported')),
    (0.5, 0.1, 0.0, ('contradicted', 'contradicted', 'contradicted')),
    (0.0, 1.0, 1.0, ('supported', 'supported', 'contradicted')),
  ],
)
def test_who_leaves_the_shallow_valley(full, mini, deep, verdicts):
  made = study(leave_poor=crossings({1: 1.0, 4: mini, 512: full}), leave_good=crossings({1: 1.0, 4: deep}))
  full_batch, mini_batch, gain = CLAIMS['N1'].effects
  found = (each.rule.judge(each.measure(made)) for each in (full_batch, mini_batch, gain))
  assert tuple(found) == verdicts


def test_a_full_batch_run_that_diverged_has_not_stayed():
  made = study(leave_poor=crossings({1: 1.0, 4: 1.0, 512: 0.0}, status=gdlab.DIVERGED))
  assert effects.full_batch_left(made).estimate == 1


def test_runs_that_arrived_too_late_have_not_left():
  made = study(leave_poor=crossings({1: 1.0, 4: 1.0}))
  assert made.left('leave_poor', 1).all()
  assert not made.left('leave_poor', 1, by=99).any()


@pytest.mark.parametrize(
  ('returned', 'verdict'), [(0, 'supported'), (150, 'contradicted'), (90_000, 'supported')]
)
def test_who_cannot_leave_the_poor_valley(returned, verdict):
  made = study(leave_good=crossings({1: 1.0, 4: 0.0}, returned=returned))
  assert judged('N2', 'double well: share of those thrown in that had not come back', made) == verdict
  assert judged('N2', 'double well: share thrown into', made) == 'supported'


def test_nobody_thrown_in_says_nothing_of_staying():
  made = study(leave_good=crossings({1: 0.0, 4: 0.0}))
  interval = effects.stay(made, 'leave_good')
  assert np.isnan(interval.estimate)
  assert judged('N2', 'double well: share thrown into', made) != 'supported'


@pytest.mark.parametrize(
  ('by_then', 'later', 'verdicts'),
  [
    (2.3, 2.3, ('supported', 'supported')),
    (2.3, 0.1, ('supported', 'contradicted')),
    (0.1, 0.1, ('contradicted',)),
  ],
)
def test_networks_in_a_poor_place(by_then, later, verdicts):
  made = config()
  epochs = made.trap.epochs + 2
  losses = np.full((2, 1, SEEDS, epochs + 1), 0.1)
  losses[0, 0, :, made.trap.epochs] = by_then
  losses[0, 0, :, made.trap.epochs + 1 :] = later
  dims = ('batch_size', 'learning_rate', 'seed', 'step')
  cell = xr.Dataset(
    {'train_loss': (dims, losses), 'status': (dims, np.zeros_like(losses))},
    {
      'batch_size': [1, 32],
      'learning_rate': [0.3],
      'seed': range(FIRST, FIRST + SEEDS),
      'step': range(epochs + 1),
    },
  )
  measured = Study(made, {'trap': cell}, FIRST)
  names = ('in a poor place, single minus mini', 'never came out')
  for name, verdict in zip(names, verdicts, strict=False):
    found = judged('N2', name, measured)
    assert found == verdict


def escapes(rate_at: dict[float, float], batch_factor: float = 1.0) -> dict[str, xr.Dataset]:
  """Waiting times with the quantiles of an exponential law of these rates by barrier; the longest are censored."""
  quantiles = -np.log(1 - (np.arange(SEEDS) + 0.5) / SEEDS)
  cells = {}
  for size in (1, 4):
    factor = batch_factor if size == 4 else 1.0
    times = np.stack([quantiles / (rate * factor) for rate in rate_at.values()])
    limit = np.quantile(times, 0.9, axis=1, keepdims=True)
    cells[f'escape_b{size}'] = xr.Dataset(
      {
        'time': (('barrier', 'seed'), np.minimum(times, limit)),
        'censored': (('barrier', 'seed'), times > limit),
        **{f'mean_{name}': ('barrier', np.exp([3.0, 5.0])) for name in ('kramers', 'continuous', 'chain')},
      },
      {'barrier': list(rate_at), 'seed': range(FIRST, FIRST + SEEDS)},
    )
  return cells


def test_rates_that_follow_kramers():
  made = study(**escapes({3.0: np.exp(-3.0), 5.0: np.exp(-5.0)}))
  assert effects.arrhenius_slope(made).estimate == pytest.approx(1, rel=0.01)
  # Censored runs count with the time they had, so the rate is that of the law.
  assert effects.rate_ratio(made, 'chain').estimate == pytest.approx(1, rel=0.03)
  assert effects.worst_deviation(made).estimate < 1
  assert effects.batch_size_ratio(made).estimate == pytest.approx(1)
  assert judged('N3', 'equal lr/B', made) == 'supported'


def test_rates_that_do_not():
  made = study(**escapes({3.0: np.exp(-3.0), 5.0: np.exp(-4.0)}, batch_factor=2.0))
  assert effects.arrhenius_slope(made).estimate == pytest.approx(0.5, rel=0.01)
  assert judged('N3', 'slope', made) == 'contradicted'
  assert judged('N3', 'standard errors', made) == 'contradicted'
  assert judged('N3', 'equal lr/B', made) == 'contradicted'
  assert judged('N3', "Kramers' formula", made) == 'contradicted'


def test_the_chain_has_the_mean_time_of_langevin_dynamics_as_steps_vanish():
  exact = theory.mean_first_passage_time(lambda x: (x**2 - 1) ** 2, 0.25, start=-1, end=1, wall=-2.1)
  chain = [
    rate
    * kramers.chain_updates(lambda x: 4 * x * (x**2 - 1), rate, 0.25, start=-1, end=1, wall=-2.1, num=800)
    for rate in (0.004, 0.002)
  ]
  assert chain[1] == pytest.approx(exact, rel=0.005)
  # Its error is of the order of the step, so two steps extrapolate to a better value.
  assert 2 * chain[1] - chain[0] == pytest.approx(exact, rel=0.002)


def test_the_examples_pull_in_all_and_make_the_noise_asked_for():
  problem = valleys.with_data('tilted', 0.0, 3.0, 64, 0.1)
  draws = np.asarray(problem.train, float)
  assert abs(draws.mean()) < 1e-6
  assert np.mean(draws**2) == pytest.approx(3.0, rel=1e-5)


def doses(constant, annealed, noise=0.0) -> dict[str, xr.Dataset]:
  """Losses by level of noise, the same for all seeds but for a spread; tuning runs alike."""
  made = config()
  levels = made.dose.levels[: len(constant)]
  spread = noise * np.linspace(-1, 1, SEEDS)
  losses = np.array([constant, annealed], float)[..., None] + spread
  coordinates = {'schedule': list(dose.SCHEDULES), 'level': list(levels), 'seed': range(FIRST, FIRST + SEEDS)}
  dims = ('schedule', 'level', 'seed')
  runs = xr.Dataset({'train_loss': (dims, losses), 'status': (dims, np.zeros_like(losses))}, coordinates)
  runs = runs.expand_dims(step=[0], axis=-1)
  tuned = runs.expand_dims(learning_rate=[0.1, 0.2], axis=2).copy(deep=True)
  return {'dose': runs, 'dose_tuning': tuned}


@pytest.mark.parametrize(
  ('constant', 'annealed', 'verdicts'),
  [
    ([20, 10, 5, 30], [20, 8, 2, 1], ('supported', 'supported', 'supported')),
    ([5, 10, 20, 30], [5, 10, 20, 30], ('contradicted', 'supported', 'contradicted')),
    ([20, 10, 5, 2], [20, 10, 5, 8], ('supported', 'contradicted', 'contradicted')),
  ],
)
def test_dose_response(constant, annealed, verdicts):
  made = config()
  made.dose.levels = made.dose.levels[:4]
  measured = Study(made, doses(constant, annealed, noise=0.3), FIRST)
  names = (
    'landscape: final loss, no noise',
    'landscape: final loss, most noise',
    'landscape: final loss, best constant',
  )
  assert tuple(judged('N4', name, measured) for name in names) == verdicts


def test_a_level_at_which_a_run_diverged_is_not_the_best():
  cells = doses([20, 10, 1, 30], [20, 10, 1, 30])
  cells['dose_tuning'].status.loc[{'level': config().dose.levels[2], 'seed': FIRST}] = gdlab.DIVERGED
  assert study(**cells).best_level('dose', 'constant') == config().dose.levels[1]


def networks(deviations, mean=1.0, failed=()) -> dict[str, xr.Dataset]:
  """Networks of three widths whose losses and errors have these standard deviations."""
  unit = np.linspace(-1, 1, SEEDS)
  unit /= unit.std(ddof=1)
  rng, cells = np.random.default_rng(0), {}
  for width, deviation in zip((4, 16, 32), deviations, strict=True):
    both = np.concatenate([rng.permutation(unit), rng.permutation(unit)])
    status = np.zeros(2 * SEEDS)
    status[list(failed)] = gdlab.DIVERGED
    dims = ('learning_rate', 'seed', 'step')
    values = {
      'train_loss': mean + deviation * both,
      'test_accuracy': 0.9 + 0.01 * deviation * both,
      'status': status,
    }
    cells[f'width_{width}'] = xr.Dataset(
      {name: (dims, value[None, :, None]) for name, value in values.items()},
      {'learning_rate': [0.1], 'seed': range(2 * SEEDS), 'step': [1]},
    )
  return cells


def test_the_spread_shrinks_with_width():
  made = study(**networks([0.4, 0.1, 0.05]))
  assert width_effects.spread_slope(made, 'train_loss').estimate == pytest.approx(-1)
  assert width_effects.spread(made, 'train_loss', 32).estimate == pytest.approx(0.05)
  for name in (
    'log-log slope in width of the spread of the training loss',
    'log-log slope in width of the spread of the training loss, over the mean loss',
    'log-log slope in width of the spread of the test error',
  ):
    assert judged('N5', name, made) == 'supported'


def test_the_spread_grows_with_width():
  made = study(**networks([0.05, 0.1, 0.4]))
  for effect in CLAIMS['N5'].effects[:4]:
    assert effect.rule.judge(effect.measure(made)) == 'contradicted', effect.name


def test_a_network_that_diverged_has_no_finite_spread():
  interval = width_effects.spread(study(**networks([0.4, 0.1, 0.05], failed=(3,))), 'train_loss', 32)
  assert not np.isfinite(interval.estimate)


def between(barriers) -> dict[str, xr.Dataset]:
  """Barriers of three widths, the same for all pairs but for a spread; aligned ones a tenth of them."""
  pairs = SEEDS // 2
  spread = np.linspace(0.9, 1.1, pairs)
  cells = networks([0.0, 0.0, 0.0])
  for width, barrier in zip((4, 16, 32), barriers, strict=True):
    values = np.stack([barrier * spread, 0.1 * barrier * spread], axis=-1)
    cells[f'lines_{width}'] = xr.Dataset(
      {'barrier': (('group', 'pair', 'order'), np.stack([values, values]))},
      {'order': ['as they are', 'aligned']},
    )
  return cells


def barrier_names(words: str) -> list[str]:
  """The names of the effects of N6 for networks as they are, in their own unit and over the loss."""
  return [f'{words}, networks as they are{yardstick}' for yardstick in ('', ', over the mean loss')]


LEAST, SLOPE = 'barrier at the width where it is least', 'log-log slope in width of the barrier'


def test_barriers_that_shrink_with_width():
  made = study(**between([8.0, 4.0, 2.0]))
  for name in (*barrier_names(LEAST), *barrier_names(SLOPE)):
    assert judged('N6', name, made) == 'supported', name
  assert width_effects.least_barrier(made, 'aligned').estimate == pytest.approx(0.2)


def test_barriers_that_do_not():
  made = study(**between([0.01, 0.02, 0.04]))
  for name in (*barrier_names(LEAST), *barrier_names(SLOPE)):
    assert judged('N6', name, made) == 'contradicted', name


def test_a_barrier_that_falls_slower_than_the_loss_grows_over_it():
  cells = between([8.0, 4.0, 2.0])
  for width in (4, 16, 32):
    cells[f'width_{width}']['train_loss'] = cells[f'width_{width}'].train_loss / width
  made = study(**cells)
  absolute, relative = (judged('N6', name, made) for name in barrier_names(SLOPE))
  assert (absolute, relative) == ('supported', 'contradicted')


def test_a_power_law_has_no_misfit_and_a_bend_has_one():
  assert width_effects.misfit([4, 16, 64], np.array([8.0, 4.0, 2.0])) == pytest.approx(1)
  assert width_effects.misfit([4, 16, 64], np.array([8.0, 1.0, 8.0])) == pytest.approx(4)


def test_theory_sets_the_temperature_and_who_is_asked():
  made = minima.get_config()
  assert valleys.expected(made, 4, 0.02) == pytest.approx(made.valleys.escapes)
  ridge = valleys.landscape('tilted')[2].barrier(True)
  for size, rate in valleys.graded(made):
    assert valleys.temperature(made, size, rate) <= ridge
  assert (32, 0.02) not in valleys.graded(made)


def test_the_largest_of_many_normal_numbers():
  assert effects.largest_of(1, 0.95) == pytest.approx(1.96, abs=0.001)
  draws = np.abs(np.random.default_rng(0).normal(size=(20_000, 8))).max(axis=1)
  # Six standard errors of a share of a half in 20,000 draws are 0.021.
  assert abs((draws < effects.largest_of(8, 0.5)).mean() - 0.5) < 0.021


@pytest.mark.parametrize(('gain', 'verdict'), [(0.7, 'supported'), (1.3, 'contradicted')])
def test_ensembles(gain, verdict):
  count = SEEDS // 4
  members = np.linspace(0.08, 0.12, count)
  values = np.full((2, 1, SEEDS), np.nan)
  values[..., :count] = members
  dims = ('group', 'size', 'ensemble')
  scores = {f'member_{name}': (dims, values) for name in ('error', 'nll')}
  cell = xr.Dataset(scores | dict.fromkeys(('error', 'nll'), (dims, gain * values)), {'size': [4]})
  made = study(ensembles_32=cell)
  assert [judged('N7', name, made) for name in ('test error', 'negative log')] == [verdict] * 2


def test_shares_never_have_an_interval_without_width():
  assert effects.share(np.ones(20)).low < 1
  gain = effects.share_gain(np.ones(20), np.zeros(20))
  assert gain.estimate == 1
  assert gain.low < 0.75
  assert effects.share_gain(np.zeros(20), np.zeros(20)).low < 0
