"""python -m experiments.landscapes --config=configs/landscapes.py --workdir=DIR."""

import pathlib
import shlex
import sys
from collections.abc import Mapping

import xarray as xr

from experiments.fields import Fields, check_fields, choice, count, positive, rising, several
from experiments.landscapes import catalogue, page, paths
from gdlab.study import app

FIELDS: Fields = {
  'names': several(choice(catalogue.LANDSCAPES, 'landscape')),
  'num_updates': count(),
  'seed': count(0),
  'rates': rising(positive),
  'num_rates': count(2),
  'noise': positive,
}


def cells(config) -> list[app.Cell]:
  """One for every landscape."""
  check_fields(config, FIELDS)
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
