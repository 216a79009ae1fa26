"""Scaling rules for hyperparameters when the batch is `factor` times as large.

Plain arithmetic: Python numbers give Python numbers, tracers give tracers. `gdlab.theory.linear_scaling_change` says
how well the linear rule holds on a noisy quadratic.
"""

from typing import Any, NamedTuple

import jax

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real, shown


class AdamScaling(NamedTuple):
  """Hyperparameters of Adam for another batch size, and the number of updates that replaces the old one."""

  learning_rate: Any
  b1: Any
  b2: Any
  eps: Any
  num_steps: Any


@checked('learning_rate', 'factor')
def linear_scaling(learning_rate: Any, factor: Any) -> Any:
  r"""The rate $\kappa\eta$ for a batch $\kappa$ times as large: gradient descent keeps its path for small rates.

  Args:
    learning_rate: eta > 0.
    factor: kappa > 0.

  Raises:
    InputError: if an argument is out of range.

  Source: Krizhevsky 2014, arXiv 1404.5997; Goyal et al. 2017, arXiv 1706.02677.
  """
  check_real('learning_rate', learning_rate, above=0)
  check_real('factor', factor, above=0)
  return learning_rate * factor


@checked('learning_rate', 'factor')
def square_root_scaling(learning_rate: Any, factor: Any) -> Any:
  r"""The rate $\sqrt\kappa\,\eta$ for a batch $\kappa$ times as large: the noise of one update keeps its variance.

  Args:
    learning_rate: eta > 0.
    factor: kappa > 0.

  Raises:
    InputError: if an argument is out of range.

  Source: Krizhevsky 2014, arXiv 1404.5997; Hoffer et al. 2017, arXiv 1705.08741.
  """
  check_real('learning_rate', learning_rate, above=0)
  check_real('factor', factor, above=0)
  return learning_rate * factor**0.5


@checked('learning_rate', 'b1', 'b2', 'eps', 'num_steps', 'factor')
def adam_scaling(learning_rate: Any, b1: Any, b2: Any, eps: Any, num_steps: Any, factor: Any) -> AdamScaling:
  r"""Adam's hyperparameters for a batch $\kappa$ times as large, with the same SDE (stochastic differential equation).

  $$\eta \to \sqrt\kappa\,\eta, \quad 1 - \beta_i \to \kappa (1 - \beta_i), \quad
    \epsilon \to \epsilon/\sqrt\kappa, \quad T \to T/\kappa.$$

  It holds if noise dominates the gradients and $\kappa(1 - \beta_i)$ is small.

  Example:
    >>> scaled = adam_scaling(1e-3, 0.9, 0.999, 1e-8, 10_000, factor=4)
    >>> [round(float(number), 12) for number in scaled]
    [0.002, 0.6, 0.996, 5e-09, 2500.0]

  Args:
    learning_rate: eta > 0.
    b1: beta_1 in (0, 1).
    b2: beta_2 in (0, 1).
    eps: > 0.
    num_steps: T > 0, the updates to be made with the old batch size.
    factor: kappa > 0, with kappa (1 - beta_i) < 1; not checked for tracers.

  Returns:
    The new hyperparameters, `num_steps` not rounded.

  Raises:
    InputError: if an argument is out of range.

  Source: Malladi et al. 2022, arXiv 2205.10287, definition 5.3.
  """
  check_real('learning_rate', learning_rate, above=0)
  check_real('eps', eps, above=0)
  check_real('num_steps', num_steps, above=0)
  check_real('factor', factor, above=0)
  root = factor**0.5
  return AdamScaling(
    learning_rate=learning_rate * root,
    b1=_scaled_beta('b1', b1, factor),
    b2=_scaled_beta('b2', b2, factor),
    eps=eps / root,
    num_steps=num_steps / factor,
  )


def _scaled_beta(name: str, beta: Any, factor: Any) -> Any:
  check_real(name, beta, above=0, below=1)
  scaled = 1 - factor * (1 - beta)
  if not isinstance(scaled, jax.core.Tracer) and not float(scaled) > 0:
    raise InputError(
      f'factor must be below 1 / (1 - {name}) = {1 / (1 - float(beta)):.6g}, got {shown(factor)}'
    )
  return scaled
