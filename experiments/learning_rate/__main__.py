"""python -m experiments.learning_rate --config=configs/learning_rate.py --workdir=DIR."""

import experiments.learning_rate.edge.figures
import experiments.learning_rate.rates.figures  # noqa: F401  (they register sections, and import claims and cells)
from experiments.learning_rate.study import steps

if __name__ == '__main__':
  steps.main('configs/learning_rate.py')
