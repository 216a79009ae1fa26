"""python -m experiments.practice --config=configs/practice.py --workdir=DIR."""

from experiments.practice import checks, costs, figures, squares, training  # noqa: F401, they register
from experiments.practice.study import practice

if __name__ == '__main__':
  practice.main('configs/practice.py')
