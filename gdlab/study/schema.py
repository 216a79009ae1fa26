"""What a study's configuration may be: a pydantic model, whose refusals are one line."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import ml_collections
import pydantic

from gdlab.comparison.comparing import TUNING
from gdlab.core.errors import InputError, shown, unknown_name

_Model = TypeVar('_Model', bound='Config')

APART = 100_000  # seeds between the first ones of a study and of its repeat


class Config(pydantic.BaseModel):
  """A configuration: every field has a type that says what it may be, and a default value.

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
    """The configuration of these values, and the defaults of others.

    Raises:
      InputError: one line with the first field that is not what it may be: its name, its value and what is allowed.
    """
    try:
      return cls.model_validate(_tuples(values))
    except pydantic.ValidationError as error:
      raise _refusal(cls, error.errors()[0]) from None

  def again(self: _Model, number: int) -> _Model:
    """The configuration of a repeat of the study: the same with other seeds, a field `seeds: Seeds`."""
    seeds: Seeds = self.seeds  # type: ignore[attr-defined]
    return self.model_copy(update={'seeds': seeds.model_copy(update={'first': seeds.first + number * APART})})

  @classmethod
  def defaults(cls) -> ml_collections.ConfigDict:
    """The default values, as flags change them."""
    return ml_collections.ConfigDict(cls().model_dump(), convert_dict=True)


def _tuples(values: Any) -> Any:
  """The same with tuples for lists, which JSON and flags give."""
  if isinstance(values, Mapping):
    return {name: _tuples(value) for name, value in values.items()}
  return tuple(map(_tuples, values)) if isinstance(values, (list, tuple)) else values


def _refusal(model: type[pydantic.BaseModel], found: Any) -> InputError:
  """The first complaint of pydantic, in the words of the house."""
  place = '.'.join(map(str, found['loc']))
  if found['type'] == 'extra_forbidden':
    return unknown_name('configuration key', place, _names(model))
  if found['type'] == 'missing':
    return InputError(f'{place} is missing in the configuration')
  message = found['msg'].removeprefix('Value error, ').removeprefix('Input ')
  if not place:  # of several fields together, which the message names
    return InputError(message)
  return InputError(f'{place} {message[0].lower()}{message[1:]}, got {shown(found["input"])}')


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


def ascending(values: tuple) -> tuple:
  """The values if each is above the one before it."""
  if list(values) != sorted(set(values)):
    raise ValueError('should ascend')
  return values


def _different(values: tuple) -> tuple:
  if len(set(values)) < len(values):
    raise ValueError('should be all different')
  return values


# Counts are int32, as JAX counts; no study asks for real numbers near float32's largest and least.
MOST, LARGEST, SMALLEST = 2**31 - 1, 1e9, 1e-30
Index = Annotated[int, pydantic.Field(ge=0, le=MOST)]
Count = Annotated[int, pydantic.Field(ge=1, le=MOST)]
NotNegative = Annotated[float, pydantic.Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Positive = Annotated[float, pydantic.Field(gt=0, ge=SMALLEST, le=LARGEST, allow_inf_nan=False)]
Share = Annotated[float, pydantic.Field(gt=0, lt=1)]
Counts = Annotated[tuple[Count, ...], pydantic.Field(min_length=1)]
Sizes = Annotated[Counts, pydantic.AfterValidator(ascending)]
Rising = Annotated[tuple[Positive, ...], pydantic.Field(min_length=2), pydantic.AfterValidator(ascending)]
# What is tried: at least two, all different, so that the best can be told from an end.
Tried = Annotated[tuple[Positive, ...], pydantic.Field(min_length=2), pydantic.AfterValidator(_different)]


class Seeds(Config):
  """The seeds of a study. It is repeated with others, its tuning with it; a repeat is the study with other seeds.

  Attributes:
    first: id of the first seed.
    count: how many there are.
    tuning: seeds on which trials are chosen, apart from them.
    repeats: how often the whole study is done again, 0 to 9; each repeat's seeds begin 100,000 later.
  """

  first: Index = 0
  count: Annotated[int, pydantic.Field(ge=2, le=APART)] = 16
  tuning: Annotated[int, pydantic.Field(ge=1, le=APART)] = 3
  repeats: Annotated[int, pydantic.Field(ge=0, le=9)] = 1

  @property
  def ids(self) -> list[int]:
    """The seeds that claims are graded on."""
    return [self.first + number for number in range(self.count)]

  @property
  def for_tuning(self) -> list[int]:
    """Those on which trials are chosen, as in `gdlab.compare`."""
    return [TUNING + self.first + number for number in range(self.tuning)]
