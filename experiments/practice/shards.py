"""P3: gradients of batches that devices share; `python -m experiments.practice.shards JSON` prints their errors."""

import functools
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import gdlab
from experiments.practice.costs import digits, widened
from experiments.practice.seen import DEVICES, HIDDEN
from experiments.practice.settings import SHARED, Settings
from experiments.practice.training import descent
from gdlab import estimators, problems, study
from gdlab.core.types import Array, Batch, Problem

UPDATES, RATE = 20, 0.1


@functools.partial(jax.jit, static_argnames='devices')
def gradient(problem: Problem, params: Any, indices: Array, devices: int = 1) -> Array:
  """The mean over devices of the gradients of their equal shares of a batch, as a vector."""
  mean, key = estimators.data_parallel('data'), jax.random.key(0)
  mesh = jax.make_mesh((devices,), ('data',), devices=jax.devices()[:devices], axis_types=(AxisType.Auto,))

  @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(), P('data')), out_specs=P())
  def shared(problem, params, indices):
    batch = Batch(indices, jnp.full(indices.shape, 1 / indices.size))
    return mean.estimate(mean.init(problem, params), problem, params, (), batch, key)[0]

  return ravel_pytree(shared(problem, params, indices))[0]


def trained(problem: Problem, seed: int, devices: int) -> np.ndarray:
  """The parameters after some updates whose batches so many devices share."""
  given: dict[str, Any] = {
    'num_steps': UPDATES,
    'eval_every': UPDATES,
    'probes': {'params': study.flat_params},
  }
  plan = gdlab.Plan(num_devices=devices, data_parallel=devices)
  given |= {'seeds': [seed], 'plan': plan, 'progress': False, 'hyperparameters': {'learning_rate': RATE}}
  runs = gdlab.run(problem, descent(SHARED), **given)  # one program for all seeds
  return runs.params.values[0, -1]


@jax.enable_x64(True)
def measure(config: Settings, ids: list[int]) -> xr.Dataset:
  """Distances, relative to what is compared, by seed and number of devices."""
  rows = []
  norm = lambda values: float(np.linalg.norm(np.asarray(values)))
  distance = lambda other, right: norm(np.asarray(other) - np.asarray(right)) / norm(right)
  model = problems.MLP(HIDDEN, activation=nn.tanh)
  for seed in ids:
    problem, key = widened(digits(model, config, seed)), jax.random.fold_in(jax.random.key(0), seed)
    indices = jax.random.permutation(key, problem.num_examples)[:SHARED]
    at = functools.partial(gradient, problem, problem.init(key)[0])
    whole, (few, rest) = at(indices), (at(part) for part in jnp.split(indices, [SHARED // 4]))
    one, *more = (trained(problem, seed, count) for count in (1, *DEVICES))
    row: dict[str, Any] = {'error': [distance(at(indices, devices=count), whole) for count in DEVICES]}
    row |= {'trained': [distance(end, one) for end in more]}
    row |= {
      'weighted': distance(few / 4 + 3 * rest / 4, whole),
      'unweighted': distance((few + rest) / 2, whole),
    }
    rows.append(row)
  columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
  dims = 'seed', 'devices'
  given = {name: (dims[: values.ndim], values) for name, values in columns.items()}
  return xr.Dataset(given, {'seed': ids, 'devices': [*DEVICES]})


if __name__ == '__main__':
  asked = json.loads(sys.argv[1])
  print(json.dumps(measure(Settings.checked(asked['config']), asked['ids']).to_dict()))
