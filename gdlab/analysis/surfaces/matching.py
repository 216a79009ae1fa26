"""Which hidden units of two networks correspond: matching by weights or by activations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from gdlab.analysis.surfaces.stacks import DenseStack, leaf_at, shapes_of
from gdlab.core.argument_checks import array, each, tree
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count
from gdlab.core.types import PyTree

Permutations = tuple[np.ndarray, ...]  # int[width] of each hidden layer: unit j becomes the former unit p[j]


@checked('max_sweeps', first=tree(), second=tree())
def match_weights(first: PyTree, second: PyTree, stack: DenseStack, *, max_sweeps: int = 100) -> Permutations:
  r"""The permutations of the second network's hidden units that bring its weights closest to the first's.

  $$\max_{P_1, \dots, P_{L-1}} \sum_l \left\langle W_l,\ P_{l-1} W'_l P_l^T \right\rangle,$$

  by coordinate ascent: with the others fixed, each $P_l$ is an assignment problem, which SciPy solves exactly. There
  are two starts, the identity and one pass from the input that uses incoming weights only; the better result is kept.
  (For a permuted copy of a network that pass already finds the permutation. In general the ascent finds a local maximum
  only: the joint problem is NP-hard.) Biases and normalisation parameters count as incoming weights. A host function.

  Cost: no gradient; per sweep, an assignment of width^3 and a product of width^2 (in + out) for each hidden layer.

  Args:
    first: parameters of the network to match.
    second: parameters of the network whose units are permuted.
    stack: of both, see `dense_stack`.
    max_sweeps: >= 1, most passes over the hidden layers.

  Returns:
    int[width] for each hidden layer.

  Raises:
    InputError: an argument out of range, or parameters that do not have the stack's kernels.

  Source: Ainsworth, Hayase, Srinivasa, "Git Re-Basin: merging models modulo permutation symmetries", 2022, arXiv
  2209.04836, algorithm 1.
  """
  check_count('max_sweeps', max_sweeps)
  for name, params in (('first', first), ('second', second)):
    found = shapes_of(name, params)
    wanted = list(zip((0, *stack.widths), (*stack.widths, 0), strict=True))
    for path, (inputs, outputs) in zip(stack.kernels, wanted, strict=True):
      shape = found.get(path, ())
      if len(shape) != 2 or inputs not in (0, shape[0]) or outputs not in (0, shape[1]):
        raise InputError(f'{name} must have the kernels of stack, got shape {list(shape)} at {list(path)}')
  ours, theirs = ([_layer(params, stack, k) for k in range(len(stack.kernels))] for params in (first, second))
  identity = tuple(np.arange(width) for width in stack.widths)
  forward: list[np.ndarray] = []
  for layer in range(len(stack.widths)):
    forward.append(_assigned(_incoming(ours, theirs, layer, forward)))
  ends = [_ascended(ours, theirs, start, max_sweeps) for start in (tuple(forward), identity)]
  return max(ends, key=lambda end: end[1])[0]


@checked(first=each(array(), empty=True), second=each(array(), empty=True))
def match_activations(first: Sequence[Any], second: Sequence[Any]) -> Permutations:
  r"""The permutation of each layer's units that makes their activations correlate most over the same examples.

  $$\max_P \sum_j \operatorname{corr}\left(a_j,\ a'_{P(j)}\right),$$

  one assignment problem per layer, which SciPy solves exactly. A unit that is constant over the examples has
  correlation 0 with all others. A host function; cost: no gradient.

  Args:
    first: float[N, width] for each hidden layer of the network to match.
    second: the same of the network whose units are permuted, on the same N >= 2 examples.

  Returns:
    int[width] for each hidden layer, for `permute_units`.

  Raises:
    InputError: if the two differ in shape, an array does not have two axes, or N < 2.

  Source: Li, Yosinski, Clune, Lipson, Hopcroft, "Convergent learning", 2015, arXiv 1511.07543; Ainsworth et al. 2022,
  section 3.1.
  """
  pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(first, second)]
  shapes = [(a.shape, b.shape) for a, b in pairs]
  if len(first) != len(second) or any(a != b or len(a) != 2 or a[0] < 2 for a, b in shapes):
    raise InputError(
      f'first and second must be alike, arrays [N >= 2, width] of each hidden layer, got shapes {shapes}'
    )
  return tuple(_assigned(_standard(a).T @ _standard(b)) for a, b in pairs)


def _ascended(
  ours: list[list[np.ndarray]], theirs: list[list[np.ndarray]], start: Permutations, max_sweeps: int
) -> tuple[Permutations, float]:
  """A local maximum above `start`, and the objective there."""
  permutations, value = list(start), _agreement(ours, theirs, start)
  for _ in range(max_sweeps):
    for layer in range(len(permutations)):
      gain = _incoming(ours, theirs, layer, permutations) + _outgoing(ours, theirs, layer, permutations)
      permutations[layer] = _assigned(gain)
    found = _agreement(ours, theirs, permutations)
    # Ties go back and forth for ever, by rounding.
    if found <= value * (1 + 1e-12) if value > 0 else found <= value:
      break
    value = found
  return tuple(permutations), _agreement(ours, theirs, permutations)


def _layer(params: PyTree, stack: DenseStack, layer: int) -> list[np.ndarray]:
  """A layer's kernel [in, out], and the bias and normalisation parameters of its outputs [rows, out]."""
  bias = stack.biases[layer]
  own = [] if bias is None else [bias]
  if layer < len(stack.widths):
    own += [path for kind, path in stack.norms[layer] if kind == 0]
  kernel = np.asarray(leaf_at(params, stack.kernels[layer]), np.float64)
  rows = [np.asarray(leaf_at(params, path), np.float64) for path in own]
  return [kernel, np.stack(rows) if rows else np.zeros((0, kernel.shape[1]))]


def _incoming(ours: Any, theirs: Any, layer: int, permutations: Sequence[np.ndarray]) -> np.ndarray:
  """[width, width]: the inner products of the incoming weights of unit i of ours and unit j of theirs."""
  (kernel, own), (other, other_own) = ours[layer], theirs[layer]
  if layer > 0:
    other = other[permutations[layer - 1]]
  return kernel.T @ other + own.T @ other_own


def _outgoing(ours: Any, theirs: Any, layer: int, permutations: Sequence[np.ndarray]) -> np.ndarray:
  """The same for the outgoing weights."""
  kernel, other = ours[layer + 1][0], theirs[layer + 1][0]
  if layer + 1 < len(permutations):
    other = other[:, permutations[layer + 1]]
  return kernel @ other.T


def _agreement(ours: Any, theirs: Any, permutations: Sequence[np.ndarray]) -> float:
  """The objective."""
  total = 0.0
  for layer in range(len(ours)):
    gain = _incoming(ours, theirs, layer, permutations)
    order = permutations[layer] if layer < len(permutations) else np.arange(len(gain))
    total += gain[np.arange(len(order)), order].sum()
  return float(total)


def _assigned(gain: np.ndarray) -> np.ndarray:
  return linear_sum_assignment(gain, maximize=True)[1]


def _standard(activations: np.ndarray) -> np.ndarray:
  centred = activations - activations.mean(axis=0)
  norms = np.linalg.norm(centred, axis=0)
  # A constant unit leaves rounding only, which must not be blown up to norm 1.
  floor = 1e-12 * np.linalg.norm(activations, axis=0)
  return centred / np.where(norms > floor, norms, np.inf)
