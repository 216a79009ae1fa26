"""One lane: one run of one algorithm with one seed, advanced from evaluation to evaluation.

The functions of a lane are `(make, probes, problem, lane, inputs, ...) -> (lane, results)`: `make(numbers)` returns the
algorithm with the lane's hyperparameters, `probes` maps names to functions, `inputs` holds the lane's seed `ids` and
its traced hyperparameters, `numbers`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gdlab.core.errors import InputError
from gdlab.core.evaluation import evaluate
from gdlab.core.leaves import named
from gdlab.core.seeds import stream_keys
from gdlab.core.types import Algorithm, Array, Info, Problem, PyTree, State
from gdlab.results.datasets import DIAGNOSTICS, DIVERGED, RUNNING

Make: TypeAlias = Callable[[Mapping[str, Any]], Algorithm]
Probe: TypeAlias = Callable[[Problem, State], PyTree]
Probes: TypeAlias = Mapping[str, Probe]
Inputs: TypeAlias = Mapping[str, Any]

COUNT_BASE = 2**30  # counts are int32[2] in this base, most significant first: int32 alone is too small


class Lane(NamedTuple):
  """The complete state that a run carries from one record to the next; a run can be resumed from it."""

  state: State
  status: Array  # int8[], RUNNING or DIVERGED
  updates: Array  # int32[], updates made up to the last finite record
  examples: Array  # drawn since the last record, see `_add`
  gradient_evaluations: Array  # per-example gradients since the last record, see `_add`


def start(
  make: Make, probes: Probes, problem: Problem, lane: tuple[()], inputs: Inputs, params: PyTree
) -> tuple[tuple[()], tuple[Lane, dict[str, Array]]]:
  """The lane before its first update, and its metrics, which are also passed to the method's `observe`.

  Args:
    make: see above.
    probes: see above.
    problem: the problem to minimise.
    lane: empty.
    inputs: see above.
    params: the initial parameters; None for the problem's own.
  """
  algorithm = make(inputs['numbers'])
  state = algorithm.init(stream_keys(inputs['ids']), problem, params)
  measured = measure(algorithm, problem, state, probes)
  told = _told(algorithm, state, measured, probes)
  return lane, (Lane(told, jnp.int8(RUNNING), jnp.int32(0), _nothing(), _nothing()), measured)


def advance(
  make: Make, probes: Probes, problem: Problem, lane: Lane, inputs: Inputs, lengths: Array, evaluates: Array
) -> tuple[Lane, tuple[dict[str, Array], dict[str, Array]]]:
  """Makes the updates of Q periods: `lengths` int32[Q, R] and `evaluates` bool[Q] as in `Chunk`.

  A lane that is not finite at a record has status DIVERGED from then on. At the end of the period its state is reset to
  that at the period's beginning and frozen; other lanes are unaffected. (To check every step, or to keep the state of
  every record, would cost as much as a small update.)

  At an evaluation the probes see the state of a running lane first; then its method's `observe` gets the metrics.

  Returns:
    The lane and `(records [Q, R], metrics [Q, ...])`.
  """
  algorithm = make(inputs['numbers'])
  # Traced once, here, for all of its uses below.
  step = jax.jit(algorithm.step, inline=True)
  jax.eval_shape(step, lane.state, problem)

  def up_to_record(lane: Lane, length: Array) -> tuple[Lane, dict[str, Array]]:
    # Only the last update's diagnostics are used, so only that one computes them.
    begun = lane._replace(examples=_nothing(), gradient_evaluations=_nothing())
    moved = jax.lax.fori_loop(
      0, length - 1, lambda _, lane: _counted(lane, *step(lane.state, problem)), begun
    )
    state, info = step(moved.state, problem)
    return _recorded(lane, _counted(moved, state, info), info)

  def record_unless_padding(lane: Lane, length: Any) -> tuple[Lane, dict[str, Array]]:
    return jax.lax.cond(length > 0, up_to_record, lambda lane, length: (lane, blank), lane, length)

  def run(lane: Lane, lengths: Array) -> tuple[Lane, dict[str, Array]]:
    moved, records = jax.lax.scan(record_unless_padding, lane, lengths)
    return moved._replace(state=_kept(moved.status, moved.state, lane.state)), records

  def rest(lane: Lane, lengths: Array) -> tuple[Lane, dict[str, Array]]:
    idle = blank | {'status': lane.status, 'updates': lane.updates}
    return lane, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(lengths), *leaf.shape)), idle)

  def through(lane: Lane, period: tuple[Array, Array]) -> tuple[Lane, Any]:
    lane, records = jax.lax.cond(lane.status == RUNNING, run, rest, lane, period[0])
    lane, measured = _evaluated(algorithm, problem, lane, period[1], probes)
    return lane, (records, measured)

  blank = _missing_like(jax.eval_shape(up_to_record, lane, lengths[0, 0])[1])
  return jax.lax.scan(through, lane, (lengths, evaluates))


def update(
  make: Make, probes: Probes, problem: Problem, lane: Lane, inputs: Inputs
) -> tuple[Lane, tuple[()]]:
  """One update without a record, for host-stepped runs (`Plan.host_steps`), together with `record` and `close`."""
  del probes
  return _counted(lane, *make(inputs['numbers']).step(lane.state, problem)), ()


def record(
  make: Make, probes: Probes, problem: Problem, lane: Lane, inputs: Inputs
) -> tuple[Lane, dict[str, Array]]:
  """The last update before a record, and the record."""
  del probes
  state, info = make(inputs['numbers']).step(lane.state, problem)
  after, found = _recorded(lane, _counted(lane, state, info), info)
  return after._replace(examples=_nothing(), gradient_evaluations=_nothing()), found


def close(
  make: Make, probes: Probes, problem: Problem, lanes: tuple[Lane, State], inputs: Inputs, evaluates: Array
) -> tuple[Lane, dict[str, Array]]:
  """The end of a period, as in `advance`, from the lane after it and the state before it."""
  moved, began = lanes
  lane = moved._replace(state=_kept(moved.status, moved.state, began))
  return _evaluated(make(inputs['numbers']), problem, lane, evaluates, probes)


def read(
  make: Make, probes: Probes, problem: Problem, lane: Lane, inputs: Inputs
) -> tuple[Lane, tuple[PyTree, PyTree]]:
  """The parameters and model state at which the lane's metrics are evaluated."""
  del probes
  return lane, _measured_at(make(inputs['numbers']), problem, lane.state)


def measure(algorithm: Algorithm, problem: Problem, state: State, probes: Probes) -> dict[str, Array]:
  """All values of one evaluation: the metrics, at the method's `evaluated` parameters, and the probes of the state."""
  metrics = evaluate(problem, *_measured_at(algorithm, problem, state))
  probed = named({name: probe(problem, state) for name, probe in probes.items()})
  if taken := sorted(name for name in metrics if name.partition('.')[0] in probes):
    raise InputError(f'probe must have a name that no metric has, got {taken[0]!r}')
  return metrics | probed


def _measured_at(algorithm: Algorithm, problem: Problem, state: State) -> tuple[PyTree, PyTree]:
  if algorithm.evaluated is None:
    return state.params, state.model_state
  return algorithm.evaluated(state, problem)


def _evaluated(
  algorithm: Algorithm, problem: Problem, lane: Lane, evaluates: Array, probes: Probes
) -> tuple[Lane, dict[str, Array]]:
  """The lane and its metrics at the end of a period, if that is an evaluation."""
  evaluated = jax.jit(lambda state: measure(algorithm, problem, state, probes), inline=True)
  unknown = _missing_like(jax.eval_shape(evaluated, lane.state))
  measured = jax.lax.cond(evaluates, evaluated, lambda state: unknown, lane.state)
  if algorithm.observe is None:
    return lane, measured

  def listened(new: Array, old: Array) -> Array:
    # A leaf that has not listened is the same object: the program holds nothing of all this for it.
    return old if new is old else jnp.where(evaluates & (lane.status == RUNNING), new, old)

  told = jax.tree.map(listened, _told(algorithm, lane.state, measured, probes), lane.state)
  return lane._replace(state=told), measured


def _told(algorithm: Algorithm, state: State, measured: Mapping[str, Array], probes: Probes) -> State:
  """The state after the method's `observe` got the metrics, without the probes."""
  if algorithm.observe is None:
    return state
  metrics = {name: value for name, value in measured.items() if name.partition('.')[0] not in probes}
  return algorithm.observe(state, metrics)


def _kept(status: Array, new: State, old: State) -> State:
  return jax.tree.map(lambda new, old: jnp.where(status == RUNNING, new, old), new, old)


def _counted(lane: Lane, state: State, info: Info) -> Lane:
  """The lane after an update."""
  return lane._replace(
    state=state,
    examples=_add(lane.examples, info.examples),
    gradient_evaluations=_add(lane.gradient_evaluations, info.gradient_evaluations),
  )


def _recorded(before: Lane, moved: Lane, info: Info) -> tuple[Lane, dict[str, Array]]:
  """The lane after a record, and the record. The first record that is not finite has its values; later ones do not."""
  finite = _all_finite((info.loss, info.update_norm, info.param_norm, moved.state.model_state))
  alive = before.status == RUNNING
  good = alive & finite
  after = Lane(
    state=moved.state,
    status=jnp.where(good, jnp.int8(RUNNING), jnp.int8(DIVERGED)),
    updates=jnp.where(good, moved.state.step, before.updates),
    examples=jnp.where(good, moved.examples, 0),
    gradient_evaluations=jnp.where(good, moved.gradient_evaluations, 0),
  )
  found = (info.loss, info.grad_norm, info.update_norm, info.param_norm)
  diagnostics = dict(zip(DIAGNOSTICS, found, strict=True))
  record = jax.tree.map(lambda value: jnp.where(alive, value, jnp.nan), diagnostics)
  return after, record | {
    'status': after.status,
    'updates': after.updates,
    'examples': after.examples,
    'gradient_evaluations': after.gradient_evaluations,
  }


def _nothing() -> Array:
  return jnp.zeros(2, jnp.int32)


def _add(count: Array, amount: Array) -> Array:
  """The count plus `amount`, int32[] of at most COUNT_BASE."""
  low = count[1] + amount
  return jnp.stack([count[0] + low // COUNT_BASE, low % COUNT_BASE])


def _all_finite(tree: PyTree) -> Array:
  floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))


def _missing_like(tree: PyTree) -> PyTree:
  """NaN where there are floats, 0 elsewhere."""
  return jax.tree.map(
    lambda leaf: jnp.full(leaf.shape, jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0, leaf.dtype),
    tree,
  )
