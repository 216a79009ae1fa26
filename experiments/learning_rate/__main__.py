"""python -m experiments.learning_rate --config=configs/learning_rate.py --workdir=DIR."""

from experiments.learning_rate import edge, rates  # noqa: F401  (what they register)
from experiments.learning_rate.study import steps

if __name__ == '__main__':
  steps.main('configs/learning_rate.py')
