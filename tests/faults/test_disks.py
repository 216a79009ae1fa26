"""Disks that are full or read-only, odd paths, a home that cannot be written, a closed output: made for real.

Each ends in success or in one line, and what was there before is as it was.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import xarray as xr

import gdlab
from gdlab import claims
from gdlab.core.errors import InputError
from gdlab.host import checksums

STUDY = pathlib.Path(__file__).parents[1] / 'study' / 'tiny_study.py'
NAMES = ('start', 'runs', 'tail', 'last')
KIB = 1024


@contextlib.contextmanager
def mounted(folder: pathlib.Path, options: str) -> Iterator[pathlib.Path]:
  """A file system in memory; the superuser's alone, for whom no permission closes a folder."""
  folder.mkdir()
  done = mount(f'-t tmpfs -o {options} tmpfs', folder)
  if done.returncode:
    pytest.skip(f'a tmpfs cannot be mounted here: {done.stderr.strip()}')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def mount(arguments: str, folder: pathlib.Path) -> subprocess.CompletedProcess:
  try:
    return subprocess.run(
      ['mount', *arguments.split(), str(folder)], capture_output=True, text=True, check=False
    )
  except OSError as error:
    pytest.skip(f'there is no mount: {error}')


def remount(folder: pathlib.Path, options: str) -> None:
  assert mount(f'-o remount,{options}', folder).returncode == 0


def started(
  workdir: pathlib.Path, shell: str = 'exec "$@"', **changes: str | None
) -> tuple[int, str, list[str]]:
  """Status, output and error lines of the tiny study."""
  command = [sys.executable, str(STUDY), f'--workdir={workdir}']
  given = os.environ | {'JAX_NUM_CPU_DEVICES': '1'} | changes
  done = subprocess.run(
    ['sh', '-c', shell, 'sh', *command, *([] if 'HOME' in changes else ['--nocompilation_cache'])],
    env={name: value for name, value in given.items() if value is not None},
    capture_output=True,
    text=True,
    check=False,
    timeout=240,
  )
  return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> pathlib.Path:
  """A working directory on a common disk in which the study is finished."""
  workdir = tmp_path_factory.mktemp('disks') / 'whole'
  assert started(workdir)[:2] == (0, 'finished\n')
  return workdir


def assert_as_whole(workdir: pathlib.Path, whole: pathlib.Path) -> None:
  """The numbers of all cells and the bytes of the claims are those of the study on a common disk."""
  for name in NAMES:
    ours, theirs = (gdlab.load(folder / 'results' / f'{name}.nc') for folder in (workdir, whole))
    assert ours.drop_attrs().identical(theirs.drop_attrs())
  assert checksums.verify(workdir / 'claims.json')
  assert (workdir / 'claims.json').read_bytes() == (whole / 'claims.json').read_bytes()


def content(folder: pathlib.Path) -> dict[str, bytes]:
  return {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def dataset(size: int) -> xr.Dataset:
  return xr.Dataset({'x': ('a', np.random.default_rng(size).random(size // 8))})


def finding(name: str) -> claims.Finding:
  claim = claims.Claim(name, 'It is so. ' * 400, {'x': claims.greater_than(0.0)})
  interval = gdlab.statistics.Interval(0.5, 0.25, 0.75, 0.95, 9, 0)
  return claims.grade(claim, {'x': interval}, num_seeds=9, conditions='a test')


def refusal(write: Callable[..., object], *arguments: object) -> str:
  """Why something cannot be written; empty where it was."""
  try:
    write(*arguments)
  except (InputError, OSError) as error:
    return str(error)
  return ''


@contextlib.contextmanager
def left(folder: pathlib.Path, free: int) -> Iterator[None]:
  """Leaves so many bytes of a disk."""
  room = os.statvfs(folder)
  with open(folder / 'filler', 'wb') as filler:
    filler.write(bytes(max(0, room.f_bavail * room.f_frsize - free)))
  yield
  (folder / 'filler').unlink()


def test_a_disk_that_is_full_during_a_save_is_one_line(tmp_path):
  """From no room at all to room for all, so that it is full in the file's midst, at its end and in its sum."""
  counts = {'refused': 0, 'saved': 0}
  with mounted(tmp_path / 'small', f'size={512 * KIB}') as folder:
    first = gdlab.save(dataset(20 * KIB), folder / 'first.nc')
    for free in (*range(0, 100, 4), 400):
      path = folder / f'{free}.nc'
      with left(folder, free * KIB):
        before = content(folder)
        if line := refusal(gdlab.save, dataset(50 * KIB), path):
          counts['refused'] += 1
          assert line == f'cannot write {path}: No space left on device'
          assert content(folder) == before
        else:
          counts['saved'] += 1
          assert gdlab.load(path).identical(dataset(50 * KIB))
          checksums.remove(path)
      assert gdlab.load(first).identical(dataset(20 * KIB))
      assert not list(folder.glob('.gdlab-*-*'))
  print(f'saves on a full disk: {counts}')
  assert counts['refused'] >= 12
  assert counts['saved'] >= 5


def test_a_disk_that_is_full_while_claims_are_replaced_leaves_the_old_ones(tmp_path):
  counts = {'refused': 0, 'written': 0}
  with mounted(tmp_path / 'small', f'size={256 * KIB}') as folder:
    path = folder / 'claims.json'
    old, new = [finding('old')], [finding(f'{number}') for number in range(4)]
    for free in range(0, 64, 4):
      claims.write_claims(path, old)
      with left(folder, free * KIB):
        if line := refusal(claims.write_claims, path, new):
          counts['refused'] += 1
          assert 'No space left on device' in line
        else:
          counts['written'] += 1
        assert claims.read_claims(path) == (old if line else new)
  print(f'claims on a full disk: {counts}')
  assert min(counts.values()) >= 3


def test_a_read_only_folder_is_read_and_refused_for_writing(tmp_path):
  with mounted(tmp_path / 'disk', 'size=1m') as folder:
    path = gdlab.save(dataset(KIB), folder / 'first.nc')
    claims.write_claims(folder / 'claims.json', [finding('A')])
    remount(folder, 'ro')
    before = content(folder)
    for place in ('second.nc', 'new/second.nc'):
      with pytest.raises(InputError, match=f'^cannot write {folder}/{place}: Read-only file system$'):
        gdlab.save(dataset(KIB), folder / place)
    with pytest.raises(OSError, match='Read-only'):
      claims.write_claims(folder / 'claims.json', [])
    assert gdlab.load(path).identical(dataset(KIB))
    assert len(claims.read_claims(folder / 'claims.json')) == 1
    assert content(folder) == before


@pytest.mark.faults
def test_a_study_on_a_full_disk_ends_in_one_line_and_goes_on_when_there_is_room(tmp_path, whole):
  refused, sizes = 0, (24, 48, 64, 80, 96, 112)
  with mounted(tmp_path / 'small', f'size={8 * KIB}') as folder:
    kept: dict[str, bytes] = {}
    for size in sizes:
      remount(folder, f'size={size * KIB}')
      status, out, lines = started(folder)
      if status:
        refused += 1
        assert status in (1, 2)
        assert out == ''
        *further, line = [line for line in lines if not line.startswith('[')]
        assert all(each.startswith('warning: no checkpoint was saved') for each in further)
        assert line.startswith('error: ')
        assert 'No space left on device' in line
      cells = {path: own for path, own in content(folder / 'results').items() if path.endswith('.nc')}
      assert kept.items() <= cells.items()  # no finished cell is lost or measured again
      kept = cells
    remount(folder, 'size=4m')
    assert started(folder)[:2] == (0, 'finished\n')
    assert_as_whole(folder, whole)
    assert kept.items() <= content(folder / 'results').items()
  print(f'starts on a full disk ended in one line: {refused} of {len(sizes)}')
  assert refused >= 3


@pytest.mark.faults
def test_a_read_only_workdir_is_one_line(tmp_path, whole):
  with mounted(tmp_path / 'disk', 'size=4m') as folder:
    assert started(folder)[:2] == (0, 'finished\n')
    before = content(folder)
    remount(folder, 'ro')
    assert started(folder) == (
      2,
      '',
      [f'error: workdir must be a folder that can be written, got {folder}: Read-only file system'],
    )
    assert content(folder) == before
    assert_as_whole(folder, whole)


@pytest.mark.faults
@pytest.mark.parametrize(
  'name',
  ['two  spaces', """it's "ours" `now` $HOME""", 'größe λ 梯度', 'back\\slash; * ?', '-dash', 'x' * 200],
)
def test_a_workdir_of_any_name_is_as_any_other(tmp_path, whole, name):
  workdir = tmp_path / name / name
  assert started(workdir)[:2] == (0, 'finished\n')
  assert_as_whole(workdir, whole)
  with open(workdir / 'results' / 'tail.nc', 'ab') as file:
    file.write(b'.')
  status, _, lines = started(workdir)  # with a damaged file, too
  assert status == 0
  assert lines[0].startswith(f'{workdir}/results/tail.nc is damaged: ')
  assert_as_whole(workdir, whole)


@pytest.mark.faults
def test_a_home_that_cannot_be_written_is_said_and_all_goes_on(tmp_path, whole):
  with mounted(tmp_path / 'home', 'size=1m') as home:
    remount(home, 'ro')
    changes = {'HOME': str(home), 'XDG_CACHE_HOME': str(home / 'cache'), 'JAX_COMPILATION_CACHE_DIR': None}
    status, out, lines = started(tmp_path / 'work', **changes)
    assert (status, out) == (0, 'finished\n')
    assert lines[0].startswith('compilation cache: off, ')
    assert len(lines) == 1 + len(NAMES)
    assert_as_whole(tmp_path / 'work', whole)


@pytest.mark.faults
@pytest.mark.parametrize('shell', ['exec "$@" >&-', 'exec "$@" >&- 0<&-'])
def test_a_closed_output_is_no_hindrance(tmp_path, whole, shell):
  status, out, lines = started(tmp_path / 'work', shell)
  assert (status, out) == (0, '')
  assert len(lines) == len(NAMES)
  assert_as_whole(tmp_path / 'work', whole)
