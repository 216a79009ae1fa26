"""The checks that `gdlab.core.arguments.checked` makes: of numbers, arrays, names, functions, pytrees."""

import math
import numbers
import typing
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from gdlab.core.errors import InputError, check_count, check_real, shown, unknown_name

# Raises InputError for an argument of this name and value; the last is every argument of the call by name.
Check: typing.TypeAlias = Callable[[str, Any, Mapping[str, Any]], None]

LARGEST_COUNT = 2**31 - 1  # JAX counts in int32


def count(minimum: int = 1, maximum: int = LARGEST_COUNT) -> Check:
  """A whole number within bounds, or an array of one; of a tracer the type alone is checked."""

  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    check_count(name, value, minimum=minimum, maximum=maximum, traced=True)

  return check


def real(
  *,
  above: float = -math.inf,
  below: float = math.inf,
  minimum: float | None = None,
  maximum: float | None = None,
  infinite: bool = False,
) -> Check:
  """A real number within bounds, or an array of one; of a tracer the type alone is checked."""

  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    if isinstance(value, jax.core.Tracer):
      return _check_traced_number(name, value)
    if infinite and isinstance(value, numbers.Real) and math.isinf(value):
      return None
    check_real(name, value, above=above, below=below, minimum=minimum, maximum=maximum)

  return check


def array(
  *,
  ndim: int | tuple[int, ...] | None = None,
  above: float = -math.inf,
  minimum: float = -math.inf,
  finite: bool = True,
  whole: bool = False,
  empty: bool = False,
  flags: bool = False,
) -> Check:
  """An array of real numbers, or what NumPy converts to one: nested sequences, an `xarray.DataArray`.

  Args:
    ndim: the number of axes, or a tuple of allowed numbers.
    above: exclusive lower bound of every entry.
    minimum: inclusive lower bound of every entry.
    finite: whether NaN and infinities are refused; if not, only the bounds are checked, and NaN passes.
    whole: whether the dtype must be an integer type.
    empty: whether the array may be empty.
    flags: whether booleans count as numbers.
  """
  ranks = (ndim,) if isinstance(ndim, int) else ndim
  bounds = f' > {above:g}' * (above > -math.inf) + f' >= {minimum:g}' * (minimum > -math.inf)
  kind = f'{"finite " * finite}{"whole" if whole else "real"} numbers{bounds}'
  allowed = kind if ranks is None else f'{kind} of {" or ".join(map(str, ranks))} dimensions'

  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    given = as_array(name, value, allowed)
    dtype = given.dtype
    right = jax.dtypes.issubdtype(dtype, np.integer) if whole else is_real(dtype, flags=flags)
    if not right or (ranks is not None and given.ndim not in ranks):
      raise InputError(
        f'{name} must be {allowed}, got {shown(value)} of dtype {dtype} and shape {given.shape}'
      )
    if not given.size and not empty:
      raise InputError(f'{name} must be {allowed}, at least one, got none (shape {given.shape})')
    if isinstance(given, jax.core.Tracer):
      return
    concrete = np.asarray(given).astype(np.float64)
    wrong = concrete < minimum
    if above > -math.inf:
      wrong |= concrete <= above
    if finite:
      wrong |= ~np.isfinite(concrete)
    if wrong.any():
      place = np.argwhere(wrong)[0].tolist()
      where = f' at {place}' if place else ''
      raise InputError(f'{name} must be {allowed}, got {concrete[tuple(place)]:g}{where}')

  return check


def one_of(*names: str, what: str) -> Check:
  """One of these names; the message for any other suggests the nearest."""

  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    if not isinstance(value, str):
      raise InputError(f'{name} must be one of {", ".join(map(repr, names))}, got {shown(value)}')
    if value not in names:
      raise unknown_name(f'{what} ({name})', value, names)

  return check


def at_most_int32(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """Any value except a whole number too large for int32; the function checks the rest itself."""
  if isinstance(value, numbers.Integral) and int(value) > LARGEST_COUNT:
    raise InputError(f'{name} must be at most {LARGEST_COUNT}, got {shown(value)}')


def optional(check: Check) -> Check:
  """What `check` allows, or None."""
  return lambda name, value, arguments: None if value is None else check(name, value, arguments)


def callable_or(check: Check) -> Check:
  """A function, such as a schedule in place of a rate, or what `check` allows."""
  return lambda name, value, arguments: None if callable(value) else check(name, value, arguments)


def each(check: Check, *, length: int | None = None, empty: bool = False) -> Check:
  """A sequence of what `check` allows."""

  def check_all(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    check_sequence(name, value, arguments)
    if (length is not None and len(value) != length) or not (len(value) or empty):
      wanted = 'at least 1' if length is None else f'{length}'
      raise InputError(f'{name} must have {wanted} entries, got {len(value)}: {shown(value)}')
    for place, part in enumerate(value):
      check(f'{name}[{place}]', part, arguments)

  return check_all


def each_value(check: Check, *, empty: bool = False) -> Check:
  """A mapping from names to what `check` allows."""

  def check_all(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    check_mapping(name, value, arguments)
    if not value and not empty:
      raise InputError(f'{name} must have at least one entry, got {shown(value)}')
    for key, part in value.items():
      if not isinstance(key, str):
        raise InputError(f'{name} must have names as keys, got {shown(key)}')
      check(f'{name}[{key!r}]', part, arguments)

  return check_all


def tree(*, finite: bool = False, whole: bool = False) -> Check:
  """A pytree of at least one array of numbers."""
  leaf_check = array(finite=finite, empty=True, flags=True)

  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(value)
    if not leaves:
      raise InputError(f'{name} must be a pytree of arrays of real numbers, got {shown(value)}')
    for path, leaf in leaves:
      where = f'{name}{jax.tree_util.keystr(path)}'
      dtype = getattr(leaf, 'dtype', None)
      is_shape = isinstance(leaf, jax.ShapeDtypeStruct) and is_real(leaf.dtype, flags=True)
      is_complex = dtype is not None and jax.dtypes.issubdtype(dtype, np.complexfloating)
      if not is_shape and not is_complex:
        leaf_check(where, leaf, arguments)

  return check


def as_array(name: str, value: Any, allowed: str) -> Any:
  """`value` as an array, tracers unchanged; raises InputError if NumPy cannot convert it."""
  if isinstance(value, jax.Array):
    return value
  if value is None or isinstance(value, (str, bytes, Mapping, set)):
    raise InputError(f'{name} must be {allowed}, got {shown(value)}')
  try:
    return np.asarray(value)
  except Exception as error:  # whatever an object's own __array__ raises
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise InputError(f'{name} must be {allowed}, got {shown(value)}: {reason}') from None


def is_real(dtype: Any, *, flags: bool = False) -> bool:
  """Whether a dtype is real: a float of any width or an integer, with `flags` also bool."""
  kinds = (np.floating, np.integer, np.bool_)[: 3 if flags else 2]
  return any(jax.dtypes.issubdtype(dtype, kind) for kind in kinds)


def _check_traced_number(name: str, value: Any) -> None:
  if not is_real(value.dtype):
    raise InputError(f'{name} must be a real number, got an array of dtype {value.dtype}')


def check_key(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """One random key, new-style (typed) or legacy (uint32)."""
  dtype = getattr(value, 'dtype', None)
  is_key = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) and value.shape == ()
  is_old = dtype == np.uint32 and value.ndim == 1 and value.size in (2, 4)
  if not (is_key or is_old):
    of = '' if dtype is None else f' of dtype {dtype} and shape {value.shape}'
    raise InputError(
      f'{name} must be one random key, as jax.random.key(0) makes it, got {_flat(shown(value))}{of}'
    )


def _flat(text: str) -> str:
  return ' '.join(text.split())


def check_seed(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """A whole number >= 0, or a random key."""
  dtype = getattr(value, 'dtype', None)
  if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
    return check_key(name, value, arguments)
  count(0)(name, value, arguments)


def check_whole(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """A whole number of either sign."""
  try:
    check_count(name, value, minimum=-LARGEST_COUNT, maximum=LARGEST_COUNT, traced=True)
  except InputError:
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    allowed = f'a whole number of at most {LARGEST_COUNT}' if is_whole else 'a whole number'
    raise InputError(f'{name} must be {allowed}, got {shown(value)} of type {type(value).__name__}') from None


def check_finite(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """A finite real number."""
  try:
    real()(name, value, arguments)
  except InputError:
    raise InputError(f'{name} must be a finite real number, got {shown(value)}') from None


def check_flag(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """True or False."""
  if not isinstance(value, (bool, np.bool_)) and not (
    getattr(value, 'dtype', None) == np.bool_ and getattr(value, 'shape', None) == ()
  ):
    raise InputError(f'{name} must be True or False, got {shown(value)}')


def check_callable(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """A function, or any object that can be called."""
  if not callable(value):
    raise InputError(f'{name} must be a function, got {shown(value)} of type {type(value).__name__}')


def check_mapping(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """A mapping."""
  if not isinstance(value, Mapping):
    raise InputError(f'{name} must be a mapping, got {shown(value)} of type {type(value).__name__}')


def check_sequence(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """A sequence other than a string."""
  is_array = isinstance(value, (np.ndarray, jax.Array)) and value.ndim > 0
  is_other = hasattr(value, '__len__') and hasattr(value, '__getitem__') and not hasattr(value, 'shape')
  if isinstance(value, (str, bytes, Mapping)) or not (is_array or is_other):
    raise InputError(f'{name} must be a sequence, got {shown(value)} of type {type(value).__name__}')


def check_iterable(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """An iterable other than a string."""
  if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
    raise InputError(f'{name} must be a sequence, got {shown(value)} of type {type(value).__name__}')


def is_a(kind: type) -> Check:
  """An instance of a class."""
  called = f'{"an" if kind.__name__[0] in "AEIOU" else "a"} {kind.__name__}'
  if kind.__name__ == 'Problem':
    called = 'a gdlab Problem such as gdlab.problems.digits()'

  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    if not isinstance(value, kind):
      raise InputError(f'{name} must be {called}, got {shown(value)} of type {type(value).__name__}')

  return check


_forms: 'weakref.WeakKeyDictionary[Any, Any]' = weakref.WeakKeyDictionary()


def _form(problem: Any) -> Any:
  """Shapes of what `problem.init` returns, by path, for params and model_state, and whether each is complex.

  None if `problem.init` cannot be traced.
  """
  try:
    if problem.init not in _forms:
      with (
        jax.ensure_compile_time_eval()
      ):  # within a traced function it would leave operations of the key behind
        made = jax.eval_shape(problem.init, jax.random.key(0))
      is_complex = [
        any(jax.dtypes.issubdtype(leaf.dtype, np.complexfloating) for leaf in jax.tree.leaves(part))
        for part in made
      ]
      _forms[problem.init] = (*(_shapes(part) for part in made), is_complex)
    return _forms[problem.init]
  except Exception:  # a user's init may raise anything, and says so where it is called
    return None


def _dtype(leaf: Any) -> Any:
  return getattr(leaf, 'dtype', None) or np.result_type(type(leaf))


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(value)
  return {jax.tree_util.keystr(path, simple=True, separator='.'): np.shape(leaf) for path, leaf in leaves}


def _like_init(part: int) -> Check:
  """A pytree with the structure and shapes that `problem.init` returns, for the `problem` of the same call."""

  def check(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
    problem = arguments.get('problem')
    if not part:
      tree()(name, value, arguments)
    form = None if problem is None else _form(problem)
    if form is None:
      return
    given, wanted = _shapes(value), form[part]
    is_complex = any(
      jax.dtypes.issubdtype(_dtype(leaf), np.complexfloating) for leaf in jax.tree.leaves(value)
    )
    if is_complex and not form[2][part]:
      raise InputError(f'{name} must be real numbers, as those of problem.init, got {shown(value)}')
    if given != wanted:
      raise InputError(
        f'{name} must have the shapes of problem.init, {_brief(wanted)}, got {_brief(given)} ({shown(value)})'
      )

  return check


def _brief(shapes: Mapping[str, tuple[int, ...]]) -> str:
  text = ', '.join(f'{path or "one array"} {list(shape)}' for path, shape in shapes.items())
  return text if len(text) <= 200 else f'{text[:197]}...' if text else 'no arrays'


params_of_problem = _like_init(0)
state_of_problem = _like_init(1)


def anything(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """Any value."""
