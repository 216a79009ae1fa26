"""How labels pass through the primitives of JAX: for each a rule `(inputs, params, output shapes) -> labels`.

A rule may name more inputs than an entry depends on, but never fewer. Primitives without a rule are assumed to mix all
inputs, and the interpreter notes this.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from gdlab.core.dependence import entries, indexing, products, shaping
from gdlab.core.dependence.labels import Labels, Value

Rule: TypeAlias = Callable[[list[Value], dict[str, Any], list[tuple[int, ...]]], list[Labels]]

# Entry by entry.
ELEMENTWISE = (
  'abs acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj '
  'convert_element_type copy cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma '
  'igamma_grad_a igammac imag integer_pow is_finite layout_constraint le le_to lgamma log log1p log2 logistic lt lt_to '
  'max min mulhi name ne neg nextafter not one_minus_square or polygamma population_count pow pvary real reciprocal '
  'reduce_precision reduced_vary_cast regularized_incomplete_beta rem round rsqrt sharding_constraint shift_left '
  'shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeros_like zeta'
)
# Keys, and numbers drawn of each.
KEYS = (
  'random_bits',
  'random_clone',
  'random_fold_in',
  'random_seed',
  'random_split',
  'random_unwrap',
  'random_wrap',
)
# Random numbers that depend on all that they are made of.
RANDOM = ('random_gamma', 'rng_bit_generator', 'threefry2x32')
# Linear algebra of the last axes; those in front are a batch.
MATRICES = (
  'cholesky',
  'eig',
  'eigh',
  'householder_product',
  'lu',
  'qr',
  'schur',
  'svd',
  'triangular_solve',
  'tridiagonal_solve',
)

RULES: dict[str, Rule] = {
  **dict.fromkeys(ELEMENTWISE.split(), entries.elementwise),
  **dict.fromkeys(KEYS, products.keys),
  **dict.fromkeys(RANDOM, products.mixed),
  **dict.fromkeys(MATRICES, products.matrices(2)),
  **dict.fromkeys(('mul', 'and'), entries.product),
  **dict.fromkeys(('optimization_barrier', 'device_put'), entries.per_input),
  **dict.fromkeys(('cumsum', 'cumprod', 'cummax', 'cummin', 'cumlogsumexp'), entries.cumulative),
  **{f'reduce_{name}': entries.reduction for name in ('sum', 'max', 'min', 'prod', 'and', 'or', 'xor')},
  **dict.fromkeys(('argmax', 'argmin', 'reduce'), entries.reduction),
  **{f'reduce_window{name}': entries.windows for name in ('', '_sum', '_max', '_min')},
  'select_n': entries.select,
  'bitcast_convert_type': entries.bitcast,
  'transpose': shaping.transpose,
  'reshape': shaping.reshape,
  'squeeze': shaping.reshape,
  'broadcast_in_dim': shaping.broadcast,
  'slice': shaping.cut,
  'split': shaping.parts,
  'rev': shaping.reverse,
  'pad': shaping.pad,
  'concatenate': shaping.concatenate,
  'stack': shaping.stack,
  'unstack': shaping.unstack,
  'tile': shaping.tile,
  'dot_general': products.dot,
  'conv_general_dilated': products.convolution,
  'sort': products.sort,
  'top_k': products.last_axis,
  'approx_top_k': products.last_axis,
  'fft': products.fourier,
  'gather': lambda inputs, params, shapes: [indexing.gather(inputs[0], inputs[1], params, shapes[0])],
  **dict.fromkeys(
    ('scatter', 'scatter-add', 'scatter-max', 'scatter-min', 'scatter-mul', 'scatter-sub'),
    lambda inputs, params, shapes: [indexing.scatter(inputs[0], inputs[1], inputs[2], params)],
  ),
  'dynamic_slice': lambda inputs, params, shapes: [
    indexing.dynamic_slice(inputs[0], inputs[1:], params['slice_sizes'])
  ],
  'dynamic_update_slice': lambda inputs, params, shapes: [
    indexing.dynamic_update_slice(inputs[0], inputs[1], inputs[2:])
  ],
}
