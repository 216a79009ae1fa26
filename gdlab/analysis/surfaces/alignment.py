"""Permuting the hidden units of a network, which changes its parameters but not its function."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.analysis.surfaces.evaluation import check_alike
from gdlab.analysis.surfaces.matching import Permutations, match_weights
from gdlab.analysis.surfaces.stacks import DenseStack, Path, dense_stack, leaf_at, shapes_of, with_leaves
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, Problem, PyTree

_TRIED = 16  # training examples on which a permutation must leave the losses as they were


class Aligned(NamedTuple):
  """A network with its hidden units in another order.

  Attributes:
    params: the permuted parameters.
    model_state: the permuted state.
    permutations: int[width] for each hidden layer: its unit j is the former unit permutations[j].
  """

  params: PyTree
  model_state: PyTree
  permutations: Permutations


@checked('second')
def align(
  problem: Problem,
  first: PyTree,
  second: PyTree,
  second_state: PyTree = (),
  *,
  layers: Sequence[str] | None = None,
  permutations: Permutations | None = None,
) -> Aligned:
  r"""Puts the hidden units of the second network in the order of the first's, so that the two can be compared.

  Permuting hidden units leaves a network's function unchanged but moves its parameters far: the straight line between
  two solutions that differ in this alone has a barrier. `interpolate` after `align` shows what other barrier there is.
  For stacks of Dense layers with elementwise activations, with or without BatchNorm between them, in Linen (such as
  `gdlab.problems.MLP`) or NNX. Whether the model is such a stack is tested: a random permutation must leave the losses
  of 16 examples unchanged. A host function.

  Cost: two evaluations of 16 examples, and that of `match_weights`; no gradient.

  Example:
    >>> import gdlab, optax
    >>> data = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> loss = optax.softmax_cross_entropy_with_integer_labels
    >>> problem = gdlab.problems.from_linen(gdlab.problems.MLP((8,), 2), data, loss)
    >>> init = jax.jit(problem.init)
    >>> one, two = (init(jax.random.key(seed))[0] for seed in (0, 1))
    >>> aligned = align(problem, one, two)
    >>> line = gdlab.analysis.interpolate(problem, one, aligned.params)

  Args:
    problem: the problem of the model of both.
    first: parameters of the network to match.
    second: parameters of the network whose units are permuted.
    second_state: its other state, `()` if it has none.
    layers: the Dense layers from input to output, as for `dense_stack`.
    permutations: from `match_activations`; by default from `match_weights`.

  Raises:
    InputError: if the model cannot be aligned: it is not a stack of Dense layers, or its function depends on the order
      of its hidden units.

  Source: Ainsworth et al. 2022, arXiv 2209.04836; Entezari et al. 2021, arXiv 2110.06296.
  """
  check_alike('second', second, 'first', first)
  stack = dense_stack(second, second_state, layers=layers)
  _check_symmetric(problem, second, second_state, stack)
  if permutations is None:
    permutations = match_weights(first, second, stack)
  params, state = permute_units(second, second_state, stack, permutations)
  return Aligned(params, state, tuple(np.asarray(order) for order in permutations))


@checked('params', 'model_state')
def permute_units(
  params: PyTree, model_state: PyTree, stack: DenseStack, permutations: Sequence[Any]
) -> tuple[PyTree, PyTree]:
  """The parameters and state of the same network with its hidden units permuted; no value changes.

  Args:
    params: of the network.
    model_state: its other state, `()` if it has none.
    stack: see `dense_stack`.
    permutations: int[width] for each hidden layer: its unit j becomes the former unit permutations[j].

  Raises:
    InputError: if these are not permutations of the stack's hidden layers, or `params` has other kernels.
  """
  orders = [np.asarray(order) for order in permutations]
  if len(orders) != len(stack.widths) or any(
    order.shape != (width,) or not np.array_equal(np.sort(order), np.arange(width))
    for order, width in zip(orders, stack.widths)
  ):
    raise InputError(
      f'permutations must be one of each hidden layer, of widths {stack.widths}, got {shown(permutations)}'
    )
  found = shapes_of('params', params), shapes_of('model_state', model_state)
  lacking = [path for path in stack.kernels if len(found[0].get(path, ())) != 2]
  if lacking:
    raise InputError(f'params must have the kernels of stack, got none of two axes at {lacking[0]}')
  replaced: tuple[dict[Path, Any], dict[Path, Any]] = ({}, {})
  for layer, path in enumerate(stack.kernels):
    kernel = leaf_at(params, path)
    if layer > 0:
      kernel = kernel[orders[layer - 1]]
    replaced[0][path] = kernel[:, orders[layer]] if layer < len(orders) else kernel
  for layer, order in enumerate(orders):
    bias = stack.biases[layer]
    owned = ((0, bias),) if bias is not None else ()
    for kind, path in (*owned, *stack.norms[layer]):
      replaced[kind][path] = leaf_at((params, model_state)[kind], path)[order]
  return with_leaves(params, replaced[0]), with_leaves(model_state, replaced[1])


def _check_symmetric(problem: Problem, params: PyTree, model_state: PyTree, stack: DenseStack) -> None:
  """Raises InputError if the order of the hidden units matters."""
  rng = np.random.default_rng(0)
  shuffled = permute_units(params, model_state, stack, [rng.permutation(width) for width in stack.widths])
  before, after = (
    np.asarray(_first_losses(problem, *both), np.float64) for both in ((params, model_state), shuffled)
  )
  # Sums of so many terms in another order, layer after layer; what is no symmetry is wrong in the first digits.
  eps = float(jnp.finfo(jnp.result_type(*jax.tree.leaves(params))).eps)
  allowed = 1e3 * eps * max(1, *stack.widths) * (1 + np.abs(before).max()) if stack.widths else 0.0
  if not np.isfinite(before).all() or np.abs(after - before).max() > allowed:
    names = ['/'.join(path[:-1]) for path in stack.kernels]
    raise InputError(
      f'{problem.name} cannot be aligned: permuting hidden units changes its losses by '
      f'{np.abs(after - before).max():.3g}; it is no plain stack of the layers {names}'
    )


@jax.jit
def _first_losses(problem: Problem, params: PyTree, model_state: PyTree) -> Array:
  examples = jax.tree.map(lambda leaf: leaf[:_TRIED], problem.train)
  return problem.metrics(params, model_state, examples)['loss']
