"""What depends on sampling alone: the variance of a mini-batch mean and the number of updates in an epoch."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.theory.inputs import nonnegative, together


@checked('variance', 'batch_size', 'num_examples')
def mean_variance(variance: Any, batch_size: npt.ArrayLike, num_examples: int | None = None) -> Any:
  r"""The variance of the mean of a mini-batch drawn uniformly, with or without replacement.

  $$\frac{\sigma^2}{B} \quad\text{with replacement,}\qquad
    \frac{\sigma^2}{B}\,\frac{N-B}{N-1} \quad\text{without,}\qquad
    \sigma^2 = \frac1N \sum_{i=1}^N \|g_i - \bar g\|^2.$$

  For vectors, the variance is the trace of the covariance. Without replacement it holds for every batch that is uniform
  among all subsets of B examples, as each full batch of a reshuffled epoch is, and a short last batch with its own size
  for B. At B = N it is 0.

  Args:
    variance: sigma^2 >= 0, float[...], of the population: divided by N, not N - 1.
    batch_size: B >= 1, a whole number or an array of them.
    num_examples: N >= B for draws without replacement; None for draws with replacement.

  Raises:
    InputError: if an argument is out of range or their shapes do not broadcast.

  Source: Cochran 1977, Sampling Techniques, theorem 2.2.
  """
  nonnegative('variance', variance)
  sizes = np.asarray(batch_size)
  if sizes.dtype.kind not in 'iu' or (sizes < 1).any():
    raise InputError(f'batch_size must be whole numbers >= 1, got {shown(batch_size)}')
  together(variance=np.asarray(variance), batch_size=sizes)
  if num_examples is None:
    return variance / sizes
  check_count('num_examples', num_examples)
  if (sizes > num_examples).any():
    raise InputError(f'batch_size must be at most num_examples={num_examples}, got {shown(batch_size)}')
  # One example has no variance to correct: 0 / 0 becomes 0 / 1.
  return variance / sizes * (num_examples - sizes) / max(num_examples - 1, 1)


@checked('num_examples', 'batch_size')
def updates_per_epoch(num_examples: int, batch_size: int) -> int:
  """The number of updates that see every example once, ceil(N / B); a short last batch has N mod B examples.

  Args:
    num_examples: N >= 1.
    batch_size: B in [1, N].

  Raises:
    InputError: if either is out of range.
  """
  check_count('num_examples', num_examples)
  check_count('batch_size', batch_size, maximum=num_examples)
  return -(-num_examples // batch_size)
