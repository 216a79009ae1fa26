"""The study of the order of examples at full scale: more seeds, orders and images, and MNIST.

    GDLAB_DATA=DIR python -m experiments.order --config=configs/order_full.py --workdir=runs/order_full

Time: hours on 2 CPU cores; meant for a machine with many, or an accelerator. MNIST is taken from `$GDLAB_DATA/mnist`.
"""

import ml_collections

from configs import order


def get_config() -> ml_collections.ConfigDict:
  """The quick configuration with more of everything."""
  config = order.get_config()
  config.seeds.count = 96
  config.seeds.tuning = 24
  config.floors.num_examples = 10
  config.floors.multiples = (0.001, 0.002, 0.004, 0.008, 0.016)
  config.floors.num_orders = 4
  config.published.equal.sizes = (8, 64, 512)
  config.published.equal.epochs = (4, 32, 256)
  config.published.biased.sizes = (4, 16, 64)
  config.published.biased.at_epochs = 1024
  config.published.biased.epochs = (64, 256, 1024)
  config.reduced.num_examples = 128
  config.pairs.num_examples = 6
  config.pairs.num_orders = 4000
  config.blocks.num_examples = 256
  config.perceptron.train = 800
  config.perceptron.epochs = 20
  config.perceptron.num_seeds = 96
  config.cnn.dataset = 'mnist'
  config.cnn.train = 6400
  config.cnn.held_out = 2000
  config.cnn.epochs = 10
  config.cnn.num_seeds = 32
  config.importance.num_seeds = 48
  return config
