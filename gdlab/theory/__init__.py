"""Closed forms that simulation is held against: pure functions, no simulation, NumPy in float64.

One step and its stability: `descent`, `stability`. A batch: `minibatch`. Noise on a quadratic: `moments`,
`stationary`, `reshuffling`. The noisy quadratic model: `nqm`, `nqm_steps`. Saddles and barriers: `saddles`,
`kramers`. Batch size and rate: `noise_scale`, `scaling`.
"""

from gdlab.theory.descent import contraction_rate, largest_stable_rate
from gdlab.theory.kramers import (
  effective_temperature,
  eyring_kramers_rate,
  kramers_rate,
  kramers_rate_underdamped,
  mean_first_passage_time,
)
from gdlab.theory.minibatch import mean_variance, updates_per_epoch
from gdlab.theory.moments import Moments, batch_sizes_of_epoch, covariance_path, second_moments
from gdlab.theory.noise_scale import (
  best_rate,
  critical_batch_size,
  examples_for_batch,
  examples_for_steps,
  largest_useful_rate,
  noise_scale,
  simple_noise_scale,
  steps_for_batch,
)
from gdlab.theory.nqm import (
  NoisyQuadratic,
  Phase,
  expected_loss,
  noisy_quadratic,
  phased_loss,
  preconditioned,
)
from gdlab.theory.nqm_steps import Fastest, fastest, phased_steps, steps_to_target
from gdlab.theory.reshuffling import loss_floor, replacement_bound, reshuffled_bias, reshuffled_bound
from gdlab.theory.saddles import (
  continuous_escape_time,
  escape_growth,
  escape_steps,
  escaped_probability,
  mean_escape_steps,
  octopus_gap_ratio,
)
from gdlab.theory.scaling import (
  ScalingChange,
  largest_linear_batch,
  largest_linear_scaling,
  largest_square_root_scaling,
  linear_scaling_change,
  square_root_scaling_change,
)
from gdlab.theory.stability import (
  Tuning,
  best_heavy_ball,
  best_nesterov,
  best_plain,
  line_search_rate,
  line_search_worst_start,
  spectral_radius,
)
from gdlab.theory.stationary import small_rate_covariance, stationary_covariance, stationary_moments

__all__ = [
  'Fastest',
  'Moments',
  'NoisyQuadratic',
  'Phase',
  'ScalingChange',
  'Tuning',
  'batch_sizes_of_epoch',
  'best_heavy_ball',
  'best_nesterov',
  'best_plain',
  'best_rate',
  'continuous_escape_time',
  'contraction_rate',
  'covariance_path',
  'critical_batch_size',
  'effective_temperature',
  'escape_growth',
  'escape_steps',
  'escaped_probability',
  'examples_for_batch',
  'examples_for_steps',
  'expected_loss',
  'eyring_kramers_rate',
  'fastest',
  'kramers_rate',
  'kramers_rate_underdamped',
  'largest_linear_batch',
  'largest_linear_scaling',
  'largest_square_root_scaling',
  'largest_stable_rate',
  'largest_useful_rate',
  'line_search_rate',
  'line_search_worst_start',
  'linear_scaling_change',
  'loss_floor',
  'mean_escape_steps',
  'mean_first_passage_time',
  'mean_variance',
  'noise_scale',
  'noisy_quadratic',
  'octopus_gap_ratio',
  'phased_loss',
  'phased_steps',
  'preconditioned',
  'replacement_bound',
  'reshuffled_bias',
  'reshuffled_bound',
  'second_moments',
  'simple_noise_scale',
  'small_rate_covariance',
  'spectral_radius',
  'square_root_scaling_change',
  'stationary_covariance',
  'stationary_moments',
  'steps_for_batch',
  'steps_to_target',
  'updates_per_epoch',
]
