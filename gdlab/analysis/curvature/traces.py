"""Trace and diagonal of an operator from random vectors, with their errors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from matfree import stochtrace
from scipy import stats

from gdlab.analysis.curvature import krylov
from gdlab.analysis.curvature.matrix import columns
from gdlab.analysis.curvature.operators import Flat, Operator, flattened
from gdlab.core.arguments import checked
from gdlab.core.errors import check_count
from gdlab.core.types import Array, Key, PyTree

_NORMAL = float(stats.norm.ppf(0.975))
_LEAST_SIGNS = 8  # fewer samples of two values too often are all the same


class Estimate(NamedTuple):
  """A random estimate.

  Attributes:
    value: float[] or a pytree like the parameters.
    standard_error: like `value`; 0 where the value is exact to rounding.
    half_width: like `value`: value ± half_width covers the truth with a probability of about 95 %.
  """

  value: PyTree
  standard_error: PyTree
  half_width: PyTree


class _Deflation(NamedTuple):
  """The part of A that is known exactly, P A + A P - P A P for the projection P on a few directions.

  Attributes:
    vectors: float[r, d], orthonormal rows.
    images: float[r, d], A times these.
  """

  vectors: Array
  images: Array

  def outside(self, vector: Array) -> Array:
    """(I - P) v."""
    for _ in range(2):
      vector = krylov.orthogonal_to(self.vectors, vector)
    return vector


@checked
def trace(operator: Operator, key: Key, *, num_probes: int = 16, rank: int = 8) -> Estimate:
  r"""The trace of an operator, by Hutch++: exact on the range of a small sketch, by random probes outside.

  $$\operatorname{tr} A \approx \operatorname{tr} Q^\top A Q + \frac1m \sum_{i=1}^m v_i^\top A v_i,$$

  where the columns of Q span `rank` images of random vectors, and the m probes are uniform on the sphere of radius
  $\sqrt n$ in the complement, of dimension n = d - rank. Unbiased. The standard error is that of such probes,
  $$\sqrt{\frac{2n}{m(n+2)} \Big(\|B\|_F^2 - \frac{(\operatorname{tr} B)^2}{n}\Big)},$$
  with the norm of the rest B estimated from the same products; its variance is far below that of the empirical
  standard error of m numbers.

  Costs min(d, 2 rank + m) products, each of 2 to 3 full gradients with `hessian`: 32 of them by default, 64 to 96
  gradient-equivalents. If 2 rank + m >= d it is the exact trace.

  Example:
    >>> import jax
    >>> diagonal = jnp.array([3.0, 0.0, -1.0])
    >>> trace(Operator(lambda v: diagonal * v, diagonal), jax.random.key(0)).value
    Array(2., dtype=float32)

  Args:
    operator: A, of d parameters.
    key: randomness of the probes.
    num_probes: m >= 2.
    rank: number of directions computed exactly, >= 0: best about the number of outlying eigenvalues.

  Raises:
    InputError: an argument out of range; an operator not on floats.

  Source: Hutchinson 1990; Meyer, Musco, Musco, Woodruff 2021, Hutch++, arXiv 2010.09649.
  """
  flat, num_probes, rank = _checked(operator, num_probes, rank, least=2)
  if flat.size <= 2 * rank + num_probes:
    return _exact(jnp.trace(columns(flat)))
  sketch_key, probe_key = jax.random.split(key)
  known = _deflation(flat, sketch_key, rank)
  size = flat.size - rank

  def probed(probe: Array) -> tuple[Array, Array]:
    probe = known.outside(probe)
    probe = probe * (jnp.sqrt(size) / jnp.linalg.norm(probe))
    image = known.outside(flat.product(probe))
    return jnp.vdot(probe, image), jnp.vdot(image, image)

  probes = stochtrace.sampler_normal(jnp.zeros(flat.size, flat.dtype), num=num_probes)(probe_key)
  forms, squares = jax.lax.map(probed, probes)
  rest = jnp.mean(forms)
  variance = 2 * size / (size + 2) * jnp.maximum(jnp.mean(squares) - rest**2 / size, 0)
  error = jnp.sqrt(variance / num_probes)
  return Estimate(jnp.sum(known.vectors * known.images) + rest, error, _NORMAL * error)


@checked
def diagonal(operator: Operator, key: Key, *, num_probes: int = 16, rank: int = 8) -> Estimate:
  r"""The diagonal of an operator, entry by entry: exact on the range of a small sketch, by random signs outside.

  $$\operatorname{diag} A \approx \operatorname{diag}(P A + A P - P A P) + \frac1m \sum_{i=1}^m v_i \odot B v_i,$$

  $B = (I-P) A (I-P)$, with P the projection on `rank` images of random vectors and v of independent signs. Unbiased.
  The standard error of an entry comes from its m samples, the half-width is Student's with m - 1 degrees of freedom.
  In a row with one element off the diagonal the samples take only two values, and with a probability of $2^{1-m}$ all
  are the same: then the standard error is 0 although the entry is wrong. Hence m >= 8, for 0.8 %.

  Costs min(d, 2 rank + m) products, like `trace`, and is exact if 2 rank + m >= d.

  Args:
    operator: A, of d parameters.
    key: randomness of the probes.
    num_probes: m >= 8.
    rank: number of directions computed exactly, >= 0.

  Returns:
    An Estimate of pytrees like the parameters.

  Raises:
    InputError: an argument out of range; an operator not on floats.

  Source: Bekas, Kokiopoulou, Saad 2007, An Estimator for the Diagonal of a Matrix; Baston and Nakatsukasa 2022,
    Stochastic Diagonal Estimation, arXiv 2201.10684.
  """
  flat, num_probes, rank = _checked(operator, num_probes, rank, least=_LEAST_SIGNS)
  if flat.size <= 2 * rank + num_probes:
    return _exact(flat.unravel(jnp.diagonal(columns(flat))))
  sketch_key, probe_key = jax.random.split(key)
  known = _deflation(flat, sketch_key, rank)
  within = krylov.times(known.images, known.vectors.T)
  exact = 2 * known.images - krylov.times(within, known.vectors)

  def probed(moments: tuple[Array, Array, Array], probe: Array) -> tuple[tuple[Array, Array, Array], None]:
    # Welford's update: a mean of squares less a squared mean would lose the small variances.
    count, mean, squares = moments
    sample = probe * known.outside(flat.product(known.outside(probe)))
    after = mean + (sample - mean) / (count + 1)
    return (count + 1, after, squares + (sample - mean) * (sample - after)), None

  probes = stochtrace.sampler_signs(jnp.zeros(flat.size, flat.dtype), num=num_probes)(probe_key)
  nothing = jnp.zeros(flat.size, flat.dtype)
  (_, rest, squares), _ = jax.lax.scan(probed, (jnp.zeros((), flat.dtype), nothing, nothing), probes)
  error = jnp.sqrt(squares / (num_probes - 1) / num_probes)
  student = float(stats.t.ppf(0.975, num_probes - 1))
  return Estimate(
    flat.unravel(jnp.sum(known.vectors * exact, axis=0) + rest),
    flat.unravel(error),
    flat.unravel(student * error),
  )


def _checked(operator: Operator, num_probes: int, rank: int, *, least: int) -> tuple[Flat, int, int]:
  flat = flattened(operator)
  return flat, check_count('num_probes', num_probes, minimum=least), check_count('rank', rank, minimum=0)


def _deflation(flat: Flat, key: Key, rank: int) -> _Deflation:
  random = jax.random.normal(key, (rank, flat.size), flat.dtype)
  # Of a sketch that has not full rank the factorisation makes orthonormal vectors all the same.
  vectors = jnp.linalg.qr(jax.lax.map(flat.product, random).T)[0].T
  return _Deflation(vectors, jax.lax.map(flat.product, vectors))


def _exact(value: PyTree) -> Estimate:
  zeros = jax.tree.map(jnp.zeros_like, value)
  return Estimate(value, zeros, zeros)
