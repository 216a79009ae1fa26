"""Batch size and generalisation on MNIST: a perceptron of 256 units and a small CNN (claims G1, G2, G8).

    export GDLAB_DATA=FOLDER
    python -m experiments.batch_size --config=configs/batch_size_mnist.py --workers=2 --workdir=runs/batch_mnist

8,000 training images are drawn anew for every seed, all 10,000 test images grade. Left out, for what they take on two
cores: G3 and G4 (Hessians of 200,000 parameters over 8,000 images), G5 (batches from 1 on, and the gradient of every
image), G6 (three further arms as dear as those here), G7, G9.

Run with shrunk settings only so far; pilots say 6 to 8 min on 2 CPU cores.
"""

import ml_collections

from configs import batch_size


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration: that of the digits with other data, sizes and budgets."""
  config = batch_size.get_config()
  config.claims = ('G1', 'G2', 'G8')
  config.dataset = 'mnist'
  config.hidden = (256,)
  config.num_train = 8000
  config.num_validation = 2000
  config.seeds.count = 8
  config.seeds.tuning = 4
  config.seeds.repeats = 0
  config.small_batch = 128
  config.learning_rates = (0.05, 0.1, 0.2, 0.4)
  config.momenta = (0.9,)
  config.epochs = 8
  config.updates = 252  # four epochs of the small batch
  config.evaluations = 8
  config.target.clean = 0.1
  config.target.noisy = 1.0
  config.target.cnn = 0.2
  config.cnn.num_seeds = 8
  config.cnn.learning_rates = (0.05, 0.1, 0.2)
  config.cnn.epochs = 3
  config.cnn.updates = 96
  config.norm.num_seeds = 8
  config.sharpness.batch_sizes = (128, 1024)
  config.sharpness.settings = ((0.05, 0.9), (0.1, 0.9))
  config.sharpness.num_seeds = 8
  config.ramp.num_seeds = 8
  return config
