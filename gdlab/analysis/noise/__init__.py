"""Gradient noise: its moments, both noise scales, its tails, and how well a gradient predicts the loss."""

from gdlab.analysis.noise.curved_scale import NoiseScales, noise_scales
from gdlab.analysis.noise.moments import ParameterMoments, gradient_moments, signal_to_noise
from gdlab.analysis.noise.predictiveness import Predictiveness, gradient_predictiveness
from gdlab.analysis.noise.scale import (
  SampledNoiseScale,
  sampled_noise_scale,
  two_batch_noise_scale,
  two_batch_squares,
)
from gdlab.analysis.noise.tails import NoiseTails, TailIndex, hill_index, noise_tails, stable_index

__all__ = [
  'NoiseScales',
  'NoiseTails',
  'ParameterMoments',
  'Predictiveness',
  'SampledNoiseScale',
  'TailIndex',
  'gradient_moments',
  'gradient_predictiveness',
  'hill_index',
  'noise_scales',
  'noise_tails',
  'sampled_noise_scale',
  'signal_to_noise',
  'stable_index',
  'two_batch_noise_scale',
  'two_batch_squares',
]
