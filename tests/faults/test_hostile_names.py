"""Names that would be commands to a browser, in every place of a page that can have one: they stay text."""

import html.parser
import os
import pathlib
import re
import subprocess
import sys

import optax
import pytest

import gdlab
from gdlab import claims, plots, report
from gdlab.statistics import Interval

OWN = pathlib.Path(__file__).resolve().parents[1] / 'study' / 'own_study.py'
HARMLESS = {
  *(
    'html',
    'head',
    'meta',
    'title',
    'style',
    'body',
    'h1',
    'h2',
    'p',
    'nav',
    'a',
    'span',
    'section',
    'figure',
  ),
  *('figcaption', 'div', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'strong', 'code', 'pre', 'br'),
  *(
    'svg',
    'defs',
    'g',
    'path',
    'use',
    'text',
    'tspan',
    'clippath',
    'rect',
    'image',
    'metadata',
    'rdf:rdf',
    'cc:work',
  ),
  *('dc:type', 'dc:format', 'dc:creator', 'cc:agent', 'dc:title', 'lineargradient', 'stop'),
}
HOSTILE = (
  '<script>alert(1)</script>',
  '" onload="alert(1)" x="',
  "' onerror='alert(1)",
  '</svg><img src=x onerror=alert(1)>',
  '--><script>alert(1)</script><!--',
  ']]><script>alert(1)</script>',
  '</title></style><script>alert(1)</script>',
  '{{ 7 * 7 }}{% raw %}alert(1)',
  '&lt;script&gt;alert(1)',
  '$\\frac{alert(1)$',
)


class Page(html.parser.HTMLParser):
  """What a browser would make of a page: elements, attributes and text."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.attributes, self.words = set(), [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attributes):
    self.elements.add(tag)
    self.attributes += attributes

  def handle_data(self, data):
    self.words.append(data)


def assert_harmless(text: str) -> Page:
  page = Page(text)
  assert page.elements - HARMLESS == set()
  # Of elements that run or load: handlers, and links that lead out of the page.
  assert [name for name, _ in page.attributes if name.startswith('on') or name in ('srcdoc', 'action')] == []
  for name, value in page.attributes:
    if name in ('href', 'src', 'xlink:href'):
      assert value.startswith(('#', 'data:image/png;base64,')), value
  assert '49' not in re.findall(r'\d+', ''.join(word for word in page.words if 'alert' in word))
  return page


@pytest.mark.parametrize('name', HOSTILE)
def test_every_place_of_a_page(name):
  claim = claims.Claim(name, name, {name: claims.greater_than(1)})
  finding = claims.grade(claim, {name: Interval(2, 1.5, 2.5, 0.95, 8, 0)}, num_seeds=8, conditions=name)
  picture = drawn(name)
  table = report.Table((name,), [(name,)])
  text = report.page(
    name,
    lead=[name],
    sections=[report.Section(name, (name,), picture, name, table)],
    findings=[finding],
    again=[[finding]],
    facts=table,
    command=name,
  )
  page = assert_harmless(text)
  # It is there to be read, as it was given.
  places = sum(name in ' '.join(word.split()) or name in word for word in page.words)
  assert places >= 8
  print(f'places of the name as text: {places}')


def drawn(name: str) -> str:
  """A picture with the name wherever one can be, as `gdlab.plots` draws it."""
  with plots.panels(1, width=12, height=8) as (figure, (axes,)):
    axes.plot([0, 1], [0, 1], label=name)
    axes.set(title=name, xlabel=name, ylabel=name)
    axes.set_yticks([0, 1], [name, 'b'])
    axes.text(0, 0, name)
    axes.legend()
  return plots.to_svg(figure)


def test_a_page_that_runs_something_would_be_found():
  for text in ('<p><script>', '<svg onload="x">', '<a href="javascript:x">', '<p>a <img src=x>'):
    with pytest.raises(AssertionError):
      assert_harmless(text)


@pytest.mark.faults
def test_the_page_of_a_comparison(tmp_path):
  problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.1, num_examples=16)

  def make(learning_rate):
    return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.sgd(learning_rate))

  arms = {name: gdlab.Arm(make, {'learning_rate': [0.03, 0.1]}) for name in HOSTILE}
  answer = gdlab.compare(
    {HOSTILE[0]: problem},
    arms,
    baseline=HOSTILE[0],
    budgets={'updates': 20},
    margin=0.01,
    seeds=3,
    tuning_seeds=2,
  )
  answer.report(tmp_path / 'report.html', title=HOSTILE[0])
  page = assert_harmless((tmp_path / 'report.html').read_text(encoding='utf-8'))
  words = ' '.join(page.words)
  assert [name for name in HOSTILE if name not in words] == []
  print(f'hostile arms on the page: {len(HOSTILE)}')


@pytest.mark.faults
def test_the_page_of_a_study(tmp_path):
  """A user's study, with such a name for its title, its question, an arm, a claim and a section."""
  source = OWN.read_text(encoding='utf-8')
  for old in (
    "'Momentum on the digits'",
    "'Does momentum need",
    "'heavy'",
    "'Momentum reaches",
    "'Both arms'",
  ):
    assert old in source
    source = source.replace(old, f"'{HOSTILE[0]}{old[1:]}" if old[-1] != "'" else repr(HOSTILE[0]))
  script = tmp_path / 'hostile_study.py'
  script.write_text(source, encoding='utf-8')
  done = subprocess.run(
    [sys.executable, script, f'--workdir={tmp_path / "work"}', '--repeat=0'],
    env=os.environ | {'JAX_NUM_CPU_DEVICES': '2'},
    check=False,
    capture_output=True,
    text=True,
    timeout=400,
  )
  assert done.returncode == 0, done.stderr
  page = assert_harmless((tmp_path / 'work' / 'report.html').read_text(encoding='utf-8'))
  assert sum(HOSTILE[0] in word for word in page.words) >= 5
  # Nor does a name lead out of the folder.
  written = [path for path in tmp_path.rglob('*') if path.suffix == '.nc']
  assert written
  assert {path.parent for path in written} == {tmp_path / 'work' / 'results'}
