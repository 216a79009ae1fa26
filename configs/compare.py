"""Momentum and AdamW with a cosine against Adam, on scikit-learn's digits.

    python -m experiments.compare --config=configs/compare.py --workdir=runs/compare

An entry of `arms` is an optimizer of Optax: a pair of numbers is a range that is searched, a number is fixed. Time on
2 CPU cores: about a minute. Other problems: configs/compare_mnist.py, configs/compare_text.py.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The comparison's configuration."""
  config = ml_collections.ConfigDict()
  config.problem = 'digits'
  config.model = ml_collections.ConfigDict({'features': (64,)})  # of gdlab.problems.MLP
  config.validation = 0.2  # share of the training images that trials are chosen on

  config.arms = ml_collections.ConfigDict()
  config.arms.adam = ml_collections.ConfigDict({'learning_rate': (1e-4, 1e-1), 'batch_size': 32})
  config.arms.momentum = ml_collections.ConfigDict(
    {'optimizer': 'sgd', 'learning_rate': (1e-3, 1.0), 'momentum': 0.9, 'batch_size': 32}
  )
  config.arms.adamw_cosine = ml_collections.ConfigDict(
    {'optimizer': 'adamw', 'learning_rate': (1e-4, 1e-1), 'schedule': 'cosine', 'batch_size': 32}
  )
  config.baseline = 'adam'

  config.updates = 400
  config.seconds = True  # also at the time that the baseline takes for its updates
  config.margin = 0.01  # the smallest difference in test loss that matters
  config.effect = 'difference'
  config.trials = 16
  config.tuning_seeds = 3
  config.seeds = 16
  config.most_seeds = 64  # seeds are added up to this number while a row is undecided
  config.first_seed = 0
  return config
