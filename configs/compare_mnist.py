"""As configs/compare.py on MNIST, which GDLAB_DATA has or which is downloaded.

python -m experiments.compare --config=configs/compare_mnist.py --workdir=runs/compare_mnist
"""

import ml_collections

from configs import compare


def get_config() -> ml_collections.ConfigDict:
  """The comparison's configuration."""
  config = compare.get_config()
  config.problem = 'mnist'
  config.model.features = (128,)
  config.validation = 0.1
  config.updates = 1000
  config.margin = 0.005
  config.trials = 8
  config.seeds = 8
  config.most_seeds = 16
  return config
