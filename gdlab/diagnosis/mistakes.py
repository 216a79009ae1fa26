"""Rules about mistakes in a script that shapes do not reveal: softmax twice, ascent, layers not trained, labels."""

from collections.abc import Sequence

import numpy as np

from gdlab.diagnosis import thresholds as at
from gdlab.diagnosis.data import Data
from gdlab.diagnosis.findings import Cause, Finding, Severity
from gdlab.diagnosis.learning import name_of
from gdlab.diagnosis.nonfinite import NonFinite
from gdlab.diagnosis.stability import final_loss, share_left, stability
from gdlab.diagnosis.traces import Trace


def softmax_twice(trace: Trace) -> Finding | None:
  r"""A loss that expects logits and gets probabilities.

  They lie in [0, 1], so that the loss of C classes never falls below $\log(1 + (C-1)/e)$, and has this value or 1 more
  if the probabilities are 0 and 1, as they are for larger parameters.
  """
  shares = trace.saturated.max(axis=1)
  shares = shares[np.isfinite(shares)]
  if not len(shares) or not np.median(shares) > at.SOFTMAX_TWICE:
    return None
  share = float(np.median(shares))
  evidence = {'examples at a loss of saturated probabilities': share, 'last loss': final_loss(trace)}
  words = (
    f'The loss is bounded: with all parameters larger, {share:.0%} of the examples have exactly the loss '
  )
  words += (
    'of outputs that are 0 and 1. It gets probabilities where it expects logits, and cannot fall below '
  )
  words += 'log(1 + (C-1)/e) for C classes.'
  advice = (
    'leave out the softmax (or sigmoid) at the end of the model, or use a loss that takes probabilities.'
  )
  return Finding(Cause.SOFTMAX_TWICE, Severity.SERIOUS, evidence, words, advice)


def ascent(trace: Trace, momentum: float, replayed: NonFinite | None, uphill: float) -> Finding | None:
  """Updates that ascend: the loss rises at a rate at which descent is stable, and the path follows the gradient."""
  fraction = float(stability(trace, momentum)[0])
  grew = share_left(trace)
  if replayed is not None:
    grew = max(grew, replayed.previous_loss / replayed.first_loss)
  # Beyond the border of stability descent diverges too, and some steps follow the gradient.
  if not (uphill > at.UPHILL and grew > 1) or fraction >= 1:
    return None
  evidence = {'cosine of path and gradient': uphill, 'last loss over first': grew}
  words = f'The updates climb: the cosine of the path and the gradient is {uphill:.2f}, below 0 for descent, '
  words += f'and the loss grew to {grew:.3g} times the first one'
  if np.isfinite(fraction):
    evidence['rate over stable'] = fraction
    words += f', at a rate of {fraction:.2g} times the largest stable one, at which descent does not grow'
  advice = 'look for a sign error: updates are added to the parameters, so an optimizer ends with scale(-rate); a loss '
  advice += (
    'is minimised, so a likelihood or reward needs a minus; check_gradients detects a wrong derivative.'
  )
  return Finding(Cause.ASCENT, Severity.FATAL, evidence, words + '.', advice)


def climb(trace: Trace) -> float:
  """The median cosine, over evaluations, of the step to the next one and the gradient; NaN where unknown."""
  way, gradient = np.diff(trace.sketch[:, 0], axis=0), trace.sketch[:-1, 1]
  with np.errstate(invalid='ignore', over='ignore', divide='ignore'):
    sizes = np.linalg.norm(way, axis=1) * np.linalg.norm(gradient, axis=1)
    cosines = np.sum(way * gradient, axis=1) / sizes
  cosines = cosines[np.isfinite(cosines)]
  return float(np.median(cosines)) if len(cosines) else float('nan')


def frozen(trace: Trace, names: Sequence[str]) -> Finding | None:
  """Layers that never change although the loss depends on them, while others do."""
  if len(trace.steps) < 2 or not trace.layers.shape[1]:
    return None
  if not (np.isfinite(trace.layers).all() and np.isfinite(trace.gradient).all()):
    return None
  gradients, norms, marks, answers = (trace.layers[:, :, number] for number in (0, 1, 3, 4))
  fixed = (marks == marks[0]).all(axis=0) & (norms[0] > 0)
  shares = gradients[1:] / np.maximum(trace.gradient[1:, None], 1e-30)
  due = np.median(trace.update_norm[1:, None] * shares / np.maximum(norms[1:], 1e-30), axis=0)
  stopped = fixed & (gradients == 0).all(axis=0) & (np.median(answers, axis=0) > at.ANSWERS)
  skipped = fixed & (due > at.SHOULD_MOVE)
  if not (stopped | skipped).any():
    return None
  worst = int(np.argmax(stopped | skipped))
  evidence = {'layers that never changed': float((stopped | skipped).sum()), 'layers': float(len(fixed))}
  if stopped[worst]:
    evidence['relative change of the loss for one of theirs'] = float(np.median(answers[:, worst]))
    why = 'its gradient is exactly zero although the loss depends on it'
    advice = 'look for a stop_gradient, a detached copy or an integer cast after it.'
  else:
    evidence['median gradient'] = float(np.median(gradients[:, worst]))
    why = f'its gradient is {np.median(gradients[:, worst]):.2g}'
    advice = 'check masks, labels of `optax.partition` and the arguments of the optimizer; in half precision, keep the '
    advice += 'parameters in float32.'
  words = (
    f'{name_of(names, worst)} is the same, to the last bit, at all {len(trace.steps)} evaluations; {why}.'
  )
  severity = Severity.SERIOUS if share_left(trace) > at.UNFINISHED else Severity.MILD
  return Finding(
    Cause.FROZEN_LAYER, severity, evidence, words, advice + ' Nothing is wrong if it is frozen on purpose.'
  )


def random_labels(trace: Trace, data: Data) -> Finding | None:
  """Nothing learned, with labels that are unrelated to the inputs by the test of nearest neighbours."""
  if not data.told_at_most < at.NEIGHBOURS_TELL or not data.agreement_z < at.NEIGHBOURS:
    return None
  nothing = data.chance
  last = final_loss(trace)
  if not abs(last / nothing - 1) < at.NOTHING_LEARNED:
    return None
  if np.isfinite(trace.test).all() and trace.test.min() < (1 - at.TOLD_BY_CHANCE) * nothing:
    return None
  evidence = {
    'train loss': last,
    'loss of guessing': nothing,
    'neighbours that agree': data.agreement,
    'standard errors above chance': data.agreement_z,
  }
  words = (
    f'The training loss stays at {last:.3g}, and guessing gives {nothing:.3g}; nearest neighbours have the '
  )
  words += f'same label in {data.agreement:.0%} of the cases, as labels drawn at random would.'
  advice = (
    'check how inputs and labels were paired (shuffled apart, sorted, off by one); look at a few examples. '
  )
  advice += 'Labels that depend on a combination of inputs only (a parity) look the same.'
  return Finding(Cause.RANDOM_LABELS, Severity.FATAL, evidence, words, advice)
