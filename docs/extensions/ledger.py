"""The committed ledger on the site: a summary of `docs/ledger/claims.json`, and the ledger's own page beside it.

The directive `{ledger}` is a table of the claims, made while the site is built, and a link to that page. Where nothing
is committed it says so.
"""

import collections
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HEADS = {'claim': 8, 'statement': 40, 'verdict': 14, 'effect': 12, 'seeds': 8, 'repeats': 10}


def summary(claims: Sequence[Mapping[str, Any]]) -> str:
  """How many claims have which verdict, those of our own apart."""
  listed = [claim for claim in claims if not claim['beside']]
  counts = collections.Counter(claim['verdict'] for claim in listed)
  words = ', '.join(f'{count} {verdict}' for verdict, count in counts.most_common())
  fragile = sum(claim['fragile'] for claim in listed)
  own = len(claims) - len(listed)
  return f'Of {len(listed)} claims: {words}; {fragile} of them fragile. {own} of our own are added.'


def took(studies: Mapping[str, Mapping[str, Any]]) -> str:
  """The computing behind all results."""
  hours = sum(study['seconds'] for study in studies.values()) / 3600
  revisions = sorted({revision[:10] for study in studies.values() for revision in study['git_revisions']})
  return f'All results took {hours:.1f} hours of computing, with revision {", ".join(revisions)}.'


def cells(claim: Mapping[str, Any], page: str) -> list[nodes.Node]:
  """A row: what each cell holds."""
  verdict = claim['verdict'] + (', fragile' if claim['fragile'] else '')
  effect = '' if claim['effect'] is None else f'{claim["effect"]:.3g}'
  seeds = '' if claim['num_seeds'] is None else str(claim['num_seeds'])
  texts = (claim['statement'], verdict, effect, seeds, claim['same'])
  link = nodes.reference('', claim['id'], refuri=f'{page}#{claim["id"]}', internal=False)
  return [link, *map(nodes.Text, texts)]


def table(rows: Sequence[Sequence[nodes.Node]]) -> nodes.table:
  """A table under `HEADS`."""
  group = nodes.tgroup('', *(nodes.colspec(colwidth=width) for width in HEADS.values()), cols=len(HEADS))
  group += nodes.thead('', row([nodes.Text(head) for head in HEADS]))
  group += nodes.tbody('', *map(row, rows))
  return nodes.table('', group)


def row(parts: Sequence[nodes.Node]) -> nodes.row:
  """A row of a table."""
  return nodes.row('', *(nodes.entry('', nodes.paragraph('', '', part)) for part in parts))


class Ledger(SphinxDirective):
  """The directive `{ledger}`."""

  def run(self) -> list[nodes.Node]:
    folder = Path(self.env.srcdir) / 'ledger'
    for name in ('claims.json', 'studies.json'):
      self.env.note_dependency(str(folder / name))
    if not (folder / 'claims.json').is_file():
      text = 'No run is committed in this checkout.'
      return [nodes.paragraph(text, text)]
    claims, studies = (
      json.loads((folder / f'{name}.json').read_text(encoding='utf-8')) for name in ('claims', 'studies')
    )
    page = 'ledger/index.html'
    link = nodes.reference('', 'The page with all of it', refuri=page, internal=False)
    return [
      nodes.paragraph('', '', nodes.Text(f'{summary(claims)} {took(studies)}')),
      nodes.paragraph('', '', link, nodes.Text(' can be searched, filtered and sorted.')),
      table([cells(claim, page) for claim in claims]),
    ]


def copy(app: Sphinx, exception: Exception | None) -> None:
  """Puts the ledger's page, its figures and its numbers beside the site's pages."""
  source = Path(app.srcdir) / 'ledger'
  if exception is None and app.builder.format == 'html' and source.is_dir():
    ignored = shutil.ignore_patterns('.*')
    shutil.copytree(source, Path(app.outdir) / 'ledger', ignore=ignored, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
  """Makes the directive available."""
  app.add_directive('ledger', Ledger)
  app.connect('build-finished', copy)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
