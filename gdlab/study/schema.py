"""What a study's configuration may be: a pydantic model, whose refusals are one line."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import ml_collections
import pydantic

from gdlab.comparison.comparing import TUNING
from gdlab.core.errors import InputError, shown, unknown_name

_Model = TypeVar('_Model', bound='Config')


class Config(pydantic.BaseModel):
  """A configuration: every field has a type that says what it may be, and a default value.

  Example:
    >>> class Settings(Config):
    ...   hidden: Counts = (64,)
    ...   rate: Positive = 0.1
    >>> Settings.checked({'rate': 0.2}).rate
    0.2
  """

  model_config = pydantic.ConfigDict(extra='forbid', frozen=True)

  @classmethod
  def checked(cls: type[_Model], values: Mapping[str, Any]) -> _Model:
    """The configuration of these values, and the defaults of others.

    Raises:
      InputError: one line with the first field that is not what it may be: its name, its value and what is allowed.
    """
    try:
      return cls(**values)
    except pydantic.ValidationError as error:
      raise _refusal(cls, error.errors()[0]) from None

  @classmethod
  def defaults(cls) -> ml_collections.ConfigDict:
    """The default values, as flags change them."""
    return ml_collections.ConfigDict(cls().model_dump(), convert_dict=True)


def _refusal(model: type[pydantic.BaseModel], found: Any) -> InputError:
  """The first complaint of pydantic, in the words of the house."""
  place = '.'.join(map(str, found['loc']))
  if found['type'] == 'extra_forbidden':
    return unknown_name('configuration key', place, _names(model))
  message = found['msg'].removeprefix('Value error, ').removeprefix('Input ')
  name = f'{place} ' if place else ''
  return InputError(f'{name}{message[0].lower()}{message[1:]}, got {shown(found["input"])}')


def _names(model: type[pydantic.BaseModel], prefix: str = '') -> list[str]:
  """The names of all fields, sections included."""
  found = []
  for name, field in model.model_fields.items():
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
      found += _names(kind, f'{prefix}{name}.')
    else:
      found.append(f'{prefix}{name}')
  return found


def _ascending(values: tuple) -> tuple:
  if list(values) != sorted(set(values)):
    raise ValueError('should ascend')
  return values


Count = pydantic.PositiveInt
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, pydantic.Field(gt=0, lt=1)]
Counts = Annotated[tuple[Count, ...], pydantic.Field(min_length=1)]
Rising = Annotated[tuple[Positive, ...], pydantic.Field(min_length=2), pydantic.AfterValidator(_ascending)]


class Seeds(Config):
  """Two disjoint sets of seeds for the verdicts, each with tuning seeds of its own.

  Attributes:
    first: the first id of each set.
    count: seeds in a set.
    tuning: seeds on which trials are chosen, for each set.
  """

  first: tuple[pydantic.NonNegativeInt, pydantic.NonNegativeInt] = (0, 100_000)
  count: Annotated[int, pydantic.Field(ge=2)] = 16
  tuning: Count = 3

  @pydantic.model_validator(mode='after')
  def _disjoint(self) -> 'Seeds':
    low, high = sorted(self.first)
    if high < low + max(self.count, self.tuning):
      raise ValueError('should be two sets of seeds that do not overlap')
    return self

  def ids(self, group: int) -> list[int]:
    """The seeds of a set, 0 or 1."""
    return [self.first[group] + number for number in range(self.count)]

  def for_tuning(self, group: int) -> list[int]:
    """Those on which its trials are chosen, as in `gdlab.compare`."""
    return [TUNING + self.first[group] + number for number in range(self.tuning)]
