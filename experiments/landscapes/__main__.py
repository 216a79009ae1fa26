"""python -m experiments.landscapes --config=configs/landscapes.py --workdir=DIR."""

import pathlib
from collections.abc import Mapping
from typing import Annotated

import xarray as xr
from pydantic import AfterValidator, Field

from experiments.landscapes import catalogue, page, paths
from gdlab.core.errors import unknown_name
from gdlab.study import Config, Count, Index, Positive, Rising, app
from gdlab.study.graded import conclude
from gdlab.study.schema import different


class Settings(Config):
  """The configuration; see configs/landscapes.py."""

  names: Annotated[tuple[str, ...], AfterValidator(different)]
  num_updates: Count
  seed: Index
  rates: Annotated[Rising, Field(max_length=2)]
  num_rates: Annotated[int, Field(ge=2, le=10_000)]
  noise: Positive


def cells(given) -> list[app.Cell]:
  """One for every landscape."""
  config = Settings.checked(given.to_dict())
  for name in config.names:
    if name not in catalogue.LANDSCAPES:
      raise unknown_name('landscape', name, catalogue.LANDSCAPES)
  return [
    app.Cell(name, paths.cell(config, name, catalogue.LANDSCAPES[name].make))
    for name in config.names or catalogue.LANDSCAPES
  ]


def finish(config, results: Mapping[str, xr.Dataset], workdir: pathlib.Path) -> None:
  """Draws the page."""
  conclude(workdir, page.tell(config, results), (), results, module='experiments.landscapes')


if __name__ == '__main__':
  app.main(cells, finish, 'configs/landscapes.py')
