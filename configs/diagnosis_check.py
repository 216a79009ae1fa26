"""How often `gdlab.diagnose` names a planted fault, and finds nothing in a sound run.

    python -m experiments.diagnosis_check --config=configs/diagnosis_check.py --workdir=runs/diagnosis_check

Measured in November 2026 on the checking set, run once: 97 of 100 planted faults named first, nothing found in 60 of 60
sound runs; 95 and 57 are needed. It took 15 minutes on 2 CPU cores that were shared with other work, with XLA's
optimisation off (`XLA_FLAGS='--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'`), and some
cells were measured by a second and third process.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The checking set; 'tuning' and 'tuning_2' are those that thresholds were set on."""
  config = ml_collections.ConfigDict()
  config.planted_set = 'checking'
  config.only = ''  # part of the kind and name of a case; '' takes all
  return config
