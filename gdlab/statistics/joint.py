"""Simultaneous intervals of effects that share their seeds, and the error that each of several looks may spend."""

from typing import Any

import numpy as np
import scipy.stats

from gdlab.core.argument_checks import array
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.statistics.intervals import Interval, along

NUM_DRAWS = 20_000
AT_ONCE = 2_000_000  # numbers drawn at a time


@checked('values', 'confidence', selection=array(ndim=(0, 1), minimum=0))
def joint_intervals(
  values: Any, *, confidence: float = 0.95, selection: Any = 0.0, seed: int = 0
) -> list[Interval]:
  r"""Simultaneous intervals of the means of several effects: all of them hold with the given confidence.

  $\bar x_j \pm c\, s_j / \sqrt n$, as Student's, with one c for all: the quantile of $\max_j |t_j|$ for Gaussian values
  with the observed correlations. Effects that share seeds or a baseline are correlated, so c is smaller than
  Bonferroni's. It is estimated from 20,000 draws, with a standard error of 0.15 % in the level; with at most two seeds
  per effect, and for confidences above .995, c is Bonferroni's. An effect without variance counts as known exactly, and
  its interval has zero width.

  Args:
    values: float[n, m] finite, the values of m effects for n >= 2 seeds; or a DataArray with a dim `seed`.
    confidence: that all m intervals hold, in (0, 1).
    selection: float[m] >= 0, a further variance v of each mean, not visible in the seeds, in
      $\sqrt{s_j^2 / n + v_j}$: from choices made on other seeds, see `over_choices`.
    seed: of the draws.

  Returns:
    An Interval for each effect.

  Raises:
    InputError: if an argument is out of range, or a value is not finite.

  Source: Westfall and Young 1993, Resampling-based multiple testing, section 2.5; Dunnett 1955, A multiple comparison
  procedure, JASA 50.
  """
  check_real('confidence', confidence, above=0, below=1)
  values = along('values', values, 'seed', ...)
  if values.ndim != 2 or len(values) < 2 or not values.shape[1] or not np.isfinite(values).all():
    raise InputError(
      f'values must be finite with axes [seed, effect] and at least 2 seeds, got shape {values.shape}'
    )
  selection = np.asarray(selection, np.float64)
  if selection.shape not in ((), values.shape[1:]):
    raise InputError(
      f'selection must be one number or one per effect, {values.shape[1:]}, got shape {selection.shape}'
    )
  means, deviations = (
    values.mean(axis=0),
    np.where(np.ptp(values, axis=0) > 0, values.std(axis=0, ddof=1), 0.0),
  )
  varies = deviations > 0
  critical = (
    _critical((values - means)[:, varies] / deviations[varies], confidence, seed) if varies.any() else 0.0
  )
  halves = critical * np.sqrt(deviations**2 / len(values) + selection)
  return [
    Interval(float(mean), float(mean - half), float(mean + half), confidence, len(values), 0)
    for mean, half in zip(means, halves, strict=True)
  ]


def _critical(scaled: np.ndarray, confidence: float, seed: int) -> float:
  """The quantile of the largest |t| of effects with the correlations of `scaled`, float[n, m] of unit variance."""
  count, num_effects = scaled.shape
  if num_effects == 1:
    return float(scipy.stats.t.ppf((1 + confidence) / 2, count - 1))
  bonferroni = float(scipy.stats.t.ppf(1 - (1 - confidence) / 2 / num_effects, count - 1))
  if count <= 2 * num_effects or (1 - confidence) * NUM_DRAWS < 100:
    return bonferroni  # correlations of so many effects are not known from so few seeds
  # A root of the correlations: of as many numbers as there are effects, or seeds where these are fewer.
  root = np.linalg.svd(scaled, full_matrices=False)
  mixed = root.S[:, None] * root.Vh / np.sqrt(count - 1)
  rng = np.random.default_rng(seed)
  largest, step = [], max(1, AT_ONCE // (count * num_effects))
  for begin in range(0, NUM_DRAWS, step):
    drawn = rng.standard_normal((min(step, NUM_DRAWS - begin), count, len(mixed))) @ mixed
    largest.append(np.abs(drawn.mean(axis=1) / drawn.std(axis=1, ddof=1)).max(axis=1) * np.sqrt(count))
  return min(bonferroni, float(np.quantile(np.concatenate(largest), confidence)))


@checked('significance', 'seeds', 'before', 'most')
def spent(significance: float, seeds: int, before: int, most: int) -> float:
  r"""The part of the error probability that one of several looks may spend, in proportion to its new seeds.

  $\alpha (n_k - n_{k-1}) / n_\text{most}$. All looks together spend at most $\alpha$, whatever their dependence, so a
  comparison may stop at the first look that decides it.

  Args:
    significance: alpha in (0, 1), of all looks together.
    seeds: n_k, the number at this look.
    before: the number at the look before, 0 at the first.
    most: the number at the last look, fixed before the first one.

  Raises:
    InputError: if an argument is out of range.

  Source: Lan and DeMets 1983, Discrete sequential boundaries for clinical trials, Biometrika 70, with Bonferroni's
  inequality between the looks.
  """
  check_real('significance', significance, above=0, below=1)
  check_count('most', most)
  check_count('seeds', seeds, maximum=most)
  check_count('before', before, minimum=0, maximum=seeds - 1)
  return significance * (seeds - before) / most
