"""python -m experiments.saddles --config=configs/saddles.py --workdir=DIR."""

from experiments.saddles import figures, measure, searches  # noqa: F401  (what they register)
from experiments.saddles.study import escape

if __name__ == '__main__':
  escape.main('configs/saddles.py')
