"""Rules about the learning rate: runs that diverge, stall, or oscillate."""

import numpy as np

from gdlab.diagnosis import thresholds as at
from gdlab.diagnosis.findings import Cause, Finding, Severity
from gdlab.diagnosis.nonfinite import NonFinite
from gdlab.diagnosis.traces import Floats, Trace


def final_loss(trace: Trace) -> float:
  """The training loss at the end: the median of the last three evaluations."""
  return float(np.median(trace.train[-3:]))


def share_left(trace: Trace) -> float:
  """The final training loss over the first."""
  first = trace.train[0]
  return final_loss(trace) / first if first > 0 else float('nan')


def stability(trace: Trace, momentum: float) -> Floats:
  """The rate as a fraction of the largest stable one, at every evaluation; [0] takes the first known rate."""
  rates = np.copy(trace.rate)
  known = np.isfinite(rates)
  if known.any() and not known[0]:
    rates[0] = rates[known][0]
  return rates * trace.curvature / (2 + 2 * momentum)


def blown_up(trace: Trace, momentum: float, replayed: NonFinite | None) -> Finding | None:
  """A run that stopped being finite: by its learning rate, or by an invalid operation."""
  if not trace.diverged and np.isfinite(trace.train[0]):
    return None
  fraction = _largest(stability(trace, momentum))
  evidence: dict[str, float] = {'failed by update': trace.failed_at}
  grew = _largest(np.append(trace.train[1:], trace.batch_loss)) / trace.train[0]
  place = f'between updates {trace.last_update + 1} and {max(trace.failed_at, 1)}'
  if replayed is not None:
    place = f'at update {replayed.step}'
    grew = replayed.previous_loss / replayed.first_loss
    evidence = {
      'failed at update': replayed.step,
      'loss before': replayed.previous_loss,
      'first loss': replayed.first_loss,
    }
  evidence |= _known(rate_over_stable=fraction, loss_growth=grew)
  # A repeated run takes precedence over measurements at the evaluations around the failure.
  too_large = grew > at.GREW or (fraction > at.UNSTABLE and not (replayed is not None and grew <= 1))
  if too_large:
    words = f'The run diverged: it stopped being finite {place}{_fraction(fraction)}.'
    return Finding(Cause.RATE_TOO_LARGE, Severity.FATAL, evidence, words, _smaller(fraction))
  words = f'The run stopped being finite {place}, although its loss had not grown.'
  advice = 'look for a logarithm, root, norm or quotient at 0 and overflow; give `algorithm` to see where.'
  if replayed is not None:
    evidence |= {'leaves not finite': replayed.bad_leaves, 'leaves': replayed.num_leaves}
    if replayed.examples:
      words += f' The loss of training example {replayed.examples[0]} is not finite.'
    elif replayed.leaf:
      words += (
        f' The loss is finite, its gradient is not: {replayed.bad_leaves} of {replayed.num_leaves} leaves, '
      )
      words += f'the first of them {replayed.leaf}.'
    advice = 'look for a logarithm, root, norm or quotient at 0 between this leaf and the loss; guard its '
    advice += 'argument with `where` on both sides, or add a small number to it.'
  return Finding(Cause.NOT_FINITE, Severity.FATAL, evidence, words, advice)


def too_large(trace: Trace, momentum: float) -> Finding | None:
  """A finite run whose loss rose or never fell because of its rate."""
  left, fraction = share_left(trace), stability(trace, momentum)
  start = float(fraction[0]) if len(fraction) else float('nan')
  if len(trace.train) < 2 or not left > at.UNFINISHED:
    return None
  grew = float(np.max(trace.train[1:])) / trace.train[0]
  unstable = start > at.UNSTABLE
  unknown = not np.isfinite(start)
  # Batches alone may raise a loss: without a rate beyond the border a rise says nothing, unless nothing was measured.
  if not (
    (unstable and (left > at.UNLEARNED or grew > at.GREW))
    or (start > 1 and left > at.GREW)  # just beyond the border a run takes long to blow up
    or (unknown and left > at.UNLEARNED and grew > at.GREW)
  ):
    return None
  evidence = _known(rate_over_stable=start, largest_loss_over_first=grew, last_loss_over_first=left)
  words = (
    f'The run left its start but never learned{_fraction(start)}; its loss is {left:.2f} of the first one.'
  )
  return Finding(Cause.RATE_TOO_LARGE, Severity.FATAL, evidence, words, _smaller(start))


def too_small(trace: Trace, momentum: float) -> Finding | None:
  """A run that is stalled because its updates are too small."""
  left = share_left(trace)
  if len(trace.train) < 3 or not left > 0.5:
    return None
  fraction = _largest(stability(trace, momentum)) / (1 - momentum)
  spans = np.diff(trace.steps, prepend=trace.steps[0])
  travel = float(np.nansum(trace.update_norm * spans) / np.nanmedian(trace.param_norm))
  if not (fraction < at.TINY_RATE or (np.isnan(fraction) and travel < at.TRAVEL)):
    return None
  evidence = _known(rate_over_stable=fraction, path_over_parameters=travel, last_loss_over_first=left)
  words = f'The run is stalled: its loss is still {left:.2f} of the first one{_fraction(fraction)}.'
  factor = (
    '30 times as large' if np.isnan(fraction) else f'up to {0.3 / max(fraction, 1e-12):.0g} times as large'
  )
  return Finding(Cause.RATE_TOO_SMALL, Severity.SERIOUS, evidence, words, f'a learning rate {factor}.')


def decayed_too_soon(trace: Trace, momentum: float) -> Finding | None:
  """A schedule that reduced the rate to nearly 0 before the run had finished learning."""
  rate, left = trace.rate, share_left(trace)
  if len(rate) < 4 or not np.isfinite(rate[1:]).any() or not left > at.UNFINISHED:
    return None
  peak = np.nanmax(rate)
  gone = np.nan_to_num(rate, nan=peak) < at.FROZEN * peak
  if not gone[-1]:
    return None
  first = len(gone) - int(np.argmin(gone[::-1])) if not gone.all() else 0
  frozen = 1 - trace.steps[min(first, len(gone) - 1)] / max(trace.num_steps, 1)
  gradients = trace.gradient if np.isfinite(trace.gradient).all() else trace.grad_norm[1:]
  steep = float(np.median(gradients[-3:]) / gradients[0])
  if frozen < at.FROZEN_SHARE or steep < at.STEEP:
    return None
  evidence = {
    'updates at a rate below 1 % of the peak': frozen,
    'gradient left': steep,
    'last loss over first': left,
  }
  words = f'The schedule decayed too soon: for the last {frozen:.0%} of the updates the rate was below '
  words += f'1 % of its peak, with the loss at {left:.2f} of the first one and the gradient at {steep:.2f}.'
  return Finding(
    Cause.SCHEDULE_TOO_SHORT, Severity.SERIOUS, evidence, words,
    'a schedule whose horizon is the number of updates of the run, or a constant rate.',
  )  # fmt: skip


def swinging(trace: Trace, momentum: float) -> Finding | None:
  """A loss that oscillates: by curvature, at the edge of stability, or by gradient noise."""
  late = trace.late
  if len(trace.train) < 6:
    return None
  fraction = (
    float(np.nanmedian(stability(trace, momentum)[late])) if np.isfinite(trace.curvature).any() else np.nan
  )
  moving = trace.gradient[late] > 0
  ratio = np.square(trace.grad_norm[late][moving] / trace.gradient[late][moving])
  noise = float(np.nanmean(ratio)) if np.isfinite(ratio).any() else float('nan')
  ascents = float(np.mean(trace.train[late] > trace.batch_loss[late]))
  scatter = float(np.std(np.diff(trace.train[late])) / np.sqrt(2) / trace.train[0])
  evidence = _known(
    rate_over_stable=fraction,
    noise_over_gradient_squared=noise - 1,
    single_updates_that_ascend=ascents,
    scatter=scatter,
  )
  apart = _apart(trace)
  whole = apart < at.FULL_BATCH
  if whole and ascents > at.ASCENTS and at.EDGE[0] < fraction < at.EDGE[1]:
    words = (
      f'The loss oscillates although its gradients are exact{_fraction(fraction)}: the edge of stability.'
    )
    advice = (
      f'a learning rate of {0.5 / fraction:.2g} times this one; the loss may still fall in the long run.'
    )
    return Finding(Cause.EDGE_OF_STABILITY, Severity.MILD, evidence, words, advice)
  # A few squared gradients of single examples say little: most are near 0, some are huge. Losses say it as well.
  noisy = apart > at.APART or not noise < at.NOISY
  middle, end = _halves(trace.train[late])
  stands = (middle - end) / trace.train[0] < at.FLAT or scatter > at.SCATTER
  if not whole and scatter > at.SCATTER and stands and share_left(trace) > 0.05 and noisy:
    words = f'The loss goes up and down by {scatter:.2f} of its first value without further progress: '
    words += (
      f'gradient noise is {max(noise - 1, 0):.3g} times the squared gradient'
      if np.isfinite(noise)
      else 'gradients are noisy'
    )
    words += f'{_fraction(fraction)}.' if fraction < 1 else '.'
    advice = 'a rate that decays, larger batches, or an average of the iterates.'
    return Finding(Cause.GRADIENT_NOISE, Severity.SERIOUS, evidence, words, advice)
  return None


def standing_still(trace: Trace, momentum: float) -> Finding | None:
  """A loss that no longer falls although it is still large, if no other cause was found."""
  if len(trace.train) < 6 or not share_left(trace) > at.UNLEARNED:
    return None
  middle, end = _halves(trace.train[trace.late])
  fall = (middle - end) / trace.train[0]
  if fall > at.FLAT:
    return None
  gradients = trace.gradient if np.isfinite(trace.gradient).all() else trace.grad_norm[1:]
  evidence = _known(
    fall_in_second_half=fall,
    last_loss_over_first=share_left(trace),
    gradient_left=float(gradients[-1] / gradients[0]),
  )
  words = 'The loss is on a plateau: it did not fall in the second half of the run.'
  advice = '`overfit_small` and `check_gradients`; then a larger rate, momentum, or another start.'
  return Finding(Cause.PLATEAU, Severity.SERIOUS, evidence, words, advice)


def _apart(trace: Trace) -> float:
  """The median distance of a batch's loss from the training loss, as a share of it; small for full batches."""
  seen = np.isfinite(trace.batch_loss)
  apart = np.abs(trace.batch_loss - trace.train)[seen] / np.maximum(trace.train[seen], 1e-30)
  return float(np.median(apart)) if len(apart) else float('nan')


def _halves(values: Floats) -> tuple[float, float]:
  half = len(values) // 2
  return float(np.mean(values[:half])), float(np.mean(values[half:]))


def _largest(values: Floats) -> float:
  finite = values[np.isfinite(values)]
  return float(finite.max()) if len(finite) else float('nan')


def _known(**numbers: float) -> dict[str, float]:
  return {name.replace('_', ' '): float(value) for name, value in numbers.items() if np.isfinite(value)}


def _fraction(fraction: float) -> str:
  return (
    f', with a learning rate of {fraction:.3g} times the largest stable one (2/λmax)'
    if np.isfinite(fraction)
    else ''
  )


def _smaller(fraction: float) -> str:
  factor = f'about {max(2 * fraction, 3):.2g} times' if np.isfinite(fraction) else '10 times'
  return f'a learning rate {factor} smaller, or a warm-up; clipping of gradients treats the symptom.'
