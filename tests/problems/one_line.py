"""That something is refused, in one line."""

import pytest

import gdlab


def refused(match, make, *args, **options):
  """That making the problem is refused in one line, which is returned."""
  with pytest.raises(gdlab.InputError, match=match) as caught:
    make(*args, **options)
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 700
  return str(caught.value)
