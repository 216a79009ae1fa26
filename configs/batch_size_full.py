"""Batch size, sharpness and generalisation on MNIST (claims G1-G8).

    GDLAB_DATA=FOLDER python -m experiments.batch_size --config=configs/batch_size_full.py --workdir=runs/batch_mnist

Made for a machine with an accelerator and 16 GB of memory (the parameters at every record of an arm's runs are held
until those at the compared training loss are picked). Only ever run with overrides that shrink it, so there are no
verdicts to expect yet.
"""

import ml_collections

from configs import batch_size


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration: that of the digits with what a larger data set and more time allow."""
  config = batch_size.get_config()
  config.dataset = 'mnist'
  config.hidden = (100,)
  config.num_train = 16_384
  config.num_validation = 10_000
  config.seeds.count = 20
  config.seeds.tuning = 5
  config.batch_sizes = (8, 16, 32, 64, 128, 256, 1024, 4096)
  config.mini_batch = 128
  config.learning_rates = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
  config.epochs = 40
  config.updates = 5_120
  config.lanes_per_block = 0
  config.cnn.features = (16, 32)
  config.cnn.num_seeds = 20
  config.cnn.batch_sizes = (32, 128)
  config.cnn.momenta = (0.0, 0.9)
  config.cnn.epochs = 20
  config.cnn.updates = 2_500
  config.norm.num_seeds = 20
  config.norm.momenta = (0.0, 0.9)
  config.norm.updates = 2_500
  config.sharpness.num_seeds = 20
  config.sharpness.target.clean = 0.02
  config.sharpness.probes = 16
  config.steps.batch_sizes = tuple(2**power for power in range(15))
  config.steps.learning_rates = tuple(0.005 * 2 ** (power / 2) for power in range(18))
  config.steps.target_loss = 0.1
  config.steps.budget_updates = 3_000
  config.steps.budget_examples = 400_000
  config.steps.scale_seeds = 20
  config.steps.records = 200
  config.growth.batch_size = 32
  config.growth.epochs = (20, 30, 40)
  return config
