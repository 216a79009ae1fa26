"""The ledger on the site: a table of what is committed with the ledger's page beside it, or a word that nothing is."""

import json
import os
import pathlib
import subprocess
import sys

import ledger_study
import pytest

from experiments.ledger import rows

pytest.importorskip('myst_parser', reason='no Sphinx in this environment')
EXTENSIONS = pathlib.Path(__file__).parents[2] / 'docs' / 'extensions'


def built(folder: pathlib.Path) -> str:
  (folder / 'conf.py').write_text("extensions = ['myst_parser', 'ledger']\nexclude_patterns = ['out']\n")
  (folder / 'index.md').write_text('# Claims\n\n```{ledger}\n```\n')
  subprocess.run(
    [sys.executable, '-m', 'sphinx', '--fail-on-warning', '--quiet', folder, folder / 'out'],
    env=os.environ | {'PYTHONPATH': str(EXTENSIONS)},
    check=True,
    timeout=120,
  )
  return (folder / 'out' / 'index.html').read_text(encoding='utf-8')


def test_the_site_shows_what_is_committed(tmp_path):
  assert 'No run is committed' in built(tmp_path)
  folder = tmp_path / 'ledger'
  folder.mkdir()
  results = ledger_study.results(tmp_path)
  table = [row.plain() for row in rows.rows(ledger_study.SAID, results)]
  (folder / 'claims.json').write_text(json.dumps(table), encoding='utf-8')
  (folder / 'studies.json').write_text(json.dumps({name: each.facts for name, each in results.items()}))
  (folder / 'index.html').write_text('the page')
  text = built(tmp_path)
  assert 'Of 5 claims: 2 contradicted, 2 not asked yet, 1 supported; 1 of them fragile. 2 of our own' in text
  assert 'All results took 1.0 hours of computing' in text
  for claim in table:
    assert f'href="ledger/index.html#{claim["id"]}">{claim["id"]}</a>' in text
  assert 'contradicted, fragile' in text
  assert ledger_study.NASTY not in text
  assert (tmp_path / 'out' / 'ledger' / 'index.html').read_text() == 'the page'
