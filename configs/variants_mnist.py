"""Claims V9 and V12 on MNIST: batch sizes at equal time, and full batch on all 60,000 images.

    GDLAB_DATA=FOLDER python -m experiments.variants --config=configs/variants_mnist.py --workdir=runs/variants_mnist

Time on 2 CPU cores, tests beside it: 16 min. Result of one set of seeds: V12 supported, V9 inconclusive.
"""

import ml_collections

from configs import variants


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration: that of the digits with what a larger data set asks for."""
  config = variants.get_config()
  config.dataset = 'mnist'
  config.hidden = (256,)
  config.train = 8_000  # drawn anew for every seed; tested on all 10,000 test images
  config.validation = 2_000
  config.seeds.count = 4
  config.seeds.tuning = 8
  config.seeds.repeats = 0
  config.race.whole = True
  config.race.learning_rates = (0.1, 0.3, 1.0)
  config.race.epochs = 2
  config.race.min_updates = 20  # a run of full batch that is not there by then is a lower bound
  config.race.evaluations = 10
  config.race.target_accuracy = 0.95
  config.trade.budgets = (60, 250, 1000)
  config.trade.learning_rates = (0.02, 0.06, 0.2, 0.6)
  config.trade.tuning = 8
  config.trade.num_seeds = 10
  return config
