"""The study of the learning rate at full scale: more seeds, larger networks, longer runs.

    GDLAB_DATA=DIR python -m experiments.learning_rate --config=configs/learning_rate_full.py \
      --workdir=runs/learning_rate_full

Time: hours on 2 CPU cores; meant for a machine with many. MNIST is taken from `$GDLAB_DATA/mnist`.
"""

import ml_collections

from configs import learning_rate


def get_config() -> ml_collections.ConfigDict:
  """The quick configuration with more of everything."""
  config = learning_rate.get_config()
  config.seeds.count = 96

  # The edge of stability: a wider network, which climbs to higher borders for longer (gradient flow: from 7 to 16).
  config.edge.climb.hidden = 40
  config.edge.climb.borders = (10.0, 11.0, 12.0, 13.0)
  config.edge.climb.control = 32.0
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

  # Schedules and batch sizes on MNIST, wider networks, more spectra.
  config.rates.num_seeds = 48
  config.rates.num_tuning = 8
  config.rates.quadratics.num_seeds = 64
  config.rates.decays.num_seeds = 1024
  config.rates.decays.updates = 131_072
  config.rates.schedules.dataset = 'mnist'
  config.rates.schedules.num_train = 20_000
  config.rates.schedules.num_validation = 5000
  config.rates.schedules.hidden = (128,)
  config.rates.schedules.batch_size = 32
  config.rates.schedules.updates = 12_800
  config.rates.warm_up.hidden = (128, 128)
  config.rates.warm_up.updates = 1000
  config.rates.warm_up.shares = (0.0, 0.02, 0.05, 0.1, 0.2)
  config.rates.transfer.wide = 1024
  config.rates.transfer.epochs = 32
  config.rates.transfer.full_updates = 1000
  config.rates.batches.hidden = (128,)
  config.rates.batches.batch_sizes = (4, 8, 16, 64, 256, 1024)
  config.rates.batches.budget_updates = 1000
  config.rates.batches.budget_examples = 20_000
  return config
