r"""What descent in a given or random order does to quadratics, exactly: closed forms in one dimension, and enumeration.

In one dimension with equal curvature $\lambda$ and gradients $\lambda x + s_i$, $\sum s_i = 0$, one example at a time:
with $\rho = 1 - \alpha\lambda$ an epoch in the order $\pi$ adds $-\alpha \sum_j w_j s_{\pi(j)}$, $w_j = \rho^{n-j}$,
to $\rho^n x$. A pair of an epoch and its reverse adds the same with $w_j = \rho^{2n-j} + \rho^{j-1}$ to $\rho^{2n} x$.
"""

import itertools

import numpy as np


def added(rate: float, count: int, paired: bool = False) -> tuple[float, float]:
  r"""What a random order adds to $E x^2$ for $\lambda = \sigma = 1$, and the factor $\rho^n$ of x; for a pair likewise.

  $E(\sum_j w_j s_{\pi(j)})^2 = \frac{n}{n-1} \sum_j (w_j - \bar w)^2$ for a uniform order.
  """
  place, rho = np.arange(1, count + 1), 1 - rate
  weights = rho ** (2 * count - place) + rho ** (place - 1) if paired else rho ** (count - place)
  variance = rate**2 * count / (count - 1) * np.sum((weights - weights.mean()) ** 2)
  return float(variance), rho ** ((1 + paired) * count)


def floor(order: str, rate: float, count: int) -> float:
  """The stationary E x^2 at the ends of epochs (of pairs, if paired) for lambda = sigma = 1."""
  if order == 'with replacement':
    return rate / (2 - rate)
  variance, factor = added(rate, count, order == 'paired reversal')
  return variance / (1 - factor**2)


def after(order: str, rate: float, count: int, epochs: int) -> float:
  """E x^2 after so many epochs from x = 0 for lambda = sigma = 1; 'sorted': half of the s_i are 1, then half -1."""
  rho = 1 - rate
  if order == 'with replacement':
    return rate / (2 - rate) * (1 - rho ** (2 * count * epochs))
  variance, factor = added(rate, count)
  if order == 'reshuffled':
    return variance * (1 - factor ** (2 * epochs)) / (1 - factor**2)
  if order == 'sorted':
    signs = np.repeat([1.0, -1.0], count // 2)
    variance = float(rate * signs @ rho ** np.arange(count)[::-1]) ** 2
  return variance * ((1 - factor**epochs) / (1 - factor)) ** 2  # the same order in every epoch


def spread_between_orders(
  features: np.ndarray, targets: np.ndarray, rate: float, start: np.ndarray, paired: bool
) -> float:
  r"""$E\|x - Ex\|^2$ over all orders after two epochs of least squares, one example at a time, by enumeration.

  With `paired` the second epoch is the reverse of the first, and not an order of its own.
  """
  orders = np.asarray(list(itertools.permutations(range(len(targets)))))

  def epoch(points: np.ndarray, order: np.ndarray) -> np.ndarray:
    for index in order.T:
      rows = features[index]
      residuals = np.sum(rows * points, axis=-1) - targets[index]
      points = points - rate * residuals[..., None] * rows
    return points

  first = epoch(np.broadcast_to(start, (len(orders), len(start))), orders)
  # Independent second orders: every first end with every order, along two axes.
  ends = epoch(first, orders[:, ::-1]) if paired else epoch(first[:, None], orders)
  ends = ends.reshape(-1, len(start))
  return float(np.mean(np.sum((ends - ends.mean(axis=0)) ** 2, axis=-1)))
