"""Detection of bad data without training: missing, unscaled or constant values, and random labels."""

from typing import NamedTuple

import jax
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.types import Examples, Problem
from gdlab.diagnosis import thresholds as at
from gdlab.diagnosis.findings import Cause, Finding, Severity


class Data(NamedTuple):
  """Properties of a training set that the rules use.

  Attributes:
    findings: what is wrong with it.
    chance: the loss of predicting the class shares, which is their entropy; NaN where targets are not labels.
    agreement: the share of examples whose nearest neighbour has the same label; NaN where unknown.
    agreement_z: by how many standard errors it exceeds that of random labels.
    told_at_most: an upper bound, two standard errors above the estimate, of what neighbours tell about a label, from 0
      (as at random) to 1 (all agree).
  """

  findings: tuple[Finding, ...] = ()
  chance: float = float('nan')
  agreement: float = float('nan')
  agreement_z: float = float('nan')
  told_at_most: float = float('nan')


@checked
def look_at_data(problem: Problem) -> Data:
  """Checks the training examples. A host function, of about N * features + 1000^2 * features operations."""
  count = problem.num_examples
  if not isinstance(problem.train, Examples) or count < at.MIN_EXAMPLES:
    return Data(_not_finite(jax.tree.leaves(problem.train)))
  inputs = [np.asarray(leaf).reshape(count, -1) for leaf in jax.tree.leaves(problem.train.inputs)]
  inputs = [leaf for leaf in inputs if np.issubdtype(leaf.dtype, np.floating)]
  targets = jax.tree.leaves(problem.train.targets)
  findings = _not_finite([*inputs, *targets])
  if inputs and not findings:
    findings = _scales(np.concatenate(inputs, axis=1).astype(float))
  labels = np.asarray(targets[0]) if len(targets) == 1 else np.zeros((0, 0))
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    return Data(findings)
  shares = np.unique(labels, return_counts=True)[1] / count
  if len(shares) == 1:
    findings += (
      _bad({'classes': 1}, 'All training examples have the same label.', 'check how the labels were read.'),
    )
  chance = float(-np.sum(shares * np.log(shares)))
  if not inputs or findings or len(shares) == 1:
    return Data(findings, chance)
  return Data(findings, chance, *_neighbours(np.concatenate(inputs, axis=1), labels))


def _not_finite(leaves: list) -> tuple[Finding, ...]:
  for leaf in leaves:
    values = np.asarray(leaf)
    if not np.issubdtype(values.dtype, np.floating) or not values.size:
      continue
    wrong = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if wrong.any():
      first = int(np.argmax(wrong))
      words = f'{int(wrong.sum())} training examples contain NaN or infinity; the first is example {first}.'
      evidence = {'examples not finite': int(wrong.sum()), 'first of them': first}
      return (_bad(evidence, words, 'leave these examples out, or fill in missing values.', Severity.FATAL),)
  return ()


def _scales(inputs: np.ndarray) -> tuple[Finding, ...]:
  spread, mean = inputs.std(axis=0), inputs.mean(axis=0)
  varies = spread > 1e-6 * np.maximum(np.abs(mean), 1e-30)
  constant = float(1 - varies.mean())
  if constant > at.CONSTANT:
    words = f'{constant:.0%} of the input features have the same value in all training examples.'
    advice = 'check how the inputs were read; leave constant features out.'
    return (_bad({'constant features': constant}, words, advice, Severity.FATAL),)
  size = float(np.sqrt(np.mean(np.square(inputs))))
  offset = float(np.median(np.abs(mean[varies]) / spread[varies]))
  if size < at.SCALE and offset < at.OFFSET:
    return ()
  words = f'The inputs are not scaled: their root mean square is {size:.3g}'
  words += f', and the median feature has a mean of {offset:.3g} standard deviations.'
  advice = 'subtract from each feature its mean over the training set and divide by its standard deviation.'
  return (_bad({'root mean square of inputs': size, 'mean / standard deviation': offset}, words, advice),)


def _neighbours(inputs: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
  chosen = np.arange(min(len(labels), at.MAX_EXAMPLES)) * len(labels) // min(len(labels), at.MAX_EXAMPLES)
  points, own = inputs[chosen].astype(float), labels[chosen]
  squares = np.sum(points**2, axis=1)
  distances = squares[:, None] + squares[None, :] - 2 * points @ points.T
  # Copies of an example would tell its label whether the inputs do or not.
  distances[distances <= 1e-9 * max(squares.max(), 1e-30)] = np.inf
  agreement = float(np.mean(own[np.argmin(distances, axis=1)] == own))
  shares = np.unique(own, return_counts=True)[1] / len(own)
  expected = float(np.sum(shares**2))
  error = np.sqrt(max(expected * (1 - expected), 1e-12) / len(own))
  told = (agreement + 2 * error - expected) / max(1 - expected, 1e-12)
  return agreement, float((agreement - expected) / error), float(told)


def _bad(evidence: dict, words: str, advice: str, severity: Severity = Severity.SERIOUS) -> Finding:
  return Finding(Cause.BAD_DATA, severity, evidence, words, advice)
