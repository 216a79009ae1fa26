"""The Python examples of README and METHODS run, in order and in one namespace each, as a reader would paste them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ('README.md', 'gdlab/METHODS.md')
BLOCK = re.compile(r'^```python\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def python_blocks(text: str) -> list[str]:
  """Each block's code behind as many empty lines as stand before it: errors name the file's own lines."""
  return ['\n' * text.count('\n', 0, match.start(1)) + match[1] for match in BLOCK.finditer(text)]


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
  namespace = {'__name__': 'readme'}
  for block in blocks:
    exec(compile(block, name, 'exec'), namespace)
