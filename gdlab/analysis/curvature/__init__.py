"""Curvature of the mean training loss: operators, extreme eigenpairs, trace, diagonal and density of the spectrum."""

from gdlab.analysis.curvature.density import SpectralDensity, spectral_density
from gdlab.analysis.curvature.eigen import Eigenpairs, Extremes, eigenpairs, sharpness
from gdlab.analysis.curvature.matrix import dense
from gdlab.analysis.curvature.operators import Operator, gauss_newton, hessian, layers
from gdlab.analysis.curvature.traces import Estimate, diagonal, trace

__all__ = [
  'Eigenpairs',
  'Estimate',
  'Extremes',
  'Operator',
  'SpectralDensity',
  'dense',
  'diagonal',
  'eigenpairs',
  'gauss_newton',
  'hessian',
  'layers',
  'sharpness',
  'spectral_density',
  'trace',
]
