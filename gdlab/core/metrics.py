"""Names of metrics, and which values of them are better."""

from collections.abc import Collection

from gdlab.core.types import SPLITS


def large_is_good(metric: str, large: Collection[str] = ()) -> bool:
  """Whether larger is better for a metric: an accuracy, or one of those in `large` (bare names), on any set."""
  return metric.endswith('accuracy') or bare(metric) in large


def bare(metric: str) -> str:
  """A metric's name without the prefix of its set of examples."""
  split, _, name = metric.partition('_')
  return name if split in SPLITS and name else metric
