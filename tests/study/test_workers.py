"""Studies measured by workers: real processes, that finish, are killed and are started again."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

import distributed
import ml_collections
import pytest
import xarray as xr

import gdlab
from gdlab.core.errors import InputError
from gdlab.host import checksums
from gdlab.study import app, cells, sharing
from gdlab.study.workdir import Results

ROOT = pathlib.Path(__file__).parents[2]
STUDY = pathlib.Path(__file__).with_name('tiny_study.py')
FILES = {'start.nc', 'runs.nc', 'tail.nc', 'last.nc'}
KILLED = 'error: a worker ended before its task was done, in cell'
DASK = {'n_workers': 2, 'threads_per_worker': 1, 'host': '127.0.0.1', 'dashboard_address': None}


def environment(folder: pathlib.Path, stall: str = '') -> dict[str, str]:
  """That of a process that stalls at a cell, if another one has not."""
  changes = {'STALL': stall, 'STALL_FILE': str(folder / 'stalled')}
  changes |= {'JAX_COMPILATION_CACHE_DIR': str(folder.parent / 'compiled'), 'PYTHONPATH': str(ROOT)}
  return os.environ | changes


def begin(workdir: pathlib.Path, *arguments: str, stall: str = '', **options) -> subprocess.Popen:
  command = [sys.executable, str(STUDY), f'--workdir={workdir}', *arguments]
  pipe = subprocess.PIPE
  return subprocess.Popen(
    command, stdout=pipe, stderr=pipe, text=True, env=environment(workdir, stall), **options
  )


def end(process: subprocess.Popen, status: int = 0) -> str:
  """Waits for its end; returns what it wrote to both outputs."""
  out, err = process.communicate(timeout=120)
  assert process.returncode == status, err
  return err + out


def stalled(workdir: pathlib.Path) -> int:
  """Waits until a process stalls; returns its id."""
  wait_until(lambda: (workdir / 'stalled').exists() and (workdir / 'stalled').read_text().endswith('\n'))
  return int((workdir / 'stalled').read_text())


def wait_until(true, seconds: float = 60) -> None:
  limit = time.monotonic() + seconds
  while not true():
    assert time.monotonic() < limit
    time.sleep(0.1)


def lives(process_id: int) -> bool:
  with contextlib.suppress(ProcessLookupError):
    os.kill(process_id, 0)
    return True
  return False


def names(workdir: pathlib.Path) -> set[str]:
  """What is in the folder of results, but for sums and their lock."""
  return {file.name for file in (workdir / 'results').iterdir()} - {checksums.SUMS, checksums.LOCK}


def assert_same(workdir: pathlib.Path, plain: pathlib.Path) -> None:
  """All variables of all cells are those of one process, bit for bit, and so are the claims."""
  assert names(workdir) == FILES
  for name in FILES:
    ours, theirs = (gdlab.load(folder / 'results' / name) for folder in (workdir, plain))
    assert ours.drop_attrs().identical(theirs.drop_attrs())
    for variable in ours.variables:
      assert ours[variable].values.tobytes() == theirs[variable].values.tobytes()
  runs = gdlab.load(workdir / 'results' / 'runs.nc')
  assert runs.attrs['mark'] == 'kept'
  assert (workdir / 'claims.json').read_bytes() == (plain / 'claims.json').read_bytes()


@pytest.fixture(scope='module')
def plain(tmp_path_factory) -> pathlib.Path:
  """The study as one process makes it."""
  workdir = tmp_path_factory.mktemp('workers') / 'plain'
  assert 'finished' in end(begin(workdir))
  return workdir


@pytest.fixture(scope='module')
def cluster(plain):
  """A Dask cluster whose workers stall once at `runs` of the study in the folder `killed`."""
  changes = environment(plain.parent / 'dask', 'runs')
  changes = {name: value for name, value in changes.items() if os.environ.get(name) != value}
  with distributed.LocalCluster(**DASK, env=changes) as made:
    yield made.scheduler_address


def test_a_pool_gives_the_results_of_one_process(plain):
  workdir = plain.parent / 'pool'
  said = end(begin(workdir, '--workers=2'))
  assert said.count('finished') == 1
  assert {line.split()[1] for line in said.splitlines() if line.startswith('[')} == {
    'start:',
    'runs:',
    'tail:',
    'last:',
  }
  assert_same(workdir, plain)
  # What is there is not measured again, and no worker is started for it.
  assert end(begin(workdir, '--workers=2')).count(': found') == 4


def test_a_killed_worker_of_a_pool_is_one_line_and_the_same_command_goes_on(plain):
  workdir = plain.parent / 'killed'
  workdir.mkdir()
  study = begin(workdir, '--workers=2', stall='runs')
  worker = stalled(workdir)
  wait_until(lambda: (workdir / 'results' / 'last.nc').exists())
  os.kill(worker, signal.SIGKILL)
  said = end(study, status=1).splitlines()
  errors = [line for line in said if not line.startswith(('[', 'cells:'))]
  assert errors == [f'{KILLED} runs; finished cells are kept, and the same command goes on from them']
  assert names(workdir) == {'start.nc', 'last.nc'}
  assert end(begin(workdir, '--workers=2')).count(': found') == 2
  assert_same(workdir, plain)


def test_workers_end_with_their_parent(plain):
  workdir = plain.parent / 'orphaned'
  workdir.mkdir()
  study = begin(workdir, '--workers=1', stall='start')
  worker = stalled(workdir)
  study.kill()
  end(study, status=-signal.SIGKILL)
  wait_until(lambda: not lives(worker), seconds=20)


def test_ctrl_c_ends_a_study_and_its_workers_with_one_line(plain):
  workdir = plain.parent / 'interrupted'
  workdir.mkdir()
  # In a background job of a shell Ctrl-C is ignored, and a new process inherits that.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    study = begin(workdir, '--workers=1', stall='start', start_new_session=True)
  finally:
    signal.signal(signal.SIGINT, before)
  worker = stalled(workdir)
  os.killpg(study.pid, signal.SIGINT)  # as a terminal does: to all
  assert (
    end(study, status=75)
    == 'interrupted: what is finished is kept, and the same command goes on from there\n'
  )
  wait_until(lambda: not lives(worker), seconds=20)


@pytest.mark.parametrize(
  ('error', 'kind', 'message'),
  [
    (
      BrokenProcessPool('abruptly'),
      ChildProcessError,
      '^a worker ended before its task was done, in cells a, b; ',
    ),
    (
      distributed.KilledWorker('task', None, 4),
      ChildProcessError,
      '^workers ended again and again .* cells a, b; ',
    ),
    (
      None,
      ChildProcessError,
      '^the scheduler ended before the tasks were done, in cells a, b; finished cells are',
    ),
    (
      ImportError("No module named 'x'"),
      InputError,
      r"import the study: No module named 'x' \(start them with",
    ),
    (InputError('this cell fails'), InputError, '^this cell fails$'),
  ],
)
def test_why_there_is_no_result(error, kind, message):
  task = futures.Future()
  if error is None:
    task.cancel()
  else:
    task.set_exception(error)
  with pytest.raises(kind, match=message):
    raise sharing._reason(task, ['a', 'b'])


def test_an_error_in_a_worker_ends_the_others_in_mid_cell(plain):
  workdir = plain.parent / 'failing'
  workdir.mkdir()
  study = begin(workdir, '--workers=2', '--config.fails=last', stall='runs')
  worker = stalled(workdir)
  assert 'error: this cell fails' in end(study, status=2)
  assert not lives(worker)
  assert names(workdir) == {'start.nc'}


def test_dask_begins_a_killed_workers_cell_anew(cluster, plain):
  workdir = plain.parent / 'dask'
  workdir.mkdir()
  study = begin(workdir, f'--dask={cluster}')
  os.kill(stalled(workdir), signal.SIGKILL)
  assert 'finished' in end(study)
  assert_same(workdir, plain)


def test_workers_of_a_scheduler_file_give_the_results_of_one_process(plain):
  workdir = plain.parent / 'file'
  workdir.mkdir()
  file = workdir / 'scheduler.json'
  common = (f'--scheduler-file={file}', '--no-dashboard')
  commands = [('scheduler', '--host=127.0.0.1', '--port=0', *common)]
  commands += [('worker', '--nthreads=1', f'--local-directory={workdir}', *common)] * 2
  with contextlib.ExitStack() as stack:
    for arguments in commands:
      process = subprocess.Popen(
        [sys.executable, '-m', 'dask', *arguments],
        env=environment(workdir),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
      )
      stack.callback(process.wait, 30)
      stack.callback(process.terminate)
      wait_until(file.exists)
    assert 'finished' in end(begin(workdir, f'--dask={file}'))
  assert_same(workdir, plain)


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (('--cell=0/2',), ('--cell is no longer a flag', '--workers=N', '--dask=ADDRESS')),
    (('--workers=2', '--dask=h:1'), ('--workers and --dask',)),
  ],
)
def test_bad_flags_are_refused_in_one_line(arguments, words, tmp_path):
  lines = end(begin(tmp_path / 'w', *arguments), status=2).splitlines()
  assert len(lines) == 1
  assert lines[0].startswith('error: ')
  for word in words:
    assert word in lines[0]
  assert not list((tmp_path / 'w').rglob('*.nc'))


@pytest.mark.parametrize(
  ('num_workers', 'dask', 'message'),
  [
    (0, None, '--workers must be a whole number >= 1, got 0'),
    (2, 'h:1', '--workers and --dask are two ways'),
    (None, 'absent.json', "--dask must be HOST:PORT .*, and there is no file 'absent.json'"),
    (None, 'tcp://host', '--dask must be HOST:PORT'),
    (None, ':1', '--dask must be HOST:PORT'),
    (None, str(STUDY), '--dask must be the file of a scheduler, and .*tiny_study.py is none'),
  ],
)
def test_flags_that_cannot_be_are_refused(num_workers, dask, message):
  with pytest.raises(InputError, match=f'^{message}'):
    sharing.check_flags(num_workers, dask)


@pytest.mark.parametrize('dask', ['h:1', 'tcp://127.0.0.1:8786', 'tls://h:1'])
def test_an_address_is_accepted(dask):
  sharing.check_flags(None, dask)


@pytest.mark.parametrize('name', app.GONE)
def test_every_old_flag_is_named(name):
  for argument in (f'--{name}=1', f'-{name}', f'--{name}'):
    with pytest.raises(InputError, match=f'^--{name} is no longer a flag: --workers=N .*--dask=FILE'):
      app._refuse_old_flags(['--workdir=w', argument])
  app._refuse_old_flags([f'--config.{name}=1', f'{name}', '--', f'--{name}'])


def test_a_missing_dask_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'distributed', None)
  with pytest.raises(InputError, match=r'gdlab\[dask\]'), sharing.workers(None, 'h:1'):
    pass


def test_cells_that_measure_time_run_alone(tmp_path):
  results = Results(tmp_path, ml_collections.ConfigDict())
  made = [
    cells.Cell('a', print),
    cells.Cell('clock', print, alone=True),
    cells.Cell('b', print),
    cells.Cell('c', print, needs=('clock',)),
  ]
  a, clock, b, c = made
  assert sharing._ready(made, results, []) == [a]
  assert sharing._ready([clock, b, c], results, [a]) == []
  assert sharing._ready([clock, b, c], results, []) == [clock]
  assert sharing._ready([b, c], results, [clock]) == []
  results.write('clock', xr.Dataset())
  assert sharing._ready([b, c], results, []) == [b, c]


def test_cells_that_cannot_be_measured_in_turn_are_refused():
  def cell(name, *needs):
    return cells.Cell(name, lambda: None, needs)

  cells.check([cell('a'), cell('b', 'a')])
  for wrong in ([cell('b', 'a'), cell('a')], [cell('a'), cell('a')], [cell('a.b')], [cell('')]):
    with pytest.raises(ValueError, match='cell'):
      cells.check(wrong)
