"""Studies shared by several processes: real ones, over loopback, that finish, die and are started again."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_study import get_config

import gdlab
from experiments import cells, processes, watch
from experiments.workdir import Results
from gdlab.core.errors import InputError

STUDY = pathlib.Path(__file__).with_name('tiny_study.py')
FILES = {'start.nc', 'runs.nc', 'tail.nc', 'last.nc'}


def begin(workdir: pathlib.Path, *arguments: str, stall: str = '') -> subprocess.Popen:
  """Starts the tiny study with two devices."""
  cache = workdir.parent / 'compiled'
  env = {'JAX_NUM_CPU_DEVICES': '2', 'JAX_COMPILATION_CACHE_DIR': str(cache), 'STALL': stall}
  command = [sys.executable, str(STUDY), f'--workdir={workdir}', *arguments]
  return subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env
  )


def end(process: subprocess.Popen, status: int = 0) -> str:
  """Waits for its end; returns what it wrote to both outputs."""
  out, err = process.communicate(timeout=120)
  assert process.returncode == status, err
  return err + out


def pair(workdir: pathlib.Path, *stalls: str, options: tuple[str, ...] = ()) -> list[subprocess.Popen]:
  """Starts two processes that share the study, each with the cell that it never gets done with."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = probe.getsockname()[1]
  shared = ('--distributed', f'--coordinator=127.0.0.1:{port}', '--num_processes=2', *options)
  return [
    begin(workdir, *shared, f'--process_id={number}', stall=stall)
    for number, stall in enumerate(stalls or ('', ''))
  ]


def names(workdir: pathlib.Path) -> set[str]:
  return {file.name for file in (workdir / 'results').iterdir()}


def times(workdir: pathlib.Path) -> dict[str, int]:
  return {file.name: file.stat().st_mtime_ns for file in (workdir / 'results').iterdir()}


def wait_for(workdir: pathlib.Path, *files: str) -> None:
  limit = time.monotonic() + 60
  while not all((workdir / 'results' / file).exists() for file in files):
    assert time.monotonic() < limit
    time.sleep(0.1)


@pytest.fixture(scope='module')
def plain(tmp_path_factory) -> pathlib.Path:
  """The study as one process makes it."""
  workdir = tmp_path_factory.mktemp('processes') / 'plain'
  assert 'finished' in end(begin(workdir))
  assert names(workdir) == FILES
  return workdir


def test_two_processes_give_the_results_of_one(plain):
  workdir = plain.parent / 'two'
  first, second = [end(process) for process in pair(workdir)]
  assert 'finished' in first
  assert 'finished' not in second
  parts = [gdlab.load(workdir / 'results' / f'runs.part{number}of2.nc') for number in range(2)]
  assert names(workdir) == FILES - {'runs.nc'} | {'runs.part0of2.nc', 'runs.part1of2.nc'}
  lanes = np.concatenate([part.lane for part in parts])
  np.testing.assert_array_equal(np.sort(lanes), np.arange(15))  # each lane once; 15 do not divide by 2 x 2
  assert all(part.sizes['lane'] for part in parts)
  ours, theirs = gdlab.merge(parts), gdlab.load(plain / 'results' / 'runs.nc')
  assert ours.drop_attrs().identical(theirs.drop_attrs())  # one layout: bit for bit
  assert ours.attrs['mark'] == 'kept'
  assert (workdir / 'claims.json').read_bytes() == (plain / 'claims.json').read_bytes()


def test_elements_of_a_job_array_share_the_cells(plain):
  workdir = plain.parent / 'array'
  elements = [begin(workdir, f'--cell={number}/2') for number in range(2)]
  said = [end(element) for element in elements]
  assert names(workdir) == FILES
  assert '1/4] start' in said[0]
  assert '2/4] runs' in said[1]
  assert '3/4] tail: waiting for runs' in said[0]
  assert 'finished' in ''.join(said)
  assert (workdir / 'claims.json').read_bytes() == (plain / 'claims.json').read_bytes()
  # An element alone says what is missing.
  (workdir / 'results' / 'last.nc').unlink()
  assert '1 of 4 cells are still missing' in end(begin(workdir, '--cell=0/2'))


@pytest.fixture(scope='module')
def bereaved(plain) -> dict[int, tuple[pathlib.Path, str, float]]:
  """For either process killed: the folder, what the other one said, and the seconds it took to end."""
  folders = {number: plain.parent / f'killed{number}' for number in range(2)}
  # Process 0 computes part 0 of `runs`; process 1 is done with part 1 and computes `last`.
  options = ('--peer_timeout=6',)
  pairs = {number: pair(folder, 'runs', 'last', options=options) for number, folder in folders.items()}
  found = {}
  for number, folder in folders.items():
    wait_for(folder, 'start.nc', 'runs.part1of2.nc')
    assert [process.poll() for process in pairs[number]] == [None, None]
  for number in folders:
    pairs[number][number].send_signal(signal.SIGKILL)
  for number, folder in folders.items():
    started = time.monotonic()
    said = end(pairs[number][1 - number], status=watch.DEAD_PEER)
    found[number] = folder, said, time.monotonic() - started
    end(pairs[number][number], status=-signal.SIGKILL)
  return found


@pytest.mark.parametrize('number', [0, 1])
def test_a_dead_process_ends_the_other_in_the_midst_of_its_computation(bereaved, number):
  _, said, seconds = bereaved[number]
  lines = [line for line in said.splitlines() if 'error' in line]
  assert lines == [
    f'error: process {number} of 2 has given no sign of life for 6 s; finished cells are kept, run again to go on'
  ]
  assert 'Traceback' not in said
  assert seconds < 25


def test_what_was_finished_is_kept_and_one_process_measures_the_rest(bereaved, plain):
  folders = [found[0] for found in bereaved.values()]
  before = [times(folder) for folder in folders]
  again = [end(process) for process in [begin(folder) for folder in folders]]
  for folder, old, said in zip(folders, before, again, strict=True):
    new = times(folder)
    kept = {'start.nc', 'runs.part1of2.nc'}
    assert {name for name in old if not name.startswith('.')} == kept
    assert {name: new[name] for name in kept} == {name: old[name] for name in kept}
    assert new.keys() - old.keys() == {'runs.part0of2.nc', 'tail.nc', 'last.nc'}
    assert said.count(': found') == 2
    assert (folder / 'claims.json').read_bytes() == (plain / 'claims.json').read_bytes()


def test_a_failing_process_ends_the_other_at_once(plain):
  workdir = plain.parent / 'failing'
  processes = pair(workdir, 'runs', '', options=('--config.fails=runs',))
  assert 'error: this cell fails' in end(processes[1], status=2)
  started = time.monotonic()
  said = end(processes[0], status=watch.DEAD_PEER)
  assert 'error: process 1 of 2 failed: this cell fails; finished cells are kept' in said
  assert time.monotonic() - started < 8


def test_a_killed_study_goes_on_where_it_was(plain):
  workdir = plain.parent / 'resumed'
  stalled = begin(workdir, stall='runs')
  wait_for(workdir, 'start.nc')
  stalled.kill()
  end(stalled, status=-signal.SIGKILL)
  before = times(workdir)
  again = end(begin(workdir))
  assert again.count(': found') == 1
  assert {name: times(workdir)[name] for name in before} == before
  assert (workdir / 'claims.json').read_bytes() == (plain / 'claims.json').read_bytes()


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (('--cell=0/2', '--distributed'), ('--cell and --distributed',)),
    (('--distributed',), ('SLURM', '--coordinator=HOST:PORT')),
  ],
)
def test_bad_flags_are_refused_in_one_line(arguments, words, tmp_path):
  lines = end(begin(tmp_path / 'w', *arguments), status=2).splitlines()
  assert len(lines) == 1
  assert lines[0].startswith('error: ')
  for word in words:
    assert word in lines[0]
  assert not list((tmp_path / 'w').rglob('*.nc'))


@pytest.mark.parametrize('text', ['', '1', '2/2', '-1/2', '0/0', 'a/b', '1/2/3', '0.5/2'])
def test_a_share_that_is_none_is_refused(text):
  with pytest.raises(InputError, match='0 <= i < n'):
    cells.parse_share(text)


@pytest.mark.parametrize(
  'address',
  [
    ('host', 2, 0),
    ('host:x', 2, 0),
    (':1', 2, 0),
    ('h:70000', 2, 0),
    ('h:1', 0, 0),
    ('h:1', 2, 2),
    ('h:1', 2, None),
  ],
)
def test_an_address_that_is_none_is_refused(address):
  with pytest.raises(InputError):
    processes.check_address(*address)
  assert processes.check_address('h:1', 2, 1) == ('h:1', 2, 1)
  assert processes.check_address(None, None, None) is None


def test_a_port_that_is_taken_is_refused(tmp_path):
  with socket.create_server(('', 0)) as taken:
    address = processes.Address(f'127.0.0.1:{taken.getsockname()[1]}', 2, 0)
    with (
      pytest.raises(InputError, match='--coordinator must name a free port'),
      processes.joined(tmp_path, address),
    ):
      pass


def test_cells_that_cannot_be_measured_in_turn_are_refused():
  def cell(name, *needs):
    return cells.Cell(name, lambda: None, needs)

  cells.check([cell('a'), cell('b', 'a')])
  for wrong in ([cell('b', 'a'), cell('a')], [cell('a'), cell('a')], [cell('a.part0of2')], [cell('')]):
    with pytest.raises(ValueError, match='cell'):
      cells.check(wrong)


def test_the_parts_of_a_cell_are_those_that_some_are_there_of(tmp_path):
  results = Results(tmp_path, get_config())
  assert results.parts('a', 1) == [None]
  assert results.parts('a', 2) == [(0, 2), (1, 2)]

  def add(*files):
    for file in files:
      (tmp_path / 'results' / file).touch()

  add('a.part1of3.nc', 'ab.part0of2.nc', '.a.nc.12')
  assert results.parts('a', 2) == [(0, 3), (1, 3), (2, 3)]
  assert [results.has('a', part) for part in results.parts('a')] == [False, True, False]
  assert not results.complete('a')
  add('a.part0of4.nc', 'a.part0of3.nc', 'a.part2of3.nc')
  assert results.complete('a')
  add('a.nc')
  assert results.parts('a', 2) == [None]


def test_a_process_counts_as_dead_by_the_lookers_own_clock():
  peers = watch.Peers([0, 2], now=100.0, silence_limit=30.0)
  assert peers.look({0: 'a 1 running', 2: None}, 129.0) is None
  assert peers.look({0: 'a 2 running', 2: 'b 1 running'}, 150.0) is None
  # A file that cannot be read for a moment says nothing; one that stays the same becomes old.
  assert peers.look({0: None, 2: 'b 1 running'}, 180.0) is None
  assert 'process 0 of 3 has given no sign of life for 30 s' in peers.look({0: None, 2: 'b 2 running'}, 181.0)
  assert peers.look({0: 'a 3 running', 2: 'b 3 finished'}, 182.0) is None
  assert peers.look({0: 'a 4 running', 2: 'b 3 finished'}, 212.0) is None
  assert not peers.finished()
  assert peers.look({0: 'a 5 finished', 2: 'b 3 finished'}, 212.0) is None
  assert peers.finished()
  failing = watch.Peers([1], now=0.0, silence_limit=30.0)
  assert failing.look({1: 'c 1 failed out of luck'}, 1.0) == 'process 1 of 2 failed: out of luck'
  absent = watch.Peers([1], now=0.0, silence_limit=30.0)
  assert absent.look({1: None}, 119.0) is None
  assert 'did not start' in absent.look({1: None}, 121.0)
