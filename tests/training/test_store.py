"""Results on disk: nothing is lost, nothing is overwritten, and nothing broken is read."""

import os
import pathlib

import numpy as np
import pytest
import xarray as xr
from tiny_runs import standard_run, sweep

import gdlab
from gdlab.core.errors import InputError
from gdlab.host import checksums

NO_NETCDF = r'cut\.nc is not a readable NetCDF-4 file'


def dataset():
  """Every kind of variable, coordinate and attribute that a sweep makes, and missing values."""
  return xr.Dataset(
    {
      'train_loss': (('rule', 'flag', 'seed'), np.array([[[1.5, np.nan]], [[np.inf, -0.0]]], np.float32)),
      'examples': ('seed', np.array([2**40, 0])),
      'status': ('seed', np.array([0, 1], np.int8), {'flag_values': np.array([0, 1], np.int8)}),
    },
    {'rule': ['sgd', 'adam'], 'flag': [True], 'seed': np.array([3, 5], np.int32)},
    {'problem': 'line', 'num_steps': 12, 'wall_time_s': 0.25},
  )


def seen(folder: pathlib.Path) -> list[str]:
  """What is in a folder, but for the lock of the list of sums, which stays."""
  return sorted(name for name in os.listdir(folder) if name != checksums.LOCK)


@pytest.mark.parametrize('make', [dataset, standard_run])
def test_what_is_loaded_is_what_was_saved(make, tmp_path):
  result = make()
  path = gdlab.save(result, tmp_path / 'new' / 'folder' / 'result.nc')
  assert path == tmp_path / 'new' / 'folder' / 'result.nc'
  loaded = gdlab.load(str(path))
  xr.testing.assert_identical(loaded, result)
  for name in result.variables:
    if result[name].dtype.kind != 'U':  # strings have no fixed width on disk
      assert loaded[name].dtype == result[name].dtype, name
  assert seen(path.parent) == ['SHA256SUMS', 'result.nc']  # no temporary file is left


def test_a_sweep_over_strings_and_numbers_survives(tmp_path):
  result = sweep().expand_dims(rule=['sgd'])
  gdlab.save(result, tmp_path / 'sweep.nc')
  xr.testing.assert_identical(gdlab.load(tmp_path / 'sweep.nc'), result)


def test_loaded_results_are_in_memory(tmp_path):
  path = gdlab.save(dataset(), tmp_path / 'result.nc')
  loaded = gdlab.load(path)
  path.unlink()
  assert float(loaded.train_loss[0, 0, 0]) == 1.5


@pytest.mark.parametrize('content', [b'', b'precious', b'\x89HDF\r\n\x1a\n'])
def test_nothing_is_overwritten(tmp_path, content):
  path = tmp_path / 'result.nc'
  path.write_bytes(content)
  with pytest.raises(InputError, match=r'^path must name a new file, and .*result\.nc exists') as caught:
    gdlab.save(dataset(), path)
  assert '\n' not in str(caught.value)
  assert path.read_bytes() == content


def test_a_folder_is_not_overwritten(tmp_path):
  with pytest.raises(InputError, match='path must name a new file'):
    gdlab.save(dataset(), tmp_path)


# Refused also to the superuser, for whom no folder is closed by its permissions.
@pytest.mark.parametrize('place', ['file/result.nc', 'file/folder/result.nc', 'x' * 300])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, place):
  (tmp_path / 'file').write_text('not a folder')
  with pytest.raises(InputError, match='cannot write ') as caught:
    gdlab.save(dataset(), tmp_path / place)
  assert '\n' not in str(caught.value)
  assert seen(tmp_path) == ['file']


@pytest.mark.skipif(not pathlib.Path('/proc').is_dir(), reason='no /proc')
def test_a_read_only_file_system_is_refused():
  with pytest.raises(InputError, match='cannot write /proc/'):
    gdlab.save(dataset(), '/proc/result.nc')


def test_a_failure_in_the_middle_leaves_nothing_behind(tmp_path):
  broken = xr.Dataset({'x': ('a', np.array([object()], object))})
  with pytest.raises((InputError, TypeError, ValueError)):
    gdlab.save(broken, tmp_path / 'result.nc')
  assert os.listdir(tmp_path) == []


def test_a_missing_file_is_named(tmp_path):
  for path in (tmp_path / 'no.nc', tmp_path):
    with pytest.raises(InputError, match=rf'^no result file {path}$'):
      gdlab.load(path)


@pytest.mark.parametrize('keep', [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize('listed', [True, False])
def test_a_truncated_file_is_named(tmp_path, keep, listed):
  path = gdlab.save(dataset(), tmp_path / 'cut.nc')
  whole = path.read_bytes()
  path.write_bytes(whole[: int(keep * len(whole))])
  if not listed:
    (tmp_path / 'SHA256SUMS').unlink()
  with pytest.raises(InputError, match=r'cut\.nc is damaged' if listed else NO_NETCDF) as caught:
    gdlab.load(path)
  assert '\n' not in str(caught.value)


def test_another_kind_of_file_is_named(tmp_path):
  path = tmp_path / 'notes.txt'
  path.write_text('loss, accuracy\n' * 100)
  with pytest.raises(InputError, match=r'notes\.txt is not a readable NetCDF-4 file'):
    gdlab.load(path)


# Not the root's header, after which h5netcdf complains once more by itself.
@pytest.mark.parametrize('number', [1, 2, 3])
def test_a_damaged_file_without_a_sum_is_named_where_hdf5_sees_it(tmp_path, number):
  path = gdlab.save(dataset(), tmp_path / 'cut.nc')
  whole = path.read_bytes()
  places = [place for place in range(len(whole)) if whole.startswith(b'OHDR', place)]  # HDF5's object headers
  path.write_bytes(whole[: places[number]] + b'OHDX' + whole[places[number] + 4 :])
  (tmp_path / 'SHA256SUMS').unlink()
  with pytest.raises(InputError, match=NO_NETCDF) as caught:
    gdlab.load(path)
  assert '\n' not in str(caught.value)


def test_a_file_moved_by_itself_is_read_with_a_warning(tmp_path):
  path = gdlab.save(dataset(), tmp_path / 'there' / 'result.nc').rename(tmp_path / 'alone.nc')
  with pytest.warns(
    UserWarning, match=r'alone\.nc is not verified: there is no SHA256SUMS beside it'
  ) as caught:
    xr.testing.assert_identical(gdlab.load(path), dataset())
  assert [warning.filename for warning in caught] == [__file__]
  # Moved to where other results are, it is refused until it is listed.
  other = gdlab.save(dataset(), tmp_path / 'there' / 'other.nc')
  path = path.rename(other.with_name('alone.nc'))
  with pytest.raises(checksums.Damaged, match=r'alone\.nc is not in SHA256SUMS beside it: .* with sha256sum'):
    gdlab.load(path)
  with open(path.with_name('SHA256SUMS'), 'a') as file:
    file.write(f'{checksums.sum_of(path)}  alone.nc\n')
  xr.testing.assert_identical(gdlab.load(path), dataset())


def test_results_of_earlier_versions_are_listed_with_the_next(tmp_path):
  old = gdlab.save(dataset(), tmp_path / 'old.nc')
  (tmp_path / 'SHA256SUMS').unlink()
  new = gdlab.save(dataset(), tmp_path / 'new.nc')
  for path in (old, new):
    xr.testing.assert_identical(gdlab.load(path), dataset())
  old.write_bytes(old.read_bytes() + b'.')
  with pytest.raises(checksums.Damaged):
    gdlab.load(old)
