"""Which examples of a batch each example's loss depends on, found from the traced program."""

from gdlab.core.dependence.batches import (
  Mixing,
  check_losses,
  mixes_in_evaluation,
  mixes_in_training,
  mixing,
  one_by_one,
  padding_reaches,
)
from gdlab.core.dependence.interpreter import Followed, Traced, follow, trace
from gdlab.core.dependence.labels import of_examples

__all__ = [
  'Followed',
  'Mixing',
  'Traced',
  'check_losses',
  'follow',
  'mixes_in_evaluation',
  'mixes_in_training',
  'mixing',
  'of_examples',
  'one_by_one',
  'padding_reaches',
  'trace',
]
