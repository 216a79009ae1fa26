"""Learning rate: borders of stability, the edge, warm-up, schedules, scaling rules (L1-L15).

    python -m experiments.learning_rate --config=configs/learning_rate.py --workdir=runs/learning_rate --workers=2

Time on 2 CPU cores: 7 min for both sets of seeds with other work beside it. The rules are in edge/claims.py and
rates/claims.py of experiments/learning_rate, what pilots changed in docs/studies/learning_rate.md.
Result in two sets of seeds: L1 and L12 supported in both; L2 and L11 supported and inconclusive, L6 inconclusive and
supported, so fragile; L10, L14 and L15 mixed; L3, L4, L5, L7, L8, L9 and L13 inconclusive.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration."""
  config = ml_collections.ConfigDict()
  config.seeds = ml_collections.ConfigDict()
  config.seeds.first = 30_000  # pilots had lower ones
  config.seeds.count = 32
  config.seeds.tuning = 8
  config.seeds.repeats = 1
  config.edge = _edge()
  config.rates = _rates()
  return config


def _edge() -> ml_collections.ConfigDict:
  edge = ml_collections.ConfigDict()

  # L2 and L12: a tanh network fits Chebyshev's polynomial; rates are those whose borders are at these sharpnesses.
  edge.climb = ml_collections.ConfigDict()
  edge.climb.points = 20
  edge.climb.degree = 3
  edge.climb.hidden = 20
  edge.climb.borders = (7.0, 8.0, 9.0)
  edge.climb.control = 24.0  # a border out of reach
  edge.climb.momentum = 0.5  # of Polyak and Nesterov
  edge.climb.updates = 3000
  edge.climb.every = 25
  edge.climb.substeps = 4  # of the central flow, for an update

  # L12 and L13: the model of two variables, L = (2/rate + rise y) x^2 / 2 - push y, with noise in its slope along x.
  edge.model = ml_collections.ConfigDict()
  edge.model.learning_rate = 0.05
  edge.model.push = 0.3
  edge.model.rise = 2.0
  edge.model.little = 0.1  # noise for the central flow
  edge.model.noises = (1.0, 3.0)  # for the identity of the stochastic edge
  edge.model.updates = 500_000

  # L13: mini-batches on digits drawn for each seed, a tanh network whose last weights start small.
  edge.batches = ml_collections.ConfigDict()
  edge.batches.num_seeds = 12
  edge.batches.num_train = 128
  edge.batches.hidden = 16
  edge.batches.last = 0.05
  edge.batches.sizes = (2, 4)
  edge.batches.rates = (0.2, 0.3)  # one for each size
  edge.batches.control = 0.05  # with the largest size
  edge.batches.updates = 3000
  edge.batches.every = 100
  edge.batches.draws = 64  # batches of which the sharpness they see is a mean

  # L15: length times peak of warm-up, full batch, a network of ReLU units on digits drawn for each seed.
  edge.warm = ml_collections.ConfigDict()
  edge.warm.num_seeds = 12
  edge.warm.num_train = 64
  edge.warm.hidden = 16
  edge.warm.sharp = (1.4, 1.0)  # scales of the first weights and of the last ones
  edge.warm.flat = (1.0, 0.05)
  edge.warm.peaks = tuple(0.01 * 2 ** (power / 2) for power in range(17))
  edge.warm.adam_peaks = tuple(0.001 * 2.0**power for power in range(10))
  edge.warm.lengths = (0, 16, 48, 150)  # updates
  edge.warm.updates = 300
  edge.warm.target = 0.25  # a final loss that is good: half of that of outputs of 0
  return edge


def _rates() -> ml_collections.ConfigDict:
  rates = ml_collections.ConfigDict()
  rates.num_seeds = 12  # of training, from the first of a set on
  rates.num_tuning = 4  # tuning seeds of training

  # L1, L11: quadratics of these condition numbers, spectra drawn for each seed.
  rates.quadratics = ml_collections.ConfigDict()
  rates.quadratics.num_seeds = 16
  rates.quadratics.dimension = 10
  rates.quadratics.conditions = (10, 100)
  rates.quadratics.momenta = (0.5, 0.9)
  rates.quadratics.updates = 2000  # of a run in whose second half the norm grows or falls

  # L5: rates first_rate * (1 + t / offset)^-exponent on a noisy quadratic and on streaming regression.
  rates.decays = ml_collections.ConfigDict()
  rates.decays.num_seeds = 256
  rates.decays.exponents = (0.0, 0.3, 0.6, 0.8, 1.0, 1.5, 2.0)
  rates.decays.updates = 16_384
  rates.decays.first_rate = 0.1
  rates.decays.offset = 20.0

  # L3, L6, L10, L14: all schedules at all rates, on a stream of regression and on images drawn anew for each seed.
  rates.schedules = ml_collections.ConfigDict()
  rates.schedules.dataset = 'digits'
  rates.schedules.num_train = 1024
  rates.schedules.num_validation = 413
  rates.schedules.label_noise = 0.2  # share of wrong labels in training
  rates.schedules.hidden = (32,)
  rates.schedules.batch_size = 16
  rates.schedules.updates = 1280  # 20 epochs
  rates.schedules.evaluations = 20  # one an epoch
  rates.schedules.patience = 3  # evaluations
  rates.schedules.regression_rates = tuple(0.0025 * 2.0**power for power in range(8))
  rates.schedules.logistic_rates = tuple(0.08 * 2.0**power for power in range(8))
  rates.schedules.network_rates = tuple(0.04 * 2.0**power for power in range(8))
  rates.schedules.prodigy_rates = tuple(2.0**power for power in range(-5, 3))

  # L4: lengths of warm-up as shares of the updates, at all peaks.
  rates.warm_up = ml_collections.ConfigDict()
  rates.warm_up.hidden = (32, 32)
  rates.warm_up.momentum = 0.9  # of SGD
  rates.warm_up.batch_size = 32
  rates.warm_up.updates = 200
  rates.warm_up.shares = (0.0, 0.05, 0.1)
  rates.warm_up.trained = 1.0  # a training loss below which a run counts as trained
  rates.warm_up.sgd_peaks = tuple(0.02 * 2 ** (power / 2) for power in range(9))
  rates.warm_up.adam_peaks = tuple(0.016 * 2 ** (power / 2) for power in range(9))

  # L7: what is changed between two networks; full batch for L1.
  rates.transfer = ml_collections.ConfigDict()
  rates.transfer.hidden = 16
  rates.transfer.wide = 128
  rates.transfer.scale = 4.0
  rates.transfer.batch_size = 16
  rates.transfer.large_batch = 256
  rates.transfer.epochs = 8
  rates.transfer.full_updates = 100
  rates.transfer.learning_rates = tuple(2.0**power for power in range(-8, 7))

  # L8, L9: updates to a training loss, of budget_updates + budget_examples / B.
  rates.batches = ml_collections.ConfigDict()
  rates.batches.hidden = (32,)
  rates.batches.batch_sizes = (4, 16, 64, 256, 1024)
  rates.batches.sgd_rates = tuple(2.0**power for power in range(-4, 8))
  rates.batches.adam_rates = tuple(2.0**power for power in range(-9, 1))
  rates.batches.target = 1.15
  rates.batches.budget_updates = 200
  rates.batches.budget_examples = 5000
  rates.batches.records = 40
  return rates
