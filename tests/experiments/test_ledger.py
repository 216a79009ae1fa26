"""The ledger: its list, merging, what is unchanged, kills and signals, and its page in a browser."""

import copy
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import ledger_study
import pytest

from experiments.ledger import rows, studies
from experiments.ledger.__main__ import Ledger
from experiments.ledger.page import render
from gdlab import claims
from gdlab.core.errors import InputError
from gdlab.host.checksums import Damaged
from gdlab.statistics import Interval

HERE = pathlib.Path(__file__)
STOPPED, LIMIT = 75, 120.0
BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
NASTY = ledger_study.NASTY


def source(name: str, folder: pathlib.Path = HERE.parent) -> studies.Source:
  command = (sys.executable, str(HERE.with_name('ledger_study.py')), name)
  return studies.Source(getattr(ledger_study, name), command, ledger_study.get_config(), (folder,))


def ledger(workdir: pathlib.Path, **sources: studies.Source) -> Ledger:
  return Ledger(workdir, ledger_study.SAID, {'second': source('second'), 'first': source('first')} | sources)


def finding(name: str, value: float, rule: claims.Rule | None = None, words: str = 'mean') -> claims.Finding:
  claim = claims.Claim(name, f'As asked {NASTY}.', {words: rule or claims.greater_than(0.5)})
  interval = Interval(value, value - 0.1, value + 0.1, 0.95, 8, 0)
  return claims.grade(claim, {words: interval}, num_seeds=8, conditions=f'data of {NASTY}')


def result(folder: pathlib.Path, name: str, *sets: list[claims.Finding], current: bool = True) -> rows.Result:
  folder = folder / name
  folder.mkdir(exist_ok=True)
  (folder / 'report.html').write_text('<section id="numbers_more">')
  facts = {'cells': 2, 'seconds': 1800.0, 'git_revisions': ['abc'], 'devices': ['cpu'], 'version_jaxs': ['1']}
  return rows.Result(getattr(ledger_study, name), folder, sets, facts, current)


@pytest.fixture
def results(tmp_path) -> dict[str, rows.Result]:
  first = [finding('T2a', 2.0), finding('T2', 0.0), finding('T1', 1.0, words=f'mean {NASTY}')]
  again = [finding('T2a', 2.0), finding('T2', 3.0), finding('T1', 1.0, words=f'mean {NASTY}')]
  return {
    'first': result(tmp_path, 'first', first, again),
    'second': result(tmp_path, 'second', [finding('U1', -7.0), finding('W9b', 1.0)], current=False),
  }


def test_the_list_has_all_claims():
  said = rows.said()
  assert len(said) == 79
  numbers = {'V': 13, 'O': 6, 'L': 15, 'M': 14, 'S': 6, 'N': 7, 'G': 9, 'P': 9}
  assert [*said] == [f'{letter}{number + 1}' for letter, count in numbers.items() for number in range(count)]
  for claim in said.values():
    assert claim['statement'].endswith('.')
    assert ('texts' in claim) != ('papers' in claim)


def test_studies_are_found_and_ask_what_is_on_the_list():
  said, found = rows.said(), studies.find()
  assert (
    {'variants', 'saddles', 'minima', 'batch_size'}
    <= set(found)
    <= {claim['study'] for claim in said.values()}
  )
  for name, each in found.items():
    assert each.study.claims
    assert pathlib.Path(each.command[-1].removeprefix('--config=')).name == f'{name}.py'
    for claim in each.study.claims:
      assert said[re.sub('[a-z]+$', '', claim)]['study'] == name


def test_rows_have_every_claim_and_our_own_below_theirs(results):
  table = rows.rows(ledger_study.SAID, results)
  assert [row.id for row in table] == ['T1', 'T2', 'T2a', 'T3', 'U1', 'X1', 'W9b']
  found = {row.id: row for row in table}
  assert {name: row.verdict for name, row in found.items()} == {
    'T1': 'supported', 'T2': 'contradicted', 'T2a': 'supported', 'T3': 'not asked yet',
    'U1': 'contradicted', 'X1': 'not asked yet', 'W9b': 'supported',
  }  # fmt: skip
  assert [name for name, row in found.items() if row.fragile] == ['T2']
  assert found['T2'].same == '0 of 1'
  assert found['T2'].found == (
    'Contradicted: mean is 0 [-0.100, 0.100] at 95 %; 8 seeds, the same verdict in 0 of 1 repeats, fragile.'
  )
  assert found['U1'].found == 'Contradicted: mean is -7.00 [-7.10, -6.90] at 95 %; 8 seeds, not repeated.'
  assert found['T3'].found == 'Not asked yet.'
  assert [section['place'] for section in found['T1'].sections] == ['first/report.html#numbers_more']
  assert found['T2a'].beside == 'T2'
  assert not found['U1'].current


def test_rows_as_json_are_strict_and_all_alike(results):
  unknown = finding('U1', float('nan'))
  results['second'] = results['second']._replace(sets=[[unknown]])
  plain = [row.plain() for row in rows.rows(ledger_study.SAID, results)]
  assert json.loads(json.dumps(plain, allow_nan=False)) == plain
  assert len({frozenset(row) for row in plain}) == 1
  found = {row['id']: row for row in plain}
  assert found['T1']['statement'] == ledger_study.SAID['T1']['statement']
  assert found['T1']['asked_as'] == f'As asked {NASTY}.'
  assert (found['U1']['verdict'], found['U1']['effect']) == ('inconclusive', None)
  assert (found['T3']['verdict'], found['T3']['effect'], found['T3']['repeats']) == (
    'not asked yet',
    None,
    [],
  )
  assert [other['verdict'] for other in found['T2']['repeats']] == ['supported']


def test_a_claim_of_another_study_is_refused(results):
  results['second'] = results['second']._replace(sets=[[finding('T3', 1.0)]])
  with pytest.raises(InputError, match='claim T3 must be of one study, and is of first and second'):
    rows.rows(ledger_study.SAID, results)


def test_a_part_that_does_not_hold_is_named():
  parts = {
    'a': claims.greater_than(0),
    'b': claims.greater_than(5),
    'c': claims.premise(claims.greater_than(0)),
  }
  intervals = {name: Interval(1.0, 0.9, 1.1, 0.95, 8, 0) for name in parts}
  graded = claims.grade(claims.Claim('T1', 'x', parts), intervals, num_seeds=8, conditions='')
  row = rows.Row('T1', 'x', 'first', finding=graded)
  assert row.found.startswith(
    'Mixed, 1 of 2 parts hold and this one does not: b is 1.00 [0.900, 1.10] at 95 %'
  )


def test_draws_are_of_what_was_asked_and_the_same_for_a_seed(results):
  table = rows.rows(ledger_study.SAID, results)
  assert rows.draw(table, 10, 5) == {'T1': 2, 'T2': 2, 'U1': 1}
  assert rows.draw(table, 2, 5) == rows.draw(table, 2, 5)
  often = [row._replace(again=[finding('T1', 1.0)] * 9) if row.id == 'T1' else row for row in table]
  with pytest.raises(InputError, match='repeats should be less than or equal to 9, got 10'):
    rows.draw(often, 3, 5)


def page_of(results, **options) -> str:
  table = rows.rows(ledger_study.SAID, results)
  return render(table, results, **{'again': [], 'command': 'python <here>'} | options)


def test_the_page_escapes_names_and_says_what_is_missing(results):
  text = page_of(results, again=[{'seed': 4, 'claims': {'T1': 1, 'T2': 1, 'U1': 1}}])
  assert NASTY not in text
  assert text.count('<script') == 1
  assert 'python &lt;here&gt;' in text
  assert re.search(r'1 supported.*2 contradicted.*2 not asked yet.*1 fragile', text, re.DOTALL)
  assert 'All results took 1.00 hours' in text
  assert 'Of an earlier configuration or source.' in text
  assert re.search(r'>T1</a> kept;\s+<a href="#T2">T2</a> <span class="fragile">supported, fragile', text)
  assert re.search(r'>U1</a> not yet', text)
  assert 'report.html' in text
  assert 'report.html' not in page_of(results, reports=False)


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """A ledger of which both studies have run."""
  workdir = tmp_path_factory.mktemp('ledger')
  own = ledger(workdir)
  assert own.run([*own.sources], None) == []
  own.page()
  return workdir


@pytest.fixture
def own(finished, tmp_path) -> Ledger:
  """A copy of it."""
  shutil.copytree(finished, tmp_path / 'copy')
  return ledger(tmp_path / 'copy')


def test_what_has_not_changed_is_not_started(own, monkeypatch):
  monkeypatch.setattr(studies, 'run', lambda *given: pytest.fail('started'))
  assert own.run(['first', 'second'], None) == []
  before = (own.workdir / 'claims.json').read_bytes()
  own.page()
  assert (own.workdir / 'claims.json').read_bytes() == before
  found = {row['id']: row for row in json.loads(before)}
  assert {name: row['verdict'] for name, row in found.items()} == {
    'T1': 'supported', 'T2': 'supported', 'T2a': 'contradicted', 'T3': 'not asked yet', 'U1': 'supported',
    'X1': 'not asked yet',
  }  # fmt: skip
  assert found['T1']['same'] == '1 of 1'
  assert found['T1']['sections'] == [
    {
      'heading': 'Numbers & more',
      'place': 'first/report.html#numbers_more',
      'figure': 'first/figures/numbers_more.svg',
    }
  ]


def test_what_has_changed_is_noticed(own, tmp_path):
  assert own.unchanged('first')
  (tmp_path / 'code').mkdir()
  assert not ledger(own.workdir, first=source('first', tmp_path / 'code')).unchanged('first')
  other = source('first')
  other.config.level = 2.0
  assert not ledger(own.workdir, first=other).unchanged('first')
  own.again.append({'seed': 0, 'claims': {'T1': 2}})
  assert not own.unchanged('first')
  assert own.unchanged('second')
  path = own.workdir / 'second' / 'claims-1.json'
  path.write_bytes(path.read_bytes() + b' ')
  assert not own.unchanged('second')
  assert [*own.results()] == ['first']
  (own.workdir / 'studies.json').write_text('{}')
  with pytest.raises(Damaged):
    ledger(own.workdir)


def test_claims_asked_once_more_keep_their_verdict_or_are_fragile(own, monkeypatch):
  seed = next(
    seed for seed in range(99) if set(random.Random(seed).sample(['T1', 'T2', 'U1'], 2)) == {'T1', 'T2'}
  )
  own.draw(2, seed)
  own.draw(2, seed)  # once
  assert own.again == [{'seed': seed, 'claims': {'T1': 2, 'T2': 2}}]
  monkeypatch.setenv('SHIFT', '9')  # what is measured anew is not near 1 any more
  assert own.run(['first', 'second'], None) == []
  again = copy.deepcopy(own.again)
  own = ledger(own.workdir)
  assert own.again == again
  assert own.unchanged('first')
  table = {row.id: row for row in rows.rows(own.claims, own.results())}
  assert [str(other.verdict) for other in table['T2'].again] == ['supported', 'mixed']
  assert [name for name, row in table.items() if row.fragile] == ['T2', 'T2a']
  own.page()
  text = (own.workdir / 'index.html').read_text(encoding='utf-8')
  assert re.search(r'<a href="#T2">T2</a> <span class="fragile">mixed, fragile</span>', text)
  assert re.search(r'<a href="#T1">T1</a> kept', text)


def test_what_is_published(own, tmp_path):
  folder = tmp_path / 'public'
  folder.mkdir()
  own.page(folder)
  found = {str(path.relative_to(folder)) for path in folder.rglob('[!.]*') if path.is_file()}
  assert found == {
    'SHA256SUMS',
    'claims.json',
    'index.html',
    'studies.json',
    'first/figures/numbers_more.svg',
  }
  assert (folder / 'claims.json').read_bytes() == (own.workdir / 'claims.json').read_bytes()


def test_a_study_that_fails_is_named_and_the_others_go_on(tmp_path, capfd, monkeypatch):
  own, started = ledger(tmp_path), []
  monkeypatch.setattr(studies, 'run', lambda source, folder, *further: started.append(folder.name) or 2)
  assert own.run(['first', 'second'], None) == started == ['first', 'second']
  assert '[1/2] first: has ended with status 2' in capfd.readouterr().err
  own.page()
  assert {row['verdict'] for row in json.loads((tmp_path / 'claims.json').read_bytes())} == {'not asked yet'}


def start(workdir: pathlib.Path, stall: pathlib.Path) -> subprocess.Popen:
  command = [
    sys.executable,
    str(HERE.with_name('ledger_study.py')),
    'ledger',
    '--only=second',
    f'--workdir={workdir}',
  ]
  with stall.with_suffix('.log').open('w') as log:
    return subprocess.Popen(
      command, env={**os.environ, 'STALL': str(stall)}, stdout=subprocess.DEVNULL, stderr=log
    )


def wait_for(file: pathlib.Path, words: str = '\n') -> str:
  limit = time.monotonic() + LIMIT
  while not (file.exists() and words in file.read_text(encoding='utf-8')):
    assert time.monotonic() < limit
    time.sleep(0.05)
  return file.read_text(encoding='utf-8')


def test_a_killed_ledger_goes_on_and_a_signal_is_passed_on(tmp_path):
  workdir, stalls = tmp_path / 'work', [tmp_path / name for name in ('one', 'two')]
  killed = start(workdir, stalls[0])
  orphan = int(wait_for(stalls[0]))
  killed.kill()
  killed.wait()
  stopped = start(workdir, stalls[1])
  wait_for(stalls[1].with_suffix('.log'), f'in use by process {orphan} ')
  os.kill(orphan, signal.SIGTERM)
  study = int(wait_for(stalls[1]))
  stopped.send_signal(signal.SIGTERM)
  assert stopped.wait(LIMIT) == STOPPED
  with pytest.raises(ProcessLookupError):  # it has been waited for
    os.kill(study, 0)
  assert stalls[1].with_suffix('.log').read_text(encoding='utf-8').count('interrupted: ') == 2
  assert start(workdir, stalls[1]).wait(LIMIT) == 0
  found = {row['id']: row['verdict'] for row in json.loads((workdir / 'claims.json').read_bytes())}
  assert found['U1'] == 'supported'
  assert found['T1'] == 'not asked yet'


def shown(page: pathlib.Path, state: str = '', act: str = '') -> tuple[list[str], str]:
  """The ids of the rows that a browser shows, in its order, and what it says of their number."""
  copied = page.with_name('copy.html')
  text = page.read_text(encoding='utf-8')
  copied.write_text(text.replace('</body>', f'<script>{act}</script></body>'), encoding='utf-8')
  options = ['--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={page.with_name("profile")}']
  done = subprocess.run(
    [BROWSER, *options, '--dump-dom', copied.as_uri() + state],
    capture_output=True,
    text=True,
    check=True,
    timeout=90,
  )
  table = re.findall(r'<tr id="(\w+)"([^>]*)>', done.stdout)
  said = re.search(r'id="shown"[^>]*>([^<]*)<', done.stdout)
  return [name for name, attributes in table if 'hidden' not in attributes], said[1]


@pytest.mark.skipif(BROWSER is None, reason='no Chromium on this machine')
def test_a_browser_filters_and_sorts(results, tmp_path):
  page = tmp_path / 'index.html'
  page.write_text(page_of(results), encoding='utf-8')
  every = ['T1', 'T2', 'T2a', 'T3', 'U1', 'X1', 'W9b']
  assert shown(page) == (every, '7 of 7 shown')
  assert shown(page, '#verdict=supported&verdict=contradicted&study=first') == (every[:3], '3 of 7 shown')
  assert shown(page, '#fragile=1')[0] == ['T2']
  assert shown(page, '#q=nobody+ASKED')[0] == ['T3']
  assert shown(page, '#sort=effect&verdict=supported&verdict=contradicted')[0] == [
    'U1',
    'T2',
    'T1',
    'W9b',
    'T2a',
  ]
  assert shown(page, '#sort=effect&down=1')[0] == [
    'T2a',
    'T1',
    'W9b',
    'T2',
    'U1',
    'T3',
    'X1',
  ]  # no effect: last
  click = "for (const press of [1, 2]) document.querySelector('[data-key=verdict]').click();"
  kind = "form.q.value = 'number'; form.q.dispatchEvent(new Event('input', {bubbles: true}));"
  assert shown(page, act=click + kind)[0] == ['T2', 'U1', 'T1', 'T2a']
