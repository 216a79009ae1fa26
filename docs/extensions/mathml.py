"""Formulas as MathML, written while the site is built: the pages need no script, no font and no network."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

# What docutils does not know and MathML does not need: operators stretch by themselves there.
SIZES = re.compile(r'\\(?:big|Big|bigg|Bigg)[lrm]?(?![a-zA-Z])|\\(?:textstyle|displaystyle)(?![a-zA-Z])')
FRACTION = re.compile(r'\\([td]?frac)\s*(\d)\s*(\d)')


def to_mathml(formula: str, block: bool) -> str:
  """One formula in LaTeX as a `<math>` element."""
  formula = SIZES.sub('', formula).replace(r'\dots', r'\ldots').replace(r'\ldotsc', r'\ldots')
  formula = FRACTION.sub(r'\\\1{\2}{\3}', formula).strip()
  if block and r'\\' in formula and r'\begin{' not in formula:
    formula = rf'\begin{{aligned}}{formula}\end{{aligned}}'
  return tex2mathml(formula, as_block=block)


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
  """A formula in a line."""
  translator.body.append(to_mathml(node.astext(), block=False))
  raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
  """A formula by itself, which scrolls where it is wider than the page."""
  translator.body.append(f'<div class="formula">{to_mathml(node.astext(), block=True)}</div>')
  raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
  """Makes `html_math_renderer = 'mathml'` available."""
  app.add_html_math_renderer('mathml', (visit_inline, None), (visit_block, None))
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
