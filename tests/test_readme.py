"""The README's Python examples run, in order and in one namespace, as a reader would paste them."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / 'README.md'
BLOCK = re.compile(r'^```python\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def python_blocks(text: str) -> list[str]:
  """Each block's code behind as many empty lines as stand before it: errors name the file's own lines."""
  return ['\n' * text.count('\n', 0, match.start(1)) + match[1] for match in BLOCK.finditer(text)]


def test_blocks_keep_their_line_numbers():
  assert python_blocks('Text\n```python\nx = 1\n```\n```bash\nls\n```\n```python\ny = 2\n```\n') == [
    '\n\nx = 1\n',
    '\n\n\n\n\n\n\n\ny = 2\n',
  ]


def test_examples_run(tmp_path, monkeypatch):
  blocks = python_blocks(README.read_text(encoding='utf-8'))
  assert blocks, f'{README.name} has no python block'
  monkeypatch.chdir(tmp_path)  # What an example writes, it writes here.
  namespace = {'__name__': 'readme'}
  for block in blocks:
    exec(compile(block, str(README), 'exec'), namespace)
