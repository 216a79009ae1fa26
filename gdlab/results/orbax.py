"""Parameters for tools that read Orbax: an export, beside the files of results that gdlab reads itself."""

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
  """Writes a tree of arrays as an Orbax checkpoint, which appears whole or not at all.

  A plain restore gives the same bits as NumPy arrays, on any number of devices; one like a target, such as
  `jax.eval_shape(lambda: tree)`, gives its kinds of nodes back too, where Orbax otherwise makes lists of tuples. The
  order of arguments is that of Orbax's own `StandardCheckpointer.save`. gdlab itself does not read such folders.

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
    path: of a new folder on this machine's file systems; the folder that it lies in is made if it is missing.
    tree: a pytree of arrays or numbers of NumPy's and JAX's dtypes, none of them empty, at least one. Typed keys of
      random numbers are refused, as which bits they are depends on JAX's implementation: give
      `jax.random.key_data(key)`. An array shared out among several processes has to be gathered first.

  Returns:
    The folder's absolute path, which Orbax asks for.

  Raises:
    InputError: if there is something at `path`, it cannot be written, or `tree` is not as above; names the array.
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
  """Orbax logs what its threads raise, with its stack, and raises it too."""
  logger = logging.getLogger('absl')
  before = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    logger.setLevel(before)


def _array(path: tuple, leaf: object) -> np.ndarray:
  """A leaf on the host; raises InputError for what Orbax would refuse later, or would not give back as it was."""
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
    raise InputError(
      f'{name} must hold at least one number, which Orbax asks for, got the shape {array.shape}'
    )
  return array
