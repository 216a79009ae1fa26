"""python -m experiments.landscapes --config=configs/landscapes.py --workdir=DIR."""

import pathlib
import shlex
import sys
from collections.abc import Mapping

import xarray as xr

from experiments import app
from experiments.landscapes import catalogue, page, paths
from gdlab.errors import check_count, check_real, unknown_name


def cells(config) -> list[app.Cell]:
  """One for every landscape."""
  for name in config.names:
    if name not in catalogue.LANDSCAPES:
      raise unknown_name('landscape', name, catalogue.LANDSCAPES)
  check_count('num_updates', config.num_updates)
  check_count('num_rates', config.num_rates, minimum=2)
  check_real('noise', config.noise, above=0)
  return [
    app.Cell(name, paths.cell(config, name, catalogue.LANDSCAPES[name].make))
    for name in config.names or catalogue.LANDSCAPES
  ]


def finish(config, results: Mapping[str, xr.Dataset], workdir: pathlib.Path) -> None:
  """Draws the page."""
  command = shlex.join(['python', '-m', 'experiments.landscapes', *sys.argv[1:]])
  with app.replacing(workdir / 'report.html') as path:
    path.write_text(page.render(config, results, command), encoding='utf-8')
  print(f'Page: {workdir / "report.html"}')


if __name__ == '__main__':
  app.main(cells, finish, 'configs/landscapes.py')
