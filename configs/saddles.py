"""Saddle escape: which saddles occur, what leaves them and when, and how long training stays near one (S1-S6).

    python -m experiments.saddles --config=configs/saddles.py --workers=2 --workdir=runs/saddles

Time on 2 CPU cores with `--workers=2` and other work beside it: 12 min; `--repeat=2` adds a third set of seeds. The
rules are in experiments/saddles/study.py, what pilots and earlier runs changed in docs/studies/saddles.md.
Result in three sets of seeds: S1, S3, S4, S5 and S6 supported in all; S2 mixed, inconclusive and mixed, so fragile.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration."""
  config = ml_collections.ConfigDict()
  config.seeds = ml_collections.ConfigDict()
  config.seeds.first = 30_000  # pilots and earlier runs had lower ones
  config.seeds.count = 96
  config.seeds.tuning = 16
  config.seeds.repeats = 1

  # S1: stationary points of random fields by dimension, and of networks by width.
  config.fields = ml_collections.ConfigDict()
  config.fields.dimensions = (2, 3, 4, 5, 6)
  config.fields.num_features = 64  # plane waves of one field
  config.fields.num_points = 300  # expected in the box of one field
  config.fields.num_fields = 40
  config.search = ml_collections.ConfigDict()
  config.search.widths = (1, 2, 4)
  config.search.num_examples = 64  # images, drawn anew for each seed
  config.search.num_starts = 64
  config.search.num_networks = 20

  # The network whose saddles are searched, and started at: is the digit at least 5?
  config.network = ml_collections.ConfigDict()
  config.network.components = 3  # principal components of the images
  config.network.l2 = 0.001
  config.network.hidden = 4
  config.network.num_examples = 128  # of the other saddles, too
  config.network.num_starts = 48
  config.network.num_silent = 4  # saddles of one seed at which examples agree on the steepest way down
  config.network.least_curvature = 0.03  # downhill, as a share of the largest eigenvalue
  config.network.least_fall = 0.02  # of the loss, on either side

  config.made = ml_collections.ConfigDict()
  config.made.curvature = 0.1
  config.made.deviation = 0.1  # of one example's gradient noise in each coordinate

  # S2 and S3: methods that start at a saddle, or next to one.
  config.race = ml_collections.ConfigDict()
  config.race.mini_batch = 16
  config.race.multiples = (0.125, 0.25, 0.5, 1.0)  # rates times L, at a saddle
  config.race.near_multiples = (0.1, 0.3, 0.6, 1.0, 1.8)  # next to one
  config.race.momentum_multiples = (0.1, 0.3, 1.0, 1.8, 3.5)
  config.race.adam_rates = (0.003, 0.01, 0.03, 0.1, 0.3)
  config.race.displacement = 1e-4  # standard deviation of every parameter, next to a saddle
  config.race.folds = 30.0  # horizon: factors of e that full batch at rate 1/L would grow by
  config.race.most_updates = 1000  # folds over least_curvature
  config.race.evaluations = 200
  config.race.drop = 0.1  # of the fall to where descent ends: then a run has left

  # S3 and S5: exits from quadratic saddles (dimension, curvature downhill, scale of the start), and others.
  config.growth = ml_collections.ConfigDict()
  config.growth.num_seeds = 40
  config.growth.cases = ((10, 0.1, 1e-3), (2, 1.0, 1e-1), (50, 0.02, 1e-6))
  config.growth.strengths = (0.0003, 0.001, 0.003, 0.01, 0.03)  # rate times curvature
  config.growth.betas = (0.0, 0.5, 0.9, 0.99)
  config.growth.distance = 1.0
  config.growth.scales = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the loss
  config.growth.adam_rate = 0.001
  config.growth.noise = 1e-4  # variance of one example's gradient
  config.growth.noisy_strengths = (0.01, 0.03)
  config.growth.batch_sizes = (1, 8)
  config.growth.repeats = 16  # exits of one seed
  config.growth.curved_scale = 1e-6
  config.growth.curved_distance = 0.05
  config.growth.curved_multiples = (0.1, 0.5, 1.0)  # rates times L

  # S4: the octopus.
  config.chain = ml_collections.ConfigDict()
  config.chain.dimension = 6  # of plain descent; further coordinates underflow while they wait
  config.chain.long = 24  # of those with noise
  config.chain.rates = (0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.45, 0.7, 0.9)
  config.chain.largest_rate = 0.45  # for the verdicts: below 1/(2L); the others are shown
  config.chain.limit = 10_000

  # S6: a network trained from the usual start.
  config.training = ml_collections.ConfigDict()
  config.training.dataset = 'digits'
  config.training.hidden = 8
  config.training.batch_size = 32
  config.training.num_seeds = 20
  config.training.num_control_seeds = 8
  config.training.num_tuning = 8
  config.training.control = (3, 0.1)  # hidden layers, and scale of the start
  config.training.grid = ((1, 1.0), (1, 0.1), (2, 1.0), (2, 0.1), (3, 1.0), (3, 0.1))
  config.training.num_grid_seeds = 8
  config.training.sgd_rates = (0.1, 0.3, 1.0, 3.0)
  config.training.adam_rates = (0.003, 0.01, 0.03, 0.1)
  config.training.num_updates = 3000
  config.training.record_every = 5  # updates
  config.training.target_loss = 0.1  # training loss at which it fits
  # Near a saddle: gradient at most this share of that at the usual start, and an eigenvalue certainly below minus this
  # share of the largest.
  config.training.near_gradient = 0.25
  config.training.near_curvature = 0.01
  return config
