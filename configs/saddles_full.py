"""The study of saddle escape at full scale: more seeds, dimensions and hidden units, and MNIST in S6.

    GDLAB_DATA=DIR python -m experiments.saddles --config=configs/saddles_full.py --workdir=runs/saddles_full

Time: hours on 2 CPU cores; meant for a machine with many, or an accelerator. MNIST is taken from `$GDLAB_DATA/mnist`.
"""

import ml_collections

from configs import saddles


def get_config() -> ml_collections.ConfigDict:
  """The quick configuration with more of everything."""
  config = saddles.get_config()
  config.seeds.count = 128
  config.seeds.tuning = 16
  config.fields.dimensions = (2, 3, 4, 5, 6, 7, 8)
  config.fields.num_features = 512
  config.fields.num_fields = 64
  config.search.widths = (1, 2, 4, 8)
  config.search.num_examples = 256
  config.search.num_starts = 256
  config.search.num_networks = 64
  config.network.components = 5
  config.network.hidden = 6
  config.network.num_examples = 1024
  config.network.num_starts = 256
  config.race.multiples = (0.0625, 0.125, 0.25, 0.5, 1.0)
  config.growth.repeats = 32
  config.chain.long = 64
  config.training.num_seeds = 64
  config.training.dataset = 'mnist'
  config.training.hidden = 32
  config.training.record_every = 5
  return config
