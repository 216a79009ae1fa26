"""Every instrument on a Flax model of one's own: an NNX network on the embedded digits.

    python -m experiments.instruments --config=configs/instruments.py --workdir=runs/instruments

Time: 2 minutes on 2 CPU cores, most of it compilation. Expected: the largest eigenvalue rises from 1.9 to 10 and
falls to 5, below 2 / rate = 20; test accuracy 0.97; both noise scales rise from 40 to above 400 examples; on the way to
a second solution a barrier of 1.3, of 0.23 once its units are aligned; nothing is found wrong with the runs, and
'learning rate too large' with the one at rate 30.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The showcase's configuration."""
  config = ml_collections.ConfigDict()
  config.width = 24  # units of each of the two hidden layers: 2,410 parameters in all
  config.learning_rate = 0.1
  config.batch_size = 32
  config.num_steps = 1500
  config.eval_every = 50  # updates between measurements
  config.num_seeds = 2  # of the run; its first is looked at closely
  config.num_eigenvalues = 4  # along the run
  config.num_probes = 16  # of tr(H Sigma), for the noise scale
  config.num_points = 21  # of the plane, along each direction
  config.radius = 0.05  # of the ball in which SAM's sharpness is measured
  config.relative_radius = 0.5  # of the adaptive one
  config.faulty_rate = 30.0  # of a run that fails, for the diagnosis
  return config
