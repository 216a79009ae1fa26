"""Training problems: what is minimised, over which examples, and what is known exactly about it."""

from gdlab.problems.images import digits, mnist
from gdlab.problems.linen import from_linen
from gdlab.problems.logistic import logistic_regression
from gdlab.problems.models import CNN, MLP, PatchConv
from gdlab.problems.nnx import from_nnx
from gdlab.problems.quadratics import quadratic
from gdlab.problems.regression import linear_regression

__all__ = [
  'CNN',
  'MLP',
  'PatchConv',
  'digits',
  'from_linen',
  'from_nnx',
  'linear_regression',
  'logistic_regression',
  'mnist',
  'quadratic',
]
