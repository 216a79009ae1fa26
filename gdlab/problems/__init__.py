"""Training problems: what is minimised, over which examples, and what is known exactly about it.

`landscapes` and `matrices` hold problems all of whose stationary points are known, `noise` the gradient noise that
`with_noise` puts on any problem.
"""

from gdlab._cpu.convolution import PatchConv
from gdlab.core.dependence import Mixing, mixing
from gdlab.problems import landscapes, matrices, noise
from gdlab.problems.drifting import TrackingError, drifting_regression, random_walk, rotation
from gdlab.problems.functions import from_function
from gdlab.problems.images import digits, mnist
from gdlab.problems.imbalanced import class_accuracy, imbalanced_digits
from gdlab.problems.label_noise import with_label_noise
from gdlab.problems.landscapes import value_fn
from gdlab.problems.language_models import GRU, Transformer
from gdlab.problems.linen import from_linen
from gdlab.problems.logistic import logistic_regression
from gdlab.problems.models import CNN, MLP
from gdlab.problems.nnx import from_nnx
from gdlab.problems.noise import with_noise
from gdlab.problems.nqm import noisy_quadratic_model
from gdlab.problems.octopus import octopus
from gdlab.problems.penalties import not_biases, with_penalty
from gdlab.problems.quadratics import quadratic
from gdlab.problems.random_landscapes import gaussian_random_field, spherical_spin_glass
from gdlab.problems.regression import linear_regression
from gdlab.problems.spectra import spectral_logistic, spectral_regression
from gdlab.problems.splitting import split
from gdlab.problems.text import character_lm, shakespeare
from gdlab.problems.two_parameters import two_parameter_network

__all__ = [
  'CNN',
  'GRU',
  'MLP',
  'Mixing',
  'PatchConv',
  'TrackingError',
  'Transformer',
  'character_lm',
  'class_accuracy',
  'digits',
  'drifting_regression',
  'from_function',
  'from_linen',
  'from_nnx',
  'gaussian_random_field',
  'imbalanced_digits',
  'landscapes',
  'linear_regression',
  'logistic_regression',
  'matrices',
  'mixing',
  'mnist',
  'noise',
  'noisy_quadratic_model',
  'not_biases',
  'octopus',
  'quadratic',
  'random_walk',
  'rotation',
  'shakespeare',
  'spectral_logistic',
  'spectral_regression',
  'spherical_spin_glass',
  'split',
  'two_parameter_network',
  'value_fn',
  'with_label_noise',
  'with_noise',
  'with_penalty',
]
