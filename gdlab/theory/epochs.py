r"""The stationary second moment of reshuffled descent at the ends of epochs, without cancellation.

The noise of an epoch sums to 0. What remains of it comes only from the differences between the weights of early and
late batches, of relative size $\alpha h$; these differences are summed, not the weights.

With $s_{t+1} = A s_t + b\,\bar\xi_t$ the noise of the batch m updates before the end, of B_m examples, has the
weight $A^m b$ at the end. From
$\mathrm{Cov}(\bar\xi_j, \bar\xi_k) = \frac{\sigma^2}{N-1}(\frac{N}{B_j}\delta_{jk} - 1)$ and $\sum B_m = N$ one epoch
adds

$$Q = \frac{\sigma^2 N^2}{N - 1} \sum_m \frac{B_m}{N} (u_m - \bar u)(u_m - \bar u)^\top, \qquad
  u_m = \frac{A^m b}{B_m}, \quad \bar u = \sum_m \frac{B_m}{N} u_m,$$

where a batch that is left out has u = 0. The state is (y, m) with $x = \alpha(y + c m)$: for the right c noise
moves y permanently and m only for a while, and the small part of $A - I$ is small entry by entry.
"""

import numpy as np

from gdlab.theory.linear import Floats


def reshuffled_moment(
  scaled: Floats, sizes: list[int], num_examples: int, momentum: float, nesterov: bool
) -> Floats:
  r"""The stationary second moments of $(x/\alpha, m)$ for $\sigma^2 = 1$, float[d, 2, 2].

  Args:
    scaled: alpha h, float[d], in the stable range.
    sizes: of the batches of an epoch, all equal except the last.
    num_examples: N > 1; examples beyond the sum of the sizes are left out.
    momentum: beta.
    nesterov: Nesterov's momentum instead of heavy ball.
  """
  of_gradient, of_momentum = (1 + momentum, momentum**2) if nesterov else (1.0, momentum)
  slow = scaled < (1 - momentum) ** 2
  shift = np.where(slow, of_momentum / (1 - momentum), 0.0)  # c
  gain = of_gradient + shift
  direct = np.where(slow, 0.0, -of_momentum)
  change = _matrix(-gain * scaled, direct - gain * shift * scaled, scaled, shift * scaled - (1 - momentum))
  noise = np.stack([-gain, np.ones(scaled.shape)], axis=-1)  # b
  drift = np.stack([direct + of_gradient * gain * scaled, -of_gradient * scaled - (1 - momentum)], axis=-1)

  size = sizes[0]
  spread = _Spread(num_examples, scaled.size)
  left_out = num_examples - sum(sizes)
  if left_out:
    spread.add(left_out, -noise / size)
  # Weights relative to those of a full batch that comes last: (A^m - I) b, by their own recursion.
  weight = np.zeros((scaled.size, 2))
  grown = np.zeros((scaled.size, 2, 2))  # A^m - I
  for update, count in enumerate(reversed(sizes)):
    if count == size:
      spread.add(count, weight / size)
    else:
      spread.add(count, (weight + noise) / count - noise / size if update else noise * (1 / count - 1 / size))
    weight = weight + (change @ weight[..., None])[..., 0] + drift
    grown = grown + change @ grown + change
  added = spread.squares * (num_examples**2 / (num_examples - 1))
  moment = _fixed_point(grown, added)
  back = _matrix(1.0, shift, 0.0, np.ones(scaled.shape))
  return back @ moment @ np.swapaxes(back, -1, -2)


class _Spread:
  """The weighted mean and the weighted sum of squares about it, one value at a time (West 1979)."""

  def __init__(self, total: int, directions: int):
    self._total, self._seen = total, 0
    self._mean, self.squares = np.zeros((directions, 2)), np.zeros((directions, 2, 2))

  def add(self, count: int, value: Floats) -> None:
    self._seen += count
    apart = value - self._mean
    self._mean = self._mean + apart * (count / self._seen)
    rest = value - self._mean
    self.squares = self.squares + count / self._total * apart[..., :, None] * rest[..., None, :]


def _fixed_point(grown: Floats, added: Floats) -> Floats:
  """The S of S = (I + D) S (I + D)^T + Q, from equations for its three entries in which no 1 - 1 cancels."""
  a, b, c, d = grown[:, 0, 0], grown[:, 0, 1], grown[:, 1, 0], grown[:, 1, 1]
  rows = np.stack(
    [
      np.stack([a * (2 + a), 2 * b * (1 + a), b * b], axis=-1),
      np.stack([c * (1 + a), a + d + a * d + b * c, b * (1 + d)], axis=-1),
      np.stack([c * c, 2 * c * (1 + d), d * (2 + d)], axis=-1),
    ],
    axis=-2,
  )
  right = np.stack([added[:, 0, 0], (added[:, 0, 1] + added[:, 1, 0]) / 2, added[:, 1, 1]], axis=-1)
  # For small rates the rows are of size a^2, a and 1, if the unknowns are taken in units of a, a and 1.
  unit = np.minimum(np.abs(a), 1.0)
  units = np.stack([unit, unit, np.ones_like(unit)], axis=-1)
  scale = np.stack([unit**2, unit, np.ones_like(unit)], axis=-1)
  solved = (
    units * np.linalg.solve(-rows * units[:, None, :] / scale[..., None], (right / scale)[..., None])[..., 0]
  )
  return _matrix(solved[:, 0], solved[:, 1], solved[:, 1], solved[:, 2])


def _matrix(first: Floats | float, second: Floats, third: Floats | float, fourth: Floats) -> Floats:
  """float[d, 2, 2] from its entries, row by row."""
  entries = np.stack(np.broadcast_arrays(first, second, third, fourth), axis=-1)
  return entries.reshape(*entries.shape[:-1], 2, 2)
