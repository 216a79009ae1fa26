"""The study of practice at full scale: more seeds, larger networks, MNIST by LeNet-300-100, larger least squares.

    GDLAB_DATA=DIR python -m experiments.practice --config=configs/practice_full.py --workdir=runs/practice_full

Time: hours on 2 CPU cores; meant for a machine with many, or an accelerator.
"""

import ml_collections

from configs import practice


def get_config() -> ml_collections.ConfigDict:
  """The quick configuration with more of everything."""
  config = practice.get_config()
  config.seeds.count = 128
  config.seeds.tuning = 16
  config.some = 64
  config.few = 16
  config.few_tuning = 4
  config.precision.hidden = (256, 256)
  config.mnist.hidden = (300, 100)
  config.mnist.num_updates = 2400
  config.mnist.records = 48
  config.norm.hidden = (64, 64)
  config.norm.records = 16
  config.squares.sizes = (16, 64, 256, 1024, 2048)
  return config
