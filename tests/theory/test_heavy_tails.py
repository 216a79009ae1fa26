"""Heavy-tailed classes: closed forms against the differential equation and descent, both of the whole matrix."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from gdlab import theory
from gdlab.core.errors import InputError

SHARES = np.array([0.6, 0.25, 0.1, 0.05])


def softmax(logits):
  powers = np.exp(logits - logits.max(axis=0))
  return powers / powers.sum(axis=0)


def test_margins_solve_the_gradient_flow_of_the_whole_matrix():
  """All c * c weights, integrated: dW/dt = (I - P) diag(shares), one column for each input."""
  size = len(SHARES)
  flow = lambda t, w: ((np.eye(size) - softmax(w.reshape(size, size))) * SHARES).ravel()
  times = np.array([0.0, 0.3, 3.0, 30.0, 300.0])
  found = solve_ivp(flow, (0, 300), np.zeros(size**2), t_eval=times, rtol=1e-11, atol=1e-12, method='DOP853')
  weights = found.y.T.reshape(-1, size, size)
  right = np.diagonal(weights, axis1=1, axis2=2)
  wrong = (weights.sum(axis=1) - right) / (size - 1)
  margins = theory.class_margin(SHARES, times[:, None], num_classes=size)
  np.testing.assert_allclose(margins, right - wrong, atol=1e-8)  # what the integrator is asked for, over 300
  losses = -np.log([np.diagonal(softmax(each)) for each in weights])
  np.testing.assert_allclose(theory.class_loss(margins, num_classes=size), losses, atol=1e-8)


@pytest.mark.parametrize('size', [2, 10, 10_000])
def test_margins_times_and_losses_are_inverses(size):
  times = np.array([0, 1e-12, 1e-3, 1.0, 1e3, 1e9, 1e15])
  margins = theory.class_margin(0.01, times, num_classes=size)
  back = (np.expm1(margins) + (size - 1) * margins) / (0.01 * size)
  np.testing.assert_allclose(back, times, rtol=1e-12)
  losses = theory.class_loss(margins[2:], num_classes=size)
  # log(1 + x) of a large x hardly moves with it: at the first of these times by 1e-5 / size.
  np.testing.assert_allclose(
    theory.class_time(0.01, losses[1:], num_classes=size), times[3:], rtol=1e-9 * size
  )
  assert theory.class_time(0.01, np.log(size) + 1, num_classes=size) == 0
  assert np.isfinite(theory.class_time(0.01, 800.0, num_classes=size))


def test_sign_descent_moves_every_margin_by_twice_the_rate():
  size, rate, weights = len(SHARES), 0.01, np.zeros((len(SHARES),) * 2)
  for _ in range(50):
    weights += rate * np.sign((np.eye(size) - softmax(weights)) * SHARES)
  margins = np.diagonal(weights) - weights[np.arange(size) - 1, np.arange(size)]
  np.testing.assert_allclose(margins, 2 * rate * 50, rtol=1e-12)


def test_what_is_left_of_a_bigram_model():
  rng = np.random.default_rng(0)
  truth = rng.normal(size=(4, 6))
  truth *= 1 / np.linalg.norm(truth, axis=1, keepdims=True)  # equal row errors
  weights, found = np.zeros((4, 6)), []
  for _ in range(4):
    found.append(np.sum(SHARES * np.sum((weights - truth) ** 2, axis=1)))
    weights = weights - (SHARES[:, None] / SHARES.max()) * (weights - truth)
  np.testing.assert_allclose(theory.bigram_loss(10 * SHARES, np.arange(4)), found, rtol=1e-13)
  assert [float(theory.bigram_loss([1.0], steps)) for steps in (0, 3)] == [1, 0]


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: theory.class_margin(0.1, -1.0, num_classes=3), 'times must be >= 0, got -1.0'),
    (lambda: theory.class_margin(0.1, 1.0, num_classes=1), 'num_classes must be a whole number >= 2, got 1'),
    (lambda: theory.class_time(0.0, 1.0, num_classes=3), 'shares must be > 0, got 0.0'),
    (lambda: theory.class_time(0.1, 0.0, num_classes=3), 'losses must be > 0, got 0.0'),
    (lambda: theory.bigram_loss([0.5, 0.5], 1.5), 'steps must be whole numbers, got 1.5'),
    (lambda: theory.class_margin([0.1, 0.2], [1.0, 1.0, 1.0], num_classes=3), 'shapes must broadcast'),
  ],
)
def test_refusals(call, message):
  with pytest.raises(InputError, match=message):
    call()
