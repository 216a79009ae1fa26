"""Two studies that measure next to nothing, and a ledger of them: python ledger_study.py NAME --workdir=DIR.

NAME is first, second or ledger.

STALL=path in the environment makes the first process that measures the second study write its id to that file and
sleep. SHIFT=number is added to what repeats of the first study measure.
"""

import contextlib
import os
import pathlib
import sys
import time

import ml_collections
import numpy as np
import xarray as xr

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # run by its path, it finds its own folder only

from gdlab import plots, statistics, study
from gdlab.claims import greater_than, within

HERE = pathlib.Path(__file__)
NASTY = '<script>alert("&")</script>'
SAID = {
  'T1': {'study': 'first', 'statement': f'A number is above 0 {NASTY}.', 'texts': 2},
  'T2': {'study': 'first', 'statement': 'A number is near 1.', 'papers': [['Someone 2020', '2001.00001']]},
  'T3': {'study': 'first', 'statement': 'Nobody has asked this.', 'texts': 1},
  'U1': {'study': 'second', 'statement': 'Another number is above 0.', 'texts': 1},
  'X1': {'study': 'missing', 'statement': 'No study asks this.', 'texts': 1},
}


class Settings(study.Config):
  level: study.Positive = 1.0
  seeds: study.Seeds = study.Seeds(first=5, count=4, tuning=1, repeats=1)


def get_config() -> ml_collections.ConfigDict:
  return Settings.defaults()


first = study.Study(Settings, title='First', question='Is it?', conditions=f'numbers of {NASTY}')
second = study.Study(Settings, title='Second', question='Is it?', conditions='numbers')


@first.cell()
def numbers(config, progress):
  shift = float(os.environ.get('SHIFT', '0')) if config.seeds.first > 5 else 0.0
  return xr.Dataset({'value': ('seed', config.level + shift + np.linspace(-0.1, 0.1, config.seeds.count))})


@second.cell()
def others(config, progress):
  if stall := os.environ.get('STALL'):
    with contextlib.suppress(FileExistsError), open(stall, 'x') as file:
      file.write(f'{os.getpid()}\n')
      file.flush()
      time.sleep(600)
  return xr.Dataset({'value': ('seed', config.level + np.linspace(-0.1, 0.1, config.seeds.count))})


def mean(view, cell):
  values = view.cell(cell).value.values
  return statistics.paired_interval(values, 0 * values, confidence=view.confidence)


T1 = first.claim('T1', f'A number is above 0 {NASTY}.')
T1(f'mean {NASTY}', greater_than(0.5), cell='numbers')(mean)
T2 = first.claim('T2', 'A number is near 1, as asked.')
T2('mean', within(0.5, 1.5), cell='numbers')(mean)
T2('share', greater_than(-1.0), cell='numbers')(mean)
T2a = first.claim('T2a', 'A number is large.')
T2a('share', greater_than(5.0), cell='numbers')(mean)
U1 = second.claim('U1', 'Another number is above 0.')
U1('mean', greater_than(0.5), cell='others')(mean)


@first.section('Numbers & more', 'All of them (T1, T2a).', caption='Numbers.')
def picture(view):
  with plots.panels(1) as (figure, (axes,)):
    axes.plot(view.cell('numbers').value)
  return figure


if __name__ == '__main__':
  name = sys.argv.pop(1)
  if name == 'ledger':
    from experiments.ledger import __main__ as ledger
    from experiments.ledger import rows, studies
    from gdlab.study.launch import launch

    rows.said = lambda: SAID
    studies.find = lambda: {
      each: studies.Source(own, (sys.executable, str(HERE), each), get_config(), (HERE.parent,))
      for each, own in {'second': second, 'first': first}.items()
    }
    launch(ledger.main)
  else:
    {'first': first, 'second': second}[name].main()
