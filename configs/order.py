"""The order in which examples are seen: sorted, shuffled, drawn, balanced, and variance reduction (O1-O6, O1a).

    GDLAB_DATA=DIR python -m experiments.order --config=configs/order.py --workers=2 --workdir=runs/order

Without GDLAB_DATA, the folder that holds a folder `mnist`, the network of convolutions is trained on digits.
Time on 2 CPU cores: 10 min for both sets of seeds with other work beside it, of which 5 min of both cores were its own.
Result in two sets of seeds, on MNIST: O5 supported; O3, O4 and O6 mixed; O1 and O2
inconclusive; O1a supported and inconclusive, so fragile. docs/studies/order.md says which parts hold.
"""

import os

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration."""
  config = ml_collections.ConfigDict()
  config.seeds = ml_collections.ConfigDict()
  config.seeds.first = 30_000  # pilots had lower ones
  config.seeds.count = 24
  config.seeds.tuning = 12  # of other ids, on which rates are chosen
  config.seeds.repeats = 1

  config.convex = ml_collections.ConfigDict()  # is a digit above 4? Logistic regression in float64
  config.convex.components = 8  # principal components, beside an intercept
  config.convex.l2 = 0.1

  config.floors = ml_collections.ConfigDict()  # mean |x - x*|^2 at the ends of epochs (O2, O3, O6)
  config.floors.num_examples = 8
  config.floors.multiples = (0.002, 0.004, 0.008, 0.016)  # rates times L
  config.floors.rates = (0.0125, 0.025, 0.05, 0.1)  # of the quadratic of curvature 1
  config.floors.settle = 4.0  # times in which the distance falls by e at the smallest rate
  config.floors.average = 16.0
  config.floors.num_orders = 2  # of each seed, and on the quadratic
  config.floors.quadratic_orders = 64

  config.published = ml_collections.ConfigDict()  # errors after k epochs over n examples (O3)
  config.published.equal = ml_collections.ConfigDict()
  config.published.equal.sizes = (8, 32, 128)  # n, at
  config.published.equal.at_epochs = 4
  config.published.equal.epochs = (4, 16, 64)  # k, at
  config.published.equal.at_size = 32
  config.published.biased = ml_collections.ConfigDict()  # many epochs, so that 1/(nk)^2 is more than 1/(nk^3)
  config.published.biased.sizes = (4, 8, 16)
  config.published.biased.at_epochs = 256
  config.published.biased.epochs = (64, 128, 256)
  config.published.biased.at_size = 4
  config.published.constant = 1.0  # rate: constant / (curvature n k)
  config.published.num_orders = 1024  # of each seed

  config.reduced = ml_collections.ConfigDict()  # SVRG and SAGA (O5)
  config.reduced.num_examples = 32
  config.reduced.multiples = (0.1, 0.2, 0.3333333333333333)  # rates times L
  config.reduced.passes = 160
  config.reduced.num_orders = 4  # of each seed

  config.pairs = ml_collections.ConfigDict()  # variance between orders after two epochs (O6)
  config.pairs.num_examples = 5  # of least squares, whose orders are all enumerated
  config.pairs.num_digits = 16
  config.pairs.rates = (0.01, 0.02, 0.04, 0.08)  # times the largest curvature of an example
  config.pairs.num_orders = 1500

  config.blocks = ml_collections.ConfigDict()  # variance between orders of eight blocks (O6)
  config.blocks.num_examples = 64
  config.blocks.multiple = 0.05  # rate times L
  config.blocks.num_draws = 16  # of data, for each seed
  config.blocks.num_orders = 60

  config.perceptron = ml_collections.ConfigDict()  # on digits (O1-O4)
  config.perceptron.hidden = (32,)
  config.perceptron.train = 400
  config.perceptron.held_out = 400
  config.perceptron.batch_size = 16
  config.perceptron.epochs = 6
  config.perceptron.looks = 8  # at the loss within the last epoch
  config.perceptron.single_rates = (0.003, 0.01, 0.02, 0.04, 0.08, 0.16)  # of B = 1
  config.perceptron.single_epochs = 4
  config.perceptron.rates = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)
  config.perceptron.num_seeds = 24

  config.cnn = ml_collections.ConfigDict()  # a small network of convolutions (O1, O1a)
  config.cnn.dataset = 'mnist' if os.environ.get('GDLAB_DATA') else 'digits'
  config.cnn.train = 320
  config.cnn.held_out = 400
  config.cnn.batch_size = 8
  config.cnn.epochs = 4
  config.cnn.looks = 8
  config.cnn.rates = (0.015, 0.03, 0.06, 0.12, 0.25, 0.5)
  config.cnn.num_seeds = 20

  config.importance = ml_collections.ConfigDict()  # variances along training (O4)
  config.importance.batch_size = 16
  config.importance.learning_rate = 0.3
  config.importance.mixing = 0.2  # of uniform probabilities
  config.importance.epochs = (2, 5, 10, 20)  # after which it is looked at
  config.importance.num_seeds = 16
  return config
