"""Strict-saddle problems on vectors and matrices whose stationary points are known from a spectrum.

At a listed point x the gradient is 0 to 1e-10 in float64 for spectra of order one, and else to 1e-10 times
max(1, L max(1, |x|)), L the largest eigenvalue of the Hessian listed there in absolute value.
"""

from gdlab.problems.matrices.deep_linear import deep_linear_network
from gdlab.problems.matrices.factorization import low_rank_factorization
from gdlab.problems.matrices.phase import phase_retrieval, population_phase_retrieval
from gdlab.problems.matrices.sensing import matrix_sensing
from gdlab.problems.matrices.tensors import orthogonal_tensor_decomposition

__all__ = [
  'deep_linear_network',
  'low_rank_factorization',
  'matrix_sensing',
  'orthogonal_tensor_decomposition',
  'phase_retrieval',
  'population_phase_retrieval',
]
