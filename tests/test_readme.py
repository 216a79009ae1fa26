"""README fits on two screens, and its links lead somewhere.

The Python examples of README and METHODS run, in order and in one namespace each, as a reader would paste them.
"""

import collections
import functools
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import jax.numpy as jnp
import optax
import pytest

import gdlab

ROOT = Path(__file__).resolve().parents[1]
PAGES = ('README.md', 'gdlab/METHODS.md')
README = (ROOT / 'README.md').read_text(encoding='utf-8')
BLOCK = re.compile(r'^```python\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def python_blocks(text: str) -> list[str]:
  """Each block's code behind as many empty lines as stand before it: errors name the file's own lines."""
  return ['\n' * text.count('\n', 0, match.start(1)) + match[1] for match in BLOCK.finditer(text)]


def stand_in() -> gdlab.Problem:
  """Digits of MNIST's size: the tests need no file, and no network."""
  digits = gdlab.problems.digits()

  def enlarged(examples):
    large = jnp.pad(jnp.kron(examples.inputs, jnp.ones((1, 3, 3))), ((0, 0), (2, 2), (2, 2)))
    return examples._replace(inputs=large)

  train, test = enlarged(digits.train), enlarged(digits.test)
  return gdlab.problems.from_linen(
    gdlab.problems.MLP(), train, optax.softmax_cross_entropy_with_integer_labels, test=test
  )


def smaller(compare, *args, **options):
  """The same comparison with fewer runs."""
  few = {'budgets': {'updates': 12, 'seconds': 'adam'}, 'trials': 2, 'seeds': 3, 'clock_precision': 0.5}
  return compare(*args, **options | few)


def test_blocks_keep_their_line_numbers():
  assert python_blocks('Text\n```python\nx = 1\n```\n```bash\nls\n```\n```python\ny = 2\n```\n') == [
    '\n\nx = 1\n',
    '\n\n\n\n\n\n\n\ny = 2\n',
  ]


@pytest.mark.parametrize('name', PAGES)
def test_examples_run(name, tmp_path, monkeypatch):
  blocks = python_blocks((ROOT / name).read_text(encoding='utf-8'))
  assert blocks, f'{name} has no python block'
  monkeypatch.chdir(tmp_path)  # What an example writes, it writes here.
  monkeypatch.setattr(gdlab.problems, 'mnist', stand_in)
  monkeypatch.setattr(gdlab, 'compare', functools.partial(smaller, gdlab.compare))
  namespace = {'__name__': 'readme'}
  for block in blocks:
    exec(compile(block, name, 'exec'), namespace)


def test_readme_is_short():
  assert len(README.splitlines()) <= 150
  assert README.count('```python') == 3
  assert re.findall(r'^(make \w+)', README, re.MULTILINE) == ['make demo', 'make test']


def test_readme_counts_the_claims_of_the_committed_ledger():
  rows = json.loads((ROOT / 'docs' / 'ledger' / 'claims.json').read_text(encoding='utf-8'))
  count = collections.Counter(row['verdict'] for row in rows)
  said = {'supported': 'are supported', 'no difference': 'without a difference'}
  verdicts = ('supported', 'mixed', 'inconclusive', 'contradicted', 'no difference')
  assert {*count} <= {*verdicts}
  told = ', '.join(f'{count[name]} {said.get(name, name)}' for name in verdicts if count[name])
  fragile = sum(row['fragile'] for row in rows)
  assert f'Of these {len(rows)}, {told}; {fragile} are fragile.' in ' '.join(README.split())


@pytest.mark.parametrize('name', ['README.md', 'SECURITY.md', 'CONTRIBUTING.md'])
def test_links_are_relative_and_lead_somewhere(name):
  links = re.findall(r'\]\(([^)\s]+)\)', (ROOT / name).read_text(encoding='utf-8'))
  abroad = [link for link in links if '://' in link]
  assert {link.split('/')[2] for link in abroad} <= {'docs.jax.dev', 'optax.readthedocs.io'}
  assert [link for link in links if link not in abroad and not (ROOT / link).is_file()] == []


def test_the_picture_is_legible_on_light_and_dark_pages():
  path = re.search(r'!\[[^\]]+\]\((.+?)\)', README)[1]
  picture = ElementTree.parse(ROOT / path).getroot()
  assert {'width', 'height', 'viewBox', 'aria-label'} <= {*picture.attrib}
  tags = [element.tag.rpartition('}')[2] for element in picture.iter()]
  assert 'script' not in tags
  assert 'prefers-color-scheme: dark' in picture.findtext('{*}style')
  assert tags.count('rect') >= 1  # the card: a page may be dark where the system is not
