"""The ledger: its list, merging, what is unchanged, kills and signals, and its page."""

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
from ledger_study import NASTY, finding, page_of

from experiments.ledger import rows, studies
from experiments.ledger.__main__ import Ledger
from gdlab import claims
from gdlab.core.errors import InputError
from gdlab.host.checksums import Damaged
from gdlab.statistics import Interval

HERE = pathlib.Path(__file__)
STOPPED, LIMIT = 75, 120.0


def source(name: str, folder: pathlib.Path = HERE.parent) -> studies.Source:
  command = (sys.executable, str(HERE.with_name('ledger_study.py')), name)
  return studies.Source(getattr(ledger_study, name), command, ledger_study.get_config(), (folder,))


def ledger(workdir: pathlib.Path, **sources: studies.Source) -> Ledger:
  return Ledger(workdir, ledger_study.SAID, {'second': source('second'), 'first': source('first')} | sources)


@pytest.fixture
def results(tmp_path) -> dict[str, rows.Result]:
  return ledger_study.results(tmp_path)


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
    'Contradicted: mean is 0 [-0.100, 0.100] at 95 % from 8 seeds; the same verdict in 0 of 1 repeats, fragile.'
  )
  assert found['U1'].found == 'Contradicted: mean is -7.00 [-7.10, -6.90] at 95 % from 8 seeds; not repeated.'
  assert found['T3'].found == 'Not asked yet.'
  assert [section['place'] for section in found['T1'].sections] == ['first/report.html#numbers_more']
  assert found['T2a'].beside == 'T2'
  assert not found['U1'].current


def graded_of(**measured):
  """A row whose parts are these intervals: above 0.5, where `control` is a premise."""
  rule = claims.greater_than(0.5)
  told = {name: claims.premise(rule) if name == 'control' else rule for name in measured}
  found = claims.grade(claims.Claim('T1', 'As asked.', told), measured, num_seeds=8, conditions='data')
  return rows.Row('T1', 'As asked.', 'first', finding=found)


@pytest.mark.parametrize(
  ('control', 'said'),
  [
    (Interval(0.2, 0.1, 0.3, 0.95, 8, 0), 'Inconclusive, for a premise was not shown to hold: control is 0.200'),
    (Interval(0.6, 0.1, 0.9, 0.95, 8, 0), 'Inconclusive, for a premise was not shown to hold: control is 0.600'),
    (Interval(0.9, 0.8, 1.0, 0.95, 8, 0), 'Supported: effect is 0.900 [0.800, 1.00] at 95 % from 20 values; not'),
  ],
)  # fmt: skip
def test_the_sentence_is_about_the_part_that_decided(control, said):
  assert said in graded_of(effect=Interval(0.9, 0.8, 1.0, 0.95, 20, 0), control=control).found


def test_a_part_says_why_it_is_inconclusive_against_its_interval():
  why = {
    'a run without a value leaves it open': Interval(0.9, 0.8, 1.0, 0.95, 7, 1),
    'equal values say nothing about chance': Interval(0.9, 0.9, 0.9, 0.95, 8, 0),
    '': Interval(0.6, 0.4, 0.8, 0.95, 8, 0),
  }
  for words, interval in why.items():
    found = graded_of(effect=interval).finding
    assert (str(found.verdict), rows.reason(found)) == ('inconclusive', words)


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
  assert sorted(rows.draw(table, 10, 5)) == ['T1', 'T2', 'U1']
  assert len(rows.draw(table, 2, 5)) == 2
  assert rows.draw(table, 2, 5) == rows.draw(table, 2, 5)


def test_the_page_escapes_names_and_says_what_is_missing(results):
  drawn = rows.Draw('first-2', 4, [finding('T1', 1.0), finding('T2', 3.0)], results['first'].facts)
  results['first'] = results['first']._replace(draws=[drawn])
  text = page_of(results, again=[{'seed': 4, 'claims': ['T1', 'T2', 'U1']}])
  assert NASTY not in text
  assert text.count('<script') == 1
  assert 'python &lt;here&gt;' in text
  assert re.search(r'1 supported.*2 contradicted.*2 not asked yet.*1 fragile', text, re.DOTALL)
  assert 'All results took 1.50 hours' in text
  assert 'first, drawn claims' in text
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


def unchanged(own: Ledger) -> dict[str, bool]:
  return {name: own.unchanged(name, each) for name, each in own.all_of(['first', 'second']).items()}


def test_what_has_changed_is_noticed(own, tmp_path):
  assert unchanged(own) == {'first': True, 'second': True}
  (tmp_path / 'code').mkdir()
  assert not unchanged(ledger(own.workdir, first=source('first', tmp_path / 'code')))['first']
  other = source('first')
  other.config.level = 2.0
  assert not unchanged(ledger(own.workdir, first=other))['first']
  own.again.append({'seed': 0, 'claims': ['T1']})
  assert unchanged(own) == {'first': True, 'second': True, 'first-2': False}
  path = own.workdir / 'second' / 'claims-1.json'
  path.write_bytes(path.read_bytes() + b' ')
  assert not unchanged(own)['second']
  assert [*own.results()] == ['first']
  (own.workdir / 'studies.json').write_text('{}')
  with pytest.raises(Damaged):
    ledger(own.workdir)


def test_claims_asked_once_more_keep_their_verdict_or_are_fragile(own, monkeypatch):
  seed = next(
    seed for seed in range(99) if set(random.Random(seed).sample(['T1', 'T2', 'U1'], 2)) == {'T1', 'T2'}
  )
  with pytest.raises(InputError, match='--again must be at most 3, the claims that have a verdict, got 4'):
    own.draw(4, seed)
  assert not own.drawn_before(2, seed)
  own.draw(2, seed)
  assert own.drawn_before(2, seed)
  with pytest.raises(InputError, match=f'--seed must be another, as {seed} has drawn T., T., got --again=3'):
    own.drawn_before(3, seed)
  assert own.again == [{'seed': seed, 'claims': random.Random(seed).sample(['T1', 'T2', 'U1'], 2)}]
  monkeypatch.setenv('SHIFT', '9')  # what is measured anew is not near 1 any more
  assert own.run(['first', 'second'], None) == []
  again = copy.deepcopy(own.again)
  own = ledger(own.workdir)
  assert own.again == again
  assert unchanged(own) == {'first': True, 'second': True, 'first-2': True}
  table = {row.id: row for row in rows.rows(own.claims, own.results())}
  assert [str(other.verdict) for other in table['T2'].again] == ['supported', 'mixed']
  assert [name for name, row in table.items() if row.fragile] == ['T2']
  assert table['T2a'].same == '1 of 1'
  own.page()
  text = (own.workdir / 'index.html').read_text(encoding='utf-8')
  assert re.search(r'<a href="#T2">T2</a> <span class="fragile">mixed, fragile</span>', text)
  assert re.search(r'<a href="#T1">T1</a> kept', text)


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (('--workdir=',), "--workdir must be a folder, got ''"),
    (('--workdir={0}', '--publish={0}'), '--publish must be another folder than --workdir'),
    (('--workdir={0}', '--publish={0}/file'), '--publish must be a folder that can be written'),
  ],
)
def test_folders_that_cannot_be_meant_are_refused(tmp_path, flags, said):
  (tmp_path / 'file').touch()
  command = [
    sys.executable,
    HERE.with_name('ledger_study.py'),
    'ledger',
    *(flag.format(tmp_path) for flag in flags),
  ]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
  assert (done.returncode, [path.name for path in tmp_path.iterdir()]) == (2, ['file'])
  assert said in done.stderr.splitlines()[-1]


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
