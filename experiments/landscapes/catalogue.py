"""The landscapes of the page, each in two parameters."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gdlab import problems
from gdlab.core.types import Problem
from gdlab.problems import landscapes, matrices


class Entry(NamedTuple):
  """How a landscape is made, what there is to see on it, and whether its points stand for others by symmetry."""

  make: Callable[[], Problem]
  says: str
  symmetric: bool = False


def boxed(make: Callable[[], Problem], reach: float) -> Problem:
  """A problem of two parameters with a box to draw it in, [-reach, reach]^2."""
  problem = make()
  return dataclasses.replace(problem, known=problem.known._replace(box=np.tile([-reach, reach], (2, 1))))


LANDSCAPES: dict[str, Entry] = {
  'bowl': Entry(
    lambda: problems.quadratic([1.0, 20.0], start=[-2.5, 1.5]),
    'A quadratic of condition number 20: descent zig-zags, momentum overshoots.',
  ),
  'rosenbrock': Entry(landscapes.rosenbrock, 'A curved valley of condition number 2,500 at its minimum.'),
  'himmelblau': Entry(
    landscapes.himmelblau, 'Four minima of value 0; where a path ends depends on its steps.'
  ),
  'beale': Entry(landscapes.beale, 'A flat valley to a minimum; a saddle stands at (0, 1).'),
  'booth': Entry(landscapes.booth, 'A quadratic whose axes are not those of the parameters.'),
  'branin': Entry(landscapes.branin, 'Three minima of one value.'),
  'styblinski_tang': Entry(
    landscapes.styblinski_tang, 'A separable quartic: nine stationary points from three roots.'
  ),
  'rastrigin': Entry(landscapes.rastrigin, 'A bowl with a minimum near every whole number.'),
  'ackley': Entry(
    landscapes.ackley,
    'Ripples around a cone, whose tip is the lowest point: it has no gradient there, so it is not on the list.',
  ),
  'griewank': Entry(landscapes.griewank, 'A wide bowl under a product of cosines.'),
  'six_hump_camel': Entry(landscapes.six_hump_camel, 'Six minima, of which two are lowest.'),
  'three_hump_camel': Entry(landscapes.three_hump_camel, 'Three minima, the lowest in the middle.'),
  'mueller_brown': Entry(
    landscapes.mueller_brown, 'A model of a chemical reaction: three wells and two passes.'
  ),
  'double_well': Entry(
    functools.partial(landscapes.double_well, tilt=0.3, start=[1.4, 0.8]),
    'Two wells of unequal depth; the barrier between them is known.',
  ),
  'monkey_saddle': Entry(
    functools.partial(landscapes.monkey_saddle, confinement=1.0),
    'Three ways down from a point where the Hessian vanishes.',
  ),
  'strict_saddle': Entry(
    functools.partial(landscapes.strict_saddle, [1.0, -0.5], confinement=1.0, start=[1.2, 1e-3]),
    'A saddle with a well on either side, started next to its ridge.',
  ),
  'degenerate_saddle': Entry(
    functools.partial(landscapes.degenerate_saddle, confinement=1.0),
    'A saddle with a flat direction: descent leaves it slower than any exponential.',
  ),
  'plateau': Entry(landscapes.plateau, 'A well in a plain whose slope falls off with the distance.'),
  'cliff': Entry(
    landscapes.cliff, 'A slope that a step of the usual length falls over, or is thrown back by.'
  ),
  'two_valleys': Entry(
    functools.partial(landscapes.two_valleys, stiffness=10.0, start=[-0.33, 0.4]),
    'A narrow valley beside a wide one of the same depth: a sharp and a flat minimum.',
  ),
  'octopus': Entry(
    functools.partial(problems.octopus, 2, start=[0.3, 0.2]),
    'Two saddles one behind the other: descent waits at the second longer than at the first.',
  ),
  'pca': Entry(
    lambda: boxed(
      functools.partial(matrices.low_rank_factorization, [2.0, 1.0], 1, start=[[0.01], [1.3]]), 2.0
    ),
    'The leading eigenvector of a 2 x 2 matrix: the other one is a saddle.',
    symmetric=True,
  ),
  'tensor_decomposition': Entry(
    lambda: boxed(
      functools.partial(
        matrices.orthogonal_tensor_decomposition, [2.0, 1.0], rotation=1, start=[-0.35, 0.09]
      ),
      1.8,
    ),
    'A component of a fourth-order tensor: each is a minimum with either sign, of which one is listed.',
    symmetric=True,
  ),
  'deep_linear_network': Entry(
    lambda: boxed(functools.partial(matrices.deep_linear_network, [1.0], start=([[1.2]], [[-0.6]])), 2.0),
    'Two layers of one weight each: a saddle at 0, and a curve of minima of which one is listed.',
    symmetric=True,
  ),
  'phase_retrieval': Entry(
    lambda: boxed(functools.partial(matrices.population_phase_retrieval, [1.0, 0.0], start=[0.01, 0.9]), 1.6),
    'A signal from squares of its projections: two minima of opposite sign, two saddles (one is listed), a maximum.',
    symmetric=True,
  ),
  'two_parameter_network': Entry(
    problems.two_parameter_network, 'A network of one hidden unit on the records of 442 patients.'
  ),
  'gaussian_random_field': Entry(
    lambda: boxed(functools.partial(problems.gaussian_random_field, 2, start=[0.0, 0.0]), 5.0),
    'One draw of a smooth random function; its stationary points are not known beforehand.',
  ),
}
