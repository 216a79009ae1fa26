"""Gradient descent on smooth functions: for which rates it is stable and how fast it converges at least."""

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_real
from gdlab.theory.inputs import momentum_factor


@checked('smoothness')
def largest_stable_rate(smoothness: float, *, momentum: float = 0.0, nesterov: bool = False) -> float:
  r"""The learning rate below which descent on a quadratic of largest eigenvalue L is stable.

  $$\frac2L, \qquad \frac{2 + 2\beta}{L}, \qquad \frac{2 + 2\beta}{(1 + 2\beta) L}$$

  for plain descent, heavy ball and Nesterov in Optax's convention. For plain descent it holds beyond quadratics:
  one step on an L-smooth function changes f by at most $-\alpha(1 - \alpha L/2)\|\nabla f\|^2$, so that f never
  rises. On a quadratic the bound is sharp: above it x diverges along the eigenvector of the largest eigenvalue.

  Args:
    smoothness: L > 0, the Lipschitz constant of the gradient.
    momentum: beta in [0, 1).
    nesterov: Nesterov's momentum instead of heavy ball.

  Raises:
    InputError: if L is not positive and finite, or beta out of range.

  Source: Nesterov 2018, Lectures on Convex Optimization, section 1.2.3; Cohen et al. 2021, arXiv 2103.00065,
  for momentum.
  """
  check_real('smoothness', smoothness, above=0)
  beta = momentum_factor(momentum)
  return (2 + 2 * beta) / (smoothness * (1 + 2 * beta if nesterov else 1))


@checked('learning_rate', 'strong_convexity')
def contraction_rate(learning_rate: float, smoothness: float, strong_convexity: float) -> float:
  r"""A bound r < 1 on the decay per step of gradient descent, $f(x_{k+1}) - f^* \le r\,(f(x_k) - f^*)$.

  $$r = 1 - \alpha\mu(2 - \alpha L), \qquad 0 < \alpha < 2/L,$$

  least at $\alpha = 1/L$, where it is $1 - \mu/L$. It needs no convexity: L-smoothness and the
  Polyak-Łojasiewicz inequality $\tfrac12\|\nabla f\|^2 \ge \mu(f - f^*)$, which mu-strong convexity implies,
  suffice. It is attained where L = mu; a quadratic contracts faster, by
  $\max\{(1-\alpha\mu)^2, (1-\alpha L)^2\}$.

  Args:
    learning_rate: alpha in (0, 2/L), constant.
    smoothness: L, the Lipschitz constant of the gradient.
    strong_convexity: mu in (0, L], the constant of strong convexity or of the PL inequality.

  Raises:
    InputError: if an argument is out of range, where no bound below 1 exists.

  Source: Karimi, Nutini, Schmidt 2016, arXiv 1608.04636, theorem 1 and its proof.
  """
  check_real('learning_rate', learning_rate, above=0, below=largest_stable_rate(smoothness))
  check_real('strong_convexity', strong_convexity, above=0)
  if strong_convexity > smoothness:
    raise InputError(f'strong_convexity must be at most smoothness={smoothness}, got {strong_convexity}')
  return 1 - learning_rate * strong_convexity * (2 - learning_rate * smoothness)
