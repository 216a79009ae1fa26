"""The study of the learning rate at full scale: more seeds, larger networks, longer runs.

    python -m experiments.learning_rate --config=configs/learning_rate_full.py --workdir=runs/learning_rate_full

Time: hours on 2 CPU cores; meant for a machine with many.
"""

import ml_collections

from configs import learning_rate


def get_config() -> ml_collections.ConfigDict:
  """The quick configuration with more of everything."""
  config = learning_rate.get_config()
  config.seeds.count = 96

  # The edge of stability: another polynomial, a wider network, which climbs for longer.
  config.edge.climb.degree = 4
  config.edge.climb.hidden = 40
  config.edge.climb.borders = (16.0, 17.0, 18.0, 19.0)
  config.edge.climb.control = 48.0
  config.edge.climb.updates = 12_000
  config.edge.climb.every = 50
  config.edge.climb.substeps = 8
  config.edge.model.noises = (0.5, 1.0, 3.0)
  config.edge.model.updates = 5_000_000
  config.edge.batches.num_seeds = 48
  config.edge.batches.num_train = 512
  config.edge.batches.hidden = 32
  config.edge.batches.sizes = (2, 4, 8)
  config.edge.batches.rates = (0.1, 0.2, 0.3)
  config.edge.batches.updates = 12_000
  config.edge.batches.draws = 128
  config.edge.warm.num_seeds = 48
  config.edge.warm.num_train = 256
  config.edge.warm.hidden = 64
  config.edge.warm.lengths = (0, 16, 64, 200, 500)
  config.edge.warm.updates = 1000
  return config
