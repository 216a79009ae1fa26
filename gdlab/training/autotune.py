"""Makes the choices that a plan leaves open: by rule, or where no rule is known by a short timed trial."""

import contextlib
import functools
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np

from gdlab.core.errors import check_count
from gdlab.core.leaves import named
from gdlab.core.types import Algorithm, Array, Problem, PyTree
from gdlab.host import checksums, memory
from gdlab.training.checks import check_kept, check_probes, explained
from gdlab.training.lane import Probe
from gdlab.training.programs import made

# Measured on CPUs with multilayer perceptrons, in parameters x examples per update. Below the first, one update
# is so little work that 64 lanes under vmap take less than half the time of one after another; above the second
# a lane alone fills the machine and vmap costs up to twice as much; between them either may win, by up to 1.6.
SMALL, LARGE = 1_000, 30_000
WIDE, MIDDLE = 64, 16
LONG = 60.0  # seconds of estimated work from which on a trial or more compilations, of some seconds, pay

WIDEST = 4096  # lanes under one vmap on an accelerator

_remembered: dict[str, int] = {}
_folder: list[pathlib.Path] = []


class Footprint(NamedTuple):
  """What is known about a lane before it is run.

  Attributes:
    size: parameters x examples of an update.
    num_bytes: the size of its carried state.
    signature: the shapes and dtypes of its state, batch and problem.
    probes: the shape of every array that the probes return.
    convolves: whether an update contains a convolution.
  """

  size: int
  num_bytes: int
  signature: str
  probes: Mapping[str, tuple[int, ...]] = {}
  convolves: bool = False


def footprint(
  factory: Algorithm | Callable[..., Algorithm],
  structure: tuple[tuple[str, Any], ...],
  problem: Problem,
  names: Iterable[str] = (),
  probes: tuple[tuple[str, Probe], ...] = (),
  params: PyTree = None,
) -> Footprint:
  """The cost of an algorithm's update on a problem, found by tracing, without computing anything.

  Args:
    factory: see `Program`; the result is cached, so an equal sweep is not traced again.
    structure: see `Program`.
    problem: the problem to run on.
    names: the traced hyperparameters.
    probes: functions that are evaluated with the metrics.
    params: the initial parameters; None for the problem's own.

  Raises:
    InputError: if the algorithm does not fit the problem.
  """
  leaves, treedef = jax.tree.flatten(jax.eval_shape(lambda: (problem, params)))
  shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
  dtype = jax.dtypes.canonicalize_dtype(float)
  return _footprint(factory, structure, treedef, shapes, tuple(names), probes, dtype)


@functools.lru_cache(maxsize=256)
def _footprint(
  factory: Algorithm | Callable[..., Algorithm],
  structure: tuple[tuple[str, Any], ...],
  treedef: jax.tree_util.PyTreeDef,
  shapes: tuple[jax.ShapeDtypeStruct, ...],
  names: tuple[str, ...],
  probes: tuple[tuple[str, Probe], ...],
  dtype: np.dtype,
) -> Footprint:
  update: list[Any] = []

  def begun(problem: Problem, params: PyTree, numbers: dict[str, Array]) -> tuple[PyTree, PyTree, PyTree]:
    with explained(names):
      algorithm = made(factory, structure, numbers)
    state = algorithm.init(jax.random.key(0), problem, params)
    update[:] = jax.make_jaxpr(algorithm.step, return_shape=True)(state, problem)
    batch, _ = algorithm.sampler.sample(state.sampler)
    probed = {name: probe(problem, state) for name, probe in probes}
    check_probes(probed)
    return state, batch, named(probed)

  problem, params = jax.tree.unflatten(treedef, shapes)
  numbers = {name: jax.ShapeDtypeStruct((), dtype) for name in names}
  state, batch, probed = jax.eval_shape(begun, problem, params, numbers)
  traced, (moved, _) = update
  check_kept(state, moved)
  parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  described = [f'{leaf.dtype}{leaf.shape}' for leaf in jax.tree.leaves((state, batch, problem))]
  return Footprint(
    size=parameters * batch.weights.shape[0],
    num_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
    signature=' '.join(described),
    probes={name: value.shape for name, value in probed.items()},
    convolves=_has(traced.jaxpr, 'conv_general_dilated'),
  )


def _has(jaxpr: Any, primitive: str) -> bool:
  """Whether a traced function contains a primitive."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == primitive:
      return True
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, 'eqns')):
      inner = getattr(inner, 'jaxpr', inner)
      if hasattr(inner, 'eqns') and _has(inner, primitive):
        return True
  return False


def lanes_at_once(
  found: Footprint, lanes_per_shard: int, num_steps: int, trial: Callable[[int, int], float]
) -> int:
  """How many lanes a device should advance together.

  Args:
    found: the cost of an update.
    lanes_per_shard: lanes that a device has.
    num_steps: updates of every lane.
    trial: `(lanes at once, steps) -> seconds per update of a lane`, a measurement.
  """
  most = 2 ** math.ceil(math.log2(lanes_per_shard))
  if jax.default_backend() != 'cpu':
    return memory.widest_vmap(found.num_bytes, min(most, WIDEST))
  if found.size <= SMALL:
    return min(most, WIDE)
  if found.size >= LARGE or most < MIDDLE or not _is_long(found, lanes_per_shard, num_steps):
    return 1
  key = _key(found)
  if (known := _recall(key)) is not None:
    return known
  steps = max(10, round(0.2 / _seconds(found) / MIDDLE))
  best = min((1, MIDDLE), key=lambda width: trial(width, steps))
  return _remember(key, best)


def program_per_device(found: Footprint, lanes_per_shard: int, num_steps: int) -> bool:
  """Whether to compile a separate program for every device; arguments as for `lanes_at_once`."""
  # Tiny problems have no products of XLA's library in them, and are far cheaper than estimated.
  return jax.default_backend() == 'cpu' and found.size > SMALL and _is_long(found, lanes_per_shard, num_steps)


def host_steps(found: Footprint) -> bool:
  """Whether the host should call every update separately: XLA's convolutions are slow inside loops on a CPU."""
  return jax.default_backend() == 'cpu' and found.convolves


def _is_long(found: Footprint, lanes_per_shard: int, num_steps: int) -> bool:
  return _seconds(found) * num_steps * lanes_per_shard >= LONG


def _seconds(found: Footprint) -> float:
  """Estimated seconds per update: fixed overhead plus flops at 10 GFLOP/s."""
  return 5e-6 + 6 * found.size / 1e10


def remember_plans(folder: str | os.PathLike) -> None:
  """Stores the results of timed trials in this folder, and uses those already there.

  Timings are noisy, and the layout of lanes changes the last bits of results: a run that continues earlier ones must
  use their layout. Study scripts call this with their working directory.
  """
  _remembered.clear()
  _folder[:] = [pathlib.Path(folder)]


def _key(found: Footprint) -> str:
  return hashlib.sha256(f'{_machine()} {found.signature}'.encode()).hexdigest()[:16]


def _recall(key: str) -> int | None:
  if key not in _remembered and _folder:
    file = _folder[0] / f'{key}.json'
    try:
      checksums.verify(file)
      _remembered[key] = check_count('lanes_at_once', json.loads(file.read_text())['lanes_at_once'])
    except FileNotFoundError:
      pass
    except (OSError, ValueError, KeyError, TypeError):  # not written by gdlab: measured again
      with contextlib.suppress(OSError):
        checksums.remove(file)
  return _remembered.get(key)


def _remember(key: str, width: int) -> int:
  """Stores the result of a trial; if another process was first, returns that process's result."""
  if not _folder:
    return _remembered.setdefault(key, width)
  content = json.dumps({'lanes_at_once': width, 'machine': _machine()})
  # Where the file cannot be made, the finding serves this process.
  with contextlib.suppress(OSError), checksums.writing(_folder[0] / f'{key}.json', new=True) as temporary:
    temporary.write_text(content, encoding='utf-8')
  found = _recall(key)
  return _remembered.setdefault(key, width) if found is None else found


def _machine() -> str:
  device = jax.local_devices()[0]
  return f'{device.device_kind} x {jax.local_device_count()}, {os.cpu_count()} cores, jax {metadata.version("jax")}'
