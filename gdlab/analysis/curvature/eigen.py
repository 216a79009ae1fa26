"""Extreme eigenpairs of an operator, each with its residual."""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gdlab.analysis.blocks import BLOCK, Losses, evaluation_losses
from gdlab.analysis.curvature import krylov
from gdlab.analysis.curvature.krylov import Basis
from gdlab.analysis.curvature.operators import Flat, Operator, flattened, hessian
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.types import Array, Key, Problem, PyTree

_LEAST_STEPS = 4  # a start that nearly is an eigenvector must get to show what else there is
_SPARE = 20  # basis vectors beyond those that are wanted

# The basis, the vectors with which it goes on after a restart, its size at the restart, products so far.
Carry: TypeAlias = tuple[Basis, Array, Array, Array]


class Eigenpairs(NamedTuple):
  r"""k approximate eigenpairs $(\theta, q)$ of A, |q| = 1.

  Attributes:
    values: float[k], theta.
    vectors: pytree like the parameters with the leading axis k, q.
    residuals: float[k], $\|A q - \theta q\|$ plus an allowance for the rounding of the products, including the
      operator's `rounding`: within that distance of theta there is an eigenvalue.
    signs: int8[k], -1 or 1 where |theta| exceeds the residual, so that the eigenvalue's sign is certain, else 0.
    converged: bool[k], whether the residual is within the tolerance.
  """

  values: Array
  vectors: PyTree
  residuals: Array
  signs: Array
  converged: Array


class Extremes(NamedTuple):
  """Both ends of a spectrum.

  Attributes:
    largest: pairs of the algebraically largest eigenvalues, descending.
    smallest: pairs of the algebraically smallest ones, ascending.
    products: int32[], the number of products.
  """

  largest: Eigenpairs
  smallest: Eigenpairs
  products: Array


@checked(
  'num_largest', 'num_smallest', 'tolerance', 'max_products', 'num_starts', 'basis_size', 'dense_below'
)
def eigenpairs(
  operator: Operator,
  key: Key,
  *,
  num_largest: int = 1,
  num_smallest: int = 0,
  tolerance: float = 0.01,
  max_products: int = 100,
  num_starts: int | None = None,
  basis_size: int | None = None,
  dense_below: int = 256,
) -> Extremes:
  r"""The largest and the smallest eigenvalues of an operator and their vectors, by restarted band Lanczos.

  Stops when every wanted pair has $\|A q - \theta q\| \le$ tolerance $\cdot \max|\theta|$, or after `max_products`.
  Full reorthogonalisation from random normal starts; after a breakdown of the Krylov space (an identity multiple, the
  zero matrix, few distinct eigenvalues) it continues with a new random direction. Residuals are computed from A q, not
  from the recurrence, so a pair with sign -1 means that A has a negative eigenvalue, provided that the operator's
  `rounding` bounds the cancellation in its products. For a Hessian that bound is measured. In float32 a saturated
  classifier's eigenvalues often have no certain sign; use float64 then. That no eigenvalue lies beyond the outermost
  pair is almost certain with a random start, but not proven by any residual.

  Costs at most `max_products` products, each of 2 to 3 full gradients with `hessian`, and d of them if d <=
  `dense_below`; about 10 to 20 for the largest eigenvalue of a trained network; and 8 products over at most 512
  examples for `rounding`. Memory is that of 2 `basis_size` vectors, and at least of 8.

  Example:
    >>> import jax
    >>> diagonal = jnp.array([3.0, 0.0, -1.0])
    >>> found = eigenpairs(Operator(lambda v: diagonal * v, diagonal), jax.random.key(0), num_smallest=2)
    >>> found.largest.values, found.smallest.signs
    (Array([3.], dtype=float32), Array([-1,  0], dtype=int8))

  Args:
    operator: A, of d parameters.
    key: randomness of the starts.
    num_largest: pairs at the upper end, >= 0, at most d.
    num_smallest: pairs at the lower end, >= 0, at most d; one of both >= 1.
    tolerance: of the residual, > 0, relative to the largest absolute eigenvalue found.
    max_products: >= 1 and not fewer than the pairs wanted.
    num_starts: p >= 1 random starts; copies of a multiple eigenvalue beyond p may be missed. By default the larger of
      `num_largest` and `num_smallest`.
    basis_size: vectors kept at once, >= pairs + p + 1; by default 2 (pairs + p) + 20. When it is full, the search
      restarts from the best half.
    dense_below: for d up to this the whole matrix is computed and decomposed, whatever `max_products`; 0 never does.

  Raises:
    InputError: an argument out of range; an operator not on floats.

  Source: Ruhe 1979, Implementation Aspects of Band Lanczos Algorithms; Wu and Simon 2000, Thick-Restart Lanczos
    Method; Parlett 1998, The Symmetric Eigenvalue Problem (residual bounds).
  """
  flat = flattened(operator)
  wanted = (
    check_count('num_smallest', num_smallest, minimum=0, maximum=flat.size),
    check_count('num_largest', num_largest, minimum=0, maximum=flat.size),
  )
  if not any(wanted):
    raise InputError('num_largest or num_smallest must be at least 1, got 0 and 0')
  check_real('tolerance', tolerance, above=0.0)
  pairs = min(sum(wanted), flat.size)
  max_products = check_count('max_products', max_products, minimum=pairs)
  starts = max(wanted) if num_starts is None else check_count('num_starts', num_starts)
  starts = min(starts, flat.size)
  if basis_size is None:
    basis_size = 2 * (pairs + starts) + _SPARE
  else:
    check_count('basis_size', basis_size, minimum=pairs + starts + 1)
  if flat.size <= check_count('dense_below', dense_below, minimum=0):
    basis, products = krylov.complete(flat), jnp.int32(flat.size)
  else:
    size = min(basis_size, flat.size, max_products)
    basis, products = _searched(flat, key, wanted, tolerance, max_products, starts, size)
  smallest, largest = _pairs(flat, basis, wanted, tolerance)
  return Extremes(largest, smallest, products)


@checked
def sharpness(
  problem: Problem,
  params: PyTree,
  model_state: PyTree,
  key: Key,
  *,
  tolerance: float = 0.01,
  max_products: int = 100,
  dense_below: int = 20,
  block_size: int = BLOCK,
  losses: Losses = evaluation_losses,
) -> Eigenpairs:
  r"""The largest eigenvalue of the Hessian of the mean training loss, $\lambda_{\max}(\nabla^2 f(\theta))$.

  As a probe: `lambda problem, state: sharpness(problem, state.params, state.model_state, key).values[0]`. It costs
  about 10 to 20 Hessian products, 20 to 40 gradient-equivalents. For a perceptron of 1.0 million parameters and 10,000
  MNIST digits it took 17 products (33 gradients) at the start and 8 (15 gradients) after 200 steps; on a CPU the
  operations on the basis add up to one gradient per product, so that the time was that of 42 to 48 and of 26
  gradients. The residual takes 8 more products over at most 512 examples, see `hessian`; under jit they are omitted if
  only values and vectors are used. Under `vmap` all lanes wait for the slowest.

  Args:
    problem: whose training examples and loss are used.
    params: the parameters theta.
    model_state: the model's other state, `()` if it has none; it is not advanced.
    key: randomness of the start, and of the forward pass for `training_losses`.
    tolerance: as for `eigenpairs`.
    max_products: as for `eigenpairs`.
    dense_below: as for `eigenpairs`; small by default, as the search takes 10 to 20 products for any d.
    block_size: as for `hessian`.
    losses: as for `hessian`.

  Returns:
    One pair, k = 1.

  Raises:
    InputError: an argument out of range.
  """
  loss_key, start_key = jax.random.split(key)
  operator = hessian(problem, params, model_state, loss_key, block_size=block_size, losses=losses)
  found = eigenpairs(
    operator, start_key, tolerance=tolerance, max_products=max_products, dense_below=dense_below
  )
  return found.largest


def _searched(
  flat: Flat,
  key: Key,
  wanted: tuple[int, int],
  tolerance: float,
  max_products: int,
  starts: int,
  size: int,
) -> tuple[Basis, Array]:
  """A basis that contains the wanted pairs, and the number of products."""
  least = min(_LEAST_STEPS * starts, size)
  start_key, fresh_key = jax.random.split(key)

  def unfinished(carry: Carry) -> Array:
    basis, _, _, products = carry
    able = (products < max_products) & (basis.used < flat.size)
    return able & ((products < least) | ~_done(basis, wanted, tolerance))

  def step(carry: Carry) -> Carry:
    basis, pending, begun, products = carry
    number = basis.used - begun
    candidate = jnp.where(
      number < starts,
      pending[jnp.minimum(number, starts - 1)],
      basis.images[jnp.maximum(basis.used - starts, 0)],
    )
    basis = krylov.grown(flat, basis, candidate, jax.random.fold_in(fresh_key, products))
    return basis, pending, begun, products + 1

  def restart(carry: Carry) -> Carry:
    basis, _, _, products = carry
    kept = _kept(krylov.ritz(basis)[1], wanted, starts)
    pending = jax.vmap(krylov.orthogonal_to, in_axes=(None, 0))(basis.vectors, basis.images[size - starts :])
    return krylov.compressed(basis, kept), pending, jnp.int32(kept.shape[1]), products

  def cycle(carry: Carry) -> Carry:
    carry = jax.lax.while_loop(lambda carry: (carry[0].used < size) & unfinished(carry), step, carry)
    return jax.lax.cond(unfinished(carry), restart, lambda carry: carry, carry)

  random = jax.random.normal(start_key, (starts, flat.size), flat.dtype)
  first = (krylov.empty(flat, size), random, jnp.int32(0), jnp.int32(0))
  if size < min(max_products, flat.size):
    basis, _, _, products = jax.lax.while_loop(unfinished, cycle, first)
  else:
    basis, _, _, products = jax.lax.while_loop(unfinished, step, first)
  return basis, products


def _kept(coefficients: Array, wanted: tuple[int, int], starts: int) -> Array:
  """The Ritz vectors of a full basis that a restart keeps: about half, at the wanted ends of the spectrum."""
  size, low, high = coefficients.shape[0], *wanted
  extra = max(min(size // 2, size - starts - 1) - low - high, 0)
  below = low + (extra if not high else extra // 2) if low else 0
  above = low + high + extra - below
  return jnp.concatenate([coefficients[:, :below], coefficients[:, size - above :]], axis=1)


def _selected(basis: Basis, wanted: tuple[int, int]) -> tuple[Array, Array, Array]:
  """Values, coefficients and the largest absolute value: first the smallest ascending, then the largest descending."""
  values, coefficients = krylov.ritz(basis)
  low, high = wanted
  last = jnp.maximum(basis.used, max(wanted)) - 1
  places = jnp.concatenate([jnp.arange(low), last - jnp.arange(high)])
  scale = jnp.maximum(jnp.abs(values[0]), jnp.abs(values[jnp.maximum(basis.used, 1) - 1]))
  return values[places], coefficients[:, places], scale


def _done(basis: Basis, wanted: tuple[int, int], tolerance: float) -> Array:
  values, coefficients, scale = _selected(basis, wanted)
  found = krylov.residuals(basis, values, coefficients)
  # Below the rounding of the products a residual does not fall any more.
  small = jnp.all(found <= jnp.maximum(tolerance * scale, krylov.rounding(basis)))
  # What is not finite does not become so.
  return (small & (basis.used >= sum(wanted))) | ~jnp.isfinite(scale)


def _pairs(
  flat: Flat, basis: Basis, wanted: tuple[int, int], tolerance: float
) -> tuple[Eigenpairs, Eigenpairs]:
  values, coefficients, scale = _selected(basis, wanted)
  found = krylov.residuals(basis, values, coefficients) + krylov.rounding(basis)
  found = found + flat.rounding().astype(found.dtype)
  vectors = jax.vmap(flat.unravel)(krylov.combined(basis, coefficients))
  signs = jnp.where(jnp.abs(values) > found, jnp.sign(values), 0).astype(jnp.int8)
  # The zero matrix is known as well as can be.
  close = found <= jnp.maximum(tolerance * scale, krylov.underflow(basis))
  pairs = Eigenpairs(values, vectors, found, signs, close)
  low = wanted[0]
  return (
    jax.tree.map(lambda leaf: leaf[:low], pairs),
    jax.tree.map(lambda leaf: leaf[low:], pairs),
  )
