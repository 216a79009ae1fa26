"""python -m experiments.methods --config=configs/methods.py --workdir=DIR."""

from experiments.methods import exact, figures, measure  # noqa: F401, they register sections and cells
from experiments.methods.study import methods

if __name__ == '__main__':
  methods.main('configs/methods.py')
