"""The density of an operator's eigenvalues by stochastic Lanczos quadrature, with its errors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from gdlab.analysis.curvature import krylov
from gdlab.analysis.curvature.operators import Flat, Operator, flattened
from gdlab.core.arguments import checked
from gdlab.core.errors import check_count, check_real
from gdlab.core.types import Array, Key

_NORMAL = float(stats.norm.ppf(0.975))
_REACH = 5  # the grid ends that many widths beyond the spectrum: there the kernel is below 1e-5 of its peak
_SETTLED = 5.5  # degree times width from which the quadrature is exact to about 1e-5 of the kernel's peak
_NARROWEST = 1e-3  # of the largest absolute eigenvalue: the width where all eigenvalues are equal


class SpectralDensity(NamedTuple):
  """The smoothed density of the eigenvalues on a grid; it integrates to 1.

  Attributes:
    points: float[g], the grid.
    density: float[g], per unit of the eigenvalue.
    lower: float[g] >= 0, lower end of the 95 % interval at each point, the quadrature's error included.
    upper: float[g], its upper end.
    standard_error: float[g], from the randomness of the probes.
    quadrature_error: float[], a bound on the error of the finite depth at any point.
    width: float[], the standard deviation of the smoothing kernel.
  """

  points: Array
  density: Array
  lower: Array
  upper: Array
  standard_error: Array
  quadrature_error: Array
  width: Array


@checked('num_probes', 'depth', 'num_points', 'width')
def spectral_density(
  operator: Operator,
  key: Key,
  *,
  num_probes: int = 8,
  depth: int = 48,
  num_points: int = 512,
  width: float | None = None,
) -> SpectralDensity:
  r"""The density of the eigenvalues, smoothed by a normal kernel, by stochastic Lanczos quadrature (SLQ).

  $$\phi_\sigma(t) = \frac1d \sum_{j=1}^d \mathcal N(t;\, \lambda_j, \sigma^2) \approx \frac1m \sum_{i=1}^m \sum_k
  \tau_{ik}^2\, \mathcal N(t;\, \theta_{ik}, \sigma^2),$$

  with the Ritz values theta of m Krylov spaces from random starts on the sphere, and tau the first components of the
  projected matrix's eigenvectors. The estimate is of the smoothed density: details finer than the width are lost, and a
  single eigenvalue appears as a kernel of weight 1/d.

  The variance from the probes is that of uniform vectors on the sphere, $\frac{2}{m(d+2)}(\overline{f^2} - \bar f^2)$
  for the kernel's mean and mean square over the spectrum; the interval is Wilson's, which also holds for isolated
  eigenvalues. The error of the quadrature is bounded by that of the best polynomial of degree 2 depth - 1.

  Costs m times min(depth, d) products, each of 2 to 3 full gradients with `hessian`: 384 by default, about 1000
  gradient-equivalents. Memory is that of 2 depth vectors.

  Args:
    operator: A, of d parameters.
    key: randomness of the starts.
    num_probes: m >= 1.
    depth: of each Krylov space, >= 2, at most d.
    num_points: g >= 2, of the grid, which spans the Ritz values and 5 widths beyond.
    width: sigma > 0 relative to the range of the Ritz values; by default the narrowest that the depth resolves, about
      1.4 / depth. Where all eigenvalues are equal the width is 0.001 times their size, or 0.001 if they are 0.

  Raises:
    InputError: an argument out of range; an operator not on floats.

  Source: Ubaru, Chen, Saad 2017, Fast Estimation of tr(f(A)) via SLQ; Ghorbani, Krishnan, Xiao 2019, arXiv
    1901.10159; Lin, Saad, Yang 2016, Approximating Spectral Densities, arXiv 1308.5467.
  """
  flat = flattened(operator)
  num_probes = check_count('num_probes', num_probes)
  depth = min(check_count('depth', depth, minimum=2), flat.size)
  num_points = check_count('num_points', num_points, minimum=2)
  # In units of half the range, on which the polynomials of the bound live.
  relative = (
    2 * check_real('width', width, above=0.0) if width is not None else _SETTLED / max(2 * depth - 1, 1)
  )
  # Not vmapped: the memory is that of one Krylov space.
  nodes, weights = jax.lax.map(
    lambda number: _quadrature(flat, jax.random.fold_in(key, number), depth), jnp.arange(num_probes)
  )

  low, high = jnp.min(nodes), jnp.max(nodes)
  largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
  narrowest = _NARROWEST * jnp.where(largest > 0, largest, 1)
  spread = (high - low) / 2
  rounding = 100 * jnp.finfo(flat.dtype).eps * largest
  sigma = jnp.where(spread > rounding, relative * spread, narrowest)
  points = jnp.linspace(low - _REACH * sigma, high + _REACH * sigma, num_points)

  def moments(point: Array) -> tuple[Array, Array]:
    kernel = jnp.exp(-(((nodes - point) / sigma) ** 2) / 2)
    return jnp.sum(weights * kernel) / num_probes, jnp.sum(weights * kernel**2) / num_probes

  mean, square = jax.lax.map(moments, points)
  peak = 1 / (sigma * np.sqrt(2 * np.pi))
  bound = jnp.where(
    depth < flat.size, _polynomial_error(2 * depth - 1, sigma / jnp.maximum(spread, rounding)), 0.0
  )
  unit = 2 / (num_probes * (flat.size + 2))
  error = jnp.sqrt(unit * jnp.maximum(square - mean**2, 0))
  lower, upper = _wilson(mean, square, unit)
  return SpectralDensity(
    points=points,
    density=peak * mean,
    lower=peak * jnp.maximum(lower - bound, 0),
    upper=peak * (upper + bound),
    standard_error=peak * error,
    quadrature_error=peak * bound,
    width=sigma,
  )


def _quadrature(flat: Flat, key: Key, depth: int) -> tuple[Array, Array]:
  """Nodes and weights, float[depth] each, of the spectral measure of one random start."""
  start_key, fresh_key = jax.random.split(key)
  start = jax.random.normal(start_key, (flat.size,), flat.dtype)

  def step(number: Array, basis: krylov.Basis) -> krylov.Basis:
    candidate = jnp.where(number == 0, start, basis.images[number - 1])
    return krylov.grown(flat, basis, candidate, jax.random.fold_in(fresh_key, number))

  basis = jax.lax.fori_loop(0, depth, step, krylov.empty(flat, depth))
  nodes, coefficients = krylov.ritz(basis)
  return nodes, coefficients[0] ** 2


def _wilson(mean: Array, square: Array, unit: float) -> tuple[Array, Array]:
  r"""The 95 % interval of a mean mu: those with $(\bar f - \mu)^2 \le z^2 \cdot$ unit $\cdot (\tau\mu - \mu^2)$.

  The variance at mu depends on the data only through $\tau = \overline{f^2} / \bar f$, the kernel's size where the
  weight is, which is known much more precisely than the weight.
  """
  typical = jnp.maximum(square / jnp.maximum(mean, jnp.finfo(mean.dtype).tiny), mean)
  strength = _NORMAL**2 * unit
  centre = 2 * mean + strength * typical
  half = jnp.sqrt(strength * (strength * typical**2 + 4 * mean * (typical - mean)))
  return (centre - half) / (2 + 2 * strength), (centre + half) / (2 + 2 * strength)


def _polynomial_error(degree: int, width: Array) -> Array:
  r"""Bound on the error of a Gauss rule of total weight 1 that is exact to `degree`, for $e^{-x^2/2w^2}$ on [-1, 1].

  It is at most twice the distance to the best polynomial, which for a function bounded by M on the ellipse with
  foci ±1 and sum of half-axes rho is at most $2 M \rho^{-n} / (\rho - 1)$ (Bernstein; Trefethen 2013, theorem 8.2). On
  that ellipse the imaginary part, and so the exponent, is largest at the half-axis $(\rho - 1/\rho)/2$.
  """
  rho = 1 + jnp.logspace(-3, 1, 200)
  height = (rho - 1 / rho) / 2
  logs = jnp.log(4.0) + (height / width) ** 2 / 2 - degree * jnp.log(rho) - jnp.log(rho - 1)
  # The kernel lies in [0, 1], and so do both of its means.
  return jnp.minimum(jnp.exp(jnp.min(logs)), 1.0)
