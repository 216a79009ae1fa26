r"""The rounding error of a product, measured by Monte Carlo arithmetic.

The Hessian of a saturated classifier is a small difference of large terms: p (1 - p) with p rounded to 1. Neither the
size nor the asymmetry of the products shows the cancellation. So the program of one product is run twice with every
number multiplied by 1 + s u, u uniform on [-1, 1] and s = 16 units of rounding: to first order the images differ by
16 times the rounding error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from gdlab.core.types import Array, PyTree

_SAMPLES = 4
# Well above the rounding that the runs have anyway, and small in half precision too.
_UNITS = 16
# Four normal vectors see less than an eighth of a matrix's Frobenius norm with a probability of 5e-4, if its rank is 1.
_SAFETY = 8
_TENSOR_CORES = 2.0**-11  # half a unit in the last place of ten bits

_CALLS = {'pjit': 'jaxpr', 'jit': 'jaxpr', 'closed_call': 'call_jaxpr', 'core_call': 'call_jaxpr'} | {
  'custom_jvp_call': 'call_jaxpr',
  'custom_vjp_call': 'call_jaxpr',
  'custom_vjp_call_jaxpr': 'fun_jaxpr',
  'checkpoint': 'jaxpr',
  'remat2': 'jaxpr',
}
# Nothing is rounded there.
_EXACT = {'abs', 'broadcast_in_dim', 'clamp', 'concatenate', 'copy', 'copy_p', 'dynamic_slice'} | {
  'dynamic_update_slice',
  'expand_dims',
  'gather',
  'iota',
  'max',
  'min',
  'neg',
  'optimization_barrier',
  'pad',
  'real',
  'reduce_max',
  'reduce_min',
  'reshape',
  'rev',
  'select_n',
  'sign',
  'slice',
  'sort',
  'split',
  'squeeze',
  'stop_gradient',
  'transpose',
}
_PRODUCTS = {'dot_general', 'conv_general_dilated'}


def rounding_of(product: Callable[[PyTree, PyTree], PyTree], params: PyTree) -> Array:
  r"""An empirical bound on the norm of the rounding error E of a linear map, float[]; 8 products.

  It is 8 times the root mean square of $\|E v\|$ over normal vectors v, which estimates the Frobenius norm of E.

  Args:
    product: `(params, vector) -> image`, both like `params`.
    params: the point.
  """
  leaves, structure = jax.tree.flatten(params)

  def image(number: Array) -> list[Array]:
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), number // 2), len(leaves))
    drawn = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.leaves(shaken(product, number)(params, jax.tree.unflatten(structure, drawn)))

  images = jax.lax.map(image, jnp.arange(2 * _SAMPLES, dtype=jnp.uint32))
  apart = jnp.concatenate([jnp.ravel(leaf[::2] - leaf[1::2]) for leaf in images])
  # By the largest, as a square may underflow.
  largest = jnp.max(jnp.abs(apart))
  unit = jnp.where(largest > 0, largest, 1)
  # Two runs are apart by the root of 2 times what one is off.
  return unit * jnp.linalg.norm(apart / unit) * (_SAFETY / _UNITS / np.sqrt(2 * _SAMPLES))


def shaken(function: Callable[..., PyTree], seed: Array) -> Callable[..., PyTree]:
  """The function with every float input and result perturbed at random by up to 16 units of rounding.

  A `while_loop` or a `cond` counts as one operation.

  Args:
    function: of pytrees of arrays.
    seed: uint32[].
  """

  def moved(*args: PyTree) -> PyTree:
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    noise = _Noise(seed)
    consts = [noise(const) for const in closed.consts]
    inputs = [noise(leaf) for leaf in jax.tree.leaves(args)]
    return jax.tree.unflatten(jax.tree.structure(shape), _evaluated(closed.jaxpr, consts, inputs, noise))

  return moved


class _Noise:
  """Relative noise, different at each call: a Weyl sequence along the array, cheap to compile and to run."""

  def __init__(self, seed: Array):
    self._seed = seed
    self._multipliers = np.random.default_rng(0)

  def __call__(self, array: Any, unit: float | None = None) -> Any:
    if not (hasattr(array, 'dtype') and jnp.issubdtype(array.dtype, jnp.floating)):
      return array
    unit = float(jnp.finfo(array.dtype).eps) if unit is None else unit
    along, start, step = self._multipliers.integers(2**32, size=3, dtype=np.uint32) | np.uint32(1)
    places = jax.lax.iota(jnp.uint32, array.size).reshape(array.shape) * along + (start + self._seed * step)
    # Uniform on [-2**31, 2**31), modulo 2**32.
    uniform = jax.lax.bitcast_convert_type(places, jnp.int32).astype(array.dtype)
    return array * (1 + uniform * (_UNITS * unit / 2.0**31))


def _evaluated(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], noise: _Noise) -> list[Any]:
  known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
  for equation in jaxpr.eqns:
    inputs = [var.val if isinstance(var, Literal) else known[var] for var in equation.invars]
    known |= zip(equation.outvars, _outputs(equation, inputs, noise), strict=True)
  return [var.val if isinstance(var, Literal) else known[var] for var in jaxpr.outvars]


def _outputs(equation: Any, inputs: list[Any], noise: _Noise) -> list[Any]:
  name, params = equation.primitive.name, equation.params
  if name in _CALLS:
    inner = params[_CALLS[name]]
    return _evaluated(getattr(inner, 'jaxpr', inner), getattr(inner, 'consts', ()), inputs, noise)
  if name == 'scan':
    return _scanned(params, inputs, noise)
  found = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(params))
  outputs = list(found) if equation.primitive.multiple_results else [found]
  if name in _EXACT:
    return outputs
  # On a GPU single precision means ten bits in matrix products, unless more are asked for.
  coarse = name in _PRODUCTS and jax.default_backend() != 'cpu' and outputs[0].dtype == jnp.float32
  return [noise(output, _TENSOR_CORES if coarse else None) for output in outputs]


def _scanned(params: dict[str, Any], inputs: list[Any], noise: _Noise) -> list[Any]:
  first, last = params['num_consts'], params['num_consts'] + params['num_carry']
  inner = params['jaxpr']

  def body(carry: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
    found = _evaluated(inner.jaxpr, inner.consts, [*inputs[:first], *carry, *slices], noise)
    return found[: last - first], found[last - first :]

  carry, stacked = jax.lax.scan(
    body, inputs[first:last], inputs[last:], length=params['length'], reverse=params['reverse']
  )
  return [*carry, *stacked]
