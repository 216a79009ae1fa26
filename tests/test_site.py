"""The site: every public name is on the reference, formulas render, and the code of its pages runs."""

import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import gdlab

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
INSIDE = {'gdlab.core'}  # its public names are those of `gdlab`
HEAD = re.compile(r'^:{8}\{py:(?:function|class|exception|data)\} (\w+)', re.MULTILINE)


@pytest.fixture(scope='module')
def reference():
  """The extension that writes the reference."""
  sys.path.insert(0, str(DOCS / 'extensions'))
  try:
    yield importlib.import_module('reference')
  finally:
    sys.path.remove(str(DOCS / 'extensions'))


def stub_names(package: Path) -> set[str]:
  """What a package's stub makes public; modules are left out."""
  lines = (package / '__init__.pyi').read_text(encoding='utf-8').splitlines()
  return {line.split()[-1] for line in lines if re.match(r'from \.\S+ import', line)}


def test_every_public_name_is_on_the_reference(reference):
  package = Path(gdlab.__file__).parent
  listed = {path: set(HEAD.findall(reference.page(path))) for path in reference.MODULES}
  for path in package.rglob('__init__.pyi'):
    name = '.'.join(['gdlab', *path.parent.relative_to(package).parts])
    assert stub_names(path.parent) <= listed[name], name
  for name in gdlab.__all__:
    if isinstance(getattr(gdlab, name), type(gdlab)):
      assert f'gdlab.{name}' in listed or f'gdlab.{name}' in INSIDE
    else:
      assert name in listed['gdlab']


def test_docstrings_become_markdown(reference):
  text = reference.page('gdlab.schedules')
  assert r'$$\eta \to \sqrt\kappa\,\eta' in text
  assert '| {py:obj}`robbins_monro(initial, exponent, offset) <gdlab.schedules.robbins_monro>` |' in text
  assert '- **`peak`**' in text
  assert '```pycon\n>>> scaled = adam_scaling(1e-3' in text
  assert 'py:function} cosine(initial, num_steps, final=0.0)' in text


def test_tags_are_characters_and_types_have_words(reference):
  text = 'an <svg> in `<b>` where $a <b$'
  assert reference.without_tags(text) == r'an \<svg> in `<b>` where $a <b$'
  study = reference.page('gdlab.study')
  assert 'typing.Annotated' not in study
  assert '{py:data} Counts\n\nCounts, at least one.' in study
  assert '{doc}`../howto/study`' in study


def test_every_formula_renders(reference):
  pytest.importorskip('sphinx')
  to_mathml = importlib.import_module('mathml').to_mathml
  pages = [reference.page(path) for path in reference.MODULES]
  pages += [path.read_text(encoding='utf-8') for path in DOCS.rglob('*.md') if '_build' not in path.parts]
  formulas = [
    (match[1] or match[2], bool(match[1]))
    for page in pages
    for match in re.finditer(r'\$\$(.+?)\$\$|(?<![\\$`])\$([^$\n]+?)\$', page, re.DOTALL)
  ]
  assert len(formulas) > 500
  for formula, block in formulas:
    assert to_mathml(formula, block).startswith('<math'), formula


def test_every_page_of_the_gallery_has_a_card_with_a_picture_in_words():
  index = (DOCS / 'gallery' / 'index.md').read_text(encoding='utf-8')
  pages = {path.stem: path.read_text(encoding='utf-8') for path in (DOCS / 'gallery').glob('*.md')}
  del pages['index']
  assert len(pages) >= 10
  for name, text in pages.items():
    assert f'\n{name}\n' in index  # in the table of contents
    assert f':link: {name}\n' in index
    assert f'```{{thumbnail}} {name}\n' in index
    assert re.search(r'^  image:\n    alt: ', text, re.MULTILINE), name


def test_a_thumbnail_is_the_first_picture_of_its_page_with_its_words(reference):
  pytest.importorskip('sphinx')
  from docutils import nodes, utils
  from sphinx.errors import ExtensionError

  thumbnails = importlib.import_module('thumbnails')
  page, index = utils.new_document('paths'), utils.new_document('index')
  page += [nodes.image(uri='one.svg', alt='Three paths.'), nodes.image(uri='two.svg')]
  app = SimpleNamespace(env=SimpleNamespace(get_doctree={'gallery/paths': page}.__getitem__))
  index += thumbnails.thumbnail(page='gallery/paths')
  thumbnails.place_pictures(app, index, 'gallery/index')
  (found,) = index.findall(nodes.image)
  assert (found['uri'], found['alt']) == ('one.svg', 'Three paths.')
  page.pop(0)
  index += thumbnails.thumbnail(page='gallery/paths')
  with pytest.raises(ExtensionError, match='no picture with an alternative text'):
    thumbnails.place_pictures(app, index, 'gallery/index')


QUICK = tuple(
  f'docs/howto/{page}.md'
  for page in ('known_answers', 'long_runs', 'migrating', 'study', 'sweeps', 'trackers')
)
WITHOUT_CODE = ('docs/gallery/index.md', 'docs/howto/run_studies.md')
PAGES = (
  'docs/start.md',
  *(
    f'docs/{path.relative_to(DOCS)}'
    for part in ('howto', 'gallery')
    for path in sorted((DOCS / part).glob('*.md'))
  ),
)
# Options of a cell stand between two lines of dashes.
CODE = re.compile(
  r'^```(?:python|\{code-cell\}[^\n]*)\n(?:---\n.*?^---\n)?(.*?)^```$', re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize('name', ['README.md', *PAGES])
def test_no_line_of_code_is_cut_off(name):
  """A column of the site has room for 88 characters of code."""
  text = (ROOT / name).read_text(encoding='utf-8')
  assert [line for match in CODE.finditer(text) for line in match[1].splitlines() if len(line) > 88] == []


def run_page(name, folder, monkeypatch):
  """Runs the code of a page from top to bottom in one namespace, as its reader would."""
  matplotlib = pytest.importorskip('matplotlib')
  matplotlib.use('Agg')
  monkeypatch.setattr('matplotlib.pyplot.show', lambda: None)
  monkeypatch.chdir(folder)
  text = (ROOT / name).read_text(encoding='utf-8')
  blocks = ['\n' * text.count('\n', 0, match.start(1)) + match[1] for match in CODE.finditer(text)]
  namespace = {'__name__': 'page'}
  for block in blocks:
    exec(compile(block, name, 'exec'), namespace)
  return blocks


@pytest.mark.parametrize('name', QUICK)
def test_the_code_of_a_page_runs(name, tmp_path, monkeypatch):
  if name.endswith('trackers.md'):
    pytest.importorskip('tensorboardX')
  assert run_page(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('name', [page for page in PAGES if page not in (*QUICK, *WITHOUT_CODE)])
def test_the_code_of_a_notebook_runs(name, tmp_path, monkeypatch):
  pytest.importorskip('IPython')
  monkeypatch.delenv('GDLAB_DATA', raising=False)
  assert run_page(name, tmp_path, monkeypatch)
