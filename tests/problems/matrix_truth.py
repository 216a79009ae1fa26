"""A problem's mean loss, its derivatives and its list of stationary points against independent truth."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import optimize

from gdlab.core.types import Problem


class Dense(NamedTuple):
  """The mean training loss of a problem as a function of raveled parameters, compiled."""

  problem: Problem
  size: int
  unravel: Callable  # to params, NumPy arrays
  value: Callable
  gradient: Callable
  hessian: Callable


def dense(problem):
  flat, unravel = ravel_pytree(problem.init(jax.random.key(0))[0])
  mask = jnp.ones(problem.num_examples, bool)

  def loss(flat):
    return problem.loss(unravel(flat), (), problem.train, mask, jax.random.key(1))[0].mean()

  def host(flat):
    return jax.tree.map(np.asarray, unravel(jnp.asarray(flat)))

  return Dense(
    problem, flat.size, host, *(jax.jit(jax.vmap(f)) for f in (loss, jax.grad(loss), jax.hessian(loss)))
  )


def check_derivatives(functions, *, scale=1.0, points=4, seed=0):
  """Gradient and Hessian against central differences at random points, in float64.

  The error of a difference over 2h is h^2 f'''/6 + eps f/h, at h = 1e-5 about 1e-10 of the size of f and its
  derivatives; 1e-7 of that size is allowed.
  """
  size, h = functions.size, 1e-5
  x = scale * np.random.default_rng(seed).normal(size=(points, 1, size))
  shifts = h * np.eye(size)

  def difference(f):
    above, below = (np.asarray(f((x + s).reshape(-1, size))) for s in (shifts, -shifts))
    return ((above - below) / (2 * h)).reshape(points, size, *above.shape[1:])

  values, gradients, hessians = (
    np.asarray(f(x[:, 0])) for f in (functions.value, functions.gradient, functions.hessian)
  )
  sizes = 1 + np.abs(values) + np.abs(gradients).max(axis=1) + np.abs(hessians).max(axis=(1, 2))
  for found, expected in (
    (gradients, difference(functions.value)),
    (hessians, difference(functions.gradient)),
  ):
    errors = np.abs(found - expected).reshape(points, -1).max(axis=1)
    np.testing.assert_array_less(errors, 1e-7 * sizes)


def raveled_points(points):
  """Their parameters as float64[K, d]."""
  return np.asarray(jax.vmap(lambda params: ravel_pytree(params)[0])(points.params))


def check_points(functions, *, rtol=1e-10):
  """Every listed point: zero gradient to 1e-10, value, eigenvalues by dense eigvalsh, index."""
  points = functions.problem.known.stationary_points
  x = raveled_points(points)
  assert points.eigenvalues.shape == x.shape == (len(points.values), functions.size)
  assert (np.diff(points.eigenvalues, axis=1) >= 0).all()
  assert np.abs(np.asarray(functions.gradient(x))).max() < 1e-10
  np.testing.assert_allclose(functions.value(x), points.values, rtol=rtol, atol=rtol)
  found = np.linalg.eigvalsh(np.asarray(functions.hessian(x)))
  atol = rtol * max(1, np.abs(found).max())
  np.testing.assert_allclose(found, points.eigenvalues, rtol=0, atol=atol)
  np.testing.assert_array_equal(points.index, (found < -atol).sum(axis=1))


def check_known(functions):
  """The stated minimiser has the stated value, which is the lowest listed."""
  known = functions.problem.known
  value = float(functions.value(ravel_pytree(known.params)[0][None])[0])
  np.testing.assert_allclose(value, known.value, rtol=1e-10, atol=1e-10)
  assert known.value == known.stationary_points.values.min()


def search(functions, *, starts, scale, seed=0):
  """Stationary points found by Levenberg-Marquardt on the gradient from random starts, float64[n, d]."""
  gradient = lambda x: np.asarray(functions.gradient(x[None])[0])
  hessian = lambda x: np.asarray(functions.hessian(x[None])[0])
  found = []
  for x in scale * np.random.default_rng(seed).normal(size=(starts, functions.size)):
    end = optimize.root(gradient, x, jac=hessian, method='lm', tol=1e-13).x
    if np.abs(gradient(end)).max() < 1e-10:
      found.append(end)
  # Some end where the gradient's norm has a minimum; a search that mostly does so would say nothing.
  assert len(found) > starts / 4
  return np.array(found)


def check_complete(functions, invariant, *, starts, scale, atol=1e-7):
  """A search finds no place that is not listed up to symmetry, and finds most of those listed.

  `invariant` takes params to float64[m], the same for all points that one listed point stands for, and for no others.
  """
  points = functions.problem.known.stationary_points
  assert points.complete
  found = search(functions, starts=starts, scale=scale)
  of_found = np.array([invariant(functions.unravel(x)) for x in found])
  listed = np.array([invariant(functions.unravel(x)) for x in raveled_points(points)])
  distances = np.abs(of_found[:, None] - listed).max(axis=2)
  np.testing.assert_allclose(distances.min(axis=1), 0, atol=atol)
  assert (distances < atol).any(axis=0).mean() > 0.5
  values = np.asarray(functions.value(found))
  np.testing.assert_allclose(values, points.values[distances.argmin(axis=1)], atol=atol)
