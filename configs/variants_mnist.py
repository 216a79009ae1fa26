"""Batch, stochastic and mini-batch descent compared on MNIST (claims V1-V13).

    GDLAB_DATA=FOLDER python -m experiments.variants --config=configs/variants_mnist.py --workdir=runs/mnist

Time on 2 CPU cores: about 45 minutes for each of the two sets of seeds, estimated from the first nine cells; the whole
was run with fewer seeds, rates and epochs only, so there are no verdicts to expect yet.
"""

import ml_collections

from configs import variants


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration: that of the digits with what a larger data set asks for."""
  config = variants.get_config()
  config.dataset = 'mnist'
  config.seeds.count = 8
  config.seeds.tuning = 2
  config.learning_rates = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
  config.epochs = 3
  config.min_updates = 60
  config.evaluations = 15
  config.population = 2000
  return config
