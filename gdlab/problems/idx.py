"""IDX files, the format of MNIST: reading, checking and downloading."""

import gzip
import hashlib
import http.client
import io
import urllib.request
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gdlab.core.errors import InputError
from gdlab.host import files

_UNSIGNED_BYTE = 0x08
# Bytes of a file, packed or not: MNIST's largest has 47 million. A gzip file may hold a thousand times its own size.
LIMIT = 2**26


def find(folders: Iterable[Path], name: str) -> Path | None:
  """The first file `name` or `name`.gz in the folders, or None."""
  paths = [folder / f'{name}{suffix}' for folder in folders for suffix in ('', '.gz')]
  return next((path for path in paths if path.is_file()), None)


def read(path: Path, sha256: str) -> np.ndarray:
  """Reads an IDX file of unsigned bytes, plain or .gz.

  Args:
    path: the file.
    sha256: of the uncompressed bytes.

  Returns:
    uint8 array of the shape in the file's header.

  Raises:
    InputError: unreadable, not gzip, larger than LIMIT, another checksum, or not such an IDX file; names the file, what
      was expected and what was found.
  """
  try:
    with path.open('rb') as file:
      content = _limited(str(path), file)
  except OSError as error:
    raise InputError(f'{path}: expected a readable file, found {error.strerror}') from None
  content = _uncompressed(str(path), content) if path.suffix == '.gz' else content
  _check_sha256(str(path), content, sha256)
  return parse(str(path), content)


def parse(name: str, content: bytes) -> np.ndarray:
  """The array in the uncompressed bytes of an IDX file.

  Layout: two zero bytes, a type code (8: unsigned byte), the number of dimensions, each dimension as a
  big-endian uint32, then the values in C order (LeCun, Cortes & Burges, the MNIST database).

  Args:
    name: of the file, in messages.
    content: its uncompressed bytes.

  Raises:
    InputError: another header, or more or fewer values than it states.
  """
  if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
    raise InputError(
      f'{name}: expected an IDX file of unsigned bytes (it begins 00 00 08), '
      f'found {content[:4].hex(" ") or "nothing"}'
    )
  start = 4 + 4 * content[3]
  if len(content) < start:
    raise InputError(f'{name}: expected an IDX head of {start} bytes, found {len(content)} bytes')
  shape = tuple(int(size) for size in np.frombuffer(content, '>u4', content[3], offset=4))
  expected = start + int(np.prod(shape, dtype=np.int64))
  if len(content) != expected:
    raise InputError(f'{name}: expected {expected} bytes for shape {shape} in its head, found {len(content)}')
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def download(name: str, sha256: str, mirrors: Sequence[str], folder: Path, *, timeout: float = 10.0) -> Path:
  """Downloads `name`.gz from the first mirror that serves it intact into `folder`, atomically.

  Args:
    name: the file's name without .gz.
    sha256: of its uncompressed bytes.
    mirrors: base URLs, each ending in '/'.
    folder: created if it does not exist.
    timeout: seconds to wait for a mirror's answer.

  Raises:
    InputError: no mirror serves the file intact, with the reason for each; or the folder cannot be written.
  """
  failures = []
  for mirror in mirrors:
    try:
      with urllib.request.urlopen(f'{mirror}{name}.gz', timeout=timeout) as response:
        content = _limited(f'{mirror}{name}.gz', response)
      _check_sha256(f'{mirror}{name}.gz', _uncompressed(f'{mirror}{name}.gz', content), sha256)
    except (OSError, http.client.HTTPException) as error:
      failures.append(f'{mirror}: {error}')
    except InputError as error:
      failures.append(str(error))
    else:
      return _write(folder / f'{name}.gz', content)
  raise InputError(f'could not be downloaded ({"; ".join(failures)})')


def _write(path: Path, content: bytes) -> Path:
  try:
    with files.replacing(path) as temporary:
      temporary.write_bytes(content)
  except OSError as error:
    raise InputError(f'{path}: expected a folder that can be written, found {error.strerror}') from None
  return path


def _uncompressed(name: str, content: bytes) -> bytes:
  try:
    return _limited(name, gzip.GzipFile(fileobj=io.BytesIO(content)))
  except (OSError, EOFError, zlib.error) as error:
    raise InputError(
      f'{name}: expected an intact gzip file, found {len(content)} bytes that are none: {error}'
    ) from None


def _limited(name: str, file: io.BufferedIOBase) -> bytes:
  """The contents of a file; raises InputError if they are larger than LIMIT."""
  content = file.read(LIMIT + 1)
  if len(content) > LIMIT:
    raise InputError(f'{name}: expected at most {LIMIT} bytes, found more')
  return content


def _check_sha256(name: str, content: bytes, sha256: str) -> None:
  if (found := hashlib.sha256(content).hexdigest()) != sha256:
    raise InputError(
      f'{name}: expected uncompressed bytes with SHA-256 {sha256}, found {found} ({len(content)} bytes)'
    )
