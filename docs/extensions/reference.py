"""The API reference: a Markdown page for each public module, written from its docstrings before the site is built.

Docstrings are Markdown with Google's sections, formulas between dollars and examples as doctests. Sphinx's autodoc
reads reStructuredText, which has neither these tables nor these formulas; so the pages are written here, for MyST.
"""

import ast
import enum
import functools
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from public import MODULES, homes, own_names, public_names

if TYPE_CHECKING:  # The tests make pages without Sphinx.
  from sphinx.application import Sphinx

SECTION = re.compile(r'^(Args|Attributes|Returns|Raises|Example|Examples):$')
TITLES = {'Args': 'Arguments', 'Example': 'Example', 'Examples': 'Examples'}
ENTRY = re.compile(r'^(\*{0,2}[\w., ]+?(?: \([^)]*\))?):(?:\s+|$)(.*)$')
CODE = re.compile(r'(?<!`)`([^`\n]+)`(?!`)')
# What Markdown would take for a tag; code and formulas stay as they are.
TAG = re.compile(r'(`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$)|<(?=[A-Za-z/!])', re.DOTALL)
GUIDES = {
  'gdlab.comparison': 'optimizer',
  'gdlab.diagnosis': 'failures',
  'gdlab.problems.adapters': 'flax_model',
  'gdlab.problems.landscapes': 'landscape',
  'gdlab.study': 'study',
}


@functools.cache
def names() -> dict[str, Any]:
  """Every public object by its full name."""
  return public_names()


@functools.cache
def home_of() -> dict[int, str]:
  """The name under which an object is documented, by its identity."""
  return homes(names())


def resolve(word: str, module: str) -> str | None:
  """The full public name that a word in a docstring means, if it means one."""
  for candidate in (word, f'{module}.{word}', f'gdlab.{word}'):
    if candidate in names():
      return home_of().get(id(names()[candidate]), candidate)
  return None


def without_tags(text: str) -> str:
  """The same Markdown, where `<` in running text is a character."""
  return TAG.sub(lambda match: match[1] or r'\<', text)


def linked(text: str, module: str, but: frozenset[str] = frozenset()) -> str:
  """The same Markdown with a link at each public name in backticks, except those in `but`."""

  def link(match: re.Match[str]) -> str:
    code = match[1]
    word = code.partition('(')[0].strip()
    target = None if word in but else resolve(word, module)
    if target is None and word in MODULES:
      return f'{{py:mod}}`{code} <{word}>`'
    return match[0] if target is None else f'{{py:obj}}`{code} <{target}>`'

  return CODE.sub(link, text)


def sections(docstring: str) -> list[tuple[str | None, list[str]]]:
  """The parts of a docstring: plain text under None, and Google's sections, without their indentation."""
  found: list[tuple[str | None, list[str]]] = [(None, [])]
  for line in inspect.cleandoc(docstring).splitlines():
    if match := SECTION.match(line):
      found.append((match[1], []))
    elif found[-1][0] and line and not line.startswith(' '):
      found.append((None, [line]))
    else:
      found[-1][1].append(line)
  return [
    (title, textwrap.dedent('\n'.join(lines)).strip('\n').splitlines())
    for title, lines in found
    if any(lines)
  ]


def entries(lines: list[str], module: str, but: frozenset[str]) -> list[str]:
  """A section of `name: text` as a list; text without a name stays a paragraph."""
  out: list[str] = []
  for line in lines:
    match = None if line.startswith(' ') else ENTRY.match(line)
    if match:
      out.append(f'- **`{match[1]}`**: {linked(without_tags(match[2]), module, but)}')
    else:
      started = bool(out) and out[0].startswith('- ')
      body = line.strip() if started else line
      out.append(linked(('  ' if started and body else '') + without_tags(body), module, but))
  return out


def examples(lines: list[str]) -> list[str]:
  """Doctests between fences, the words between them as text."""
  out: list[str] = []
  for block in re.split(r'\n\s*\n', '\n'.join(lines)):
    doctest = block.lstrip().startswith('>>>')
    out += ['', '```pycon' if doctest else '', *block.splitlines(), '```' if doctest else '', '']
  return out


def body(docstring: str, module: str, but: frozenset[str] = frozenset()) -> list[str]:
  """A docstring as Markdown."""
  out: list[str] = []
  for title, lines in sections(docstring):
    if title is None:
      out += [linked(line, module, but) for line in fenced('\n'.join(lines)).splitlines()]
    else:
      out += ['', f'**{TITLES.get(title, title)}**', '']
      out += examples(lines) if title.startswith('Example') else entries(lines, module, but)
    out.append('')
  return out


def fenced(text: str) -> str:
  """Doctests that stand in running text get fences, too."""
  blocks = text.split('\n\n')
  return '\n\n'.join(
    f'```pycon\n{textwrap.dedent(block)}\n```' if block.lstrip().startswith('>>>') else without_tags(block)
    for block in blocks
  )


class Qualify(ast.NodeTransformer):
  """Replaces the names in annotations that mean public objects by their full names, so that they become links."""

  def __init__(self, scope: dict[str, Any]):
    self.scope = scope

  def visit_Name(self, node: ast.Name) -> ast.AST:
    home = home_of().get(id(self.scope.get(node.id)))
    return ast.parse(home, mode='eval').body if home else node

  def visit_Constant(self, node: ast.Constant) -> ast.AST:
    if isinstance(node.value, str):  # A forward reference.
      try:
        return self.visit(ast.parse(node.value, mode='eval').body)
      except SyntaxError:
        return node
    return node


def signature(function: Any, method: bool = False) -> str:
  """Arguments and annotations as they are in the source."""
  function = inspect.unwrap(function)
  tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
  assert isinstance(tree, ast.FunctionDef)
  arguments = tree.args
  if method and arguments.args and not isinstance(function, staticmethod):
    arguments.args = arguments.args[1:]
  everything = [
    *arguments.posonlyargs,
    *arguments.args,
    *arguments.kwonlyargs,
    arguments.vararg,
    arguments.kwarg,
  ]
  qualify = Qualify(inspect.unwrap(function).__globals__)
  for argument in filter(None, everything):
    bare = argument.annotation is None or ast.unparse(argument.annotation) == 'Any'
    argument.annotation = None if bare else qualify.visit(argument.annotation)
  returns = f' -> {ast.unparse(qualify.visit(tree.returns))}' if tree.returns else ''
  return f'({ast.unparse(arguments)}){returns}'


def directive(kind: str, head: str, lines: list[str], inside: bool = False) -> list[str]:
  """One object's entry, or one inside another's."""
  fence = ':' * (7 if inside else 8)
  return [f'{fence}{{py:{kind}}} {head}', '', *lines, fence, '']


def documented_function(full: str, value: Any, module: str) -> list[str]:
  """A function's entry."""
  own = frozenset({full.rpartition('.')[2], *inspect.signature(value).parameters})
  return directive(
    'function', full.rpartition('.')[2] + signature(value), body(value.__doc__ or '', module, own)
  )


def fields(value: type, tree: ast.ClassDef, source: str) -> list[str]:
  """The fields of a class as its source has them, for those whose docstring does not list them."""
  lines = source.splitlines()
  nodes = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
  if issubclass(value, enum.Enum):
    nodes = [node for node in tree.body if isinstance(node, ast.Assign)]
  found = [line for node in nodes for line in lines[node.lineno - 1 : node.end_lineno]]
  return ['```python', *textwrap.dedent('\n'.join(found)).splitlines(), '```', ''] if found else []


def methods(value: type, tree: ast.ClassDef, module: str) -> list[str]:
  """The documented public methods and properties of a class."""
  out: list[str] = []
  for node in tree.body:
    if not isinstance(node, ast.FunctionDef) or node.name.startswith('_') or not ast.get_docstring(node):
      continue
    member = inspect.getattr_static(value, node.name)
    text = body(ast.get_docstring(node) or '', module, frozenset({node.name, *map(_name, node.args.args)}))
    name = node.name
    if isinstance(member, (property, functools.cached_property)):
      out += directive('property', name, text, inside=True)
    elif isinstance(member, (staticmethod, classmethod)):
      kind = 'staticmethod' if isinstance(member, staticmethod) else 'classmethod'
      out += directive(kind, name + signature(member.__func__, kind == 'classmethod'), text, inside=True)
    else:
      out += directive('method', name + signature(member, method=True), text, inside=True)
  return out


def _name(argument: ast.arg) -> str:
  return argument.arg


def documented_class(full: str, value: type, module: str) -> list[str]:
  """A class's entry, with its fields and methods."""
  source = textwrap.dedent(inspect.getsource(value))
  tree = ast.parse(source).body[0]
  assert isinstance(tree, ast.ClassDef)
  doc = ast.get_docstring(tree) or ''
  head = full.rpartition('.')[2]
  constructor = value.__dict__.get('__init__')
  if inspect.isfunction(constructor) and constructor.__code__.co_filename == inspect.getsourcefile(value):
    head += signature(constructor, method=True).partition(' -> ')[0]
  lines = body(doc, module, frozenset({full.rpartition('.')[2]}))
  if not re.search(r'^Attributes:$', doc, re.MULTILINE):
    lines += fields(value, tree, source)
  kind = 'exception' if issubclass(value, BaseException) else 'class'
  return directive(kind, head, lines + methods(value, tree, module))


def source_of(module: str, name: str) -> str:
  """The source of the module that defines a name, which a package takes from a module of its own."""
  loaded = importlib.import_module(module)
  stub = Path(str(loaded.__file__)).with_suffix('.pyi')
  text = stub.read_text(encoding='utf-8') if stub.exists() else ''
  found = re.search(rf'^from (\.\S+) import {re.escape(name)}\b', text, re.MULTILINE)
  return inspect.getsource(importlib.import_module(found[1], module) if found else loaded)


def documented_data(full: str, value: Any, module: str) -> list[str]:
  """A constant's entry: its value, unless it is a type, and the comment above it."""
  name = full.rpartition('.')[2]
  found = re.search(
    rf'((?:^#.*\n)*)^{re.escape(name)}\b[^#\n]*(#.*)?$',
    source_of(module, name),
    re.MULTILINE,
  )
  comment = ' '.join(re.findall(r'# ?(.*)', ''.join(filter(None, found.groups())))) if found else ''
  text = repr(value)
  hidden = len(text) > 200 or text.startswith('typing.')
  return directive('data', name, [*([] if hidden else [f'`{text}`', '']), linked(comment, module)])


def page(path: str) -> str:
  """The page of one module."""
  module = importlib.import_module(path)
  lines = [f'# {path}', '', f'```{{py:module}} {path}', '```', '', *body(module.__doc__ or '', path)]
  if path in GUIDES:
    lines += [f'Step by step: {{doc}}`../howto/{GUIDES[path]}`.', '']
  groups: dict[str, list[str]] = {'Functions': [], 'Classes': [], 'Constants': []}
  for name in own_names(module):
    full, value = f'{path}.{name}', getattr(module, name)
    home = home_of().get(id(value), full)
    group = 'Classes' if inspect.isclass(value) else 'Functions' if inspect.isfunction(value) else 'Constants'
    if home != full and callable(value):
      kind = 'class' if group == 'Classes' else 'function'
      summary = (value.__doc__ or '').partition('\n')[0]
      lead = linked(without_tags(summary), path, frozenset({name}))
      groups[group] += directive(kind, name, [f'{lead} The same as {{py:obj}}`{home}`.'.strip()])
    elif group == 'Classes':
      groups[group] += documented_class(full, value, path)
    elif group == 'Functions':
      groups[group] += documented_function(full, value, path)
    else:
      groups[group] += documented_data(full, value, path)
  for title, found in groups.items():
    lines += [f'## {title}', '', *found] if found else []
  return '\n'.join(lines).rstrip() + '\n'


def write_pages(app: 'Sphinx') -> None:
  """Writes the pages into `reference/`; those that are as they were keep their time, and are not read again."""
  folder = Path(app.srcdir) / 'reference'
  folder.mkdir(exist_ok=True)
  for path in MODULES:
    file, text = folder / f'{path}.md', page(path)
    if not file.exists() or file.read_text(encoding='utf-8') != text:
      file.write_text(text, encoding='utf-8')


def setup(app: 'Sphinx') -> dict[str, bool]:
  """Writes the reference before Sphinx looks for its pages."""
  app.connect('builder-inited', write_pages)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
