"""Closed forms that simulation is held against: pure functions, no simulation."""

from gdlab.theory.descent import contraction_rate, largest_stable_rate
from gdlab.theory.minibatch import mean_variance, updates_per_epoch

__all__ = ['contraction_rate', 'largest_stable_rate', 'mean_variance', 'updates_per_epoch']
