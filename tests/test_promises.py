"""Every promise names a test that exists."""

import ast
import functools
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'promises.md').read_text(encoding='utf-8')


@functools.cache
def functions(file: str) -> set[str]:
  tree = ast.parse((ROOT / file).read_text(encoding='utf-8'))
  return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists():
  named = re.findall(r'`(tests/[\w/]+\.py)::(\w+)`', PAGE)
  assert len(named) > 30
  assert [(file, name) for file, name in named if name not in functions(file)] == []


def test_every_promise_names_a_test():
  promises = re.split(r'^- ', PAGE, flags=re.MULTILINE)[1:]
  assert [text for text in promises if '`tests/' not in text.partition('\n## ')[0]] == []
