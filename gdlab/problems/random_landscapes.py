"""Random smooth landscapes of any dimension: Gaussian random fields, and the spherical p-spin model."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Known, Problem
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics
from gdlab.problems.checks import default_float
from gdlab.problems.starts import array_start


class Waves(NamedTuple):
  """A sum of m plane waves, one field per example."""

  frequencies: Array  # float[N, m, d]
  amplitudes: Array  # float[N, m, 2], of cosine and sine


@checked('dimension', 'length_scale', 'num_features', 'seed')
def gaussian_random_field(
  dimension: int,
  *,
  length_scale: float = 1.0,
  num_features: int = 1024,
  seed: int = 0,
  start: Any = None,
  initial_scale: float = 1.0,
) -> Problem:
  r"""A realisation of an isotropic random field with mean 0, variance 1 and a squared-exponential covariance.

  $$f(x) = \frac{1}{\sqrt m}\sum_{k=1}^m a_k \cos(\omega_k^\top x) + b_k \sin(\omega_k^\top x), \qquad
    \mathbb E f(x) f(y) = e^{-\lVert x-y\rVert^2/2\ell^2},$$

  $a_k, b_k \sim N(0, 1)$, $\omega_k \sim N(0, I/\ell^2)$: random Fourier features. The covariance is exact
  over seeds for every m; f is normal given the frequencies, and a Gaussian field as m grows. Its gradient has
  covariance $I/\ell^2$, and its Hessian $\mathbb E H_{ij}H_{kl} = (\delta_{ij}\delta_{kl} +
  \delta_{ik}\delta_{jl} + \delta_{il}\delta_{jk})/\ell^4$ and $\mathbb E f H_{ij} = -\delta_{ij}/\ell^2$: at
  a stationary point of value f its spectrum is a semicircle around $-f/\ell^2$ of radius about $2\sqrt d/\ell^2$, so
  that the share of minima falls exponentially in the dimension. The stationary points of a realisation are not known;
  `known.box` is a region of six length scales.

  Example:
    >>> problem = gaussian_random_field(20, seed=3)
    >>> problem.train.frequencies.shape
    (1, 1024, 20)

  Args:
    dimension: d >= 1.
    length_scale: l > 0.
    num_features: m >= 1; with m < d the field is constant across all frequencies.
    seed: of the field.
    start: initial point, float[d]; None draws it from N(0, initial_scale^2) with the run's init stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Rahimi, Recht 2007, Random Features for Large-Scale Kernel Machines; Bray, Dean 2007, Statistics of
    Critical Points of Gaussian Fields, cond-mat/0611023; Dauphin et al. 2014, arXiv 1406.2572.
  """
  dimension = check_count('dimension', dimension)
  length_scale = float(check_real('length_scale', length_scale, above=0.0))
  num_features = check_count('num_features', num_features)
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  frequencies = rng.standard_normal((1, num_features, dimension)) / length_scale
  amplitudes = rng.standard_normal((1, num_features, 2)) / np.sqrt(num_features)
  return Problem(
    init=array_start(start, initial_scale, (dimension,)),
    loss=PointwiseLoss(_field_losses),
    metrics=PointwiseMetrics((('loss', _field_losses),)),
    name='Gaussian random field',
    train=Waves(jnp.asarray(frequencies, default_float()), jnp.asarray(amplitudes, default_float())),
    known=Known(box=np.tile([-3 * length_scale, 3 * length_scale], (dimension, 1))),
  )


@checked('dimension', 'order', 'seed', 'start')
def spherical_spin_glass(
  dimension: int, *, order: int = 3, seed: int = 0, start: Any = None, initial_scale: float = 1.0
) -> Problem:
  r"""A realisation of the spherical p-spin model, a random polynomial on the sphere of radius $\sqrt d$.

  $$f(x) = H\!\left(\sqrt d\,\tfrac{x}{\lVert x\rVert}\right), \quad
    H(s) = d^{-(p-1)/2} \sum_{i_1\dots i_p} J_{i_1\dots i_p} s_{i_1}\cdots s_{i_p}, \quad
    \mathbb E H(s) H(t) = d \left(\tfrac{s^\top t}{d}\right)^p,$$

  the $J$ independent N(0, 1). f depends only on the direction of x: the gradient is orthogonal to x, and at
  $\lVert x\rVert = \sqrt d$ it is the gradient on the sphere, with mean square $p(d-1)$; plain descent slowly
  lengthens x. At a stationary point there the Hessian has the eigenvalues of that on the sphere, and 0 along x: with $u
  = f/d$, of order $-1$, a semicircle of radius $2\sqrt{p(p-1)}$ around $-pu$, so that below
  $u = -2\sqrt{(p-1)/p}$ nearly all stationary points are minima, and above it saddles.

  Example:
    >>> problem = spherical_spin_glass(10)
    >>> problem.train.shape
    (1, 10, 10, 10)

  Args:
    dimension: d >= 2.
    order: p >= 2. For p = 2 there are only 2d stationary points, the eigenvectors of a random matrix.
    seed: of the couplings J, d^p numbers.
    start: initial point, float[d], not 0; None draws it from N(0, initial_scale^2) with the run's init
      stream.
    initial_scale: > 0.

  Raises:
    InputError: an argument out of range or of the wrong shape.

  Source: Auffinger, Ben Arous, Cerny 2013, Random Matrices and Complexity of Spin Glasses, arXiv 1003.1129.
  """
  dimension = check_count('dimension', dimension, minimum=2)
  order = check_count('order', order, minimum=2)
  if start is not None and not np.any(start):
    raise InputError(f'start must not be 0, where the direction is undefined, got {shown(start)}')
  rng = np.random.default_rng(check_count('seed', seed, minimum=0))
  couplings = rng.standard_normal((1,) + (dimension,) * order)
  return Problem(
    init=array_start(start, initial_scale, (dimension,)),
    loss=PointwiseLoss(_spin_losses),
    metrics=PointwiseMetrics((('loss', _spin_losses),)),
    name=f'spherical {order}-spin model',
    train=jnp.asarray(couplings, default_float()),
  )


def _field_losses(params: Array, examples: Waves) -> Array:
  phases = examples.frequencies @ params
  waves = jnp.stack([jnp.cos(phases), jnp.sin(phases)], axis=-1)
  return jnp.sum(examples.amplitudes * waves, axis=(1, 2))


def _spin_losses(params: Array, examples: Array) -> Array:
  direction = params / jnp.linalg.norm(params)
  tensor = examples
  while tensor.ndim > 1:
    tensor = tensor @ direction
  # d^(p/2) of the sphere's radius, over d^((p-1)/2).
  return jnp.sqrt(params.shape[0]) * tensor
