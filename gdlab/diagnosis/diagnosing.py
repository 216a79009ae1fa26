"""`diagnose`: what is wrong with a run, in words."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown
from gdlab.core.seeds import stream_keys
from gdlab.core.types import Algorithm, Problem, Streams
from gdlab.diagnosis import learning, mistakes, stability
from gdlab.diagnosis.data import Data, look_at_data
from gdlab.diagnosis.findings import Cause, Diagnosis, Finding, RunDiagnosis
from gdlab.diagnosis.layers import layer_names
from gdlab.diagnosis.nonfinite import NonFinite, Replay, first_alignment, replayer
from gdlab.diagnosis.traces import Trace, traces


@checked('problem', 'rate', 'momentum')
def diagnose(
  result: xr.Dataset,
  problem: Problem | None = None,
  *,
  algorithm: Algorithm | Callable[..., Algorithm] | None = None,
  rate: float | Callable[[int], Any] | xr.DataArray | None = None,
  momentum: float = 0.0,
) -> Diagnosis:
  r"""Reports for every run of a result what is wrong with it, the evidence, and what to try.

  Causes are tested in the order in which one causes the next: bad data, a softmax of a softmax, updates along the
  gradient instead of against it, exploding gradients, values that are not finite, a rate beyond
  $(2 + 2\beta) / \lambda_\max$, dead layers, vanishing gradients; and if there is none of these, oscillation (at the
  edge of stability or from gradient noise), memorised labels, overfitting, labels unrelated to the inputs, a schedule
  that decayed too soon, a rate that is too small, a plateau. Layers that were never trained are reported for any run
  that stayed finite, and first, as they may be intended. The thresholds of each cause are in
  `gdlab.diagnosis.thresholds`. The first finding of a run is the most likely cause.

  A full diagnosis needs a run recorded with `probes=gdlab.diagnosis.probes()`. Without them layers and curvature are
  unknown: rules that use them are left out or rely on the losses.

  A host function. Its cost is negligible, unless runs stopped being finite and `algorithm` is given: then these are
  repeated up to the update that failed.

  Example:
    >>> import optax, gdlab
    >>> problem = gdlab.problems.quadratic([1.0, 0.1])
    >>> descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(1e-6))
    >>> result = gdlab.run(problem, descent, num_steps=100, seeds=1, probes=gdlab.diagnosis.probes())
    >>> print(gdlab.diagnose(result, problem))
    1 run looked at:
      1 x learning rate too small
    ...

  Args:
    result: of `gdlab.run` or `gdlab.sweep`.
    problem: the problem of the runs, to check its data and name its layers. None leaves that out.
    algorithm: the algorithm of the runs, or the function that makes it from a grid point, as given to `sweep`.
    rate: the learning rate: a number, an Optax schedule, or one number per run as an array with dims of the result
      (`result.learning_rate` where it was swept). None infers it from the length of the updates: exactly for plain
      descent; for adaptive methods it is the rate on average over the parameters.
    momentum: beta in [0, 1) of heavy ball.

  Returns:
    A Diagnosis; print it, or read `causes` and `runs`.

  Raises:
    InputError: if an argument is not of these types, or out of range.

  Source: J. M. Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", ICLR 2021
  (the border); C. Zhang et al., "Understanding deep learning requires rethinking generalization", ICLR 2017.
  """
  if problem is not None and not isinstance(problem, Problem):
    raise InputError(f'problem must be a gdlab Problem or None, got {shown(problem)}')
  check_real('momentum', momentum, minimum=0, below=1)
  if not (rate is None or callable(rate) or isinstance(rate, xr.DataArray)):
    check_real('rate', rate, minimum=0)
  if algorithm is not None and problem is None:
    raise InputError('problem must be given with algorithm: runs that failed are made again')
  data = Data() if problem is None else look_at_data(problem)
  names = () if problem is None else layer_names(problem)
  replays: dict[Any, Replay] = {}
  runs = []
  for trace in traces(result, rate, momentum):
    replayed, uphill = None, mistakes.climb(trace)
    if algorithm is not None and problem is not None and trace.diverged:
      point, keys = _made_of(trace, result)
      made = algorithm if isinstance(algorithm, Algorithm) else algorithm(**point)
      place = tuple(point.values())
      if place not in replays:
        replays[place] = replayer(problem, made, max_steps=max(trace.failed_at, 1))
      replayed = replays[place](keys)
      if np.isnan(uphill):  # it was looked at once only
        uphill = first_alignment(problem, made, keys)
    found = _findings(trace, data, names, momentum, replayed, uphill)
    runs.append(RunDiagnosis(trace.where, tuple(found)))
  return Diagnosis(tuple(runs))


def _findings(
  trace: Trace,
  data: Data,
  names: Sequence[str],
  momentum: float,
  replayed: NonFinite | None,
  uphill: float,
) -> list[Finding]:
  found = list(data.findings)

  def add(finding: Finding | None) -> None:
    if finding is not None:
      found.append(finding)

  add(mistakes.softmax_twice(trace))
  add(mistakes.ascent(trace, momentum, replayed, uphill))
  if any(finding.cause is Cause.ASCENT for finding in found):
    return found  # all else follows
  if not found:  # inputs that are not scaled make everything explode
    add(learning.exploding(trace, data, names))
  add(stability.blown_up(trace, momentum, replayed))
  if not (found or trace.diverged):
    add(stability.too_large(trace, momentum))
  if trace.diverged or not np.isfinite(trace.train).all():
    return found
  add(learning.dead(trace, names))
  add(learning.vanishing(trace, names))
  # A layer may be frozen on purpose: that explains nothing of what follows.
  frozen = mistakes.frozen(trace, names)
  # What follows is said of runs for which nothing else explains where they are; where a loss swings, so does the gap.
  if not found:
    add(stability.swinging(trace, momentum))
  if not found:
    add(learning.generalisation(trace, data))
  if not found:
    add(mistakes.random_labels(trace, data))
  for rule in (stability.decayed_too_soon, stability.too_small, stability.standing_still):
    if all(finding.cause is Cause.OVERFITTING for finding in found):
      add(rule(trace, momentum))
  return found if frozen is None else [*data.findings, frozen, *found[len(data.findings) :]]


def _made_of(trace: Trace, result: xr.Dataset) -> tuple[dict[str, Any], Streams]:
  """The grid point and the keys with which a run can be repeated."""
  point = {name: value for name, value in trace.where.items() if name != 'seed'}
  seeds = result.sel(seed=trace.where['seed'])
  ids = np.asarray([seeds[f'{stream}_seed'].item() for stream in Streams._fields], np.int32)
  return point, stream_keys(jnp.asarray(ids))
