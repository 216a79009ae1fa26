"""The page's tables, from the stored results."""

import numpy as np

from experiments.batch_size import arms, claims, effects, figures, growth, steps
from experiments.batch_size.benches import Arm, Bench
from experiments.batch_size.study import Study
from gdlab.report import Table, number
from gdlab.statistics import Interval


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
      fitted = 100 * float(study.at(bench, arm, kind, 'train_accuracy', 0.0).mean())
      row += [
        setting_used(study, bench, arm, kind),
        f'{accuracy:.1f} %',
        f'{fitted:.1f} %',
        number(float(gap.mean())),
      ]
      rows.append(row)
  heads = ['budget', 'arm', 'updates', 'epochs', *(['seconds'] if clock is not None else [])]
  return Table([*heads, 'rate, momentum', 'test accuracy', 'of training', 'loss gap'], rows)


def setting_used(study: Study, bench: Bench, arm: Arm, kind: str) -> str:
  """The tuned rate and momentum, with a remark where the rate is at an end of those tried."""
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
      ratio = medians[other] / medians[0] if np.isfinite(medians[other]) else np.inf
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
          setting_used(study, bench, arm, kind),
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


def stopping(study: Study) -> Table:
  """Where each loss stops the mini-batch, on right and wrong labels, at both settings."""
  rows = []
  for name in claims.CONDITIONS:
    bench = study.benches[name]
    arm = study.small(bench)
    for kind, words in claims.SETTINGS.items():
      for by in ('train_loss', 'validation_loss'):
        runs, best = effects.stopping_place(study, by, name, kind)
        found = {
          variable: float(effects.stopped(study, by, variable, name, kind).mean())
          for variable in ('test_accuracy', 'test_loss', 'alike_loss')
        }
        rows.append(
          [
            bench.title,
            f'{words}: {setting_used(study, bench, arm, kind)}',
            by.replace('_', ' ').replace('train', 'training'),
            f'{float(np.median(runs.step.values[best.values])) / arms.updates_per_epoch(bench, arm):.1f}',
            f'{100 * found["test_accuracy"]:.1f} %',
            number(found['test_loss']),
            number(found['alike_loss']),
          ]
        )
  heads = (
    'bench',
    'rate, momentum',
    'stopped by',
    'epochs',
    'test accuracy',
    'test loss, right labels',
    'test loss, labels like those of training',
  )
  return Table(heads, rows)


def growing(study: Study) -> Table:
  """Growing batch, decaying rate and neither, each at its own best rate, and growing at the decaying one's."""
  cases = [(way, study.growth_rate(way)) for way in growth.WAYS]
  if (rate := study.growth_rate('decay')) != cases[0][1]:
    cases.insert(1, ('growth', rate))
  words = {'growth': 'batch grows', 'decay': 'rate decays', 'kept': 'neither'}
  tried = study.config.growth.learning_rates
  rows = []
  for way, rate in cases:
    loss, accuracy = (
      effects.on_way(study, way, name, rate)[:, -1] for name in ('train_loss', 'test_accuracy')
    )
    made = int(study.results['growth' if way == 'growth' else 'decay'].made[-1])
    ends = ' (end)' if rate in (min(tried), max(tried)) else ''
    best = 'own best' if rate == study.growth_rate(way) else 'best for decaying'
    rows.append(
      [
        words[way],
        f'{rate:g}{ends}, {best}',
        f'{made:,}',
        number(float(np.median(loss))),
        f'{100 * accuracy.mean():.2f} %',
      ]
    )
  return Table(('way', 'first rate', 'updates', 'training loss at the end', 'test accuracy'), rows)


def within(found: Interval) -> str:
  """An estimate with its interval, in words where there is none."""
  if not np.isfinite([found.low, found.high]).all():
    return 'not graded'
  return f'{number(found.estimate)} ({number(found.low)} to {number(found.high)})'
