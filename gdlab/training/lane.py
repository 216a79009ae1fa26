"""One lane: one run of one algorithm with one seed, advanced from record to record."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdlab.errors import InputError
from gdlab.training.evaluate import evaluate
from gdlab.types import Algorithm, Array, Info, Problem, PyTree, State, Streams

RUNNING, DIVERGED = 0, 1
STATUS_MEANINGS = ('running', 'diverged')  # names of the codes above, in order

Probe = Callable[[Problem, State], Array]


COUNT_BASE = 2**30  # counts are int32[2] in this base, most significant first: int32 alone is too small


class Lane(NamedTuple):
  """All that a run carries from one record to the next."""

  state: State
  status: Array  # int8[], one of the codes above
  examples: Array  # drawn since the last record, see `_add`
  gradient_evaluations: Array  # per-example gradients since the last record, see `_add`


class Interval(NamedTuple):
  """The stretch of updates that ends in one record."""

  length: Array  # int32[], updates in it; 0 on padding
  evaluates: Array  # bool[], whether metrics are evaluated at its end


def start(
  algorithm: Algorithm, problem: Problem, streams: Streams, probes: Mapping[str, Probe]
) -> tuple[Lane, dict[str, Array]]:
  """The lane before its first update, and the metrics there."""
  state = algorithm.init(streams, problem)
  lane = Lane(state, jnp.int8(RUNNING), _nothing(), _nothing())
  return lane, measure(problem, state, probes)


def measure(problem: Problem, state: State, probes: Mapping[str, Probe]) -> dict[str, Array]:
  """Everything evaluated at an evaluation point: the metrics and the probes."""
  metrics = evaluate(problem, state.params, state.model_state)
  if taken := sorted(metrics.keys() & probes.keys()):
    raise InputError(f'probe must have a name that no metric has, got {taken[0]!r}')
  return metrics | {name: probe(problem, state) for name, probe in probes.items()}


def advance(
  algorithm: Algorithm, problem: Problem, lane: Lane, interval: Interval, probes: Mapping[str, Probe]
) -> tuple[Lane, dict[str, Array]]:
  """Makes the updates of one interval and records what is at its end.

  A lane that is not finite at its end is put back to its last record and frozen there with status DIVERGED: it
  takes no further updates, and its neighbours never notice. (Looking at every step instead would cost up to as
  much as the step itself.)
  """

  def count(lane: Lane, new_state: State, info: Info) -> Lane:
    return Lane(
      new_state,
      lane.status,
      _add(lane.examples, info.examples),
      _add(lane.gradient_evaluations, info.gradient_evaluations),
    )

  def update(_, lane: Lane) -> Lane:
    return count(lane, *algorithm.step(lane.state, problem))

  def run(lane: Lane) -> tuple[Lane, Info]:
    # Only the last update's diagnostics are used, so only that one computes them.
    moved = jax.lax.fori_loop(0, interval.length - 1, update, lane)
    new_state, info = algorithm.step(moved.state, problem)
    moved = count(moved, new_state, info)
    finite = _all_finite((info.loss, info.update_norm, info.param_norm, new_state.model_state))
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, lane)
    return kept._replace(status=jnp.where(finite, lane.status, jnp.int8(DIVERGED))), info

  def rest(lane: Lane) -> tuple[Lane, Info]:
    return lane, jax.tree.map(lambda leaf: _missing(leaf.shape, leaf.dtype), jax.eval_shape(run, lane)[1])

  lane = lane._replace(examples=_nothing(), gradient_evaluations=_nothing())
  lane, info = jax.lax.cond((lane.status == RUNNING) & (interval.length > 0), run, rest, lane)
  return lane, _record(problem, lane, info, interval, probes)


def _record(
  problem: Problem, lane: Lane, info: Info, interval: Interval, probes: Mapping[str, Probe]
) -> dict[str, Array]:
  def evaluated(state: State) -> dict[str, Array]:
    return measure(problem, state, probes)

  def skipped(state: State) -> dict[str, Array]:
    return jax.tree.map(lambda leaf: _missing(leaf.shape, leaf.dtype), jax.eval_shape(evaluated, state))

  return jax.lax.cond(interval.evaluates, evaluated, skipped, lane.state) | {
    'batch_loss': info.loss,
    'grad_norm': info.grad_norm,
    'update_norm': info.update_norm,
    'param_norm': info.param_norm,
    'status': lane.status,
    'updates': lane.state.step,
    'examples': lane.examples,
    'gradient_evaluations': lane.gradient_evaluations,
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


def _missing(shape: tuple[int, ...], dtype) -> PyTree:
  return jnp.full(shape, jnp.nan if jnp.issubdtype(dtype, jnp.inexact) else 0, dtype)
