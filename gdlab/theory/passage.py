r"""The integrals behind mean first passage times, cell by cell, each at its own scale, so that none overflows.

Over a cell [a, b], with $u = U/T$, everything is a sum of positive terms relative to the cell's own heights, and
$g(y) = \int^y e^{u(y) - u(z)} dz$ at its ends obeys
$g(b) = e^{u(b) - u(a)} g(a) + \int_a^b e^{u(b) - u(z)} dz$.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.polynomial.legendre as legendre

from gdlab.core.errors import InputError
from gdlab.theory.linear import Floats

_ORDER = 16
_NODES, _WEIGHTS = legendre.leggauss(_ORDER)
_FIRST_CELLS = 64
_MOST_CELLS = 100_000
_MOST_TEMPERATURES = 3e5


class Cell(NamedTuple):
  """The integrals over one cell; all numbers, or all arrays over cells."""

  rise: Floats  # u(b) - u(a)
  log_inner: Floats  # of int_a^b exp(u(b) - u(z)) dz
  log_outer: Floats  # of int_a^b exp(u(y) - u(a)) dy
  log_double: Floats  # of int_a^b int_a^y exp(u(y) - u(z)) dz dy


def integrated(height: Callable[[Floats], Floats], low: float, high: float) -> list[Cell]:
  """The cells of [low, high] in order, each halved until halving changes no integral's logarithm by 1e-10.

  Args:
    height: u, of an array of points.
    low: the first point.
    high: the last point, > low.

  Raises:
    InputError: if u rises and falls by more than 3e5 in all, or it would take more than 100,000 cells.
  """
  if np.abs(np.diff(height(np.linspace(low, high, 1025)))).sum() > _MOST_TEMPERATURES:
    raise _too_steep()
  edges = np.linspace(low, high, _FIRST_CELLS + 1)
  lefts, rights, done = edges[:-1], edges[1:], []
  whole = _cells(height, lefts, rights)
  while lefts.size:
    middles = (lefts + rights) / 2
    left, right = _cells(height, lefts, middles), _cells(height, middles, rights)
    halves = _joined(left, right)
    change = np.max([np.abs(one - other) for one, other in zip(whole[1:], halves[1:], strict=True)], axis=0)
    # A kink is followed down to where the cell no longer counts.
    settled = (change < 1e-10) | (rights - lefts < 1e-13 * (high - low))
    done += [
      (start, *row) for start, *row in zip(lefts[settled], *(part[settled] for part in halves), strict=True)
    ]
    open_ = ~settled
    if len(done) + 2 * open_.sum() > _MOST_CELLS:
      raise _too_steep()
    whole = Cell(
      *(np.concatenate([one[open_], other[open_]]) for one, other in zip(left, right, strict=True))
    )
    lefts, rights = (
      np.concatenate([lefts[open_], middles[open_]]),
      np.concatenate([middles[open_], rights[open_]]),
    )
  return [Cell(*row[1:]) for row in sorted(done)]


def _too_steep() -> InputError:
  return InputError(
    f'potential must rise and fall by less than {_MOST_TEMPERATURES:.0e} temperatures in all between wall and end'
  )


def _cells(height: Callable[[Floats], Floats], lefts: Floats, rights: Floats) -> Cell:
  half = (rights - lefts) / 2
  points = (lefts + rights)[:, None] / 2 + half[:, None] * _NODES
  u, start, end = height(points), height(lefts), height(rights)
  least, most = u.min(axis=1), u.max(axis=1)
  # Relative to the cell's lowest and highest node nothing overflows.
  down, up = np.exp(least[:, None] - u), np.exp(u - most[:, None])
  inner = np.maximum(down @ _CUMULATIVE.T, 0)  # at every node; rounding may take the first below 0
  scale = np.log(half)
  with np.errstate(divide='ignore'):
    return Cell(
      rise=end - start,
      log_inner=scale + np.log(down @ _WEIGHTS) + end - least,
      log_outer=scale + np.log(up @ _WEIGHTS) + most - start,
      log_double=2 * scale + np.log((up * inner) @ _WEIGHTS) + most - least,
    )


def _joined(left: Cell, right: Cell) -> Cell:
  double = np.logaddexp(left.log_double, right.log_double)
  return Cell(
    rise=left.rise + right.rise,
    log_inner=np.logaddexp(left.log_inner + right.rise, right.log_inner),
    log_outer=np.logaddexp(left.log_outer, right.log_outer + left.rise),
    log_double=np.logaddexp(double, left.log_inner + right.log_outer),
  )


def _cumulative() -> Floats:
  """The matrix of integrals from -1 to each node, from values at the nodes, through Legendre polynomials."""
  number = np.arange(_ORDER)
  values = legendre.legvander(_NODES, _ORDER)
  below = np.concatenate([np.ones((_ORDER, 1)), values[:, : _ORDER - 1]], axis=1)
  below[:, 0] = -1  # P_{-1} such that the integral of P_0 is t + 1
  integrals = (values[:, 1:] - below) / (2 * number + 1)
  coefficients = (2 * number[:, None] + 1) / 2 * values[:, :_ORDER].T * _WEIGHTS
  return integrals @ coefficients


_CUMULATIVE = _cumulative()
