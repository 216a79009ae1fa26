"""Random Linen models, losses, samplers and dtypes are right, or refused where that is known beforehand.

In a file of its own for each API, so that two workers share them.
"""

import pytest
from random_check import outcomes, seeds

# BatchNorm of one example is drawn on purpose.
pytestmark = pytest.mark.filterwarnings('ignore:some batches hold a single one')


@pytest.mark.parametrize('draws', seeds('linen', 0, 300), ids=lambda draws: str(draws[0]))
def test_right_or_refused(draws):
  assert {*outcomes(draws)} <= {'right', 'refused', 'blurred'}


@pytest.mark.slow
@pytest.mark.parametrize('draws', seeds('linen', 1000, 4000), ids=lambda draws: str(draws[0]))
def test_right_or_refused_at_length(draws):
  assert {*outcomes(draws)} <= {'right', 'refused', 'blurred'}
