"""Results on disk: NetCDF-4 files that appear whole or not at all."""

import os
import pathlib

import xarray as xr

from gdlab.core.errors import InputError, shown
from gdlab.host import files

UNREADABLE = (
  OSError,
  KeyError,
  RuntimeError,
  ValueError,
)  # what a damaged file is to HDF5, by the place of the damage


def save(dataset: xr.Dataset, path: str | os.PathLike) -> pathlib.Path:
  """Writes a result to a new NetCDF-4 file, which appears whole or not at all.

  What processes that were killed in the midst of saving left in the folder is removed.

  Raises:
    InputError: if the file exists (results are immutable) or its folder cannot be written.
  """
  path = pathlib.Path(path)
  if os.path.lexists(path):
    raise InputError(f'path must name a new file, and {path} exists; results are never overwritten')
  try:
    with files.replacing(path, new=True) as temporary:
      dataset.to_netcdf(temporary, engine='h5netcdf')
  except FileExistsError as error:
    raise InputError(
      f'path must name a new file, and {path} exists; results are never overwritten'
    ) from error
  except OSError as error:
    raise InputError(f'cannot write {path}: {error.strerror or error}') from error
  return path


def load(path: str | os.PathLike) -> xr.Dataset:
  """Reads a result back into memory.

  Raises:
    InputError: if the file is missing, is not a NetCDF-4 file, or is damaged where HDF5 sees it.
  """
  if not pathlib.Path(path).is_file():
    raise InputError(f'no result file {path}')
  try:
    return xr.load_dataset(path, engine='h5netcdf')
  except UNREADABLE as error:
    raise InputError(f'{path} is not a readable NetCDF-4 file: {shown(error)}') from error
