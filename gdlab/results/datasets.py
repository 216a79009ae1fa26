"""Records of a sweep as an `xarray.Dataset`, with their provenance."""

import functools
import pathlib
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Streams
from gdlab.host import machine

RUNNING, DIVERGED, STOPPED = 0, 1, 2
STATUS_MEANINGS = ('running', 'diverged', 'stopped')  # names of the codes above, in order

DIAGNOSTICS = ('batch_loss', 'grad_norm', 'update_norm', 'param_norm')  # of every record
TRIAL = 'trial'  # the dim of points that are not a grid
ENDS_DIFFER = 'ends_differ'  # an attribute of `step` where some runs end before its last value

ATTRIBUTES = {
  'batch_loss': 'mean loss of the last batch, before its update',
  'grad_norm': 'Euclidean norm of the last gradient estimate',
  'update_norm': 'Euclidean norm of the last update',
  'param_norm': 'Euclidean norm of the parameters',
  'status': 'what became of the run',
  'updates': 'updates made',
  'examples': 'training examples drawn',
  'gradient_evaluations': 'per-example gradients computed',
  'epoch': 'examples drawn over examples in the training set',
}


# Scikit-learn splits the digits, NumPy and SciPy draw and make data.
VERSIONS = ('jax', 'jaxlib', 'optax', 'flax', 'numpy', 'scipy', 'scikit-learn', 'gdlab')

RESERVED = {*ATTRIBUTES, 'seed', 'step', 'lane', TRIAL, *(f'{stream}_seed' for stream in Streams._fields)}


def check_names(kind: str, names: Iterable[str]) -> None:
  """Raises InputError if a name is not a string, or one that every result has."""
  for name in names:
    if not isinstance(name, str):
      raise InputError(f'{kind} must have a string for a name, got {shown(name)}')
    if name in RESERVED:
      raise InputError(f'{kind} must have a name that results do not use themselves, got {shown(name)}')


def to_dataset(
  variables: Mapping[str, xr.Variable],
  *,
  axes: Mapping[str, Sequence[Any]],
  trials: Mapping[str, tuple[str, Sequence[Any]]],
  ids: np.ndarray,
  steps: np.ndarray,
  attributes: Mapping[str, Any],
) -> xr.Dataset:
  """Builds the result of a sweep.

  Args:
    variables: with dims (*axes, seed, step, the value's own ...), without `step` for final values.
    axes: the dims of the points and their values.
    trials: further coordinates, each along one of these dims.
    ids: int[S, 3], the stream ids of every seed.
    steps: int[T], the updates after which records were made.
    attributes: stored with the dataset. Several numbers in `num_steps` mean that runs end at different steps.
  """
  coordinates: dict[str, Any] = {name: storable(values) for name, values in axes.items()}
  note = {ENDS_DIFFER: 'each run up to its own updates'} if np.ndim(attributes.get('num_steps', 0)) else {}
  coordinates |= {'seed': _run_names(ids), 'step': ('step', steps, note)} | dict(trials)
  coordinates |= {f'{stream}_seed': ('seed', ids[:, column]) for column, stream in enumerate(Streams._fields)}
  return xr.Dataset(dict(variables), coordinates, dict(attributes))


def labelled(values: Mapping[str, np.ndarray], dims: tuple[str, ...]) -> dict[str, xr.Variable]:
  """Arrays as variables with these dims, then `<name>_0`, `<name>_1`, ... for their own axes."""
  return {
    name: xr.Variable(
      (*dims, *(f'{name}_{number}' for number in range(value.ndim - len(dims)))), value, describe(name)
    )
    for name, value in values.items()
  }


def describe(name: str) -> dict[str, Any]:
  """The attributes of a variable."""
  if name not in ATTRIBUTES:
    return {}
  codes = {
    'flag_values': np.arange(len(STATUS_MEANINGS), dtype=np.int8),
    'flag_meanings': ' '.join(STATUS_MEANINGS),
  }
  return {'long_name': ATTRIBUTES[name]} | (codes if name == 'status' else {})


@checked
def provenance() -> dict[str, str]:
  """What could make results differ, as attributes that NetCDF can hold: strings, none of them empty.

  Versions, device, backend and git revision, and from `gdlab.host.machine.conditions` the machine and JAX's settings:
  XLA's flags, float64, precision of matrix products, random numbers, devices, threads, the CPU's model.
  """
  versions = {f'version_{name.replace("-", "_")}': _version(name) for name in VERSIONS}
  return (
    versions
    | machine.conditions()
    | {
      'version_python': platform.python_version(),
      'device': jax.devices()[0].device_kind,
      'backend': jax.default_backend(),
      'git_revision': _git_revision(),
    }
  )


@functools.cache  # reading a package's metadata takes a millisecond
def _version(distribution: str) -> str:
  """The installed version, 'unknown' for a package imported from a checkout without being installed."""
  try:
    return metadata.version(distribution)
  except metadata.PackageNotFoundError:
    return 'unknown'


def _run_names(ids: np.ndarray) -> np.ndarray:
  """The seed ids if all three streams of each run share them; otherwise the numbers of the runs."""
  return ids[:, 0] if (ids == ids[:, :1]).all() else np.arange(len(ids))


def storable(values: Sequence[Any]) -> list[Any]:
  """Values in a form that files can store: numbers and strings unchanged, other objects by name."""
  plain = all(isinstance(value, bool | int | float | str | np.number) for value in values)
  return list(values) if plain else [_name(value) for value in values]


def _name(value: Any) -> str:
  """A name that is the same in every process: a function's qualified name, or `str` without memory addresses."""
  if callable(value) and hasattr(value, '__qualname__'):
    return f'{value.__module__}.{value.__qualname__}'
  return re.sub(r' at 0x[0-9a-f]+', '', str(value))


@functools.cache  # the code that runs is the code that was imported
def _git_revision() -> str:
  """The revision of the checkout that gdlab runs from, 'unknown' for an installed package."""
  folder = pathlib.Path(__file__).parent
  try:
    answer = subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=12'],
      cwd=folder,
      capture_output=True,
      text=True,
      check=True,
    )
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'
  return answer.stdout.strip()
