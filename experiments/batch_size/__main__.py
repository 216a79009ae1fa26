"""python -m experiments.batch_size --config=configs/batch_size.py --workdir=DIR."""

from experiments.batch_size import figures  # noqa: F401, it registers sections
from experiments.batch_size.study import batch_size

if __name__ == '__main__':
  batch_size.main('configs/batch_size.py')
