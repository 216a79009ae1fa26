"""Results on disk: NetCDF-4 files that are written atomically and verified by checksum when read."""

import os
import pathlib

import xarray as xr

from gdlab.core.errors import InputError, shown
from gdlab.host import checksums

UNREADABLE = (
  OSError,
  KeyError,
  RuntimeError,
  ValueError,
)  # what a damaged file is to HDF5, by the place of the damage


def save(dataset: xr.Dataset, path: str | os.PathLike) -> pathlib.Path:
  """Writes a result to a new NetCDF-4 file, atomically.

  Its SHA-256 is listed in SHA256SUMS in the same folder, for `load`; if that file is new, results already in the folder
  are listed too, as they are. Temporary files of processes that were killed while saving are removed.

  Raises:
    InputError: if the file exists (results are immutable) or its folder cannot be written.
  """
  path = pathlib.Path(path)
  if os.path.lexists(path):
    raise InputError(f'path must name a new file, and {path} exists; results are never overwritten')
  # In memory, for HDF5 crashes with the whole process where it cannot write to a full disk.
  content = dataset.to_netcdf(engine='h5netcdf')
  try:
    with checksums.writing(path, new=True) as temporary:
      temporary.write_bytes(content)
      checksums.adopt(path.parent, sorted(path.parent.glob('*.nc')))
  except FileExistsError as error:
    raise InputError(
      f'path must name a new file, and {path} exists; results are never overwritten'
    ) from error
  except OSError as error:
    raise InputError(f'cannot write {path}: {error.strerror or error}') from error
  return path


def load(path: str | os.PathLike) -> xr.Dataset:
  """Reads a result into memory, after a comparison of its SHA-256 with the one in SHA256SUMS in its folder.

  In a folder without SHA256SUMS (the file was moved alone, or written by an earlier version) it is read with a
  UserWarning.

  Raises:
    Damaged: an InputError, if the file does not match its checksum, or SHA256SUMS does not name it.
    InputError: if the file is missing, cannot be read or is not a NetCDF-4 file.
  """
  if not pathlib.Path(path).is_file():
    raise InputError(f'no result file {path}')
  try:
    verified = checksums.verify(path)
    dataset = xr.load_dataset(path, engine='h5netcdf')
  except InputError:
    raise
  except UNREADABLE as error:
    raise InputError(f'{path} is not a readable NetCDF-4 file: {shown(error)}') from error
  if not verified:
    checksums.warn_unverified(path)
  return dataset
