"""Practice: what an update costs, whether its gradient is right, and advice about training (claims P1-P9).

    GDLAB_DATA=DIR python -m experiments.practice --config=configs/practice.py --workers=2 --workdir=runs/practice

Without GDLAB_DATA, the folder that holds a folder `mnist`, P6 is not asked.

Time on 2 CPU cores: 11 min for both sets of seeds with other work beside it.
Result in two sets: P1b, P3, P6, P7, P7a and P8 supported, P1, P2a, P9a and P9b contradicted, P1a, P2, P5 and P5a mixed
in both; P4 and P9 supported and inconclusive. P9 is about time: run again, it was inconclusive in both. What pilots
changed: docs/studies/practice.md.
"""

import os

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration."""
  config = ml_collections.ConfigDict()
  config.seeds = ml_collections.ConfigDict()
  config.seeds.first = 30_000  # pilots had ids below 1000
  config.seeds.count = 32
  config.seeds.tuning = 8
  config.seeds.repeats = 1
  config.some = 10  # seeds for P5 and P7,
  config.few = 6  # for P3, P4, P6, P8 and P9, where there is little chance or much to compute,
  config.few_tuning = 2  # and tuning seeds for P6 and P9
  config.num_train = 1024  # of the digits, drawn anew for every seed
  config.num_validation = 413

  # P2: accuracy.
  config.precision = ml_collections.ConfigDict()
  config.precision.hidden = (64,)
  config.precision.batch_size = 32
  config.precision.learning_rates = (0.05, 0.1, 0.2, 0.5, 1.0)
  config.precision.num_updates = 640

  # P6: MNIST.
  config.mnist = ml_collections.ConfigDict()
  config.mnist.asked = bool(os.environ.get('GDLAB_DATA'))
  config.mnist.hidden = (64, 64)  # of three layers; the first of two
  config.mnist.batch_size = 128
  config.mnist.learning_rates = (0.1, 0.2, 0.4)  # where the cosine begins
  config.mnist.momentum = 0.9
  config.mnist.num_updates = 600
  config.mnist.records = 8
  config.mnist.num_validation = 5000

  # P7: the landscape with and without batch normalisation.
  config.norm = ml_collections.ConfigDict()
  config.norm.hidden = (32, 32)
  config.norm.batch_size = 64
  config.norm.learning_rates = (0.05, 0.1, 0.2, 0.5, 1.0)
  config.norm.equal = 0.1
  config.norm.num_updates = 320
  config.norm.records = 8
  config.norm.steps = (0.05, 0.1, 0.2, 0.4)  # along the gradient, in units of a rate

  # P9: least squares.
  config.squares = ml_collections.ConfigDict()
  config.squares.sizes = (16, 64, 256, 1024)  # weights
  config.squares.ratio = 16  # rows for each
  config.squares.condition = 100.0
  config.squares.batch_size = 128
  config.squares.multiples = (0.03, 0.1, 0.3, 1.0)  # rates times (largest h + tr H / B)
  config.squares.targets = (0.03, 0.001)  # excess loss, of that at 0
  config.squares.updates = 3000  # of mini-batches at most,
  config.squares.iterations = 64  # and of conjugate gradients
  config.squares.rounds = 2  # of the clock
  return config
