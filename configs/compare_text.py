"""As configs/compare.py on a small transformer that predicts the characters of a text.

python -m experiments.compare --config=configs/compare_text.py --workdir=runs/compare_text
"""

import ml_collections

from configs import compare


def get_config() -> ml_collections.ConfigDict:
  """The comparison's configuration."""
  config = compare.get_config()
  config.problem = 'character_lm'
  config.model = ml_collections.ConfigDict(
    {'width': 32, 'num_layers': 2, 'num_heads': 2}
  )  # of gdlab.problems.Transformer
  config.updates = 300
  config.margin = 0.02
  config.trials = 8
  config.seeds = 8
  config.most_seeds = 16
  return config
