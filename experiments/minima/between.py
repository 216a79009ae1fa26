"""What lies between the networks of one width, before and after alignment (N6), and what they say together (N7)."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree

import gdlab
from experiments.minima import arms
from gdlab import analysis
from gdlab.core.types import Problem
from gdlab.host.progress import Progress


def final_params(problem: Problem, runs: xr.Dataset) -> list:
  """The parameters that every run ended with; None for one that diverged."""
  like, _ = problem.init(jax.random.key(0))
  _, unravel = ravel_pytree(like)
  last = runs.isel(learning_rate=0, step=-1)
  good = (last.status == gdlab.RUNNING) & np.isfinite(last.params).all('params_0')
  return [
    unravel(jnp.asarray(row)) if fine else None
    for row, fine in zip(last.params.values, good.values, strict=True)
  ]


def lines(config, width: int, runs: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """The training loss on the straight line between the networks 0 and 1, 2 and 3, ... of each set of seeds.

  A pair with a run that diverged has no line, and an infinite barrier.
  """
  problem = arms.make_problem(config, (width,))
  params = final_params(problem, runs)
  num_pairs, points = config.widths.pairs, config.widths.points
  losses = np.full((2, num_pairs, 2, points), np.nan)
  barriers = np.full((2, num_pairs, 2), np.inf)
  for group in range(2):
    for pair in range(num_pairs):
      first, second = (params[group * config.num_seeds + 2 * pair + side] for side in (0, 1))
      if first is None or second is None:
        continue
      aligned = analysis.align(problem, first, second).params
      for kind, other in enumerate((second, aligned)):
        line = analysis.interpolate(problem, first, other, num_points=points)
        losses[group, pair, kind] = line.train_loss
        barriers[group, pair, kind] = line.train_barrier
      progress(group * num_pairs + pair + 1, 2 * num_pairs)
  return xr.Dataset(
    {
      'loss': (('group', 'pair', 'order', 't'), losses),
      'barrier': (('group', 'pair', 'order'), barriers),
    },
    {'order': ['as they are', 'aligned'], 't': np.linspace(0, 1, points)},
    {'width': width},
  )


def ensembles(config, width: int, runs: xr.Dataset, *, progress: Progress) -> xr.Dataset:
  """Test error and negative log-likelihood of every network, and of groups that average their probabilities.

  Sizes are 1, 2, 4, ... and `config.members`; groups of one size share no network. A run that diverged predicts
  every class alike.
  """
  problem = arms.make_problem(config, (width,))
  params = final_params(problem, runs)
  like, _ = problem.init(jax.random.key(0))
  uniform = jax.tree.map(jnp.zeros_like, like)
  chances = np.stack([_probabilities(problem, uniform if each is None else each) for each in params])
  chances = chances.reshape(2, config.num_seeds, *chances.shape[1:])
  labels = np.asarray(problem.test.targets)
  sizes = sorted({1, config.members, *(2**k for k in range(12) if 2**k <= config.num_seeds // 2)})
  shape = (2, len(sizes), config.num_seeds)
  values = {name: np.full(shape, np.nan) for name in ('error', 'nll', 'member_error', 'member_nll')}
  for place, size in enumerate(sizes):
    count = config.num_seeds // size
    groups = chances[:, : count * size].reshape(2, count, size, *chances.shape[2:])
    for name, score in (('error', _error), ('nll', _nll)):
      values[name][:, place, :count] = score(groups.mean(axis=2), labels)
      values[f'member_{name}'][:, place, :count] = score(groups, labels).mean(axis=2)
    progress(place + 1, len(sizes))
  return xr.Dataset(
    {name: (('group', 'size', 'ensemble'), found) for name, found in values.items()},
    {'size': sizes},
    {'width': width, 'num_params': int(ravel_pytree(like)[0].size), 'test_examples': len(labels)},
  )


@jax.jit
def _probabilities(problem: Problem, params) -> jax.Array:
  """float[test example, class], from the loss of every label."""
  num_classes = 10
  inputs = problem.test.inputs

  def losses(label):
    examples = problem.test._replace(inputs=inputs, targets=jnp.full(inputs.shape[0], label))
    return problem.metrics(params, (), examples)['loss']

  # The cross-entropy of a label is minus the logarithm of its probability.
  return jnp.exp(-jax.vmap(losses)(jnp.arange(num_classes))).T


def _error(chances: np.ndarray, labels: np.ndarray) -> np.ndarray:
  return (chances.argmax(axis=-1) != labels).mean(axis=-1)


def _nll(chances: np.ndarray, labels: np.ndarray) -> np.ndarray:
  own = chances[..., np.arange(len(labels)), labels]
  return -np.log(np.maximum(own, 1e-30)).mean(axis=-1)
