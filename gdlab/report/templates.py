"""The set-up of Jinja for pages."""

import jinja2


def environment(package: str) -> jinja2.Environment:
  """The templates in a package's folder: values are escaped, and a name that is not given is an error."""
  found = jinja2.Environment(
    loader=jinja2.PackageLoader(package, '.'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  found.filters['style'] = lambda verdict: str(verdict).replace(' ', '-')
  return found
