"""Learning rate: the configuration, and the study that `edge` and `rates` register their claims with."""

from experiments.learning_rate.edge.settings import Edge
from experiments.learning_rate.rates.settings import Rates
from gdlab import study


class Settings(study.Config):
  """Default values are in configs/learning_rate.py."""

  seeds: study.Seeds
  edge: Edge  # L2, L12, L13, L15: borders of stability that training itself moves to
  rates: Rates  # the other claims


steps = study.Study(
  Settings,
  title='Learning rate: how large, and how it should change',
  question='A rate too large diverges and one too small stalls. Teachers say where the border is, that a rate should '
  'rise at first and fall later, how it goes with the batch size, and that it can be chosen without knowing the '
  'horizon. Is it so?',
  conditions='rates and schedules are the best of those tried, on seeds of their own',
  module='experiments.learning_rate',
)
