"""Batch size, sharpness and generalisation on scikit-learn's digits (claims G1-G9).

    python -m experiments.batch_size --config=configs/batch_size.py --workers=2 --workdir=runs/batch_size

Time on 2 CPU cores with much other work beside it: 34 min, of which 20 min of both cores were its own; `--repeat=2`
adds a third set of seeds.
Result in three sets of seeds: G3, G5, G7 and G8a supported, G2 and G6 contradicted, G3a and G8 mixed in all; G1
(supported twice), G1a (contradicted twice), G4 (mixed twice) and G4a (mixed once) otherwise inconclusive.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration."""
  config = ml_collections.ConfigDict()
  config.claims = ('G1', 'G2', 'G3', 'G4', 'G5', 'G6', 'G7', 'G8', 'G9')  # that are asked
  config.dataset = 'digits'
  config.hidden = (64,)  # widths of the multilayer perceptron's hidden layers
  config.num_train = 1024
  config.num_validation = 413
  config.label_noise = 0.2  # share of wrong labels in the second condition

  config.seeds = ml_collections.ConfigDict()
  config.seeds.first = 30_000  # pilots had ids below 1000
  config.seeds.count = 64
  config.seeds.tuning = 16
  config.seeds.repeats = 1

  config.small_batch = 32
  config.large_batch = 1024
  config.learning_rates = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # tried by every arm,
  config.momenta = (0.0, 0.9)  # with each of these
  config.epochs = 30  # equal examples
  config.updates = 640  # equal updates: those of the small batch in 20 epochs
  config.evaluations = 48
  config.lanes_per_block = 1  # so that searches and runs share their programs; 0: as many as fit

  # Training losses at which runs are compared, too.
  config.target = ml_collections.ConfigDict({'clean': 0.03, 'noisy': 0.8, 'cnn': 0.15})

  config.cnn = ml_collections.ConfigDict()
  config.cnn.features = (4, 8)
  config.cnn.num_seeds = 16  # from the first of a set on
  config.cnn.learning_rates = (0.02, 0.05, 0.1)
  config.cnn.momenta = (0.9,)
  config.cnn.epochs = 60
  config.cnn.updates = 240

  config.norm = ml_collections.ConfigDict()
  config.norm.ghost = 32  # examples that are normalised together
  config.norm.num_seeds = 64
  config.norm.learning_rates = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
  config.norm.momenta = (0.0,)
  config.norm.epochs = 10

  # End points of runs with so many updates, recorded so often; cooled to the target by updates of full batch.
  config.sharpness = ml_collections.ConfigDict()
  config.sharpness.batch_sizes = (32, 128, 1024)
  config.sharpness.settings = ((0.5, 0.0), (1.0, 0.0), (0.05, 0.9), (0.1, 0.9))
  config.sharpness.num_seeds = 16
  config.sharpness.updates = 960
  config.sharpness.eval_every = 8
  config.sharpness.cooling_rate = 0.1
  config.sharpness.cooling_updates = 50  # at least, and until the loss is at the target,
  config.sharpness.cooling_limit = 3000  # at most
  config.sharpness.epsilon = 1e-3  # of Keskar's box
  config.sharpness.probes = 8  # of the trace

  # Steps to a target: batch sizes, and the updates that each has: budget_updates + budget_examples / B.
  config.steps = ml_collections.ConfigDict()
  config.steps.batch_sizes = (1, 2, 4, 16, 64, 256, 1024)
  config.steps.learning_rates = tuple(0.04 * 2 ** (power / 2) for power in range(12))
  config.steps.losses = (1.2, 0.6, 0.3)  # where noise scales are measured; the last is the target
  config.steps.budget_updates = 300
  config.steps.budget_examples = 5000
  config.steps.records = 120
  config.steps.num_seeds = 128  # from the first of a set on

  # Growing the batch instead of decaying the rate, at the ends of these epochs; the last is the end of the run.
  config.growth = ml_collections.ConfigDict()
  config.growth.batch_size = 8
  config.growth.factor = 4
  config.growth.epochs = (15, 22, 30)
  config.growth.learning_rates = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)

  # The same with normalised updates, whose rate is divided by the square root of the factor where the batch grows.
  config.ramp = ml_collections.ConfigDict()
  config.ramp.adam = (0.0003, 0.001, 0.003, 0.01, 0.03)
  config.ramp.normalised = (0.01, 0.02, 0.05, 0.1, 0.2)
  config.ramp.num_seeds = 32
  return config
