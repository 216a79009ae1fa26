"""Which seeds are used for what."""

import jax
import numpy as np

TUNING_IDS = 1_000_000  # seeds for tuning start here, far from the study's


def study_seeds(config) -> list[int]:
  """The ids of both sets of seeds, one after the other."""
  return [first + place for first in config.first_seeds for place in range(config.num_seeds)]


def tuning_seeds(config) -> list[int]:
  """The ids of the seeds that rates are tuned with."""
  return list(range(TUNING_IDS, TUNING_IDS + config.num_tuning_seeds))


def keys(ids) -> jax.Array:
  """One key for each seed id, for measurements that are not runs of `gdlab.sweep`."""
  return jax.vmap(lambda number: jax.random.fold_in(jax.random.key(0), number))(np.asarray(ids, np.int32))
