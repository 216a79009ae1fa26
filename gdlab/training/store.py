"""Results on disk: NetCDF-4 files that appear whole or not at all."""

import contextlib
import os
import pathlib
import secrets

import xarray as xr

from gdlab.errors import InputError


def save(dataset: xr.Dataset, path: str | os.PathLike) -> pathlib.Path:
  """Writes a result to a new NetCDF-4 file: under a temporary name, flushed, then renamed.

  Raises:
    InputError: if the file exists (results are immutable) or its folder cannot be written.
  """
  path = pathlib.Path(path)
  if os.path.lexists(path):
    raise InputError(f'path must name a new file, and {path} exists; results are never overwritten')
  # Not the process id: in containers that share a folder all have the same.
  temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.to_netcdf(temporary, engine='h5netcdf')
    with open(temporary, 'rb+') as written:
      os.fsync(written.fileno())
    os.replace(temporary, path)
  except OSError as error:
    raise InputError(f'cannot write {path}: {error.strerror or error}') from error
  finally:
    with contextlib.suppress(OSError):  # not even a temporary file could be made
      temporary.unlink()
  return path


def load(path: str | os.PathLike) -> xr.Dataset:
  """Reads a result back into memory.

  Raises:
    InputError: if the file is missing or is not a NetCDF-4 file.
  """
  if not pathlib.Path(path).is_file():
    raise InputError(f'no result file {path}')
  try:
    return xr.load_dataset(path, engine='h5netcdf')
  except OSError as error:
    raise InputError(f'{path} is not a readable NetCDF-4 file: {error}') from error
