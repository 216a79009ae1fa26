"""Thumbnails of the gallery: the first picture of each page, as its notebook drew it in this build."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
  from sphinx.application import Sphinx
  from sphinx.environment import BuildEnvironment

INDEX = 'gallery/index'


class thumbnail(nodes.General, nodes.Element):
  """Where a picture of the page `page` goes."""


class Thumbnail(SphinxDirective):
  """`{thumbnail} paths`: the first picture of gallery/paths, with the alternative text that it has there."""

  required_arguments = 1

  def run(self) -> list[nodes.Node]:
    return [thumbnail(page=f'gallery/{self.arguments[0]}')]


def place_pictures(app: 'Sphinx', doctree: nodes.document, docname: str) -> None:
  """Puts the pictures in, once all pages have run."""
  for place in list(doctree.findall(thumbnail)):
    picture = next(iter(app.env.get_doctree(place['page']).findall(nodes.image)), None)
    if picture is None or not picture.get('alt'):
      raise ExtensionError(f'{place["page"]} has no picture with an alternative text, for the gallery')
    place.replace_self(picture.deepcopy())


def index_again(app: 'Sphinx', env: 'BuildEnvironment') -> Sequence[str]:
  """The gallery's index is written again with every build, as any of its pages may have a new picture."""
  return [INDEX]


def setup(app: 'Sphinx') -> dict[str, bool]:
  """Adds the directive."""
  app.add_node(thumbnail)
  app.add_directive('thumbnail', Thumbnail)
  app.connect('doctree-resolved', place_pictures)
  app.connect('env-updated', index_again)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
