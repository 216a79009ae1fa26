"""How often `gdlab.diagnose` names a planted fault, and finds nothing in a sound run.

    python -m experiments.diagnosis_check --config=configs/diagnosis_check.py --workdir=runs/diagnosis_check

Measured in November 2026 with this command on the checking set, run once, when all thresholds were set: 137 of 140
planted faults named first, nothing found in 77 of 80 sound runs; 133 and 76 are needed.

| kind | named first | else |
| --- | --- | --- |
| rates, bad data, memorising, overfitting, dead layer, schedule, exploding, oscillating | 10 of 10 each | |
| softmax twice, frozen layer, ascent, labels at random | 10 of 10 each | |
| vanishing | 8 of 10 | nothing found (2) |
| NaN | 9 of 10 | learning rate too large (1) |
| sound | 77 of 80 | overfitting (3) |

The three alarms are of the rule for overfitting, on the tumours with plain descent and a cosine; the rules for softmax
twice, frozen layers, ascent and labels at random, and the twenty sound runs near them, raised none. The rule for ascent
was narrowed after that; its ten planted faults were measured again, all named first. The same counts of
the set that is now 'tuning_3', before these rules: 97 of 100 and 60 of 60.

It took 35 minutes on 2 CPU cores that four other processes shared, with XLA's optimisation off
(`XLA_FLAGS='--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'`), in two parts: after 26 of
62 cells the process had used up its memory maps, which it now gives back, and the second measured the rest.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The checking set; 'tuning', 'tuning_2' and 'tuning_3' are those that thresholds were set on."""
  config = ml_collections.ConfigDict()
  config.planted_set = 'checking'
  config.only = ''  # part of the kind and name of a case; '' takes all
  return config
