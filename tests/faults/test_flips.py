"""One flipped bit, and other damage, in the files of results: never believed; a study measures the cell again."""

import os
import pathlib
import runpy
import shutil
import subprocess
import sys
from concurrent import futures

import ml_collections
import numpy as np
import pytest
import xarray as xr

import gdlab
from gdlab import claims
from gdlab.core.errors import InputError
from gdlab.host import checksums
from gdlab.host.checksums import Damaged
from gdlab.study import cells, sharing
from gdlab.study.cells import Cell
from gdlab.study.workdir import Results

STUDY = pathlib.Path(__file__).parents[1] / 'study' / 'tiny_study.py'
NAMES = ('start', 'runs', 'tail', 'last')
CONFIG = ml_collections.ConfigDict()


def places(size: int, num: int, seed: int) -> list[int]:
  """Bits of a file: at both ends, and others by chance."""
  drawn = np.random.default_rng(seed).choice(8 * size, num - 4, replace=False).tolist()
  return [0, 8 * 8, 8 * size - 1, 8 * size - 9, *drawn]


def flip(path: pathlib.Path, bit: int) -> None:
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def run(workdir: pathlib.Path) -> None:
  """The tiny study, in this process."""
  study = runpy.run_path(str(STUDY))
  config = study['get_config']()
  results = Results(workdir, config)
  made = study['cells'](config)
  cells.measure(made, results)
  study['finish'](config, {cell.name: results.read(cell.name) for cell in made}, workdir)


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> pathlib.Path:
  """A working directory in which the study is finished."""
  workdir = tmp_path_factory.mktemp('flips') / 'whole'
  workdir.mkdir()
  run(workdir)
  return workdir


@pytest.fixture
def workdir(whole, tmp_path) -> pathlib.Path:
  """A copy of it."""
  return shutil.copytree(whole, tmp_path / 'work')


def assert_as_whole(workdir: pathlib.Path, whole: pathlib.Path) -> None:
  """The numbers of all cells and the bytes of the claims are those of the undamaged study."""
  for name in NAMES:
    ours, theirs = (gdlab.load(folder / 'results' / f'{name}.nc') for folder in (workdir, whole))
    assert ours.drop_attrs().identical(theirs.drop_attrs())
  for name in ('claims.json', checksums.SUMS):
    assert (workdir / name).read_bytes() == (whole / name).read_bytes()
  assert checksums.verify(workdir / 'claims.json')


def kept_aside(workdir: pathlib.Path) -> list[str]:
  folder = workdir / 'results' / 'damaged'
  return sorted(path.name.partition('-')[0] for path in folder.iterdir()) if folder.exists() else []


def test_a_flipped_bit_of_a_result_is_refused_before_anything_parses_the_file(whole, tmp_path, monkeypatch):
  def parse(*arguments, **options):
    raise AssertionError('a damaged file was parsed')

  folder = shutil.copytree(whole / 'results', tmp_path / 'results')
  monkeypatch.setattr(xr, 'load_dataset', parse)
  count = 0
  for seed, name in enumerate(NAMES):
    path = folder / f'{name}.nc'
    for bit in places(path.stat().st_size, 25, seed):
      flip(path, bit)
      with pytest.raises(Damaged) as caught:
        gdlab.load(path)
      assert str(caught.value).startswith(f'{path} is damaged: ')
      assert '\n' not in str(caught.value)
      flip(path, bit)
      count += 1
  monkeypatch.undo()
  assert gdlab.load(path).identical(gdlab.load(whole / 'results' / path.name))
  print(f'flips caught in results: {count}')


def tried(path: pathlib.Path) -> xr.Dataset | str:
  """What is loaded, or why it is not."""
  try:
    return gdlab.load(path)
  except Damaged as error:
    return str(error)


def test_a_flipped_bit_of_the_sums_never_makes_another_file_of_a_result(whole, tmp_path):
  folder = shutil.copytree(whole / 'results', tmp_path / 'results')
  sums, refused = folder / checksums.SUMS, 0
  loaded = {name: gdlab.load(folder / f'{name}.nc') for name in NAMES}
  for bit in places(sums.stat().st_size, 40, 0):
    flip(sums, bit)
    hit = 0
    for name in NAMES:
      found = tried(folder / f'{name}.nc')
      if isinstance(found, str):
        assert found.startswith(f'{folder / name}.nc is ')
        hit += 1
      else:
        assert found.identical(loaded[name])
    # The line that was hit, and the next one where the end of a line was.
    assert hit in (1, 2) or bit // 8 == sums.stat().st_size - 1
    flip(sums, bit)
    refused += hit > 0
  print(f'flips caught in SHA256SUMS: {refused} of 40')
  assert refused >= 38


def test_a_flipped_bit_of_the_claims_is_refused(tmp_path):
  claim = claims.Claim('A', 'Größe matters.', {'x': claims.greater_than(0.0)})
  interval = gdlab.statistics.Interval(0.5, 0.25, 0.75, 0.95, 9, 0)
  path = tmp_path / 'claims.json'
  claims.write_claims(path, [claims.grade(claim, {'x': interval}, num_seeds=9, conditions='a test')])
  found, size = claims.read_claims(path), path.stat().st_size
  for bit in places(size, 40, 0):
    flip(path, bit)
    with pytest.raises(Damaged, match=r'^/.*claims\.json is damaged: '):
      claims.read_claims(path)
    flip(path, bit)
  assert claims.read_claims(path) == found
  print('flips caught in claims.json: 40')


@pytest.mark.faults
@pytest.mark.parametrize('seed', range(6))
def test_a_study_measures_a_damaged_cell_again(whole, workdir, seed, capsys):
  """One flip in a result, in the list of their sums, and in the claims at a time: 18 in all."""
  random = np.random.default_rng(seed)
  name = NAMES[seed % len(NAMES)]
  for path in (f'results/{name}.nc', f'results/{checksums.SUMS}', 'claims.json'):
    before = len(kept_aside(workdir))
    flip(workdir / path, int(random.integers(8 * ((workdir / path).stat().st_size - 1))))
    damaged = (workdir / path).read_bytes()
    run(workdir)
    assert_as_whole(workdir, whole)
    said = capsys.readouterr().err
    again = len(kept_aside(workdir)) - before
    assert said.count('; kept as ') == again
    assert again == (1 if path.endswith('.nc') else again if path.endswith('S') else 0)
    if path.endswith('.nc'):
      assert f'{workdir / path} is damaged: its SHA-256 is not that in SHA256SUMS beside it; kept as ' in said
      [aside] = (workdir / 'results' / 'damaged').iterdir()
      assert aside.read_bytes() == damaged
    elif path.endswith('S'):
      assert 1 <= again <= 2
  print('flips survived by a study: 3')


def foreign(path: pathlib.Path) -> None:
  path.unlink()
  xr.Dataset({'rate': ('point', [9.0])}).to_netcdf(path, engine='h5netcdf')


def folder_instead(path: pathlib.Path) -> None:
  path.unlink()
  path.mkdir()
  (path / 'content').write_text('theirs')


def half(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def stale(path: pathlib.Path) -> None:
  """What a writer that was killed long ago left, and a file that is no longer there."""
  left = path.parent / '.gdlab-0badbeef-0123abcd'
  left.mkdir()
  (left / path.name).write_bytes(path.read_bytes()[:100])
  path.unlink()
  for place in (left / path.name, left):
    os.utime(place, (1e9, 1e9))


DAMAGES = {
  'truncated': half,
  'empty': lambda path: path.write_bytes(b''),
  'text': lambda path: path.write_text('loss, accuracy\n'),
  'foreign': foreign,
  'a folder in its place': folder_instead,
  'missing': pathlib.Path.unlink,
  'stale temporary folder': stale,
}


@pytest.mark.parametrize('name', DAMAGES)
def test_whatever_stands_in_a_cells_place_is_set_aside_and_the_cell_measured(whole, workdir, name, capsys):
  DAMAGES[name](workdir / 'results' / 'runs.nc')
  run(workdir)
  assert_as_whole(workdir, whole)
  gone = name in ('missing', 'stale temporary folder')
  assert kept_aside(workdir) == ([] if gone else ['runs'])
  assert capsys.readouterr().err.count('found') == 3
  assert not list((workdir / 'results').glob('.gdlab-*-*'))


@pytest.mark.parametrize('name', ['truncated', 'empty', 'text'])
def test_without_a_readable_list_of_sums_all_is_measured_again(whole, workdir, name):
  DAMAGES[name](workdir / 'results' / checksums.SUMS)
  run(workdir)
  assert_as_whole(workdir, whole)
  assert len(kept_aside(workdir)) == (2 if name == 'truncated' else 4)


def test_a_list_that_is_gone_is_said_and_made_anew(whole, workdir, capsys):
  (workdir / 'results' / checksums.SUMS).unlink()
  run(workdir)
  assert_as_whole(workdir, whole)
  said = capsys.readouterr().err.splitlines()
  assert said[0] == f'{workdir}/results has no SHA256SUMS: its 4 cells are listed as they are, not verified'
  assert len(said) == 5


def test_a_folder_in_the_lists_place_is_one_line(workdir):
  folder_instead(workdir / 'results' / checksums.SUMS)
  with pytest.raises(
    InputError, match=r'last\.nc cannot be verified: SHA256SUMS .* \(Is a directory\); move'
  ):
    run(workdir)
  assert not kept_aside(workdir)


def test_another_configuration_is_refused_before_anything_is_moved(workdir):
  half(workdir / 'results' / 'runs.nc')
  with pytest.raises(InputError, match=r'holds last\.nc of another configuration'):
    Results(workdir, ml_collections.ConfigDict({'num_seeds': 6, 'fails': ''}))
  assert not kept_aside(workdir)


def test_a_workdir_whose_only_cell_was_damaged_is_still_the_studys(workdir):
  for name in NAMES:
    half(workdir / 'results' / f'{name}.nc')
  for _ in range(2):  # the second start after a kill in between
    Results(workdir, runpy.run_path(str(STUDY))['get_config']())
  assert len(kept_aside(workdir)) == 4


def test_a_stored_run_of_a_comparison_is_measured_again(tmp_path):
  made = []

  def make():
    made.append(1)
    return xr.Dataset({'x': ('a', [1.0, 2.0])})

  count = 0
  for bit in places(8000, 10, 0):
    Results(tmp_path, CONFIG).stored('graded', 'sgd 0-3', make)
    results = Results(tmp_path, CONFIG)
    flip(tmp_path / 'results' / 'graded_sgd_0-3.nc', bit)  # after the study's start
    assert results.stored('graded', 'sgd 0-3', make).x.values.tolist() == [1.0, 2.0]
    count += 1
    assert len(made) == 1 + count
  print(f'flips survived by stored runs: {count}')


class Here(futures.Executor):
  """Measures where it is asked to."""

  def __init__(self, made):
    self._made = {cell.name: cell for cell in made}

  def submit(self, task, origin, name, needed):
    future: futures.Future = futures.Future()
    future.set_result(cells.measured(self._made[name], needed, lambda done, total: None))
    return future


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('last', ['b', 'c'])
def test_what_is_damaged_in_the_midst_of_a_study_is_measured_again(tmp_path, shared, last, capsys):
  done = []

  def cell(name, *needs):
    def measure(*needed, progress):
      assert all(float(each.x) == 1 for each in needed)
      done.append(name)
      if name == last and done.count(last) == 1:
        flip(tmp_path / 'results' / 'a.nc', 5000)
      return xr.Dataset({'x': 1.0})

    return Cell(name, measure, needs)

  made = [cell('a'), cell('b', 'a'), cell('c', 'a', 'b')]
  results = Results(tmp_path, CONFIG)
  if shared:
    sharing.measure(made, results, None, lambda: Here(made))
  else:
    cells.measure(made, results)
  assert sorted(done) == ['a', 'a', 'b', 'c']
  assert all(float(results.read(each.name).x) == 1 for each in made)
  assert kept_aside(tmp_path) == ['a']
  assert 'a.nc is damaged' in capsys.readouterr().err


def test_a_disk_that_damages_a_cell_again_and_again_is_named(tmp_path):
  def measure(*needed, progress):
    return xr.Dataset({'x': 1.0})

  def spoil(a, progress):
    raise AssertionError('never with what is damaged')

  made = [Cell('a', measure), Cell('b', spoil, ('a',))]
  results = Results(tmp_path, CONFIG)
  write = results.write

  def damage(cell, dataset):
    write(cell, dataset)
    flip(tmp_path / 'results' / f'{cell}.nc', 5000)

  results.write = damage
  with pytest.raises(
    InputError, match=r'a\.nc is damaged: .* happened 3 times before in this run: check the disk$'
  ):
    cells.measure(made, results)
  assert kept_aside(tmp_path) == ['a'] * 3


@pytest.mark.faults
def test_a_damaged_study_is_mended_by_the_same_command(tmp_path):
  """As a user starts it: in one process, and with workers."""

  def started(workdir, *arguments):
    command = [sys.executable, str(STUDY), f'--workdir={workdir}', '--nocompilation_cache', *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout) == (0, 'finished\n'), done.stderr
    return done.stderr

  count = 0
  started(tmp_path / 'whole')
  for number, arguments in enumerate([(), ('--workers=2',)]):
    workdir = shutil.copytree(tmp_path / 'whole', tmp_path / f'work-{number}')
    for path in ('results/runs.nc', 'results/start.nc', 'claims.json'):
      flip(workdir / path, 8 * (workdir / path).stat().st_size // 2)
      count += 1
    said = started(workdir, *arguments)
    assert said.count('; kept as ') == 2
    assert said.count('found') == 2
    assert_as_whole(workdir, tmp_path / 'whole')
  print(f'flips mended by the same command: {count}')
