"""What each entry of a configuration may be: a study has a table of all, looked at before anything is computed."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import ml_collections

from gdlab.core.errors import InputError, check_count, check_real, shown, unknown_name

Check: TypeAlias = Callable[[str, Any], None]  # raises InputError, of the entry's name and its value
Fields: TypeAlias = Mapping[str, Check]  # 'section.name' -> what it may be

MOST = 2**31 - 1  # of what is counted: int32, as JAX counts
# Of real numbers, and the least above 0: no study asks for one near them, and float32 keeps them apart from inf and 0.
LARGEST, SMALLEST = 1e9, 1e-30


def check_fields(config: ml_collections.ConfigDict, fields: Fields) -> None:
  """Refuses an entry out of its range, one that is missing, and one that the study does not know.

  Raises:
    InputError: one line with the entry's name, its value and what is allowed.
  """
  given = dict(flat(config))
  for name in given:
    if name not in fields:
      section = name.rpartition('.')[0]
      beside = [known for known in fields if known.rpartition('.')[0] == section]
      raise unknown_name('configuration key', name, beside or fields)
  for name, check in fields.items():
    if name not in given:
      raise InputError(f'{name} is missing in the configuration')
    check(name, given[name])


def flat(config: ml_collections.ConfigDict, prefix: str = '') -> Iterable[tuple[str, Any]]:
  """All entries of all sections: 'section.name' and value."""
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def count(minimum: int = 1, maximum: int | None = None) -> Check:
  """A whole number in [minimum, maximum]."""

  def check(name: str, value: Any) -> None:
    check_count(name, value, minimum=minimum, maximum=maximum)
    check_count(name, value, minimum=minimum, maximum=MOST)

  return check


def real(
  *,
  above: float = -math.inf,
  below: float = math.inf,
  minimum: float | None = None,
  maximum: float = LARGEST,
) -> Check:
  """A real number within bounds."""
  bounds: dict[str, Any] = {'above': above, 'below': below, 'minimum': minimum}
  if maximum < LARGEST:
    bounds['maximum'] = maximum
  if minimum is None and above == -math.inf:
    bounds['minimum'] = -LARGEST

  def check(name: str, value: Any) -> None:
    check_real(name, value, **bounds)
    check_real(name, value, **bounds | {'maximum': maximum})

  return check


def positive(name: str, value: Any) -> None:
  """A real number above 0."""
  check_real(name, value, above=0)
  check_real(name, value, minimum=SMALLEST, maximum=LARGEST)


def share(name: str, value: Any) -> None:
  """A real number in [0, 1)."""
  check_real(name, value, minimum=0, below=1)


def choice(known: Iterable[str], kind: str = '') -> Check:
  """One of these names; of which kind they are, where the entry's name does not say it."""
  names = tuple(known)

  def check(name: str, value: Any) -> None:
    if not isinstance(value, str) or value not in names:
      raise unknown_name(kind or name, value if isinstance(value, str) else shown(value), names)

  return check


def flag(name: str, value: Any) -> None:
  """True or False."""
  if not isinstance(value, bool):
    raise InputError(f'{name} must be True or False, got {shown(value)}')


def several(item: Check, least: int = 0) -> Check:
  """A tuple or list of so many at least, each of which may be what `item` says."""

  def check(name: str, value: Any) -> None:
    if not isinstance(value, (tuple, list)):
      raise InputError(f'{name} must be a list, got {shown(value)}')
    for entry in value:
      item(name, entry)
    if len(value) < least:
      found = len(value) or 'none'
      raise InputError(f'{name} must hold at least {least} value{"s" if least > 1 else ""}, got {found}')

  return check


def exactly(*items: Check) -> Check:
  """A tuple or list of as many values, each of which may be what its item says."""

  def check(name: str, value: Any) -> None:
    if not isinstance(value, (tuple, list)) or len(value) != len(items):
      raise InputError(f'{name} must be a list of {len(items)}, got {shown(value)}')
    for item, entry in zip(items, value):
      item(name, entry)

  return check


def rising(item: Check) -> Check:
  """Two values, the second above the first."""
  both = exactly(item, item)

  def check(name: str, value: Any) -> None:
    both(name, value)
    if value[0] >= value[1]:
      raise InputError(f'{name} must be two that rise, got {tuple(value)}')

  return check
