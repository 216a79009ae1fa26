"""The benchmark: gdlab against Python loops, jit(vmap), PyTorch and the machine's matrix-product peak.

    python -m experiments.throughput --config=configs/throughput.py --workdir=runs/throughput

Time on 2 CPU cores: 30 to 45 minutes, longer on a busy machine, whose ratios mean little. PyTorch is an optional
contender, skipped where it is not installed; the CNN's images are MNIST's where GDLAB_DATA names a folder of data.
Expected: the targets in experiments/throughput/ratios.py.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The benchmark's configuration."""
  config = ml_collections.ConfigDict()
  config.parts = ('mlp', 'samplers', 'cnn', 'users_cnn', 'lanes', 'memory', 'saves')  # which are run
  config.num_rounds = 5  # of all contenders in turn; medians are over these
  config.hidden = (128, 128)  # widths of the hidden layers of the perceptron on the digits
  config.learning_rate = 0.001  # low enough that no lane diverges: a frozen lane costs nothing
  config.num_seeds = 32

  # Updates of one repeat at each batch size: of gdlab and the bare loop (so many that the evaluations at both ends
  # of a run are little of it), of jit(vmap), of Python loops over a compiled step, of PyTorch, whose models take a
  # part of each repeat to make. Short repeats and many rounds: a busy machine then slows both sides of a ratio alike.
  config.batch_sizes = (1, 32, 256)
  config.num_steps = (16000, 3000, 600)
  config.vmap_steps = (6000, 600, 160)
  config.loop_steps = (800, 400, 160)
  config.torch_steps = (200, 160, 100)

  config.peak = ml_collections.ConfigDict()
  config.peak.sizes = (1024, 2048)  # of the square matrices
  config.peak.gflop = 30.0  # in one repeat on one core

  config.cnn = ml_collections.ConfigDict()
  config.cnn.batch_size = 32
  config.cnn.num_seeds = 4
  config.cnn.num_images = 512  # of MNIST; evaluated at both ends of a run
  config.cnn.num_steps = 200
  config.cnn.torch_steps = 50

  config.users_cnn = ml_collections.ConfigDict()
  config.users_cnn.num_seeds = 8
  config.users_cnn.batch_sizes = (32, 256)
  config.users_cnn.num_steps = (60, 10)

  config.lanes = ml_collections.ConfigDict()
  config.lanes.counts = (1, 4, 16, 64, 256, 1024, 4096)
  config.lanes.num_rounds = 3
  config.lanes.batch_size = 32
  config.lanes.num_steps = 200  # so many that what begins and ends a run is little of it for 64 lanes too

  config.memory = ml_collections.ConfigDict()
  config.memory.counts = (64, 2048)  # lanes of the two processes that are compared
  config.memory.num_steps = 20

  config.saves = ml_collections.ConfigDict()
  config.saves.num_lanes = 1024
  config.saves.num_steps = 1600  # a run of more than the 120 s between checkpoints
  config.saves.num_rounds = 2
  return config
