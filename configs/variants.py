"""Batch, stochastic and mini-batch descent compared on scikit-learn's digits (claims V1-V13).

    python -m experiments.variants --config=configs/variants.py --workdir=runs/variants

Time for both sets of seeds on 2 CPU cores: 3 min 15 s (17 on a busy machine).
Expected: the verdicts of the table in the README; V9 and V10 lie near their thresholds and may differ between machines.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration."""
  config = ml_collections.ConfigDict()
  config.dataset = 'digits'
  config.hidden = (64,)  # widths of the multilayer perceptron's hidden layers; () for none

  config.seeds = ml_collections.ConfigDict()
  config.seeds.first = 200  # pilots had lower ones
  config.seeds.count = 16
  config.seeds.tuning = 4  # of other ids, on which rates are chosen
  config.seeds.repeats = 1  # the whole study again with other seeds

  # The arms. The three of the title are always among them: 1, `mini_batch` and full.
  config.batch_sizes = (1, 8, 32, 128, 512)
  config.mini_batch = 32
  config.learning_rates = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # tried by every arm
  config.epochs = 20  # equal examples: this many passes
  config.min_updates = 250  # for arms that make fewer in that many passes
  config.evaluations = 60  # in those passes
  config.target_loss = 0.3  # training loss whose first crossing is compared (V6)
  config.target_accuracy = 0.9  # test accuracy whose first crossing is compared (V12)

  # Exact laws and convex problems use the first so many images, the convex ones so many principal components.
  config.population = 1437
  config.components = 64

  config.timing = ml_collections.ConfigDict()
  config.timing.precision = 0.01  # relative standard error at which rounds end
  config.timing.powers = (32, 64, 128)  # against their neighbours (V10)
  config.timing.offset = 4  # how far the neighbours are

  config.noise = ml_collections.ConfigDict()
  config.noise.num_batches = 250  # drawn for each batch size and seed

  config.smoothness = ml_collections.ConfigDict()
  config.smoothness.learning_rate = 0.03  # one for the three variants
  config.smoothness.num_updates = 200

  config.floor = ml_collections.ConfigDict()
  config.floor.learning_rates = (0.005, 0.01, 0.02, 0.05)
  config.floor.l2 = 0.03
  config.floor.epochs = 40

  config.convex = ml_collections.ConfigDict()
  config.convex.l2 = 0.1
  config.convex.num_steps = 800
  config.convex.num_seeds = 4

  config.stream = ml_collections.ConfigDict()
  config.stream.drift = 0.03  # standard deviation of the target weights' random walk per example
  config.stream.noise = 0.1  # standard deviation of the targets' noise
  config.stream.learning_rates = (0.01, 0.03, 0.1, 0.3, 1.0)
  return config
