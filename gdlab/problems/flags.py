"""What a module's call is told of the mode and of the padding: the arguments, under their usual names or given ones."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gdlab.errors import InputError, shown
from gdlab.types import Array

# Names of Flax's own modules and of the field's, with their values in training mode; evaluation is the opposite.
USUAL = {
  'train': True,
  'training': True,
  'is_training': True,
  'deterministic': False,
  'use_running_average': False,
  'inference': False,
}
MASK = 'mask'


class Flags(NamedTuple):
  """What a module is told, hashable.

  Attributes:
    arguments: (name, value in training, value in evaluation) of arguments of its call.
    attributes: the same of attributes of the module itself, where the call has no such argument.
    mask: whether the call takes `mask`, bool[B], False on padding.
    given: whether the user named them; '' for the usual ones, 'none' for `flags={}`, else 'some'.
  """

  arguments: tuple[tuple[str, Any, Any], ...]
  attributes: tuple[tuple[str, Any, Any], ...]
  mask: bool
  given: str

  def call(self, *, train: bool, mask: Array) -> dict[str, Any]:
    """The arguments for one forward pass."""
    found = {name: values[not train] for name, *values in self.arguments}
    return found | ({MASK: mask} if self.mask else {})

  def set(self, *, train: bool) -> dict[str, Any]:
    """The attributes for one forward pass."""
    return {name: values[not train] for name, *values in self.attributes}


def find_flags(
  flags: Mapping[str, Any] | None, parameters: Iterable[str], attributes: Mapping[str, Any], anything: bool
) -> Flags:
  """The flags of a module.

  Args:
    flags: name -> value in training mode; a boolean has the opposite value in evaluation, a pair is the values in
      training and in evaluation. None for the usual names.
    parameters: of the module's call.
    attributes: of the module, with their values; under a usual name only True, False and None are a mode.
    anything: whether its call takes any further name (`**kwargs`).

  Raises:
    InputError: if `flags` is no such mapping, or names what the module does not have.
  """
  parameters = tuple(parameters)
  if flags is None:
    values = {name: (value, not value) for name, value in USUAL.items()}
    attributes = {
      name: value for name, value in attributes.items() if value is None or isinstance(value, bool)
    }
  else:
    values = _checked(flags)
  found: dict[bool, list[tuple[str, Any, Any]]] = {True: [], False: []}
  for name, (training, evaluation) in values.items():
    if name in parameters or name in attributes or (flags is not None and anything):
      found[name not in attributes or name in parameters].append((name, training, evaluation))
    elif flags is not None:
      known = sorted({*parameters, *attributes} - {'self', 'inputs', 'x'})
      near = difflib.get_close_matches(name, known, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise InputError(
        f"flags must name arguments of the module's call or its attributes, {shown(known)}, got {name!r}{hint}"
      )
  takes_mask = MASK in parameters and MASK not in values
  given = '' if flags is None else 'some' if flags else 'none'
  return Flags(tuple(found[True]), tuple(found[False]), takes_mask, given)


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
