"""Steps to a target against batch size on the noisy quadratic model (Zhang et al. 2019), from theory alone.

    python -m experiments.noisy_quadratic --config=configs/noisy_quadratic.py --workdir=runs/noisy_quadratic

Time on 2 CPU cores: 20 s. Expected: steps fall as 1/B and then stay; plain descent takes 378,758 steps at B=16 and
7,039 at B=2^20.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The figure's configuration; the defaults are those of the paper."""
  config = ml_collections.ConfigDict()
  config.dimension = 10_000  # curvatures 1/i, i = 1 ... dimension
  config.target = 0.01  # expected loss
  config.exponents = (0, 20)  # batch sizes are the powers of two between these
  config.rates = (-5.0, 0.5)  # of ten, lowest and highest tried
  config.num_rates = 100  # tried by every method at every batch size
  config.powers = (0.25, 0.5, 0.75)  # of the inverse Hessian as preconditioner
  config.momentum = 0.9
  config.averaging = 0.99  # decay of the moving average of the iterates
  return config
