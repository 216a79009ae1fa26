"""Rules about layers and generalisation: gradients that vanish or explode, dead units, held-out loss."""

from collections.abc import Sequence

import numpy as np

from gdlab.diagnosis import thresholds as at
from gdlab.diagnosis.data import Data
from gdlab.diagnosis.findings import Cause, Finding, Severity
from gdlab.diagnosis.stability import final_loss, share_left
from gdlab.diagnosis.traces import Trace


def exploding(trace: Trace, data: Data, names: Sequence[str]) -> Finding | None:
  """Gradients or a loss that are far too large before the first update."""
  if (
    not trace.layers.shape[1]
    or not np.isfinite(trace.layers[0, :, :2]).all()
    or not np.isfinite(trace.train[0])
    or not trace.train[0] > 0  # a loss that can be 0 or less is no scale for gradients
  ):
    return None
  gradients, norms = trace.layers[0, :, 0], trace.layers[0, :, 1]
  sensitivity = gradients * norms / max(trace.train[0], 1e-30)
  worst = int(np.argmax(sensitivity))
  chance = trace.train[0] / data.chance if data.chance > 0 else float('nan')
  if not (sensitivity[worst] > at.SENSITIVE or chance > at.CHANCE):
    return None
  severity = Severity.FATAL if _failed(trace, data) else Severity.MILD
  evidence = {
    'largest gradient of a layer': gradients.max(),
    'smallest': gradients.min(),
    'sensitivity': sensitivity[worst],
  }
  if np.isfinite(chance):
    evidence['first loss over chance'] = chance
  words = (
    f'Gradients explode: before the first update that of {name_of(names, worst)} is {gradients[worst]:.3g}'
  )
  words += f', that of {name_of(names, len(gradients) - 1)} {gradients[-1]:.3g}'
  words += f', and the loss is {chance:.3g} times that of guessing.' if chance > at.CHANCE else '.'
  advice = (
    'a smaller initialisation (variance 1/fan-in, 2/fan-in for ReLU), normalisation layers, or clipping.'
  )
  return Finding(Cause.EXPLODING_GRADIENTS, severity, evidence, words, advice)


def vanishing(trace: Trace, names: Sequence[str]) -> Finding | None:
  """Gradients that vanish through the layers."""
  gradients = trace.layers[:, :, 0]
  if gradients.shape[1] < 2 or not share_left(trace) > at.UNLEARNED:
    return None
  # Against the largest at the start: the last layer's own gradient falls as soon as it knows the classes' shares.
  ratios = gradients.min(axis=1) / max(gradients[0].max(), 1e-30)
  ratios = ratios[np.isfinite(ratios)]
  if not len(ratios) or not 0 < np.median(ratios) < at.VANISHED or not ratios[0] < at.VANISHED:
    return None
  low, high = int(np.argmin(gradients[0])), int(np.argmax(gradients[0]))
  words = (
    f'Gradients vanish: that of {name_of(names, low)} is {gradients[0, low]:.2g} before the first update, '
  )
  words += f'that of {name_of(names, high)} {gradients[0, high]:.2g}, '
  words += f'and the loss is still {share_left(trace):.2f} of the first one.'
  advice = 'ReLU-like activations, residual connections, normalisation layers, or fewer layers.'
  evidence = {
    'smallest gradient over the largest at first': float(np.median(ratios)),
    'at the start': float(ratios[0]),
  }
  return Finding(Cause.VANISHING_GRADIENTS, Severity.SERIOUS, evidence, words, advice)


def dead(trace: Trace, names: Sequence[str]) -> Finding | None:
  """A layer of which hardly any unit has a gradient."""
  if not trace.layers.shape[1] or not share_left(trace) > at.UNFINISHED:
    return None
  # Where the loss answers to a change of layers without a gradient, that is stopped and they are not dead.
  shares = np.where(trace.layers[-1, :, 4] > at.ANSWERS, 0.0, trace.layers[-1, :, 2])
  worst = int(np.argmax(shares))
  if not shares[worst] > at.DEAD:
    return None
  begun = int(trace.steps[np.argmax(trace.layers[:, worst, 2] > at.DEAD)])
  when = 'from the start' if begun == 0 else f'since update {begun} at the latest'
  words = f'{shares[worst]:.0%} of the units of {name_of(names, worst)} are dead: '
  words += f'no example gives them a gradient, {when}.'
  advice = (
    'initial biases near 0, a leaky activation, a smaller rate or a warm-up if they died during the run.'
  )
  return Finding(
    Cause.DEAD_LAYER, Severity.FATAL, {'dead units': shares[worst], 'since update': begun}, words, advice
  )


def generalisation(trace: Trace, data: Data) -> Finding | None:
  """Overfitting, and labels that can only be memorised."""
  if len(trace.train) < 3 or not np.isfinite(trace.test).all():
    return None
  nothing = min(trace.test[0], data.chance) if data.chance > 0 else trace.test[0]
  last_train, last_test, best = final_loss(trace), float(np.median(trace.test[-3:])), float(trace.test.min())
  told, learned = (nothing - best) / nothing, (nothing - last_train) / nothing
  if not learned > at.LEARNED:
    return None
  gap = (last_test - last_train) / (nothing - last_train)
  evidence = {
    'train loss': last_train,
    'test loss': last_test,
    'best test loss': best,
    'gap': gap,
    'test loss gained': told,
  }
  if np.isfinite(data.agreement):
    evidence |= {'neighbours that agree': data.agreement, 'standard errors above chance': data.agreement_z}
  # Labels drawn at random agree with inputs a little, by chance; that neighbours do not allows for it.
  by_chance = at.TOLD if np.isnan(data.agreement_z) else at.TOLD_BY_CHANCE
  if told < by_chance and gap > 0.5 and not data.agreement_z > at.NEIGHBOURS:
    words = f'The training loss falls to {last_train:.3g} while the held-out loss ends at {last_test:.3g} '
    words += f'(best {best:.3g}), compared with {nothing:.3g} for guessing: the labels are memorised.'
    advice = (
      'check how inputs and labels were paired (shuffled apart, sorted, off by one); look at a few examples.'
    )
    return Finding(Cause.MEMORISING, Severity.FATAL, evidence, words, advice)
  if gap < at.GAP or (last_test - last_train) / nothing < at.GAP_SIZE:
    return None
  step = int(trace.steps[np.argmin(trace.test)])
  words = f'The run overfits: the training loss is {last_train:.3g}, the held-out loss {last_test:.3g} '
  words += f'(best {best:.3g} after {step} updates); '
  words += f'{gap:.0%} of the improvement in training does not carry over to new examples.'
  advice = (
    f'more data or augmentation, weight decay or Dropout, a smaller model, or stopping near update {step}.'
  )
  severity = Severity.SERIOUS if gap > 0.5 else Severity.MILD
  return Finding(Cause.OVERFITTING, severity, evidence | {'best after update': step}, words, advice)


def _failed(trace: Trace, data: Data) -> bool:
  if trace.diverged:
    return True
  # The first loss is not a scale here, it is the fault.
  return final_loss(trace) > at.UNFINISHED * (data.chance if data.chance > 0 else trace.train[0])


def name_of(names: Sequence[str], number: int) -> str:
  """The name of a layer in text."""
  return names[number] if number < len(names) else f'layer {number + 1}'
