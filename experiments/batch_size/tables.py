"""The page's tables, from the stored results."""

import numpy as np

from experiments.batch_size import arms, effects, figures, steps
from experiments.batch_size.study import Study
from gdlab.report import Table, number


def summary(study: Study, name: str) -> Table:
  """Every arm of a bench after equal examples, updates and time, tuned for each: what it costs and how it does."""
  bench = study.benches[name]
  clock = study.clock_of(bench)
  rows = []
  for kind, words in figures.KINDS.items():
    if kind == 'time' and clock is None:
      continue
    for arm in bench.arms:
      step = study.step(bench, arm, kind)
      gap = study.at(bench, arm, kind, 'alike_loss', np.inf) - study.at(bench, arm, kind, 'train_loss', 0.0)
      row = [words, arm.label, f'{step:,}', f'{step / arms.updates_per_epoch(bench, arm):,.3g}']
      if clock is not None:
        seconds = clock.seconds_per_update.median('repeat').sel(batch_size=arm.batch_size)
        row.append(f'{step * float(seconds):.3g}')
      accuracy = 100 * float(study.accuracy(bench, arm, kind).mean())
      row += [_setting(study, bench, arm, kind), f'{accuracy:.1f} %', number(float(gap.mean()))]
      rows.append(row)
  heads = ['budget', 'arm', 'updates', 'epochs', *(['seconds'] if clock is not None else [])]
  return Table([*heads, 'rate, momentum', 'test accuracy', 'loss gap'], rows)


def _setting(study: Study, bench, arm, kind: str) -> str:
  rate, momentum = bench.settings[study.setting(bench, arm, kind)]
  ends = ' (end)' if rate in (min(bench.rates), max(bench.rates)) else ''
  return f'{rate:g}, {momentum:g}{ends}'


def to_target(study: Study) -> Table:
  """Steps to the target at every batch size, with the best rate and with those that rules make of the base's."""
  heads = ['B', 'best rate', 'median updates', 'examples', 'never reached']
  for rule in steps.RULES[1:]:
    heads += [f'{rule}: rate', f'{rule}: updates over best']
  rows = []
  for size in study.config.steps.batch_sizes:
    runs = study.of(f'steps_b{size}')
    taken = np.where(runs.censored, np.inf, runs.steps)  # [rule, seed]
    medians = np.median(taken, axis=1)
    rates = study.config.steps.learning_rates
    rate = float(runs.learning_rate[0])
    ends = ' (end)' if rate in (min(rates), max(rates)) else ''
    row = [
      str(size),
      f'{rate:.3g}{ends}',
      f'{medians[0]:,.0f}',
      f'{medians[0] * size:,.0f}',
      f'{int(runs.censored.isel(rule=0).sum())} of {runs.sizes["seed"]}',
    ]
    for other in range(1, len(steps.RULES)):
      ratio = medians[other] / medians[0]
      row += [f'{float(runs.learning_rate[other]):.3g}', 'never' if np.isinf(ratio) else f'{ratio:.2f}']
    rows.append(row)
  return Table(heads, rows)


def adam(study: Study) -> Table:
  """Adam: steps to the target at the best rate and at the square-root rule's, constants scaled or kept."""
  config = study.config
  base = _adam_best(study, config.adam.base, 1.0)
  rows = []
  for size in config.adam.batch_sizes:
    factor = size / config.adam.base
    row = [str(size)]
    for scaled in (factor, 1.0):
      best = _adam_best(study, size, scaled)
      row += [f'{best:.3g}', _adam_steps(study, size, best, scaled)]
    for scaled, power in ((factor, 0.5), (1.0, 0.5), (1.0, 1.0)):
      rates = np.asarray(config.adam.learning_rates)
      wanted = base * factor**power
      nearest = float(rates[np.abs(np.log(rates / wanted)).argmin()])
      close = abs(np.log(nearest / wanted)) < 0.2
      row.append(_adam_steps(study, size, nearest, scaled) if close else 'rate not tried')
    rows.append(row)
  heads = (
    'B',
    'best rate, constants scaled',
    'updates',
    'best rate, constants kept',
    'updates',
    'square-root rule, all constants: updates',
    'square root of the rate alone: updates',
    'linear rate alone: updates',
  )
  return Table(heads, rows)


def _adam_best(study: Study, size: int, factor: float) -> float:
  runs = study.results[f'adam_b{size}'].sel(factor=factor)
  return steps.best_rate(runs.sel(seed=runs.seed >= 1_000_000))


def _adam_steps(study: Study, size: int, rate: float, factor: float) -> str:
  ids = study.ids[: study.config.steps.scale_seeds]
  runs = study.results[f'adam_b{size}'].sel(seed=ids, learning_rate=rate, factor=factor)
  median = float(np.median(np.where(runs.censored, np.inf, runs.steps)))
  return 'never' if np.isinf(median) else f'{median:,.0f}'


def norm(study: Study) -> Table:
  """BatchNorm's arms at both budgets, by both kinds of statistics."""
  bench = study.benches['norm']
  rows = []
  for kind in ('epochs', 'updates'):
    for arm in bench.arms:
      running = 100 * float(study.at(bench, arm, kind, 'test_accuracy', 0.0).mean())
      whole = 100 * float(study.accuracy(bench, arm, kind).mean())
      rows.append(
        [
          figures.KINDS[kind],
          arm.label,
          f'{study.step(bench, arm, kind):,}',
          _setting(study, bench, arm, kind),
          f'{whole:.1f} %',
          f'{running:.1f} %',
        ]
      )
  heads = (
    'budget',
    'arm',
    'updates',
    'rate, momentum',
    'accuracy, statistics of all images',
    'by running averages',
  )
  return Table(heads, rows)


def ends(study: Study) -> Table:
  """The end points of every batch size at the setting that was best there: measures by median, and the gap."""
  rows = []
  for name in study.config.sharpness.target:
    bench = study.benches[name]
    for arm in bench.arms:
      found = study.sharpness(bench, arm).sel(setting=study.setting(bench, arm, 'matched'))
      rows.append(
        [
          bench.title,
          arm.label,
          _setting(study, bench, arm, 'matched'),
          f'{float(found["update"].median()):,.0f}',
          number(float(found.loss.median())),
          number(float(found.cooled_loss.median())),
          number(float(found.gradient_norm.median())),
          f'{int((~found.reached).sum())} of {found.sizes["seed"]}',
          *(
            number(float(found[measure].median()))
            for measure in ('keskar', 'eigenvalue', 'trace', 'adaptive')
          ),
          number(float(found.loss_gap.median())),
        ]
      )
  heads = (
    'bench',
    'arm',
    'rate, momentum',
    'updates',
    'training loss',
    'cooled',
    'gradient norm',
    'never came to it',
    "Keskar's, %",
    'largest eigenvalue',
    'trace',
    'adaptive',
    'loss gap',
  )
  return Table(heads, rows)


def stopping(study: Study) -> Table:
  """Where each loss stops the run that overfits, on wrong and on right labels."""
  rows = []
  for name in study.config.sharpness.target:
    bench = study.benches[name]
    arm = bench.arm(f'b{study.config.mini_batch}')
    for by in ('train_loss', 'validation_loss'):
      step = _stopping_step(study, name, by)
      rows.append(
        [
          bench.title,
          _setting(study, bench, arm, 'fit'),
          by.replace('_', ' ').replace('train', 'training'),
          f'{float(np.median(step)) / arms.updates_per_epoch(bench, arm):.1f}',
          f'{100 * float(effects.stopped(study, by, "test_accuracy", name).mean()):.1f} %',
          number(float(effects.stopped(study, by, 'alike_loss', name).mean())),
          number(float(effects.stopped(study, by, 'test_loss', name).mean())),
        ]
      )
  heads = (
    'bench',
    'rate, momentum',
    'stopped by',
    'epochs',
    'test accuracy',
    'test loss, labels like those of training',
    'test loss, right labels',
  )
  return Table(heads, rows)


def _stopping_step(study: Study, name: str, by: str) -> np.ndarray:
  bench = study.benches[name]
  arm = bench.arm(f'b{study.config.mini_batch}')
  runs = study.runs(bench, arm, 'fit')
  runs = runs.sel(step=runs.step <= study.step(bench, arm, 'epochs'))
  return runs.step.values[arms.unless_failed(runs, by, np.inf).argmin('step').values]
