"""The arguments and attributes that set a module's mode and mask, under their usual names or given ones."""

import contextlib
import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array

# Names in Flax and other common ones, with their values in training mode; evaluation is the opposite.
USUAL = {
  'train': True,
  'training': True,
  'is_training': True,
  'deterministic': False,
  'use_running_average': False,
  'inference': False,
  'update_stats': True,
}
MASK = 'mask'


class Flags(NamedTuple):
  """How a module's mode and mask are set; hashable.

  Attributes:
    arguments: (name, value in training, value in evaluation) of arguments of its call.
    attributes: the same for attributes of the module itself, where the call has no such argument.
    mask: whether the call takes `mask`, bool[B], False on padding.
    given: whether the user named them: '' for the usual ones, 'none' for `flags={}`, else 'some'.
    switches: (name, default) of the other boolean arguments of the call.
  """

  arguments: tuple[tuple[str, Any, Any], ...]
  attributes: tuple[tuple[str, Any, Any], ...]
  mask: bool
  given: str
  switches: tuple[tuple[str, bool], ...]

  def call(self, *, train: bool, mask: Array) -> dict[str, Any]:
    """The arguments for one forward pass."""
    found = {name: values[not train] for name, *values in self.arguments}
    return found | ({MASK: mask} if self.mask else {})

  def names(self) -> list[str]:
    """The names of the arguments and attributes that set the mode."""
    return [name for name, *_ in (*self.arguments, *self.attributes)]

  def as_given(self) -> dict[str, Any]:
    """The argument `flags` that gives the same."""
    return {name: training for name, training, _ in (*self.arguments, *self.attributes)}

  def turned(self) -> 'Flags':
    """The flags with the values for training and evaluation exchanged."""
    turn = lambda told: tuple((name, evaluation, training) for name, training, evaluation in told)
    return self._replace(arguments=turn(self.arguments), attributes=turn(self.attributes))

  def told(self, name: str, training: bool) -> 'Flags':
    """The flags with one more argument."""
    return self._replace(arguments=(*self.arguments, (name, training, not training)))

  def set(self, *, train: bool) -> dict[str, Any]:
    """The attributes for one forward pass."""
    return {name: values[not train] for name, *values in self.attributes}


def find_flags(flags: Mapping[str, Any] | None, call: Callable, attributes: Mapping[str, Any]) -> Flags:
  """The flags of a module.

  Args:
    flags: in addition to the usual names, name -> value in training mode; a boolean has the opposite value in
      evaluation, a pair is the values in training and in evaluation. If it is empty, no mode is set.
    call: the module's.
    attributes: of the module, with their values; under a usual name only True, False and None are a mode.

  Raises:
    InputError: if `flags` is not such a mapping, or has a name that the module does not have.
  """
  parameters = inspect.signature(call).parameters
  anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
  values = {} if flags is not None and not flags else {name: (on, not on) for name, on in USUAL.items()}
  named = {} if flags is None else _checked(flags)
  arguments, owned = [], []
  for name, both in (values | named).items():
    # Under a usual name an attribute is a mode only if it is True, False or None.
    is_mode = name in attributes and (attributes[name] is None or isinstance(attributes[name], bool))
    if name in parameters or (name in named and anything and name not in attributes):
      arguments.append((name, *both))
    elif is_mode or (name in named and name in attributes):
      owned.append((name, *both))
    elif name in named:
      known = sorted({*parameters, *attributes} - {'self'})
      near = difflib.get_close_matches(name, known, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise InputError(
        f"flags must name arguments of the module's call or its attributes, {shown(known)}, got {name!r}{hint}"
      )
  takes_mask = MASK in parameters and MASK not in named
  given = 'none' if flags is not None and not flags else ''
  if any(training != evaluation for training, evaluation in named.values()):
    given = 'some'
  told = {name for name, *_ in arguments}
  switches = [
    (name, parameter.default)
    for name, parameter in parameters.items()
    if isinstance(parameter.default, bool) and name not in told
  ]
  return Flags(tuple(arguments), tuple(owned), takes_mask, given, tuple(switches))


@contextlib.contextmanager
def mode_named(name: str, flags: Flags) -> Iterator[None]:
  """Turns errors of a forward pass in evaluation whose cause is the mode into an InputError that names `flags`."""
  try:
    yield
  except Exception as error:
    text = str(error)
    missing = re.search(r"missing \d+ required [\w-]+ arguments?: '(\w+)'", text)
    changed = re.search(r'collection "(\w+)" is immutable', text)
    if missing:
      raise InputError(
        f'module {name} needs an argument {missing[1]} in its call: if it switches between training and evaluation, '
        f"give its value in training, as in flags={{'{missing[1]}': True}}"
      ) from error
    if not changed:
      raise
    cause = f'module {name} changes its {changed[1]} in evaluation, as BatchNorm does in training mode'
    if flags.given == 'some':
      advice = f'flags={flags.as_given()} may be the wrong way round: they are the values in training'
    elif flags.switches:
      advice = (
        f'name the argument that switches it, as in flags={dict(flags.switches[:1])}, its value in training'
      )
    else:
      advice = (
        "its call needs an argument such as train; one of another name is given as in flags={'is_fit': True}"
      )
    raise InputError(f'{cause}: {advice}') from error


def _checked(flags: Any) -> dict[str, tuple[Any, Any]]:
  if not isinstance(flags, Mapping) or not all(isinstance(name, str) for name in flags):
    raise InputError(f"flags must be a mapping such as {{'training': True}}, got {shown(flags)}")
  values: dict[str, tuple[Any, Any]] = {}
  for name, value in flags.items():
    if isinstance(value, bool):
      values[name] = (value, not value)
    elif isinstance(value, tuple) and len(value) == 2:
      values[name] = value
    elif value is None and name == MASK:
      values[name] = (None, None)
    else:
      raise InputError(
        f'flags[{name!r}] must be True or False, its value in training, or a pair of its values in training and in '
        f'evaluation, got {shown(value)}'
      )
    try:
      hash(values[name])
    except TypeError:
      raise InputError(f'flags[{name!r}] must be hashable, got {shown(value)}') from None
  return values
