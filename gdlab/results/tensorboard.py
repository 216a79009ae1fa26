"""A tracker for `gdlab.track` that writes event files, by tensorboardX, which needs neither TensorFlow nor PyTorch."""

import importlib
import itertools
import logging
import os
import pathlib
import re
from typing import Any

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError


class TensorBoard:
  """Writes the runs of `track` as event files that TensorBoard reads, a folder for each run: `folder/project/name`.

  Characters that are not safe in a file's name become `_`. Where the folder exists, a number is added: `name-2`.
  The coordinates of a run are in the tab HPARAMS. It needs tensorboardX: `pip install "gdlab[trackers]"`.

  Args:
    folder: what `tensorboard --logdir` is given.

  Raises:
    InputError: if tensorboardX is not installed.
  """

  @checked
  def __init__(self, folder: str | os.PathLike):
    try:
      self._package: Any = importlib.import_module('tensorboardX')
    except ImportError as error:
      raise InputError('TensorBoard needs tensorboardX: pip install "gdlab[trackers]"') from error
    # A failed run has NaNs, of which tensorboardX would warn one by one.
    logging.getLogger('tensorboardX.x2num').setLevel(logging.ERROR)
    self._folder = pathlib.Path(folder)

  def init(self, *, project: str, name: str, config: dict[str, Any]) -> None:
    """Begins the event file of a run."""
    safe = [re.sub(r'^\.|[^\w.,=+-]', '_', part) for part in (project, name)]
    self._writer = self._package.SummaryWriter(str(_new(self._folder.joinpath(*safe))))
    self._config, self._seen = config, dict[str, Any]()

  def log(self, values: dict[str, Any], *, step: int) -> None:
    """Writes numbers by name."""
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)
    self._seen |= values

  def finish(self) -> None:
    """Writes the coordinates of the run, and closes its file."""
    for part in self._package.summary.hparams(self._config, self._seen):
      self._writer.file_writer.add_summary(part)
    self._writer.close()


def _new(folder: pathlib.Path) -> pathlib.Path:
  """Makes a folder that nobody else has: this one, or the first with a number that is free."""
  for place in itertools.chain(
    [folder], (folder.with_name(f'{folder.name}-{n}') for n in itertools.count(2))
  ):
    try:
      place.mkdir(parents=True)
    except FileExistsError:
      continue
    return place
  raise AssertionError('numbers do not end')
