"""A known number of wrong labels, for any classification problem."""

import dataclasses

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Examples, Known, Problem
from gdlab.problems.checks import as_array, check_labels, check_problem


@checked('problem', 'fraction', 'num_classes', 'seed')
def with_label_noise(problem: Problem, fraction: float, *, num_classes: int, seed: int = 0) -> Problem:
  r"""The problem with a share of its training labels replaced by wrong ones.

  Of the N training labels exactly `round(fraction * N)`, drawn without replacement, become another class, each
  of the `num_classes` - 1 other ones with equal probability (symmetric noise). At fraction $(C-1)/C$ the labels carry
  no information. Held-out sets keep their labels; for wrong labels in the validation set too, `split` the noisy
  problem. Nothing is known of the new problem.

  Example:
    >>> from gdlab.problems.images import digits
    >>> clean = digits()
    >>> noisy = with_label_noise(clean, 0.2, num_classes=10)
    >>> int((noisy.train.targets != clean.train.targets).sum())
    287

  Args:
    problem: its training examples are `Examples` whose targets are one array of integer labels. For sequences,
      [N, T], single labels are replaced.
    fraction: in [0, 1].
    num_classes: C >= 2; labels lie in [0, C).
    seed: >= 0, of the choice of labels and their new classes.

  Raises:
    InputError: an argument out of range; targets that are not labels.

  Source: C. Zhang, S. Bengio, M. Hardt, B. Recht and O. Vinyals, "Understanding deep learning requires rethinking
  generalization", ICLR 2017 (partially corrupted labels; there the new label may equal the old one).
  """
  check_problem(problem)
  if not isinstance(problem.train, Examples):
    raise InputError(f'problem must have Examples to train on, got {type(problem.train).__name__}')
  fraction = float(check_real('fraction', fraction, minimum=0, maximum=1))
  num_classes = check_count('num_classes', num_classes, minimum=2)
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  labels = problem.train.targets
  if not np.issubdtype(getattr(labels, 'dtype', float), np.integer):
    raise InputError(f'problem must have one array of integer labels as targets, got {shown(labels)}')
  check_labels('problem.train.targets', labels, num_classes)

  noisy = np.array(labels)
  changed = rng.choice(noisy.size, size=round(fraction * noisy.size), replace=False)
  shift = rng.integers(1, num_classes, size=changed.size)
  noisy.flat[changed] = (noisy.flat[changed] + shift) % num_classes
  return dataclasses.replace(
    problem,
    name=f'{problem.name}, noisy labels',
    train=problem.train._replace(targets=as_array('targets', noisy)),
    known=Known(),
  )
