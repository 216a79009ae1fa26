"""Local minima on MNIST, with more seeds, widths, temperatures and a landscape of more dimensions (claims N1-N7).

    GDLAB_DATA=FOLDER python -m experiments.minima --config=configs/minima_full.py --workdir=runs/minima_full

Time on 2 CPU cores: hours, which `--workers=N` or `--dask=…` share; it was run with everything shrunk by overrides
only, so there are no verdicts to expect yet.
"""

import ml_collections

from configs import minima


def get_config() -> ml_collections.ConfigDict:
  """The study's configuration: that of the digits with what a larger data set asks for."""
  config = minima.get_config()
  config.dataset = 'mnist'
  config.seeds.count = 100
  config.hidden_of_trap = 64
  config.members = 5
  config.ensemble_width = 64

  config.valleys.num_seeds = 400
  config.valleys.batch_sizes = (1, 2, 4, 8, 32)
  config.valleys.learning_rates = (0.005, 0.01, 0.02, 0.04, 0.08)
  config.valleys.return_updates = 40_000

  config.escape.num_seeds = 400
  config.escape.batch_sizes = (1, 2, 4, 8)
  config.escape.barriers = (3.0, 4.0, 5.0, 6.0, 7.0)
  config.escape.learning_rate = 0.006

  config.dose.dim = 10
  config.dose.num_seeds = 200
  config.dose.updates = 20_000
  config.dose_network.hidden = 64
  config.dose_network.num_examples = 1000
  config.dose_network.num_seeds = 40
  config.dose_network.updates = 3000

  config.trap.epochs = 2
  config.trap.return_epochs = 6

  config.widths.hidden = (4, 8, 16, 32, 64, 128, 256, 512)
  config.widths.epochs = 20
  config.widths.pairs = 40
  return config
