"""Sphinx's configuration for gdlab's site: `make docs`."""

import ast
import hashlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / 'extensions'), str(ROOT)]

import gdlab  # noqa: E402

project = 'gdlab'
author = 'The gdlab authors'
copyright = author
version = release = gdlab.__version__

extensions = ['myst_nb', 'sphinx_copybutton', 'sphinx_design', 'mathml', 'reference', 'thumbnails', 'ledger']
exclude_patterns = ['_build']
suppress_warnings = [
  'myst.header',  # included pages begin below the first level
  'myst-nb.lexer',  # of a build without kernels, -D nb_execution_mode=off
]

myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'deflist', 'attrs_inline']
myst_heading_anchors = 3
smartquotes = False
html_math_renderer = 'mathml'

# Every link inside must lead somewhere. Types of other packages have no page here.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!gdlab\.).*')]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
add_module_names = False
toc_object_entries_show_parents = 'hide'


def code_of(folder: Path) -> str:
  """A digest of the package's code without its docstrings: what the notebooks' results depend on."""
  digest = hashlib.sha256()
  for path in sorted(folder.rglob('*.py')):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
      if (
        isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None
      ):
        node.body = node.body[1:]
    digest.update(ast.dump(tree).encode())
  return digest.hexdigest()[:16]


# A notebook is run again only where its code or gdlab's has changed, or its images: one takes MNIST where it is.
images = '-mnist' if os.environ.get('GDLAB_DATA') else ''
nb_execution_mode = 'cache'
nb_execution_cache_path = str(HERE / '_build' / 'notebooks' / (code_of(ROOT / 'gdlab') + images))
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

# What the notebooks' kernels find: figures as SVG, and compiled programs of earlier builds. Below errors a kernel only
# says that it is reached over TCP, which is so wherever the notebook's client chooses the transport.
KERNEL = """c = get_config()
c.IPKernelApp.log_level = 'ERROR'
c.InlineBackend.figure_formats = {'svg'}
c.IPKernelApp.matplotlib = 'inline'
c.HistoryManager.enabled = False
"""
profile = HERE / '_build' / 'ipython' / 'profile_default'
profile.mkdir(parents=True, exist_ok=True)
(profile / 'ipython_kernel_config.py').write_text(KERNEL, encoding='utf-8')
os.environ['IPYTHONDIR'] = str(profile.parent)
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(HERE / '_build' / 'jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

html_theme = 'furo'
html_title = 'gdlab'
html_static_path = ['_static']
html_css_files = ['site.css']
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True
copybutton_exclude = '.linenos, .gp, .go'
