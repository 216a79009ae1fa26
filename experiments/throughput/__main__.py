"""python -m experiments.throughput --config=configs/throughput.py --workdir=DIR."""

import functools
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.table

import gdlab
from experiments.throughput import figures, machine, parts, settings
from experiments.throughput.entries import Outcome, skipped
from gdlab import plots
from gdlab.host.progress import say
from gdlab.study import app


def study(given, workdir: pathlib.Path) -> None:
  """Measures part after part; what is known so far is on disk after each.

  Nothing is resumed: contenders are compared only within one start, which a second one replaces.
  """
  config = settings.Settings.checked(given.to_dict())
  outcomes: dict[str, Outcome] = {}
  for name, measure in _measures(config):
    started = time.perf_counter()
    with gdlab.progress_bar(name) as progress:
      outcomes[name] = measure(progress)
    say(f'{name}: {time.perf_counter() - started:.1f} s')
    with app.replacing(workdir / 'throughput.json') as path:
      path.write_text(json.dumps(_content(config, outcomes), indent=2) + '\n', encoding='utf-8')
  _draw(workdir, outcomes)
  _show(outcomes)
  print(f'\nNumbers: {workdir / "throughput.json"}')


def _measures(config) -> Iterator[tuple[str, Any]]:
  """The parts to run, by name."""
  if 'mlp' in config.parts:
    for size, *steps in zip(config.batch_sizes, *(getattr(config, name) for name in settings.STEPS)):
      yield f'mlp B={size}', functools.partial(parts.mlp, config, size, *steps)
  if 'samplers' in config.parts:
    for size, steps in zip(config.batch_sizes, config.num_steps):
      yield f'samplers B={size}', functools.partial(parts.samplers, config, size, steps)
  if 'users_cnn' in config.parts:
    for size, steps in zip(config.users_cnn.batch_sizes, config.users_cnn.num_steps):
      yield f'users_cnn B={size}', functools.partial(parts.users_cnn, config, size, steps)
  for name, measure in (
    ('cnn', parts.cnn),
    ('lanes', parts.lanes),
    ('memory', parts.memory),
    ('saves', parts.saves),
  ):
    if name in config.parts:
      yield name, functools.partial(measure, config)


def _content(config, outcomes: dict[str, Outcome]) -> dict[str, Any]:
  """What `throughput.json` holds."""
  return {
    'machine': machine.describe(),
    'versions': machine.versions(),
    'config': config.model_dump(),
    'skipped': skipped(),
    'facts': {name: outcome.facts for name, outcome in outcomes.items()},
    'measurements': [row for outcome in outcomes.values() for row in outcome.measurements],
    'ratios': [
      ratio._asdict() | {'verdict': ratio.verdict}
      for outcome in outcomes.values()
      for ratio in outcome.ratios
    ],
  }


def _draw(workdir: pathlib.Path, outcomes: dict[str, Outcome]) -> None:
  drawn = {}
  rows = [ratio for outcome in outcomes.values() for ratio in outcome.ratios]
  if any(row.name in figures.CONTENDERS for row in rows):
    drawn['ratios'] = figures.ratios(rows, [*skipped()])
  if 'lanes' in outcomes:
    measured = outcomes['lanes'].measurements
    seconds = np.array([row['seconds'] for row in measured]).T
    counts = [row['num_lanes'] for row in measured]
    drawn['lanes'] = figures.lanes(counts, seconds / counts * 1e3)
  for name, figure in drawn.items():
    with app.replacing(workdir / 'figures' / f'{name}.svg') as path:
      path.write_text(plots.to_svg(figure), encoding='utf-8')


def _show(outcomes: dict[str, Outcome]) -> None:
  """Prints every time and every ratio."""
  times = rich.table.Table('part', 'contender', box=rich.box.SIMPLE_HEAD)
  for head in ('B', 'lanes', 'steps', 'us per update\nper lane', 'spread'):
    times.add_column(head, justify='right')
  times.add_column('note')
  ratios = rich.table.Table('compared', box=rich.box.SIMPLE_HEAD)
  for head in ('B', 'us per update\nper lane', 'ratio', 'target', ''):
    ratios.add_column(head, justify='right')
  for outcome in outcomes.values():
    for row in outcome.measurements:
      spread = (max(row['seconds']) - min(row['seconds'])) / row['median_seconds']
      cells = (row['batch_size'], row['num_lanes'], row['num_steps'], _us(row['us_per_update']))
      times.add_row(row['part'], row['contender'], *map(str, cells), f'{spread:.0%}', row['note'])
    for ratio in outcome.ratios:
      us = '' if ratio.us is None else _us(ratio.us)
      target = '' if ratio.target is None else f'{ratio.sense} {ratio.target:g}'
      value, size = f'{ratio.value:.3g}', str(ratio.batch_size or '')
      ratios.add_row(ratio.name, size, us, value, target, ratio.verdict)
  console = rich.console.Console(width=max(120, rich.get_console().width))
  console.print(times, ratios)
  for name, reason in skipped().items():
    print(f'{name}: {reason}')


def _us(value: float) -> str:
  """Microseconds in three figures, never with an exponent."""
  return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


if __name__ == '__main__':
  app.start(study, 'configs/throughput.py', saves=False)  # they would slow what is timed
