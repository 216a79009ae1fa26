"""Comparisons whose true differences are known: runs that draw a number, on gdlab's own path to verdicts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdlab
from gdlab.comparison.answer import judged
from gdlab.comparison.comparing import TUNING
from gdlab.comparison.measuring import choose, measure
from gdlab.statistics import likely

TRIALS = 4
MARGIN = 1.0


def arm(place: float, shift: float, spread: float) -> gdlab.Arm:
  """Every trial's loss is `shift` plus noise of its own, from the numbers that a seed draws as its parameters."""

  def make(number):
    def update(updates, state, params):
      mine = jnp.take(params, (1 + place * TRIALS + number).astype(int))
      return jnp.zeros_like(params).at[0].set(shift + spread * mine - params[0]), state

    return gdlab.algorithm(
      sampler=gdlab.sampling.full_batch(), optimizer=optax.GradientTransformation(lambda params: (), update)
    )

  return gdlab.Arm(make, {'number': [trial + 0.5 for trial in range(TRIALS)]})


def simulated(shifts: list[float], spread: float, count: int, *, seeds: int = 16, most: int | None = None):
  """So many comparisons of arms with these true losses, the first being the baseline; noise is independent."""
  numbers = TRIALS * len(shifts) + 1
  problem = gdlab.problems.from_function(
    lambda params: params[0], lambda key: jax.random.normal(key, (numbers,)), name='draws'
  )
  arms = {f'arm{place}': arm(place, shift, spread) for place, shift in enumerate(shifts)}
  most = most or seeds
  first = gdlab.compare(
    problem,
    arms,
    baseline='arm0',
    budgets={'updates': 1},
    margin=MARGIN,
    tuning_seeds=3,
    seeds=seeds,
    most_seeds=most,
    plan=gdlab.Plan(lanes_at_once=64),
  )
  pairs = [(trial, 0) for trial in range(TRIALS)]
  tuning, graded = (
    {
      key: measure('draws', entry, first.ends[key], pairs, ids, first.how)
      for key, entry in first.entries.items()
    }
    for ids in (range(TUNING, TUNING + 3 * count), range(most * count))
  )

  def some(runs, begin, end):
    # Only what verdicts are made of, so that thousands of comparisons take seconds.
    few = runs.result[['train_loss', 'status']].isel(seed=slice(begin, end))
    return runs._replace(result=few)

  for number in range(count):
    tried = {key: some(runs, 3 * number, 3 * number + 3) for key, runs in tuning.items()}
    chances = {
      key: (likely(choose(tried[key], entry, 0, 'train_loss', largest=False), 3),)
      for key, entry in first.entries.items()
    }
    answer, before = dataclasses.replace(first, tuning=tried, likely=chances), 0
    size = seeds
    while True:
      runs = {key: some(each, most * number, most * number + size) for key, each in graded.items()}
      answer = judged(dataclasses.replace(answer, graded=runs, num_seeds=size), before)
      if size == most or all(row.verdict != 'undecided' for row in answer.verdicts):
        break
      before, size = size, min(most, 2 * size)
    yield answer


def shares(shifts: list[float], spread: float, count: int, **options) -> dict[str, float]:
  """How often some row came out so, and how often each row by itself: verdict -> share of comparisons."""
  found = [
    [str(row.verdict) for row in answer.verdicts] for answer in simulated(shifts, spread, count, **options)
  ]
  return {
    verdict: float(np.mean([verdict in rows for rows in found])) for verdict in gdlab.comparison.Outcome
  }
