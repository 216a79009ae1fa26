"""Exports parameters for tools that read Orbax checkpoints; gdlab itself reads its own result files."""

import contextlib
import glob
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import jax
import numpy as np

from gdlab.core.errors import InputError, shown
from gdlab.core.types import PyTree

KINDS = (
  'fciub'  # what NumPy calls floats, complex, whole and truth values; half precision and float8 are 'V' to it
)


NO_PATHS = ('://', '\0')  # of other machines, and what no system takes


def to_orbax(path: str | os.PathLike, tree: PyTree) -> pathlib.Path:
  """Writes a pytree of arrays as an Orbax checkpoint, atomically.

  A plain restore gives bitwise equal NumPy arrays, on any number of devices, but turns tuples into lists; a restore
  with a target, such as `jax.eval_shape(lambda: tree)`, also restores the types of nodes. The order of arguments is
  that of Orbax's `StandardCheckpointer.save`. gdlab itself does not read such folders.

  Example:
    >>> import gdlab, optax, tempfile
    >>> problem = gdlab.problems.quadratic([1.0, 0.5], start=[1.0, 1.0])
    >>> method = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(1.0))
    >>> result = gdlab.run(problem, method, num_steps=1, seeds=1, keep='params')
    >>> params, _ = gdlab.kept_params(problem, result.isel(seed=0))
    >>> import orbax.checkpoint as ocp
    >>> with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
    ...   checkpointer.restore(gdlab.to_orbax(f'{folder}/trained', {'params': params})).get('params').tolist()
    [0.0, 0.5]

  Args:
    path: a new folder on a local file system; its parent is created if it is missing.
    tree: a pytree with at least one array or number of a NumPy or JAX dtype, none of them empty. Typed random keys are
      refused, because their bits depend on JAX's implementation: pass `jax.random.key_data(key)`. Gather arrays that
      are distributed over several processes first.

  Returns:
    The folder's absolute path, as Orbax requires it.

  Raises:
    InputError: if `path` exists or cannot be written, or `tree` is not as above; the message names the array.
  """
  if not isinstance(path, str | os.PathLike) or not str(path) or any(part in str(path) for part in NO_PATHS):
    raise InputError(f'path must be that of a new folder on this machine, got {shown(path)}')
  place = pathlib.Path(os.path.abspath(path))
  if os.path.lexists(place):
    raise InputError(f'path must name a new folder, and {place} exists; checkpoints are never overwritten')
  arrays = jax.tree_util.tree_map_with_path(_array, tree)
  if not jax.tree.leaves(arrays):
    raise InputError(f'tree must hold at least one array, got {shown(tree)}')
  import orbax.checkpoint as ocp  # two seconds, which importing gdlab need not take

  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place.parent):
      pass  # or Orbax's threads would find out
    with _silent(), ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(place, arrays)
  except (OSError, ValueError, RuntimeError) as error:  # what Orbax, and the store below it, raise
    for remains in place.parent.glob(f'{glob.escape(place.name)}.orbax-checkpoint-tmp*'):
      shutil.rmtree(remains, ignore_errors=True)
    why = getattr(error, 'strerror', None) or ' '.join(str(error).split())[:200]
    raise InputError(f'cannot write {place}: {why}') from error
  return place


@contextlib.contextmanager
def _silent() -> Iterator[None]:
  """Suppresses Orbax's log of exceptions in its threads, which it raises anyway."""
  logger = logging.getLogger('absl')
  before = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    logger.setLevel(before)


def _array(path: tuple, leaf: object) -> np.ndarray:
  """A leaf on the host; raises InputError for leaves that Orbax would refuse later or not restore exactly."""
  name = f'tree{jax.tree_util.keystr(path)}'
  dtype = getattr(leaf, 'dtype', None)
  if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
    raise InputError(f'{name} must be an array of numbers, got a typed key; give jax.random.key_data of it')
  if isinstance(leaf, jax.core.Tracer):
    raise InputError(f'{name} must be an array with values, got one that is being traced')
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    raise InputError(f'{name} must be wholly on this process, got an array of several; gather it first')
  if dtype is None and not isinstance(leaf, bool | int | float | complex):
    raise InputError(f'{name} must be an array or a number, got {shown(leaf)}')
  array = np.asarray(leaf)
  if array.dtype.kind not in KINDS and not jax.dtypes.issubdtype(array.dtype, np.number):
    raise InputError(f'{name} must be an array of numbers, got one of dtype {array.dtype}')
  if not array.size:
    raise InputError(f'{name} must hold at least one number, as Orbax requires, got the shape {array.shape}')
  return array
