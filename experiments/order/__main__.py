"""python -m experiments.order --config=configs/order.py --workdir=DIR."""

from experiments.order import convex, figures, networks  # noqa: F401, they register sections and cells
from experiments.order.study import order

if __name__ == '__main__':
  order.main('configs/order.py')
