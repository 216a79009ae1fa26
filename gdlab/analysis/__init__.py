"""Measurements at a point of a problem: pure, jittable functions of (problem, params, model_state)."""

from gdlab.analysis.gradients import GradientMoments, gradient_covariance_trace, per_example_gradients

__all__ = ['GradientMoments', 'gradient_covariance_trace', 'per_example_gradients']
