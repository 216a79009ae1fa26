r"""Escape from one well of a symmetric double well, against Kramers' formula and exact mean times (N3).

Three references, each closer to what is simulated: Kramers' formula for $T \ll \Delta U$; the exact mean first passage
time of Langevin dynamics in continuous time; and that of the chain $x' = x - \alpha U'(x) + N(0, 2\alpha T)$ itself.
"""

from collections.abc import Callable

import jax
import numpy as np
import scipy.stats
import xarray as xr

import gdlab
from experiments.minima import arms
from experiments.minima.valleys import PROBES, descent, landscape, with_data
from gdlab import theory
from gdlab.host.progress import Progress

STREAMS = 10_000  # between the ids of the random streams of one temperature and batch size and the next
WALL = 1.1  # behind the starting minimum, in distances between the two minima, halved


def rates_of(config, batch_size: int) -> np.ndarray:
  """The learning rate of every barrier over temperature, at one batch size: T is proportional to rate over B."""
  options = config.escape
  barriers = np.asarray(options.barriers, float)
  return options.learning_rate * batch_size * barriers.min() / barriers


def data_variance(config) -> float:
  """sigma^2, such that a single example at the configured rate has the highest of the temperatures."""
  options = config.escape
  _, _, ridge = landscape('symmetric')
  temperature = ridge.barrier(False) / min(options.barriers)
  return float(temperature / theory.effective_temperature(options.learning_rate, 1.0, 1))


def references(barrier: float, learning_rate: float) -> dict[str, float]:
  """The mean time to the other minimum three times, at a temperature of the ridge's height over `barrier`."""
  made, _, ridge = landscape('symmetric')
  del made
  (start, _, bottom), (_, _, top), (end, _, _) = ridge
  temperature = ridge.barrier(False) / barrier
  wall = start - WALL * np.sign(end - start) * abs(end - start) / 2
  potential, slope = _symmetric
  return {
    'kramers': 1 / float(theory.kramers_rate(bottom, -top, ridge.barrier(False), temperature)),
    'continuous': theory.mean_first_passage_time(potential, temperature, start=start, end=end, wall=wall),
    'chain': learning_rate
    * chain_updates(slope, learning_rate, temperature, start=start, end=end, wall=wall),
  }


_symmetric = (lambda x: (x**2 - 1) ** 2, lambda x: 4 * x * (x**2 - 1))


def chain_updates(
  slope: Callable,
  learning_rate: float,
  temperature: float,
  *,
  start: float,
  end: float,
  wall: float,
  num: int = 1200,
) -> float:
  r"""The mean number of updates until the chain $x' = x - \alpha U'(x) + N(0, 2\alpha T)$ first passes a point.

  Solves $\tau(x) = 1 + \int \tau(x')\,p(x' \mid x)\,dx'$ by the midpoint rule on `num` cells between wall and end.

  Args:
    slope: U', of an array.
    learning_rate: alpha.
    temperature: T.
    start: where it starts.
    end: where it stops, once beyond.
    wall: so far behind the start that it is never reached.
    num: of cells; each should be a few times narrower than a step's noise.
  """
  edges = np.linspace(wall, end, num + 1)
  x = (edges[1:] + edges[:-1]) / 2
  width = abs(edges[1] - edges[0])
  law = scipy.stats.norm(x - learning_rate * slope(x), np.sqrt(2 * learning_rate * temperature))
  kernel = law.pdf(x[:, None]).T * width
  times = np.linalg.solve(np.eye(num) - kernel, np.ones(num))
  order = np.argsort(x)
  return float(np.interp(start, x[order], times[order]))


def escape(config, batch_size: int, *, progress: Progress) -> xr.Dataset:
  """First passages at every temperature with one batch size, drawn with replacement, and the references."""
  options = config.escape
  _, _, ridge = landscape('symmetric')
  start, end = ridge.good[0], ridge.poor[0]
  problem = with_data('symmetric', start, data_variance(config), options.num_examples, 1e-6)
  make = descent(start, end, options.num_examples, True)
  rates, rows = rates_of(config, batch_size), []
  ids = arms.seeds(config, options.num_seeds)
  first = len(rates) * list(options.batch_sizes).index(batch_size)
  for place, (barrier, rate) in enumerate(zip(options.barriers, rates, strict=True)):
    known = references(barrier, rate)
    # Streams of their own for every temperature and batch size: runs that share the draws escape together, and
    # their mean over temperatures would be hardly better than one temperature's.
    order = [seed + STREAMS * (1 + first + place) for seed in ids]
    run = gdlab.sweep(
      problem,
      make,
      {'learning_rate': [float(rate)], 'batch_size': [batch_size]},
      num_steps=max(2, round(options.horizon * known['chain'] / rate)),
      seeds={'init': ids, 'order': order, 'noise': order},
      eval_every=2**30,
      probes={'reached': PROBES['reached']},
    ).isel(learning_rate=0, batch_size=0, drop=True)
    last = run.isel(step=-1, drop=True)
    censored = (last.reached == 0).values
    updates = np.where(censored, int(run.step[-1]), last.reached.values)
    rows.append(
      xr.Dataset(
        {
          'time': ('seed', rate * updates),
          'censored': ('seed', censored),
          'diverged': ('seed', last.status.values == gdlab.DIVERGED),
          'learning_rate': rate,
          **{f'mean_{name}': value for name, value in known.items()},
        },
        {'seed': ids},
        {name: value for name, value in run.attrs.items() if name != 'num_steps'},
      )
    )
    progress(place + 1, len(rates))
  joined = xr.concat(rows, xr.Variable('barrier', list(options.barriers)), combine_attrs='drop_conflicts')
  return joined.assign_attrs(batch_size=batch_size, backend=jax.default_backend())
