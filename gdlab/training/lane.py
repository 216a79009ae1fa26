"""One lane: one run of one algorithm with one seed, advanced from evaluation to evaluation."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.errors import InputError
from gdlab.evaluation import evaluate
from gdlab.types import Algorithm, Array, Info, Problem, PyTree, State, Streams

RUNNING, DIVERGED, STOPPED = 0, 1, 2
DIAGNOSTICS = ('batch_loss', 'grad_norm', 'update_norm', 'param_norm')  # of a record
STATUS_MEANINGS = ('running', 'diverged', 'stopped')  # names of the codes above, in order

Probe = Callable[[Problem, State], Array]


COUNT_BASE = 2**30  # counts are int32[2] in this base, most significant first: int32 alone is too small


class Lane(NamedTuple):
  """All that a run carries from one record to the next: with it a run can go on elsewhere."""

  state: State
  status: Array  # int8[], one of the codes above
  updates: Array  # int32[], made up to the last finite record
  examples: Array  # drawn since the last record, see `_add`
  gradient_evaluations: Array  # per-example gradients since the last record, see `_add`


class Period(NamedTuple):
  """The stretch of updates that ends in one evaluation."""

  lengths: Array | np.ndarray  # int32[R], updates up to each record; 0 on padding
  evaluates: Array | np.ndarray  # bool[], whether metrics are evaluated at its end


def start(
  algorithm: Algorithm, problem: Problem, streams: Streams, probes: Mapping[str, Probe]
) -> tuple[Lane, dict[str, Array]]:
  """The lane before its first update, and the metrics there; an optimizer that listens is told of them too."""
  state = algorithm.init(streams, problem)
  measured = measure(algorithm, problem, state, probes)
  lane = Lane(
    _told(algorithm, state, measured, probes), jnp.int8(RUNNING), jnp.int32(0), _nothing(), _nothing()
  )
  return lane, measured


def measure(
  algorithm: Algorithm, problem: Problem, state: State, probes: Mapping[str, Probe]
) -> dict[str, Array]:
  """Everything evaluated at an evaluation point: the metrics, where the method says, and the probes of the state."""
  if algorithm.evaluated is None:
    metrics = evaluate(problem, state.params, state.model_state)
  else:
    metrics = evaluate(problem, *algorithm.evaluated(state, problem))
  if taken := sorted(metrics.keys() & probes.keys()):
    raise InputError(f'probe must have a name that no metric has, got {taken[0]!r}')
  return metrics | {name: probe(problem, state) for name, probe in probes.items()}


def advance(
  algorithm: Algorithm, problem: Problem, lane: Lane, period: Period, probes: Mapping[str, Probe]
) -> tuple[Lane, tuple[dict[str, Array], dict[str, Array]]]:
  """Makes the updates of one period; returns its records, [R] each, and the metrics at its end.

  A lane that is not finite at a record has status DIVERGED from there on. At the period's end its state is put
  back to the period's beginning and stays there: it takes no further updates, and its neighbours never notice.
  (To look at every step, or to keep the state of every record, would cost as much as small updates do.)

  A lane that still runs at an evaluation tells its method of the metrics, after the probes have looked at it.
  """

  def record(lane: Lane, length: Array) -> tuple[Lane, dict[str, Array]]:
    # Only the last update's diagnostics are used, so only that one computes them.
    begun = lane._replace(examples=_nothing(), gradient_evaluations=_nothing())
    moved = jax.lax.fori_loop(0, length - 1, lambda _, lane: _update(step, lane)[0], begun)
    moved, info = _update(step, moved)
    return _recorded(lane, moved, info)

  def record_unless_padding(lane: Lane, length: Any) -> tuple[Lane, dict[str, Array]]:
    return jax.lax.cond(length > 0, record, lambda lane, length: (lane, blank), lane, length)

  def run(lane: Lane) -> tuple[Lane, dict[str, Array]]:
    moved, records = jax.lax.scan(record_unless_padding, lane, period.lengths)
    kept = jax.tree.map(
      lambda new, old: jnp.where(moved.status == RUNNING, new, old), moved.state, lane.state
    )
    return moved._replace(state=kept), records

  def rest(lane: Lane) -> tuple[Lane, dict[str, Array]]:
    idle = blank | {'status': lane.status, 'updates': lane.updates}
    count = period.lengths.shape[0]
    return lane, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), idle)

  # Traced once for all of its uses here.
  step = jax.jit(lambda state: algorithm.step(state, problem), inline=True)
  blank = _missing_like(jax.eval_shape(record, lane, period.lengths[0])[1])
  lane, records = jax.lax.cond(lane.status == RUNNING, run, rest, lane)

  evaluated = jax.jit(lambda state: measure(algorithm, problem, state, probes), inline=True)
  unknown = _missing_like(jax.eval_shape(evaluated, lane.state))
  measured = jax.lax.cond(period.evaluates, evaluated, lambda state: unknown, lane.state)
  if algorithm.observe is None:
    return lane, (records, measured)

  def listened(new: Array, old: Array) -> Array:
    # A leaf that has not listened is the same object: the program holds nothing of all this for it.
    return old if new is old else jnp.where(period.evaluates & (lane.status == RUNNING), new, old)

  told = jax.tree.map(listened, _told(algorithm, lane.state, measured, probes), lane.state)
  return lane._replace(state=told), (records, measured)


def _told(
  algorithm: Algorithm, state: State, measured: Mapping[str, Array], probes: Mapping[str, Probe]
) -> State:
  """The state after the method has been told the metrics; a probe is the user's own affair."""
  if algorithm.observe is None:
    return state
  return algorithm.observe(state, {name: value for name, value in measured.items() if name not in probes})


def _update(step: Callable[[State], tuple[State, Info]], lane: Lane) -> tuple[Lane, Info]:
  state, info = step(lane.state)
  counted = lane._replace(
    state=state,
    examples=_add(lane.examples, info.examples),
    gradient_evaluations=_add(lane.gradient_evaluations, info.gradient_evaluations),
  )
  return counted, info


def _recorded(before: Lane, moved: Lane, info: Info) -> tuple[Lane, dict[str, Array]]:
  """The lane after a record, and the record: what the first failed one found is on it, later ones are missing."""
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
  """The count plus an amount int32[] of at most COUNT_BASE."""
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
