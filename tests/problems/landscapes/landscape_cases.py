"""Every landscape with a second, independent transcription in NumPy, and values that were published or follow by hand.

The transcriptions follow the other usual form of each formula where there is one: expanded, as a loop, by index.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from scipy import optimize

from gdlab.core.types import Problem
from gdlab.problems import landscapes


@dataclasses.dataclass(frozen=True)
class Case:
  name: str  # of the function in gdlab.problems.landscapes
  reference: Callable[[np.ndarray], float]
  arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
  # (point, value, half a unit of the last digit that is known, or 0 where it is exact)
  values: Sequence[tuple[Sequence[float], float, float]] = ()
  # Where the extreme curvatures are attained, if they are known.
  extremes: Sequence[Sequence[float]] = ()

  def build(self, **more) -> Problem:
    return getattr(landscapes, self.name)(**self.arguments, **more)

  def __str__(self) -> str:
    return '_'.join([self.name, *(f'{key}{value}' for key, value in self.arguments.items())])

  def __hash__(self):
    return hash(str(self))


def rosenbrock(x):
  return sum((10 * x[j + 1] - 10 * x[j] ** 2) ** 2 + (x[j] - 1) ** 2 for j in range(len(x) - 1))


def himmelblau(p):
  x, y = p
  return x**4 + y**4 + 2 * x**2 * y + 2 * x * y**2 - 21 * x**2 - 13 * y**2 - 14 * x - 22 * y + 170


def beale(p):
  return sum(
    (target - p[0] * (1 - p[1] ** power)) ** 2 for power, target in ((1, 1.5), (2, 2.25), (3, 2.625))
  )


def booth(p):
  x, y = p
  return 5 * x**2 + 5 * y**2 + 8 * x * y - 34 * x - 38 * y + 74


def branin(p):
  a, b, c, r, s, t = 1, 5.1 / (4 * np.pi**2), 5 / np.pi, 6, 10, 1 / (8 * np.pi)
  return a * (p[1] - b * p[0] ** 2 + c * p[0] - r) ** 2 + s * (1 - t) * np.cos(p[0]) + s


def styblinski_tang(x):
  return sum(0.5 * x[j] ** 4 - 8 * x[j] ** 2 + 2.5 * x[j] for j in range(len(x)))


def rastrigin(x):
  return 10 * len(x) + sum(x[j] ** 2 - 10 * np.cos(2 * np.pi * x[j]) for j in range(len(x)))


def ackley(x):
  root, wave = np.sqrt(np.mean(np.square(x))), np.mean(np.cos(2 * np.pi * np.asarray(x)))
  return -20 * np.exp(-0.2 * root) - np.exp(wave) + 20 + np.e


def griewank(x):
  product = 1.0
  for j in range(len(x)):
    product *= np.cos(x[j] / np.sqrt(j + 1))
  return np.dot(x, x) / 4000 - product + 1


def six_hump_camel(p):
  x, y = p
  return 4 * x**2 - 2.1 * x**4 + x**6 / 3 + x * y - 4 * y**2 + 4 * y**4


def three_hump_camel(p):
  x, y = p
  return ((x**2 / 6 - 1.05) * x**2 + 2) * x**2 + y * (x + y)


def mueller_brown(p):
  total = 0.0
  for A, a, b, c, x, y in (
    (-200, -1, 0, -10, 1, 0),
    (-100, -1, 0, -10, 0, 0.5),
    (-170, -6.5, 11, -6.5, -0.5, 1.5),
    (15, 0.7, 0.6, 0.7, -1, 1),
  ):
    dx, dy = p[0] - x, p[1] - y
    total += A * np.exp(a * dx * dx + b * dx * dy + c * dy * dy)
  return total


def double_well(depth=1.0, tilt=0.0, stiffness=1.0):
  def value(p):
    x, *y = p
    return depth * (x**4 - 2 * x**2 + 1) + tilt * x + sum(stiffness * number**2 / 2 for number in y)

  return value


def two_valleys(curvatures=(100.0, 1.0), depths=(1.0, 1.0), stiffness=1.0):
  """The constants by a root finder from the depths, u(x) by another, and the value by integrating the slope in u."""

  def slope_integral(ridge):
    return np.polyint(4 * np.poly1d([1, -ridge, -1, ridge]))  # of 4 (u^2 - 1)(u - r)

  def height_above(ridge, side):
    return slope_integral(ridge)(ridge) - slope_integral(ridge)(side)

  ridge = optimize.brentq(
    lambda r: height_above(r, -1) * depths[1] - height_above(r, 1) * depths[0], -1, 1, xtol=1e-15
  )
  scale = depths[0] / height_above(ridge, -1)
  left, right = (np.sqrt(scale * 8 * abs(s - ridge) / c) for s, c in zip((-1, 1), curvatures))
  a, gap = (left + right) / 2, (right - left) / 2
  sine = 0.5 + 0.5 * abs(gap) / a
  b, e = gap / sine, np.sqrt(1 - sine**2) / sine

  def place(u):
    return a * u + b * np.sqrt(e**2 + u**2)

  well = slope_integral(ridge) * scale
  floor = min(well(-1), well(1))

  def value(p):
    u = optimize.brentq(lambda u: place(u) - place(ridge) - p[0], -100, 100, xtol=1e-15, rtol=1e-15)
    return well(u) - floor + stiffness * np.dot(p[1:], p[1:]) / 2

  return value


def strict_saddle(eigenvalues, confinement=0.0):
  def value(p):
    return sum(
      curvature * x**2 / 2 + (confinement * x**4 / 4 if curvature < 0 else 0)
      for curvature, x in zip(eigenvalues, p)
    )

  return value


def monkey_saddle(confinement=0.0):
  def value(p):
    z = complex(*p)
    return (z**3).real + confinement * abs(z) ** 4 / 4

  return value


def degenerate_saddle(confinement=0.0):
  return lambda p: p[0] ** 2 / 2 + p[1] ** 4 * (2 * confinement * p[1] ** 2 - 3) / 12


def plateau(width=1.0):
  return lambda p: 1 - 2 * width**2 / (2 * width**2 + np.dot(p, p))


def cliff(height=2.0, width=0.05, position=1.0, curvature=0.2):
  return lambda p: height / 2 * (1 + np.tanh((p[0] - position) / (2 * width))) + curvature * np.dot(p, p) / 2


STEEP = 0.05 * np.log(2 + np.sqrt(3))  # from a step of width 0.05 to where its curvature is extreme

CASES = (
  Case(
    'rosenbrock',
    rosenbrock,
    values=[((-1.2, 1), 24.2, 1e-13), ((0, 0), 1, 0), ((1, 1), 0, 0), ((-1, 1), 4, 0)],
  ),
  *(
    Case('rosenbrock', rosenbrock, {'dim': d}, [((-1.0,) * d, 404.0 * (d - 1), 0)])
    for d in (3, 4, 5, 6, 7, 9)
  ),
  Case(
    'himmelblau',
    himmelblau,
    values=[((0, 0), 170, 0), ((3, 2), 0, 0), ((-0.270845, -0.923039), 181.617, 5e-4)],
  ),
  Case('beale', beale, values=[((0, 0), 14.203125, 0), ((3, 0.5), 0, 0), ((1, 1), 14.203125, 0)]),
  Case('booth', booth, values=[((0, 0), 74, 0), ((1, 3), 0, 0), ((-5, 5), 104, 0)], extremes=[(0, 0)]),
  Case('branin', branin, values=[((-np.pi, 12.275), 0.397887, 5e-7), ((0, 0), 55.602113, 5e-7)]),
  Case(
    'styblinski_tang',
    styblinski_tang,
    values=[((-2.903534, -2.903534), -78.33233, 5e-6), ((1, 1), -10, 0)],
    extremes=[(0, 0)],
  ),
  Case('styblinski_tang', styblinski_tang, {'dim': 3}, [((-2.903534,) * 3, -117.49850, 5e-6)], [(0, 0, 0)]),
  Case('styblinski_tang', styblinski_tang, {'dim': 8}, [((-2.903534,) * 8, -313.32933, 5e-6)], [(0,) * 8]),
  Case('rastrigin', rastrigin, {'dim': 1}, [((0.5,), 20.25, 1e-14)], [(0,), (0.5,)]),
  Case('rastrigin', rastrigin, values=[((0, 0), 0, 0), ((1, 2), 5, 1e-14)], extremes=[(0, 0), (0.5, 0.5)]),
  Case('rastrigin', rastrigin, {'dim': 3}, [((0.5, 0, 1), 21.25, 1e-13)], [(0,) * 3, (0.5,) * 3]),
  Case('ackley', ackley, values=[((0, 0), 0, 0), ((1, 1), 3.6253849, 5e-8), ((0.5, 0.5), 4.2536540, 5e-8)]),
  Case('ackley', ackley, {'dim': 1}, [((0,), 0, 0), ((1,), 3.6253849, 5e-8)]),
  Case('ackley', ackley, {'dim': 4}, [((0, 0, 0, 0), 0, 0), ((1,) * 4, 3.6253849, 5e-8)]),
  Case('griewank', griewank, values=[((0, 0), 0, 0), ((-3.140022, 4.438444), 0.00739604, 5e-9)]),
  Case('griewank', griewank, {'dim': 1}, [((0,), 0, 0), ((np.pi,), 2 + np.pi**2 / 4000, 1e-15)]),
  Case('griewank', griewank, {'dim': 3}, [((0, 0, 0), 0, 0), ((np.pi, 0, 0), 2 + np.pi**2 / 4000, 1e-15)]),
  Case(
    'six_hump_camel',
    six_hump_camel,
    values=[((0.0898, -0.7126), -1.0316, 5e-5), ((1, 1), 1 + 4 - 2.1 + 1 / 3, 1e-15), ((0, 0), 0, 0)],
  ),
  Case('three_hump_camel', three_hump_camel, values=[((0, 0), 0, 0), ((5, 5), 2047.9166667, 5e-8)]),
  # Their three decimals of the place move the value by less than 4100 (5e-4)^2.
  Case(
    'mueller_brown',
    mueller_brown,
    values=[
      ((-0.558, 1.442), -146.700, 2e-3),
      ((0.623, 0.028), -108.167, 2e-3),
      ((-0.050, 0.467), -80.768, 2e-3),
      ((-0.822, 0.624), -40.665, 2e-3),
      ((0.212, 0.293), -72.249, 2e-3),
    ],
  ),
  Case(
    'double_well', double_well(), values=[((1, 0), 0, 0), ((0, 0), 1, 0), ((2, 2), 11, 0)], extremes=[(0, 0)]
  ),
  Case('double_well', double_well(), {'dim': 1}, [((-1,), 0, 0), ((0,), 1, 0)], [(0,)]),
  Case(
    'double_well',
    double_well(2.0, 1.5, 7.0),
    {'dim': 3, 'depth': 2.0, 'tilt': 1.5, 'stiffness': 7.0},
    [((1, 0, 0), 1.5, 0), ((0, 1, 1), 9, 0)],
    [(0, 0, 0)],
  ),
  Case('double_well', double_well(1.0, -1.5), {'tilt': -1.5}, [((1, 0), -1.5, 0)], [(0, 0)]),
  Case('two_valleys', two_valleys(), values=[((0, 0), 1, 1e-14), ((0, 2), 3, 1e-14)]),
  Case(
    'two_valleys',
    two_valleys((3.0, 40.0), (0.5, 2.0), 4.0),
    {'dim': 3, 'curvatures': (3.0, 40.0), 'depths': (0.5, 2.0), 'stiffness': 4.0},
    [((0, 0, 0), 2, 1e-14), ((0, 1, 1), 6, 1e-14)],
  ),
  Case(
    'two_valleys',
    two_valleys((400.0, 0.5), (3.0, 1.0)),
    {'curvatures': (400.0, 0.5), 'depths': (3.0, 1.0)},
    [((0, 0), 3, 1e-13)],
  ),
  Case(
    'strict_saddle',
    strict_saddle([2.0, -0.5, 1.0]),
    {'eigenvalues': [2.0, -0.5, 1.0]},
    [((1, 1, 1), 1.25, 0), ((0, 2, 0), -1, 0)],
    [(0, 0, 0)],
  ),
  Case(
    'strict_saddle',
    strict_saddle([-1.0, 3.0, -0.25, -1.0], 0.5),
    {'eigenvalues': [-1.0, 3.0, -0.25, -1.0], 'confinement': 0.5},
    [((1, 1, 1, 0), 0.5 * 1.75 + 0.25, 0)],
    [(0,) * 4],
  ),
  Case(
    'strict_saddle',
    strict_saddle([-1.0] * 8, 1.0),
    {'eigenvalues': [-1.0] * 8, 'confinement': 1.0},
    [((1,) * 8, -2, 0)],
    [(0,) * 8],
  ),
  Case('monkey_saddle', monkey_saddle(), values=[((1, 0), 1, 0), ((1, 1), -2, 0), ((-1, 0), -1, 0)]),
  Case('monkey_saddle', monkey_saddle(1.5), {'confinement': 1.5}, [((-2, 0), -2, 0), ((0, 1), 0.375, 0)]),
  Case('degenerate_saddle', degenerate_saddle(), values=[((1, 0), 0.5, 0), ((0, 2), -4, 0)]),
  Case('degenerate_saddle', degenerate_saddle(0.6), {'confinement': 0.6}, [((0, 1), -0.15, 1e-16)]),
  Case('plateau', plateau(), values=[((0, 0), 0, 0), ((1, 1), 0.5, 0)], extremes=[(0, 0), (np.sqrt(2), 0)]),
  Case('plateau', plateau(2.0), {'dim': 3, 'width': 2.0}, [((2, 2, 0), 0.5, 0)], [(0,) * 3, (0, 8**0.5, 0)]),
  Case(
    'cliff',
    cliff(),
    values=[((1, 0), 1.1, 1e-15), ((3, 1), 3, 1e-15)],
    extremes=[(1 + STEEP, 0), (1 - STEEP, 0)],
  ),
  Case(
    'cliff',
    cliff(1.0, 0.5, 0.3, 2.0),
    {'dim': 1, 'height': 1.0, 'width': 0.5, 'position': 0.3, 'curvature': 2.0},
    [((0.3,), 0.59, 1e-15)],
    [(0.3 + 10 * STEEP,), (0.3 - 10 * STEEP,)],
  ),
)
BY_NAME = [
  {'testcase_name': str(number) + '_' + case.name, 'case': case} for number, case in enumerate(CASES)
]
# One of each: a landscape without a case is found by this, and fails every test.
FIRST = [
  next(case for case in CASES if case.name == name) for name in sorted(set(landscapes.__all__) - {'value_fn'})
]
COMPLETE = [row for row in BY_NAME if row['case'].build().known.stationary_points.complete]


@functools.cache
def calculus(case: Case) -> tuple[Callable, Callable, Callable]:
  """Value, gradient and Hessian at points float64[M, d], through `value_fn`. To be called where x64 is on."""
  value = landscapes.value_fn(case.build())
  functions = [jax.jit(jax.vmap(function)) for function in (value, jax.grad(value), jax.hessian(value))]
  return tuple(lambda points, function=function: np.asarray(function(points)) for function in functions)


def sample(case: Case, count: int, seed: int) -> np.ndarray:
  """Points uniform in the landscape's box, float64[count, d]."""
  box = case.build().known.box
  return np.random.default_rng(seed).uniform(box[:, 0], box[:, 1], (count, len(box)))
