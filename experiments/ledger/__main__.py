"""Every study's quick configuration in turn, and one page with all claims.

    python -m experiments.ledger --workdir=runs/ledger [--workers=N] [--only=STUDY,...]

Writes index.html, claims.json (a row for every claim), studies.json (what each took) and SHA256SUMS into the folder,
and every study into a folder of its name. Stopped or killed, the same command goes on; `studies` says when a study is
not started.

`--again=10 --seed=S` also draws ten of the claims that have a verdict and asks them alone on new seeds, in folders such
as `saddles-3`, which has the seeds of a third repeat. `--publish=docs/ledger` copies page, claims and the figures that
the page links to, without links to the studies' pages.
"""

import json
import os
import pathlib
import shutil
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments.ledger import rows, studies
from experiments.ledger.page import render
from gdlab.claims import Finding
from gdlab.core.errors import InputError, check_count, unknown_name
from gdlab.host import checksums, locks
from gdlab.host.progress import say
from gdlab.study.graded import command
from gdlab.study.launch import launch
from gdlab.study.workdir import open_workdir, replacing

WORKDIR = flags.DEFINE_string('workdir', 'runs/ledger', 'Folder for the studies and the page.')
WORKERS = flags.DEFINE_integer(
  'workers', None, 'How many processes of this machine measure the cells of a study.'
)
ONLY = flags.DEFINE_list('only', [], 'The studies that are run; the page has what is there of the others.')
AGAIN = flags.DEFINE_integer('again', 0, 'How many claims to draw and to ask once more.')
SEED = flags.DEFINE_integer('seed', 0, 'Which claims --again draws.')
PUBLISH = flags.DEFINE_string('publish', None, 'A folder that page, claims and figures are copied to.')


class Ledger:
  """A folder with studies, what is known of them, and the draws of claims that were asked once more."""

  def __init__(self, workdir: pathlib.Path, claims: dict[str, Any], sources: dict[str, studies.Source]):
    places = [claim['study'] for claim in claims.values()]
    order = sorted(sources, key=lambda name: (places.index(name) if name in places else len(places), name))
    self.workdir, self.claims, self.sources = workdir, claims, {name: sources[name] for name in order}
    self.known: dict[str, Any] = self._read('studies.json', {})
    self.again: list[dict[str, Any]] = self._read('again.json', [])

  def _read(self, name: str, default: Any) -> Any:
    path = self.workdir / name
    if not path.exists():
      return default
    checksums.verify(path)
    return json.loads(path.read_text(encoding='utf-8'))

  def write(self, name: str, content: Any, folder: pathlib.Path | None = None) -> None:
    """Writes a JSON file, whole or not at all, and its sum."""
    with replacing((folder or self.workdir) / name) as path:
      path.write_text(
        json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + '\n', encoding='utf-8'
      )

  def drawn(self, name: str) -> dict[str, tuple[int, studies.Source]]:
    """What asks the drawn claims of a study, by the name of its folder: the seed of the draw, and the study."""
    source, found = self.sources[name], {}
    for number, draw in enumerate(self.again, source.config.seeds.repeats + 1):
      if claims := [claim for claim in draw['claims'] if claim in source.study.claims]:
        found[f'{name}-{number}'] = draw['seed'], studies.once_more(source, claims, number)
    return found

  def all_of(self, names: Sequence[str]) -> dict[str, studies.Source]:
    """These studies, and after them what asks their drawn claims, by the names of their folders."""
    draws = {folder: again for name in names for folder, (_, again) in self.drawn(name).items()}
    return {name: self.sources[name] for name in names} | draws

  def run(self, names: Sequence[str], workers: int | None) -> list[str]:
    """Runs what has changed of these studies, and of their draws; the names of those that failed."""
    begun, ran, failed = time.monotonic(), 0, []
    sources = self.all_of(names)
    waiting = [name for name, source in sources.items() if not self.unchanged(name, source)]
    for number, (name, source) in enumerate(sources.items(), 1):
      folder, title = self.workdir / name, f'[{number}/{len(sources)}] {name}'
      if name not in waiting:
        say(f'{title}: unchanged')
        continue
      minutes = (time.monotonic() - begun) / 60
      left = f'; about {minutes / ran * (len(waiting) - ran):.0f} min left, as the others took' if ran else ''
      say(f'{title}: begins after {minutes:.0f} min{left}')
      folder.mkdir(exist_ok=True)
      made_of = studies.made_of(source)  # now: sources may be edited meanwhile
      status = studies.run(source, folder, workers)
      ran += 1
      if status:
        say(f'{title}: has ended with status {status}')
        failed.append(name)
        continue
      self.known[name] = studies.facts(source, folder) | {'made_of': made_of}
      self.write('studies.json', self.known)
    return failed

  def unchanged(self, name: str, source: studies.Source) -> bool:
    """Whether a folder has nothing to be done."""
    return studies.unchanged(source, self.workdir / name, self.known.get(name, {}))

  def _graded(self, name: str, source: studies.Source) -> list[list[Finding]]:
    """The findings in a folder on every set of seeds; none where it has not ended, or they are not what was written."""
    if name in self.known:
      try:
        return studies.graded(source, self.workdir / name)
      except (InputError, OSError) as error:
        say(f'{name}: {error}')
    return []

  def results(self) -> dict[str, rows.Result]:
    """What there is of every study."""
    found = {}
    for name, source in self.sources.items():
      draws = [
        rows.Draw(folder, seed, findings, self.known[folder])
        for folder, (seed, again) in self.drawn(name).items()
        for findings in self._graded(folder, again)
      ]
      if sets := self._graded(name, source):
        current, folder = self.unchanged(name, source), self.workdir / name
        found[name] = rows.Result(source.study, folder, sets, self.known[name], current, draws)
    return found

  def drawn_before(self, count: int, seed: int) -> bool:
    """Whether this draw was made; the studies that are there now decide what can be drawn, so it stays as it is.

    Raises:
      InputError: if another number of claims was drawn with this seed.
    """
    for draw in self.again:
      if draw['seed'] == seed and len(draw['claims']) != count:
        drawn = ', '.join(draw['claims'])
        raise InputError(f'--seed must be another, as {seed} has drawn {drawn}, got --again={count}')
    return seed in [draw['seed'] for draw in self.again]

  def draw(self, count: int, seed: int) -> None:
    """Draws claims to be asked once more.

    Raises:
      InputError: if fewer were asked.
    """
    drawn = rows.draw(rows.rows(self.claims, self.results()), count, seed)
    if len(drawn) < count:
      raise InputError(f'--again must be at most {len(drawn)}, the claims that have a verdict, got {count}')
    self.again.append({'seed': seed, 'claims': drawn})
    self.write('again.json', self.again)

  def page(self, publish: pathlib.Path | None = None) -> None:
    """Writes the table and the page, or copies both, with the figures, to a folder that has no pages of studies."""
    results, folder = self.results(), publish or self.workdir
    table = rows.rows(self.claims, results)
    data = 'GDLAB_DATA=DIR ' if os.environ.get('GDLAB_DATA') else ''
    self.write('claims.json', [row.plain() for row in table], folder)
    with replacing(folder / 'index.html') as path:
      text = render(
        table,
        results,
        again=self.again,
        command=data + command('experiments.ledger'),
        reports=publish is None,
      )
      path.write_text(text, encoding='utf-8')
    if publish is None:
      return
    known = {
      name: self.known[name]
      for name in [*results, *(draw.folder for one in results.values() for draw in one.draws)]
    }
    self.write('studies.json', known, folder)
    for figure in sorted({section['figure'] for row in table for section in row.sections} - {''}):
      target = publish / figure
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(self.workdir / figure, target)


def main(arguments: list[str]) -> None:
  """Runs the studies and writes the page."""
  if arguments:
    raise InputError(f'unexpected argument {arguments[0]!r}; values are given as --flag=value')
  for name, value in (('--workers', WORKERS.value), ('--again', AGAIN.value or None)):
    if value is not None:
      check_count(name, value)
  sources = studies.find()
  if wrong := [name for name in ONLY.value if name not in sources]:
    raise unknown_name('study', wrong[0], sources)
  if not WORKDIR.value:
    raise InputError("--workdir must be a folder, got ''")
  workdir = open_workdir(WORKDIR.value)
  publish = open_workdir(PUBLISH.value, '--publish') if PUBLISH.value else None
  if publish and publish.samefile(workdir):
    raise InputError(f'--publish must be another folder than --workdir, got {publish}')
  with locks.held(workdir):
    ledger = Ledger(workdir, rows.said(), sources)
    drawn = bool(AGAIN.value) and ledger.drawn_before(AGAIN.value, SEED.value)
    names = [name for name in ledger.sources if name in (ONLY.value or sources)]
    failed = ledger.run(names, WORKERS.value)
    if AGAIN.value and not drawn and not failed:
      ledger.draw(AGAIN.value, SEED.value)
      failed = ledger.run(names, WORKERS.value)
    ledger.page()
    if publish:
      ledger.page(publish)
  print(f'Ledger: {workdir / "index.html"}')
  if failed:
    raise ChildProcessError(f'studies failed: {", ".join(failed)}; what was finished is kept')


if __name__ == '__main__':
  launch(main)
