"""The checkpoints of a sweep: a block's complete state and its records so far, and how runs resume from them.

A checkpoint is used if its checksum is right (`host.checkpoints`) and it is of the same experiment: hyperparameters,
seeds, data, records, versions, devices, and the programs as passed to XLA, including the constants of the user's
functions. Random keys are stored by their data, bfloat16 and similar types by their bits.
"""

import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.errors import InputError
from gdlab.core.types import Problem, PyTree
from gdlab.host import interrupt
from gdlab.host.checkpoints import KEPT, Folder, Place, Saved
from gdlab.host.progress import say
from gdlab.results.datasets import provenance, storable
from gdlab.training import lane as one
from gdlab.training import layout
from gdlab.training.grid import Grid
from gdlab.training.plan import FLAGS, Plan
from gdlab.training.programs import Block, Program, Report

CALL_SECONDS = 5.0  # of compiled calls, between which can be saved, at most
CALLS = 8  # between two checkpoints at least
# Parts of a result's provenance that may differ when runs resume; another CPU changes last bits, and is reported.
CPU = 'cpu_model'
HARMLESS = ('git_revision', 'version_python', 'version_scipy', 'version_scikit_learn', 'system', CPU)
ENDED = 'ended'  # of a block whose runs are over: its records alone are kept


class Checkpoint:
  """The checkpoints of a sweep: refuses those of another experiment, saves and loads blocks.

  Args:
    place: the folder.
    experiment: what must be equal for runs to resume, key -> plain value.
  """

  def __init__(self, place: Place, experiment: Mapping[str, Any]):
    self.folder = Folder(place.folder, place.every)
    self._experiment = _plain(experiment)
    self._computed: dict[tuple[int, Plan], str] = {}
    self._told_of_callbacks = False
    self._hashed: dict[tuple[int, ...], str] = {}
    self._seconds: dict[int, float] = {}  # by program, of a period of the lanes that fill the devices
    self._started, self.seconds_before = time.monotonic(), 0.0
    self.plans: dict[int, Plan] = {}  # by a program's first lane: what its runs were begun with
    if parts := sorted(path.name for path in place.folder.glob('part-*-of-*')):
      check_alike(place.folder, {'executor': None}, {'executor': f'parts, {parts[0]}'})
    for name in self.folder.names():
      saved = self.folder.latest(name, arrays=False)
      if saved is not None:
        check_alike(self.folder.path, self._experiment, saved.about['experiment'])
        if saved.about[CPU] != provenance()[CPU]:
          say(f'{self.folder.path}: begun on another CPU, {saved.about[CPU]}; runs resume, equal to rounding')
        self.seconds_before = max(self.seconds_before, saved.about['seconds'])
        self.plans |= {int(first): _plan(plan) for first, plan in saved.about['plans'].items()}

  def noted(self, program: Program, lowered: Iterable[jax.stages.Lowered]) -> Iterator[jax.stages.Lowered]:
    """Yields the lowered functions of a program and notes the SHA-256 of their text."""
    digest = hashlib.sha256()
    for each in lowered:
      text = each.as_text()
      digest.update(text.encode())
      if 'callback' in text and not self._told_of_callbacks:
        say(f'{self.folder.path}: what callbacks compute on the host is not compared when runs resume')
        self._told_of_callbacks = True
      yield each
    self._computed[_key(program), program.plan] = digest.hexdigest()

  def latest(self, name: str, programs: Sequence[Program]) -> Saved | None:
    """The latest checkpoint of this name, or None; raises InputError if it is of other programs."""
    saved = self.folder.latest(name)
    if saved is None:
      return None
    # Blocks may have been halved since: what they computed is compared under the plan that they had.
    plans = [_plan(saved.about['plans'][str(_key(program))]) for program in programs]
    own = [program._replace(plan=plan) for program, plan in zip(programs, plans, strict=True)]
    check_alike(self.folder.path, self._facts(own), saved.about['programs'])
    return saved

  def save(
    self,
    name: str,
    step: int,
    programs: Sequence[Program],
    arrays: Mapping[str, np.ndarray],
    keep: int = KEPT,
    **about: Any,
  ) -> None:
    """Saves the state of some runs of these programs after `step` updates."""
    common = {
      'experiment': self._experiment,
      'programs': self._facts(programs),
      'plans': _plans(programs),
      CPU: provenance()[CPU],
      'seconds': self.seconds_before + time.monotonic() - self._started,
    }
    self.folder.save(Saved(name, step, dict(arrays), common | about), keep)

  def next_block(self, program: Program, done: int) -> tuple[np.ndarray, Saved | None]:
    """The next lanes to run and their checkpoint, if any: few enough to return to the host as often as saving needs.

    The first block only just fills the devices, because its speed is not known yet.
    """
    left, most = len(program.places) - done, program.plan.lanes_per_block
    saved = self.latest(block_name(program, done), [program])
    if saved is not None and (saved.about.get(ENDED) or saved.about['lanes'] <= most):
      return np.arange(done, done + saved.about['lanes']), saved
    groups = int(self._soon() / self._seconds[key]) if (key := _key(program)) in self._seconds else 1
    size = min(max(1, groups) * program.plan.unit, most, left)
    return np.arange(done, done + size), None

  def timed(self, program: Program, num_lanes: int, periods: int, seconds: float) -> None:
    """Notes the time that a block took for a number of periods."""
    groups = -(-num_lanes // program.plan.unit)
    self._seconds[_key(program)] = max(seconds, 1e-6) / groups / max(periods, 1)

  def _soon(self) -> float:
    """Seconds after which runs should return to the host."""
    return min(CALL_SECONDS, self.folder.seconds / CALLS)

  def advance(self, program: Program, block: Block, periods: range, report: Report) -> tuple[Block, int]:
    """Makes updates until a checkpoint is due, a signal arrives or the periods are done.

    Returns:
      The block and the number of periods made, including those before `periods`.
    """
    made = periods.start

    def calls() -> Iterator[Any]:
      nonlocal made
      sizes: list[int] = []
      started, steps = time.monotonic(), program.records.steps
      most = program.records.periods_per_call(program.plan.steps_per_call)
      begun = int(steps[program.records.made(made) - 1])
      ends = [steps[period.stop - 1] for period in program.records.periods]
      soon = self._soon()
      while made < periods.stop:
        # The last call computes still, those before it are over.
        over = sum(sizes[:-1])
        size = 2 * sizes[-1] if over else 1
        if over:
          size = min(size, int(soon * over / max(time.monotonic() - started, 1e-9)))
        size = min(max(size, 1), most, periods.stop - made)
        if self.folder.updates is not None:  # up to where it is due
          due = int(np.searchsorted(ends, begun + self.folder.updates, side='right'))
          size = min(size, max(due - made, 1))
        yield program.records.chunk(program.plan.steps_per_call, range(made, made + size))
        sizes.append(size)
        made += size
        updates = int(steps[program.records.made(made) - 1]) - begun
        if interrupt.asked() or self.folder.is_due(updates, 2 * soon):
          return

    return program.advance(block, calls(), report), made

  def _facts(self, programs: Sequence[Program]) -> dict[str, Any]:
    """Hashes of the programs, their data and their runs."""
    facts = {
      'program': [*map(self._computes, programs)],
      'data': [self._data(program.problem[0]) for program in programs],
      'runs': [_digest((program.places, program.inputs, program.records.steps)) for program in programs],
    }
    return _plain(facts)

  def _computes(self, program: Program) -> str:
    if (_key(program), program.plan) not in self._computed:  # of a plan that came of a shortage of memory
      chunk = program.records.chunk(program.plan.steps_per_call, range(1))
      for _ in self.noted(program, program.lowered(chunk)):
        pass
    return self._computed[_key(program), program.plan]

  def _data(self, problem: Problem) -> str:
    """The SHA-256 of a problem's arrays; programs may share them."""
    arrays = tuple(map(id, jax.tree.leaves(problem)))
    if arrays not in self._hashed:
      self._hashed[arrays] = _digest(problem)
    return self._hashed[arrays]


def experiment(axes: Grid, ids: np.ndarray, params: PyTree, asked: Mapping[str, Any]) -> dict[str, Any]:
  """What must be equal for runs to resume: the arguments of the sweep, versions and devices."""
  values = {name: storable(values) for name, values in (*axes.axes.items(), *axes.trials.items())}
  return {'hyperparameters': values, 'seeds': ids.tolist(), 'params': _digest(params)} | {**asked, **origin()}


def origin() -> dict[str, str]:
  """Versions, devices and settings that must be equal for runs to resume."""
  return {name: value for name, value in provenance().items() if name not in HARMLESS}


def computed(program: Program) -> str:
  """The SHA-256 of a program's code and data."""
  digest = hashlib.sha256(_digest(program.problem[0]).encode())
  with jax.debug_key_reuse(False):  # as in `sweep`
    for each in program.lowered(program.records.chunk(program.plan.steps_per_call, range(1))):
      digest.update(each.as_text().encode())
  return digest.hexdigest()


def block_name(program: Program, first: int) -> str:
  """The name of a block's checkpoints, by its first lane: no two blocks share it."""
  return f'lane-{program.places[first]:07}'


def _plan(values: Sequence[int]) -> Plan:
  """The plan that `_plans` wrote."""
  plan = Plan(*values)
  return plan._replace(**{name: bool(getattr(plan, name)) for name in FLAGS})


def _plans(programs: Sequence[Program]) -> dict[int, list[int]]:
  return {_key(program): [*map(int, program.plan)] for program in programs}


def _key(program: Program) -> int:
  return int(program.places[0])


def lanes_of(block: Block) -> dict[str, np.ndarray]:
  """The carried state of a block's lanes, on the host, in lane order."""
  copies = zip(*(map(_bits, jax.tree.leaves(lanes)) for lanes in block.lanes), strict=True)
  return {f'lanes.{number}': np.concatenate(own)[block.slots] for number, own in enumerate(copies)}


def records_of(program: Program, members: np.ndarray, periods: int) -> dict[str, np.ndarray]:
  """The records of a block so far, and its final values, if kept."""
  rows = program.records.rows(members, program.records.made(periods))
  kept = {f'kept.{name}': values[members] for name, values in program.records.kept.items()}
  return {f'records.{name}': values for name, values in rows.items()} | kept


def put_records(program: Program, members: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
  """Restores the records of a block from what `records_of` returned."""
  rows, kept = (
    {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
    for kind in ('records.', 'kept.')
  )
  program.records.put_rows(members, rows)
  program.records.keep(members, np.arange(len(members)), kept)


def restored(program: Program, members: np.ndarray, arrays: Mapping[str, np.ndarray]) -> Block:
  """The block of these lanes, from what `lanes_of` returned."""
  inputs, counts, slots = program.placed(members)
  chosen = np.zeros(program.plan.lanes_per_block, int)  # what fills up a group must compute something
  chosen[slots] = np.arange(len(members))
  start = program.compiled(one.start)
  shapes = jax.eval_shape(start, program.problem[0], (), inputs[0], counts[0], (program.params,))[1][0]
  leaves, structure = jax.tree.flatten(shapes)
  rows = [_typed(arrays[f'lanes.{number}'], leaf)[chosen] for number, leaf in enumerate(leaves)]
  placed = layout.place(program.plan, rows, split_lanes=True)[: len(inputs)]
  lanes = tuple(jax.tree.unflatten(structure, map(_as_carried, own, leaves)) for own in placed)
  return Block(lanes, inputs, counts, members, slots)


def _bits(leaf: Any) -> np.ndarray:
  """An array in a form that NumPy can write."""
  if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  array = np.asarray(leaf)
  return array.view(f'u{array.itemsize}') if array.dtype.kind == 'V' else array


def _typed(bits: np.ndarray, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
  """The array with these bits; for keys, their data."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or bits.dtype == leaf.dtype:
    return bits
  return bits.view(leaf.dtype)


def _as_carried(array: jax.Array, leaf: jax.ShapeDtypeStruct) -> jax.Array:
  """The array as a compiled call returns it: keys as keys, weak types restored."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return jax.random.wrap_key_data(array, impl=_generators()[leaf.dtype])
  if leaf.weak_type:
    return jax.lax.convert_element_type(array, {'f': float, 'i': int, 'c': complex}[array.dtype.kind])
  return array


@functools.cache
def _generators() -> dict[Any, str]:
  """JAX's random number generators by the dtype of their keys."""
  names = ('threefry2x32', 'rbg', 'unsafe_rbg')
  return {jax.eval_shape(functools.partial(jax.random.key, 0, impl=name)).dtype: name for name in names}


def _digest(tree: PyTree) -> str:
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(tree):
    array = np.ascontiguousarray(_bits(leaf))
    digest.update(f'{array.dtype}{array.shape}'.encode())
    digest.update(array.data if array.size else b'')
  return digest.hexdigest()


def _plain(values: Any) -> Any:
  """The values after a round trip through JSON."""
  return json.loads(json.dumps(values, default=lambda value: value.item()))


def check_alike(folder: pathlib.Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
  """Raises an InputError that names what differs, with the values if they are short."""
  keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
  if not keys:
    return
  words = []
  for key in keys:
    pair = [str(values.get(key)) for values in (theirs, ours)]
    short = f'{key} ({pair[0]} there, {pair[1]} here)' if max(map(len, pair)) <= 24 else key
    words.append(
      'program (what problem, algorithm, probes or metrics compute)' if key == 'program' else short
    )
  raise InputError(
    f'checkpoint must be a folder of the same experiment, and {folder} is of one that differs in {", ".join(words)}; '
    'give another folder, or remove this one to start again'
  )
