"""Momentum and adaptive moments on MNIST and Tiny Shakespeare, and where answers are exact (claims M1-M14).

    GDLAB_DATA=DIR python -m experiments.methods --config=configs/methods.py --workers=2 --workdir=runs/methods

Without GDLAB_DATA, the folder of both, images are digits and text is the excerpt that comes with gdlab. Time on 2 CPU
cores: 15 min for both sets of seeds with other work beside it; alone about 10 min. Single claims:
`--config.claims="('M1', 'M3', 'M13')"` takes 20 s.
Result in two sets of seeds: M7 and M13 supported, M6 contradicted, M1, M9, M10 and M12 mixed, M3, M5, M8 and M14
inconclusive; M2 (contradicted, inconclusive), M4 (contradicted, mixed) and M11 (inconclusive, mixed) are fragile.
"""

import os

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration."""
  config = ml_collections.ConfigDict()
  config.claims = tuple(f'M{number}' for number in range(1, 15))  # that are asked
  data = os.environ.get('GDLAB_DATA')
  config.images = 'mnist' if data else 'digits'  # MNIST is averaged over 2 x 2 pixels
  config.text = 'shakespeare' if data else 'excerpt'

  config.seeds = ml_collections.ConfigDict()
  config.seeds.first = 30_000  # pilots had ids below 1000
  config.seeds.count = 8
  config.seeds.tuning = 3
  config.seeds.repeats = 1

  # The tuned comparison: every arm tries six rates, half a decade apart. Examples are drawn for every seed.
  config.race = ml_collections.ConfigDict()
  config.race.plain = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
  config.race.momentum = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # heavy ball and Nesterov, beta .9
  config.race.adagrad = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
  config.race.adam = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # RMSProp, AdamW too
  config.race.sign = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # Lion too
  config.race.matrix = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # Muon and Shampoo
  config.race.train = 600
  config.race.validation = 200
  config.race.test = 360
  config.race.batch_size = 32
  config.race.updates = 200
  config.race.text_train = 200  # windows of `context` characters
  config.race.text_held_out = 50  # for validation, and for the test
  config.race.text_batch_size = 8
  config.race.text_updates = 160
  config.race.evaluations = 8

  # Networks.
  config.race.hidden = (32,)  # of the perceptron
  config.race.features = (4, 8)  # of the CNN
  config.race.width = 16  # of the transformer and the GRU, of two layers each
  config.race.context = 32

  config.quadratic = ml_collections.ConfigDict()  # M1
  config.quadratic.conditions = (10.0, 31.6, 100.0, 316.0, 1000.0)
  config.quadratic.dimension = 20
  config.quadratic.tolerance = 1e-8

  config.valleys = ml_collections.ConfigDict()  # M3
  config.valleys.tilt = 0.5
  config.valleys.rate = 0.01  # of beta .9
  config.valleys.num_starts = 256
  config.valleys.updates = 6000

  config.overfit = ml_collections.ConfigDict()  # M8
  config.overfit.examples = 200
  config.overfit.updates = 1200
  config.overfit.target = 0.01  # training loss at which methods are compared

  config.order = ml_collections.ConfigDict()  # M9
  config.order.draws = 2000
  config.order.rates = (0.1, 0.3, 1.0, 3.0, 10.0)
  config.order.sweeps = 100

  config.explosion = ml_collections.ConfigDict()  # M11: a recurrent ReLU network without gates
  config.explosion.gain = 1.3  # of its recurrent weights
  config.explosion.width = 32
  config.explosion.rates = (0.03, 0.1, 0.3, 1.0)  # at the largest it explodes
  config.explosion.updates = 150

  config.classes = ml_collections.ConfigDict()  # M12
  config.classes.count = 16  # one-hot classes with shares 1/k
  config.classes.loss = 0.5
  config.classes.flow_rate = 0.1
  config.classes.sign_rate = 0.01
  config.classes.words = 200  # the commonest of the text
  config.classes.pairs = 1024
  config.classes.plain = (10.0, 30.0, 100.0, 300.0, 1000.0)  # of the linear model
  config.classes.network = (0.03, 0.1, 0.3, 1.0, 3.0)  # of the transformer, plain descent too
  config.classes.adam = (0.003, 0.01, 0.03, 0.1, 0.3)  # of both
  config.classes.updates = 120

  config.border = ml_collections.ConfigDict()  # M13
  config.border.hidden = 20
  config.border.rate = 0.001

  config.border.b2 = 0.99
  config.border.updates = 4000

  config.small = ml_collections.ConfigDict()  # M14
  config.small.examples = 1000
  config.small.epochs = 4
  config.small.batch_sizes = (1, 8, 64)
  config.small.b2 = 0.99  # of the largest batch
  config.small.learning_rates = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
  return config
