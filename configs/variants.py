"""Batch, stochastic and mini-batch descent compared on scikit-learn's digits (claims V1-V13, V10a).

    python -m experiments.variants --config=configs/variants.py --workdir=runs/variants

Time on 2 CPU cores: 11 min; `--repeat=2` adds a third set of seeds.
Result in three sets of seeds, alike in all but V9: V1-V6, V8, V11 and V12 supported, V7 contradicted, V10 and V10a no
difference, V13 mixed; V9 mixed, mixed and contradicted, so fragile.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration."""
  config = ml_collections.ConfigDict()
  config.dataset = 'digits'
  config.hidden = (64,)  # widths of the multilayer perceptron's hidden layers; () for none
  # All 1,797 images are divided anew for every seed: training, validation, and 360 for the test.
  config.train = 1078
  config.validation = 359

  config.seeds = ml_collections.ConfigDict()
  config.seeds.first = 30_000  # pilots had lower ones
  config.seeds.count = 16
  config.seeds.tuning = 12  # of other ids, on which rates are chosen
  config.seeds.repeats = 1

  # The arms. The three of the title are always among them: 1, `mini_batch` and full.
  config.batch_sizes = (1, 8, 32, 128, 512)
  config.mini_batch = 32

  # Exact laws and convex problems use the first so many images, the convex ones so many principal components.
  config.population = 1437
  config.components = 64

  config.race = ml_collections.ConfigDict()  # of the three variants (V6, V7, V12)
  config.race.whole = False  # whether V12 is asked on all training images, or on those drawn for the seed
  config.race.learning_rates = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # tried by every variant
  config.race.epochs = 20  # equal examples: this many passes
  config.race.min_updates = 250  # for variants that make fewer in that many passes
  config.race.evaluations = 60  # of a run
  config.race.target_loss = 0.3  # training loss whose first crossing is compared (V6)
  config.race.target_accuracy = 0.9  # test accuracy whose first crossing is compared (V12)

  config.trade = ml_collections.ConfigDict()  # equal time (V9)
  config.trade.budgets = (64, 256, 1024)  # the seconds that the mini-batch takes for so many updates
  config.trade.learning_rates = (0.032, 0.056, 0.1, 0.18, 0.32, 0.56, 1.0, 1.8)  # tried by every arm
  config.trade.tuning = 32  # seeds of its own count, as the arms are nearly equal
  config.trade.num_seeds = 160  # graded ones, from seeds.first on

  config.timing = ml_collections.ConfigDict()
  config.timing.precision = 0.01  # relative standard error at which rounds end

  config.powers = ml_collections.ConfigDict()  # CPU time in fresh processes (V10)
  config.powers.sizes = (32, 64, 128)
  config.powers.offsets = (4, 1)  # how far neighbours are
  config.powers.between = (48, 80, 96)  # other multiples of 16
  config.powers.processes = 12
  config.powers.rounds = 25
  config.powers.examples = 8_192  # of a size in a round

  config.noise = ml_collections.ConfigDict()
  config.noise.num_batches = 250  # drawn for each batch size and seed

  config.smoothness = ml_collections.ConfigDict()
  config.smoothness.num_seeds = 8
  config.smoothness.learning_rate = 0.03  # one for the three variants
  config.smoothness.num_updates = 200

  config.floor = ml_collections.ConfigDict()
  config.floor.num_seeds = 12
  config.floor.learning_rates = (0.005, 0.015, 0.05)
  config.floor.l2 = 0.03
  config.floor.epochs = 40

  config.convex = ml_collections.ConfigDict()
  config.convex.l2 = 0.1
  config.convex.num_steps = 800
  config.convex.num_seeds = 4

  config.stream = ml_collections.ConfigDict()
  config.stream.components = 32  # principal components of the images
  config.stream.noise = 0.1  # standard deviation of the targets' noise
  config.stream.learning_rates = (0.1, 0.2, 0.4, 0.7, 1.0, 1.4)
  config.stream.windows = (16, 32, 64, 128, 256, 512)  # tried by full batch
  return config
