"""Learning rate: borders of stability, the edge, warm-up, schedules, scaling rules (L1-L15).

    python -m experiments.learning_rate --config=configs/learning_rate.py --workdir=runs/learning_rate
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
  return edge


def _rates() -> ml_collections.ConfigDict:
  rates = ml_collections.ConfigDict()
  return rates
