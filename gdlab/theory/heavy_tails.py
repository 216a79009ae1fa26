r"""Classes of unequal shares: how fast gradient descent and sign descent learn the rare ones.

One-hot inputs of c classes, the input of class k always with target k; logits are the columns of a matrix that starts
at 0. By symmetry the logit of the right class exceeds all others by the same margin $u_k$, which is 0 at the start.
With class shares $\pi_k$ the mean loss is $\sum_k \pi_k \log(1 + (c-1) e^{-u_k})$.
"""

from typing import Any

import numpy as np
from scipy.special import wrightomega

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count
from gdlab.theory.inputs import as_floats, nonnegative, positive, spectrum, together
from gdlab.theory.linear import Floats


@checked('shares', 'times', 'num_classes')
def class_margin(shares: Any, times: Any, *, num_classes: int) -> Floats:
  r"""The margin u of a class under gradient flow.

  $$e^u - 1 + (c - 1)u = \pi_k c\, t.$$

  So the time to a given margin is proportional to $1/\pi_k$. For small alpha, gradient descent at rate alpha is close
  to it with $t = \alpha \cdot$ steps. Under sign descent at rate alpha the margin is $2\alpha \cdot$ steps, whatever
  the share.

  Args:
    shares: pi_k >= 0, a number or an array.
    times: t >= 0, a number or an array that broadcasts against the shares.
    num_classes: c >= 2.

  Raises:
    InputError: an argument out of range.

  Source: Kunstner et al. 2024, Heavy-tailed class imbalance and why Adam outperforms gradient descent on language
  models, arXiv 2402.19449.
  """
  others = check_count('num_classes', num_classes, minimum=2) - 1
  share, time = together(shares=nonnegative('shares', shares), times=nonnegative('times', times))
  right = share * (others + 1) * time
  # e^u = others * omega(z), so that u = s - omega(z) with s and z below; for large z that cancels, and log does not.
  level = (right + 1) / others
  omega = wrightomega(level - np.log(others))
  margin = np.where(omega > 1, np.log(others) + np.log(np.maximum(omega, 1e-300)), level - omega)
  # Near 0 what is left is rounding of 1 / others: one step of Newton's method from there.
  return np.maximum(margin - (np.expm1(margin) + others * margin - right) / (np.exp(margin) + others), 0.0)


@checked('margins', 'num_classes')
def class_loss(margins: Any, *, num_classes: int) -> Floats:
  r"""The loss of a class of margin u, $\log(1 + (c - 1)e^{-u})$.

  Args:
    margins: u, a number or an array.
    num_classes: c >= 2.

  Raises:
    InputError: an argument out of range.
  """
  others = check_count('num_classes', num_classes, minimum=2) - 1
  return np.logaddexp(0.0, np.log(others) - as_floats('margins', margins))


@checked('shares', 'losses', 'num_classes')
def class_time(shares: Any, losses: Any, *, num_classes: int) -> Floats:
  r"""The time that gradient flow takes to bring a class to a loss, in closed form; the inverse of `class_margin`.

  $$t = \frac{e^u - 1 + (c - 1)u}{\pi_k c}, \qquad u = \log\frac{c - 1}{e^\ell - 1}.$$

  Example:
    >>> class_time([0.5, 0.05], 0.1, num_classes=10).round(1).tolist()
    [24.9, 249.2]

  Args:
    shares: pi_k > 0, a number or an array.
    losses: l > 0, a number or an array that broadcasts against the shares; for l >= log c the time is 0.
    num_classes: c >= 2.

  Raises:
    InputError: an argument out of range.
  """
  others = check_count('num_classes', num_classes, minimum=2) - 1
  share, loss = together(shares=positive('shares', shares), losses=positive('losses', losses))
  # log(e^l - 1) as l + log(1 - e^-l), which does not overflow.
  margin = np.maximum(np.log(others) - loss - np.log(-np.expm1(-loss)), 0.0)
  return (np.expm1(margin) + others * margin) / (share * (others + 1))


@checked('shares', 'steps')
def bigram_loss(shares: Any, steps: Any) -> Floats:
  r"""The squared loss of a linear bigram model under gradient descent at rate $1/\pi_1$, relative to its start.

  With one-hot inputs of shares $\pi_k$, the largest $\pi_1$, and the same error in every row at the start,

  $$\frac{L_t}{L_0} = \sum_k \pi_k \left(1 - \frac{\pi_k}{\pi_1}\right)^{2t}.$$

  Args:
    shares: pi, float[c] > 0; they are divided by their sum.
    steps: t >= 0, a number or an array.

  Returns:
    float64 of the shape of `steps`.

  Raises:
    InputError: an argument out of range.

  Source: arXiv 2505.19227, on gradient descent and sign descent for Zipf's law.
  """
  share, time = spectrum('shares', shares), nonnegative('steps', steps)
  if (time != np.floor(time)).any():
    raise InputError(f'steps must be whole numbers, got {time[time != np.floor(time)][0]}')
  kept = 1 - share / share.max()
  return np.sum(share * kept ** (2 * time[..., None]), axis=-1) / share.sum()
