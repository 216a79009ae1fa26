"""python -m experiments.variants --config=configs/variants.py --workdir=DIR."""

from experiments.variants import figures, measure, stream  # noqa: F401, they register sections and cells
from experiments.variants.study import variants

if __name__ == '__main__':
  variants.main('configs/variants.py')
