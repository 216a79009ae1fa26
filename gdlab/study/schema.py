"""The configuration of a study: a pydantic model with one-line errors."""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import ml_collections
import pydantic

from gdlab.comparison.comparing import TUNING
from gdlab.core.errors import InputError, shown, unknown_name

_Model = TypeVar('_Model', bound='Config')

APART = 100_000  # seeds between the first ones of a study and of its repeat


class Config(pydantic.BaseModel):
  """A configuration: every field has a type with the allowed values, and a default.

  Example:
    >>> class Settings(Config):
    ...   hidden: Counts = (64,)
    ...   rate: Positive = 0.1
    >>> Settings.checked({'rate': 0.2}).rate
    0.2
  """

  model_config = pydantic.ConfigDict(extra='forbid', frozen=True, strict=True)

  @classmethod
  def checked(cls: type[_Model], values: Mapping[str, Any]) -> _Model:
    """The configuration with these values, and defaults for the others.

    Raises:
      InputError: for the first invalid field, with its name, its value and what is allowed.
    """
    try:
      return cls.model_validate(_tuples(values))
    except pydantic.ValidationError as error:
      raise _refusal(cls, error.errors()[0]) from None

  def again(self: _Model, number: int) -> _Model:
    """The configuration of repeat number `number`: the same, with other seeds in its field `seeds: Seeds`."""
    seeds: Seeds = self.seeds  # type: ignore[attr-defined]
    return self.model_copy(update={'seeds': seeds.model_copy(update={'first': seeds.first + number * APART})})

  @classmethod
  def defaults(cls) -> ml_collections.ConfigDict:
    """The default values, as a ConfigDict for flags."""
    return ml_collections.ConfigDict(cls().model_dump(), convert_dict=True)


def _tuples(values: Any) -> Any:
  """The values with lists (from JSON and flags) replaced by tuples."""
  if isinstance(values, Mapping):
    return {name: _tuples(value) for name, value in values.items()}
  return tuple(map(_tuples, values)) if isinstance(values, (list, tuple)) else values


def _refusal(model: type[pydantic.BaseModel], found: Any) -> InputError:
  """The first error of pydantic, as an InputError in gdlab's form."""
  place, given = '.'.join(map(str, found['loc'])), found['input']
  if found['type'] == 'extra_forbidden':
    return unknown_name('configuration key', place, _names(model))
  if found['type'] == 'missing':
    return InputError(f'{place} is missing in the configuration')
  message = ' '.join(found['msg'].removeprefix('Value error, ').removeprefix('Input ').split())
  if found['type'] == 'value_error' and isinstance(
    given, Mapping
  ):  # of several fields, which the message names
    return InputError(f'{place}.{message}'.removeprefix('.') + _values(message, given))
  near = difflib.get_close_matches(str(given), re.findall(r"'(.*?)'", message), n=1)
  hint = f'; did you mean {near[0]!r}?' if near and found['type'] == 'literal_error' else ''
  return InputError(f'{place} {message[0].lower()}{message[1:]}, got {shown(given)}{hint}')


def _values(message: str, given: Mapping[str, Any]) -> str:
  """The values of the fields that a message names."""
  found = []
  for name in dict.fromkeys(re.findall(r'[a-z]\w*(?:\.\w+)*', message)):
    value: Any = given
    for part in name.split('.'):
      value = value.get(part) if isinstance(value, Mapping) else None
    if value is not None and not isinstance(value, Mapping):
      found.append(f'{name}={shown(value)}')
  return f', got {", ".join(found)}' if found else ''


def _names(model: type[pydantic.BaseModel], prefix: str = '') -> list[str]:
  """The names of all fields, including those of nested models."""
  found = []
  for name, field in model.model_fields.items():
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
      found += _names(kind, f'{prefix}{name}.')
    else:
      found.append(f'{prefix}{name}')
  return found


def check_rules(rules: Mapping[str, bool]) -> None:
  """For validators of several fields: raises ValueError with the first rule (in words) that does not hold."""
  for rule, holds in rules.items():
    if not holds:
      raise ValueError(rule)


def ascending(values: tuple) -> tuple:
  """The values if each is above the one before it."""
  if list(values) != sorted(set(values)):
    raise ValueError('should ascend')
  return values


def different(values: tuple) -> tuple:
  """The values if no two are equal."""
  if len(set(values)) < len(values):
    raise ValueError('should be all different')
  return values


# Counts are int32, as JAX counts; no study asks for real numbers near float32's largest and least.
MOST, LARGEST, SMALLEST = 2**31 - 1, 1e9, 1e-30
# From 0.
Index = Annotated[int, pydantic.Field(ge=0, le=MOST)]
# From 1.
Count = Annotated[int, pydantic.Field(ge=1, le=MOST)]
# A finite number from 0.
NotNegative = Annotated[float, pydantic.Field(ge=0, le=LARGEST, allow_inf_nan=False)]
# A finite number above 0.
Positive = Annotated[float, pydantic.Field(gt=0, ge=SMALLEST, le=LARGEST, allow_inf_nan=False)]
# Between 0 and 1, neither of them.
Share = Annotated[float, pydantic.Field(gt=0, lt=1)]
# Counts, at least one.
Counts = Annotated[tuple[Count, ...], pydantic.Field(min_length=1)]
# Of a layer: wider ones fit into no memory.
Width = Annotated[int, pydantic.Field(ge=1, le=65_536)]
# Of the layers of a network, at least one.
Widths = Annotated[tuple[Width, ...], pydantic.Field(min_length=1)]
# Counts that ascend.
Sizes = Annotated[Counts, pydantic.AfterValidator(ascending)]
# Positive numbers that ascend, at least two.
Rising = Annotated[tuple[Positive, ...], pydantic.Field(min_length=2), pydantic.AfterValidator(ascending)]
# Positive numbers to try: at least two, all different.
Tried = Annotated[tuple[Positive, ...], pydantic.Field(min_length=2), pydantic.AfterValidator(different)]


class Seeds(Config):
  """The seeds of a study. A repeat is the whole study, tuning included, with other seeds.

  Attributes:
    first: id of the first seed; seeds of nine repeats must stay below the tuning seeds.
    count: the number of graded seeds.
    tuning: the number of tuning seeds, which are separate.
    repeats: the number of repeats, 0 to 9; the seeds of each begin 100,000 after the previous ones.
  """

  first: Annotated[int, pydantic.Field(ge=0, le=TUNING - 10 * APART)] = 0
  count: Annotated[int, pydantic.Field(ge=2, le=APART)] = 16
  tuning: Annotated[int, pydantic.Field(ge=1, le=APART)] = 3
  repeats: Annotated[int, pydantic.Field(ge=0, le=9)] = 1

  @property
  def ids(self) -> list[int]:
    """The seeds on which claims are graded."""
    return [self.first + number for number in range(self.count)]

  @property
  def for_tuning(self) -> list[int]:
    """The seeds on which hyperparameters are chosen, as in `gdlab.compare`."""
    return [TUNING + self.first + number for number in range(self.tuning)]
