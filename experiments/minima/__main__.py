"""python -m experiments.minima --config=configs/minima.py --workdir=DIR."""

from experiments.minima.figures import minima

if __name__ == '__main__':
  minima.main('configs/minima.py')
