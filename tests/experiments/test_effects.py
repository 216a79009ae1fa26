"""Effects of the study on made-up results whose answer is plain, with runs that fail on either side."""

import numpy as np
import pytest
import xarray as xr

import gdlab
from configs import variants
from experiments.variants import arms, effects
from experiments.variants.study import Study

N, MINI, SEEDS = 64, 32, 4


def config():
  """The study's configuration on a data set of N examples."""
  made = variants.get_config()
  made.update(
    {
      'batch_sizes': (1, MINI),
      'learning_rates': (0.1, 1.0),
      'num_seeds': SEEDS,
      'epochs': 2,
      'target_loss': 0.5,
    }
  )
  return made


def runs(losses, seeds, failed=()):
  """Records at steps 0 ... T of runs whose losses are given by step; the seeds in `failed` diverged at once."""
  losses = np.tile(np.asarray(losses, float), (2, len(seeds), 1))
  status = np.full(losses.shape, gdlab.RUNNING)
  for seed in failed:
    losses[:, seed] = losses[:, seed, :1]
    status[:, seed, 1:] = gdlab.DIVERGED
  dims = ('learning_rate', 'seed', 'step')
  values = {'train_loss': (dims, losses), 'test_accuracy': (dims, 1 - losses), 'status': (dims, status)}
  return xr.Dataset(
    values, {'learning_rate': [0.1, 1.0], 'seed': list(seeds), 'step': range(losses.shape[-1])}
  )


def study(full, mini, failed_full=(), failed_mini=()) -> Study:
  """A study in which an update takes as many seconds as it has examples."""
  sizes = [1, MINI, N]
  clock = xr.Dataset(
    {'seconds_per_update': (('repeat', 'batch_size'), [[float(size) for size in sizes]])},
    {'batch_size': sizes},
    {'num_examples': N},
  )
  results = {'timing': clock}
  for size, losses, failed in ((N, full, failed_full), (MINI, mini, failed_mini)):
    results[f'arm_b{size}'] = runs(losses, range(SEEDS), failed)
    results[f'tuning_b{size}'] = runs(losses, range(arms.TUNING_IDS, arms.TUNING_IDS + 2))
  return Study(config(), results)


SLOW = [1, 0.9, 0.8, 0.5, 0.4]  # reaches 0.5 after 3 updates
FAST = [1, 0.5, 0.4, 0.2, 0.1]  # after 1


def test_ratio_of_examples_to_the_target():
  # 3 updates of 64 examples against 1 of 32.
  interval = effects.examples_ratio(study(SLOW, FAST), MINI)
  assert interval[:3] == pytest.approx((6, 6, 6))
  assert interval.excluded == 0


def test_a_full_batch_that_never_gets_there_counts_with_all_it_had():
  # 4 updates of 64 examples against 32: a lower bound.
  assert effects.examples_ratio(study([1, 0.9, 0.9, 0.9, 0.9], FAST), MINI).estimate == pytest.approx(8)


def test_a_small_batch_that_never_gets_there_is_no_reason_to_support_it():
  interval = effects.examples_ratio(study(SLOW, FAST, failed_mini=(0, 1, 2)), MINI)
  assert interval.excluded == 0
  assert interval.low == 0
  neither = effects.examples_ratio(study(SLOW, FAST, failed_mini=(0,), failed_full=(0,)), MINI)
  assert neither.excluded == 1


def test_ratio_of_losses_counts_failures_as_infinite():
  # After 2 passes: 2 updates of full batch, 4 of the mini-batch.
  assert effects.loss_ratio(study(SLOW, FAST), 'examples').estimate == pytest.approx(0.8 / 0.1)
  failed = effects.loss_ratio(study(SLOW, FAST, failed_full=(1,)), 'examples')
  assert failed.estimate == np.inf
  assert failed.excluded == 0


@pytest.mark.parametrize('how', ['diverged', 'not finite'])
def test_tuning_does_not_choose_a_rate_at_which_a_seed_failed(how):
  tuned = runs([1, 0.5, 0.4, 0.3, 0.2], range(2))
  tuned.train_loss[0] = 0.6  # the rate 0.1 is worse than 1.0 where both work
  clock = study(SLOW, FAST).clock
  assert arms.best_rates(config(), N, clock, tuned, MINI)['examples'] == 1.0
  if how == 'diverged':
    tuned.status[1, 0, 1:] = gdlab.DIVERGED
  else:
    tuned.train_loss[1, 0, 1:] = np.nan
  assert arms.best_rates(config(), N, clock, tuned, MINI) == {'examples': 0.1, 'time': 0.1}


def test_equal_time_is_the_mini_batch_arms_own_updates():
  ends = {size: arms.budgets(config(), N, study(SLOW, FAST).clock, size) for size in (1, MINI, N)}
  assert ends == {
    1: {'examples': 128, 'time': 128},
    MINI: {'examples': 4, 'time': 4},
    N: {'examples': 2, 'time': 2},
  }


def test_examples_after_updates_know_the_short_last_batch():
  made = study(SLOW, FAST)
  made.num_examples = 70  # 32 + 32 + 6
  np.testing.assert_array_equal(made.examples_after(32, np.arange(5)), [0, 32, 64, 70, 102])


def test_tracking_counts_a_diverged_stream_as_infinite():
  ids = [*range(3), arms.TUNING_IDS]
  single = np.ones((2, 4, 2, 10))
  single[:, :, 1] = 0.5  # the second rate is better,
  single[1, 3, 1, 7:] = np.nan  # but diverged when it was tuned
  full = np.full((2, 4, 10), 3.0)
  stream = xr.Dataset(
    {
      'single': (('drift', 'seed', 'learning_rate', 'example'), single),
      'full': (('drift', 'seed', 'example'), full),
    },
    {'drift': [0.0, 0.1], 'seed': ids, 'learning_rate': [0.1, 1.0]},
  )
  made = study(SLOW, FAST)
  made.results['stream'] = stream
  assert effects.tracking_ratio(made).estimate == pytest.approx(3)
