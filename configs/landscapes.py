"""Every landscape with its stationary points and the paths of five methods over it, on one page.

    python -m experiments.landscapes --config=configs/landscapes.py --workdir=runs/landscapes

Time on 2 CPU cores: about 3 min. Expected: a picture and two tables for each landscape; nothing is graded.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The page's configuration."""
  config = ml_collections.ConfigDict()
  config.names = ()  # of the landscapes; none for all
  config.num_updates = 1000
  config.seed = 0  # of the noise, and of the starts that are drawn
  config.rates = (
    1e-3,
    10.0,
  )  # lowest and highest tried, in units of 1 / curvature (Adam: of the box's width)
  config.num_rates = 13  # tried by every method
  config.noise = 0.3  # standard deviation of the noisy gradients, as a share of the typical gradient
  return config
