"""Landscapes: functions of a few parameters all of whose stationary points are known, as training problems.

Every function here returns a Problem of one example, whose loss is the function itself, and whose `known` contains its
minimum, its stationary points and a box to plot it in. In the lists of stationary points the lowest minimum comes
first. A basin is an open ball, of infinite radius where gradient flow leads to the minimum from everywhere. At a
listed point x the gradient is 0 to 1e-10 in float64 for constants of order one, otherwise to 1e-10 times
max(1, L max(1, |x|)), L the largest absolute eigenvalue listed there.

All take `start`, the initial point, and `initial_scale`, the standard deviation of random starts around it.
"""

from gdlab.problems.landscapes.ackley import ackley
from gdlab.problems.landscapes.base import value_fn
from gdlab.problems.landscapes.camels import mueller_brown, six_hump_camel, three_hump_camel
from gdlab.problems.landscapes.many_minima import griewank, rastrigin, styblinski_tang
from gdlab.problems.landscapes.plane import beale, booth, branin, himmelblau
from gdlab.problems.landscapes.rosenbrock import rosenbrock
from gdlab.problems.landscapes.saddles import degenerate_saddle, monkey_saddle, strict_saddle
from gdlab.problems.landscapes.slopes import cliff, plateau
from gdlab.problems.landscapes.wells import double_well, two_valleys

__all__ = [
  'ackley',
  'beale',
  'booth',
  'branin',
  'cliff',
  'degenerate_saddle',
  'double_well',
  'griewank',
  'himmelblau',
  'monkey_saddle',
  'mueller_brown',
  'plateau',
  'rastrigin',
  'rosenbrock',
  'six_hump_camel',
  'strict_saddle',
  'styblinski_tang',
  'three_hump_camel',
  'two_valleys',
  'value_fn',
]
