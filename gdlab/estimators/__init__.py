"""Gradient estimators: from a batch to a gradient."""

from gdlab.estimators.plain import BatchMeanState, batch_mean, microbatched

__all__ = ['BatchMeanState', 'batch_mean', 'microbatched']
