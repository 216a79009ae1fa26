"""Bad values for arguments: from a valid value of each, what a user gives by mistake in its place."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

import gdlab

HUGE = 10**12  # of a count: no machine holds as many


@dataclasses.dataclass(frozen=True)
class Call:
  """One valid call of a public function.

  Attributes:
    make: the keyword arguments, made anew for each call.
    use: what a user then does with the result, so that a bad argument which a sampler only keeps is seen as well.
    double: whether it computes in float64 alone.
  """

  make: Callable[[], Mapping[str, Any]]
  use: Callable[[Any], Any] = lambda result: result
  double: bool = False


def listed(table: Mapping[str, str], name: str, argument: str) -> list[str]:
  """The kinds that a table has for an argument: its entries are 'argument: kind kind; argument: kind'."""
  pairs = (part.split(':') for part in table.get(name, '').split(';') if part.strip())
  return {words.strip(): kinds.split() for words, kinds in pairs}.get(argument, [])


class NoNumber:
  """Equal to nothing, usable as nothing."""

  def __repr__(self) -> str:
    return '<NoNumber>'


def bad_values(valid: Any) -> Iterator[tuple[str, Any]]:
  """Every kind of bad value for an argument, by the name of its kind."""
  yield 'none', None
  yield 'list', [1, 'x']
  yield 'dict', {'wrong': np.ones(3, np.float32)}
  yield 'object', NoNumber()
  yield 'complex', 1 + 2j
  if isinstance(valid, str):
    yield 'misspelt', valid[:-1] + 'xx'
    yield 'number', 3
    return
  yield 'string', 'five'
  if isinstance(valid, bool):
    yield 'number', 2
    yield 'nan', np.nan
  elif isinstance(valid, (int, float, np.integer, np.floating)):
    yield from _bad_numbers(isinstance(valid, (int, np.integer)))
  elif is_key(valid):
    yield 'number', 3
    yield 'several', jax.random.split(jax.random.key(1), 2)
    yield 'floats', np.ones(2, np.float32)
  elif is_array(valid):
    yield from _bad_arrays(np.asarray(valid))
  else:
    yield 'number', 3
    yield 'nan', np.nan
    yield 'empty', ()
    # What gdlab or Optax made as a whole has no shapes for a user to get wrong.
    ours = isinstance(valid, (gdlab.Problem, gdlab.State, gdlab.EstimateInfo, gdlab.Batch))
    if not ours and jax.tree.leaves(valid) and all(hasattr(leaf, 'shape') for leaf in jax.tree.leaves(valid)):
      yield 'shapes', jax.tree.map(lambda leaf: np.ones((*leaf.shape, 3), np.float32), valid)


def is_key(value: Any) -> bool:
  return isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_array(value: Any) -> bool:
  if isinstance(value, (list, tuple)) and not hasattr(value, '_fields'):
    return (
      bool(value)
      and all(isinstance(part, (int, float, list, tuple)) and not is_key(part) for part in value)
      and (all(isinstance(part, (int, float)) or is_array(part) for part in value))
    )
  return isinstance(value, (np.ndarray, jax.Array))


def _bad_numbers(whole: bool) -> Iterator[tuple[str, Any]]:
  yield 'bool', True
  yield 'nan', np.nan
  yield 'inf', np.inf
  yield '-inf', -np.inf
  yield 'negative', -3
  yield 'zero', 0
  yield 'array', np.ones(7)
  yield 'empty', np.ones(0)
  if whole:
    yield 'large', HUGE
    yield 'half', 0.5


def _bad_arrays(valid: np.ndarray) -> Iterator[tuple[str, Any]]:
  yield 'empty', valid.reshape(-1)[:0]
  yield 'rank', np.ones((2, 3, 2, 2), valid.dtype)
  yield 'shape', np.ones((7, *valid.shape[1:]), valid.dtype)
  yield 'text', np.full(valid.shape, 'x')
  yield 'objects', np.full(valid.shape, NoNumber())
  yield 'complexes', valid + 2j
  if valid.dtype.kind in 'fi':
    spoiled = np.array(valid, float)
    for kind, value in (('nan', np.nan), ('inf', np.inf), ('-inf', -np.inf)):
      spoiled.flat[-1] = value
      yield kind, spoiled.copy()
    yield 'negative', -np.abs(valid) - 1
    yield 'zeros', np.zeros_like(valid)
