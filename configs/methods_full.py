"""The study of methods at full scale: more seeds, larger networks and longer runs.

    GDLAB_DATA=DIR python -m experiments.methods --config=configs/methods_full.py --workdir=runs/methods_full

Time: hours on 2 CPU cores; meant for a machine with many, or an accelerator.
"""

import ml_collections

from configs import methods


def get_config() -> ml_collections.ConfigDict:
  """The quick configuration with more of everything."""
  config = methods.get_config()
  config.images, config.text = 'mnist', 'shakespeare'
  config.seeds.count = 32
  config.seeds.tuning = 8
  config.race.train = 20_000
  config.race.validation = 2000
  config.race.test = 5000
  config.race.updates = 3000
  config.race.text_train = 8000
  config.race.text_held_out = 800
  config.race.text_batch_size = 32
  config.race.text_updates = 3000
  config.race.evaluations = 20
  config.race.hidden = (128,)
  config.race.features = (16, 32)
  config.race.width = 64
  config.race.context = 64
  config.quadratic.conditions = (10.0, 100.0, 1000.0, 10_000.0)
  config.valleys.num_starts = 2048
  config.overfit.updates = 5000
  config.order.draws = 20_000
  config.order.sweeps = 1000
  config.explosion.width = 128
  config.explosion.updates = 1500
  config.classes.count = 64
  config.classes.words = 1000
  config.classes.pairs = 20_000
  config.classes.updates = 1000
  config.border.updates = 10_000
  config.small.epochs = 20
  return config
