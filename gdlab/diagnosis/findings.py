"""Findings with their evidence, by run, and how they are printed."""

import enum
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

WIDTH = 100  # of a printed diagnosis


class Cause(enum.Enum):
  """What can be wrong with a run. The value is the printed text."""

  BAD_DATA = 'bad data'
  SOFTMAX_TWICE = 'softmax applied twice'
  ASCENT = 'updates along the gradient, not against it'
  NOT_FINITE = 'not finite'
  EXPLODING_GRADIENTS = 'exploding gradients'
  RATE_TOO_LARGE = 'learning rate too large'
  DEAD_LAYER = 'dead layer'
  FROZEN_LAYER = 'layer that is not trained'
  VANISHING_GRADIENTS = 'vanishing gradients'
  RANDOM_LABELS = 'labels unrelated to the inputs'
  MEMORISING = 'memorising labels unrelated to the inputs'
  OVERFITTING = 'overfitting'
  SCHEDULE_TOO_SHORT = 'schedule decayed too soon'
  RATE_TOO_SMALL = 'learning rate too small'
  EDGE_OF_STABILITY = 'oscillating at the edge of stability'
  GRADIENT_NOISE = 'oscillating from gradient noise'
  PLATEAU = 'plateau'


class Severity(enum.IntEnum):
  """How serious a finding is."""

  MILD = 1  # the run learned, and could have learned more or faster
  SERIOUS = 2  # most of what could be learned was not
  FATAL = 3  # the run is useless


class Finding(NamedTuple):
  """One problem of a run.

  Attributes:
    cause: its Cause.
    severity: how serious it is.
    evidence: the numbers it is based on, by name.
    words: what was observed, in one or two sentences.
    advice: what to try, most promising first.
  """

  cause: Cause
  severity: Severity
  evidence: Mapping[str, float]
  words: str
  advice: str

  def __str__(self) -> str:
    numbers = ', '.join(f'{name} = {value:.3g}' for name, value in self.evidence.items())
    parts = (f'  {self.words}', f'  Evidence: {numbers}.', f'  Try: {self.advice}')
    body = [textwrap.fill(part, WIDTH, initial_indent='', subsequent_indent='    ') for part in parts]
    return '\n'.join([f'{self.cause.value.upper()} ({self.severity.name.lower()})', *body])


class RunDiagnosis(NamedTuple):
  """What is wrong with one run.

  Attributes:
    where: the run's coordinates in the result: seed and hyperparameters.
    findings: the most likely cause first, then its consequences; empty for a sound run.
  """

  where: Mapping[str, Any]
  findings: tuple[Finding, ...]

  @property
  def cause(self) -> Cause | None:
    """The most likely cause; None for a sound run."""
    return self.findings[0].cause if self.findings else None

  def __str__(self) -> str:
    label = ', '.join(f'{name}={value}' for name, value in self.where.items()) or 'the run'
    found = '\n'.join(map(str, self.findings)) or 'Nothing found.'
    return f'{label}\n{textwrap.indent(found, "  ")}'


class Diagnosis(NamedTuple):
  """What is wrong with the runs of a result; prints as text.

  Attributes:
    runs: one diagnosis for every run, in the order of the result's dims.
  """

  runs: tuple[RunDiagnosis, ...]

  @property
  def causes(self) -> tuple[Cause | None, ...]:
    """The most likely cause of every run; None for a sound one."""
    return tuple(run.cause for run in self.runs)

  def __str__(self) -> str:
    counts = {cause: self.causes.count(cause) for cause in (*Cause, None) if self.causes.count(cause)}
    lines = [f'{len(self.runs)} run{"s" if len(self.runs) > 1 else ""} looked at:']
    lines += [f'  {count} x {cause.value if cause else "nothing found"}' for cause, count in counts.items()]
    shown = [next(run for run in self.runs if run.cause is cause) for cause in counts if cause]
    for run in shown:
      also = counts[run.cause] - 1
      others = f'(and {also} more like it)\n' if also else ''
      lines.append(f'\n{others}{run}')
    return '\n'.join(lines)
