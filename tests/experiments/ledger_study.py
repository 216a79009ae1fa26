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

from experiments.ledger import rows
from experiments.ledger.page import render
from gdlab import claims, plots, statistics, study
from gdlab.claims import greater_than, within
from gdlab.statistics import Interval

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


def finding(name: str, value: float, rule: claims.Rule | None = None, words: str = 'mean') -> claims.Finding:
  claim = claims.Claim(name, f'As asked {NASTY}.', {words: rule or claims.greater_than(0.5)})
  interval = Interval(value, value - 0.1, value + 0.1, 0.95, 8, 0)
  return claims.grade(claim, {words: interval}, num_seeds=8, conditions=f'data of {NASTY}')


def result(folder: pathlib.Path, name: str, *sets: list[claims.Finding], current: bool = True) -> rows.Result:
  folder = folder / name
  folder.mkdir(exist_ok=True)
  (folder / 'report.html').write_text('<section id="numbers_more">')
  facts = {'cells': 2, 'seconds': 1800.0, 'git_revisions': ['abc'], 'devices': ['cpu'], 'version_jaxs': ['1']}
  return rows.Result({'first': first, 'second': second}[name], folder, sets, facts, current)


def results(folder: pathlib.Path) -> dict[str, rows.Result]:
  """Of both studies, made up."""
  ones = [finding('T2a', 2.0), finding('T2', 0.0), finding('T1', 1.0, words=f'mean {NASTY}')]
  again = [finding('T2a', 2.0), finding('T2', 3.0), finding('T1', 1.0, words=f'mean {NASTY}')]
  return {
    'first': result(folder, 'first', ones, again),
    'second': result(folder, 'second', [finding('U1', -7.0), finding('W9b', 1.0)], current=False),
  }


def page_of(results, **options) -> str:
  table = rows.rows(SAID, results)
  return render(table, results, **{'again': [], 'command': 'python <here>'} | options)


if __name__ == '__main__':
  name = sys.argv.pop(1)
  if name == 'ledger':
    from experiments.ledger import __main__ as ledger
    from experiments.ledger import studies
    from gdlab.study.launch import launch

    rows.said = lambda: SAID
    studies.find = lambda: {
      each: studies.Source(own, (sys.executable, str(HERE), each), get_config(), (HERE.parent,))
      for each, own in {'second': second, 'first': first}.items()
    }
    launch(ledger.main)
  else:
    {'first': first, 'second': second}[name].main()
