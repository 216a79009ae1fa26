"""Local minima of networks on MNIST: added noise, width, barriers, ensembles (claims N4-N7).

    GDLAB_DATA=FOLDER python -m experiments.minima --config=configs/minima_mnist.py --workdir=runs/minima_mnist

8,000 training images are drawn anew for each seed; all 10,000 test images are used. The landscape's parts of N4 are
those of configs/minima.py. Time on 2 CPU cores: 7 min, before the last changes; not run since.
"""

import ml_collections

from configs import minima


def get_config() -> ml_collections.ConfigDict:
  """The configuration of configs/minima.py with what a larger data set asks for."""
  config = minima.get_config()
  config.dataset = 'mnist'
  config.seeds.count = 12
  config.seeds.repeats = 0
  config.ensembles = 12

  config.dose_network.num_seeds = 32
  config.dose_network.num_tuning_seeds = 8

  config.widths.images = 8000
  config.widths.epochs = 8
  config.widths.points = 13
  return config
