"""The bound on the last iterate against published figures, a direct double sum, and runs that it must bound."""

import numpy as np
import pytest

from gdlab import theory
from gdlab.core.errors import InputError

STEPS = 400
TIME = np.arange(STEPS)
# Of the references, for D = G = 1 and T = 400, at the best constant factor.
SCHEDULES = {
  'constant': (np.ones(STEPS), 0.1375),
  'inverse root': (1 / np.sqrt(TIME + 1), 0.1223),
  # From 1 at four fifths of the steps to 0 at one beyond the last.
  'constant, then linear': (np.minimum(1.0, (STEPS - TIME) / (0.2 * STEPS + 1)), 0.1092),
  'cosine': ((1 + np.cos(np.pi * TIME / STEPS)) / 2, 0.1034),
  'linear': ((STEPS - TIME) / STEPS, 0.1006),
}


def double_sum(rates, distance, norms):
  """The formula term by term."""
  squares = (rates * norms) ** 2
  value = distance**2 / (2 * rates.sum()) + squares.sum() / (2 * rates.sum())
  for k in range(len(rates) - 1):
    value += rates[k] / rates[k + 1 :].sum() * squares[k:].sum() / rates[k:].sum() / 2
  return value


@pytest.mark.parametrize('name', SCHEDULES)
def test_published_figures_to_all_their_digits(name):
  rates, figure = SCHEDULES[name]
  assert round(theory.last_iterate_bound(rates, 1.0, 1.0).best.item(), 4) == figure


@pytest.mark.parametrize('norms', [2.0, np.linspace(3, 1, STEPS)], ids=['constant', 'by step'])
@pytest.mark.parametrize('name', SCHEDULES)
def test_is_the_double_sum_and_the_best_factor_is_best(name, norms):
  rates = 0.03 * SCHEDULES[name][0]
  found = theory.last_iterate_bound(rates, 0.7, norms)
  # Sums of 400 positive numbers, each rounded at 1e-16.
  np.testing.assert_allclose(found.value, double_sum(rates, 0.7, norms), rtol=1e-12)
  np.testing.assert_allclose(found.best, double_sum(found.factor * rates, 0.7, norms), rtol=1e-12)
  for nearby in (0.99, 1.01):
    assert double_sum(nearby * found.factor * rates, 0.7, norms) > found.best


def test_schedules_side_by_side_and_a_warm_up_from_zero():
  rates = np.stack([values for values, _ in SCHEDULES.values()])
  alone = [theory.last_iterate_bound(each, 1.0, 1.0).best for each in rates]
  np.testing.assert_allclose(theory.last_iterate_bound(rates, 1.0, 1.0).best, alone, rtol=1e-14)
  # Steps of rate 0 do not move, so that the bound is that of the others.
  waiting = theory.last_iterate_bound(np.concatenate([np.zeros(5), rates[0]]), 1.0, 1.0)
  np.testing.assert_allclose(waiting.best, alone[0], rtol=1e-14)
  # One step: D^2 / (2 eta) + eta G^2 / 2.
  assert theory.last_iterate_bound([0.5], 2.0, 3.0).value == pytest.approx(4 + 9 / 4)


@pytest.mark.parametrize('scale', [0.3, 1.0, 3.0])
@pytest.mark.parametrize('name', SCHEDULES)
def test_bounds_runs_on_convex_functions(name, scale):
  """The largest of 30 absolute values of linear functions with slopes of norm 1: least at 0."""
  best = theory.last_iterate_bound(SCHEDULES[name][0], 1.0, 1.0)
  rates = scale * best.factor * SCHEDULES[name][0]
  bound = theory.last_iterate_bound(rates, 1.0, 1.0).value
  for seed in range(10):
    rng = np.random.default_rng(seed)
    slopes = rng.standard_normal((30, 5))
    slopes = np.concatenate([slopes, -slopes])
    slopes /= np.linalg.norm(slopes, axis=1, keepdims=True)
    x = rng.standard_normal(5)
    x /= np.linalg.norm(x)
    for rate in rates[:-1]:  # the last rate is that at the iterate that is bounded
      x = x - rate * slopes[(slopes @ x).argmax()]
    assert (slopes @ x).max() <= bound


def test_one_dimension_comes_within_a_factor_of_the_bound():
  """|x| with the worst constant rate: a bound that no run comes near would not tell a mistake in it."""
  best = theory.last_iterate_bound(np.ones(STEPS), 1.0, 1.0)
  rates, worst = best.factor * np.ones(STEPS), 0.0
  for start in np.linspace(0.5, 1, 101):
    x = start
    for rate in rates[:-1]:
      x = x - rate * np.sign(x)
    worst = max(worst, abs(x))
  assert best.best / 10 < worst <= best.best


@pytest.mark.parametrize(
  ('rates', 'distance', 'norm', 'line'),
  [
    (1.0, 1.0, 1.0, 'rates must have shape'),
    ([], 1.0, 1.0, 'rates must have shape'),
    ([1.0, -1.0], 1.0, 1.0, 'rates must be >= 0'),
    ([1.0, 0.0], 1.0, 1.0, 'rates must end above 0'),
    ([1.0, 1.0], 0.0, 1.0, 'distance'),
    ([1.0, 1.0], 1.0, 0.0, 'gradient_norm'),
    ([1.0, 1.0], 1.0, [1.0, 1.0, 1.0], 'gradient_norm must be one number or one per step'),
  ],
)
def test_what_cannot_be_is_refused(rates, distance, norm, line):
  with pytest.raises(InputError, match=line):
    theory.last_iterate_bound(rates, distance, norm)
