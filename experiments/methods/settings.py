"""The configuration; configs/methods.py says what each value means."""

from typing import Annotated, Literal

import pydantic

from gdlab import study
from gdlab.core.errors import InputError, check_count
from gdlab.study.schema import Count, Positive, Width, Widths, ascending

CLAIMS = Literal['M1', 'M2', 'M3', 'M4', 'M5', 'M6', 'M7', 'M8', 'M9', 'M10', 'M11', 'M12', 'M13', 'M14']
Several = Annotated[Count, pydantic.Field(ge=2)]
Even = Annotated[Width, pydantic.Field(multiple_of=2)]
Rates = Annotated[tuple[Positive, ...], pydantic.Field(min_length=3), pydantic.AfterValidator(ascending)]


class _Race(study.Config):
  plain: Rates
  momentum: Rates
  adagrad: Rates
  adam: Rates
  sign: Rates
  matrix: Rates
  train: Count
  validation: Count
  test: Count
  batch_size: Count
  updates: Count
  text_train: Count
  text_held_out: Count
  text_batch_size: Count
  text_updates: Count
  evaluations: Several
  hidden: Widths
  features: Widths
  width: Even
  context: Count


class _Quadratic(study.Config):
  conditions: study.Rising
  dimension: Several
  tolerance: study.Share


class _Valleys(study.Config):
  tilt: Annotated[float, pydantic.Field(gt=0, lt=1.5)]
  rate: Positive
  num_starts: Several
  updates: Count


class _Overfit(study.Config):
  examples: Annotated[Count, pydantic.Field(le=1000)]
  updates: Count
  target: Positive


class _Order(study.Config):
  draws: Several
  rates: Rates
  sweeps: Count


class _Explosion(study.Config):
  gain: Positive
  width: Width
  rates: Rates
  updates: Count


class _Classes(study.Config):
  count: Annotated[Count, pydantic.Field(ge=3)]
  loss: Positive
  flow_rate: Positive
  sign_rate: Positive
  words: Annotated[Count, pydantic.Field(ge=3)]
  pairs: Count
  plain: Rates
  network: Rates
  adam: Rates
  updates: Count


class _Border(study.Config):
  hidden: Width
  rate: Positive
  b2: study.Share
  updates: Annotated[Count, pydantic.Field(ge=10)]


class _Small(study.Config):
  examples: Annotated[Count, pydantic.Field(le=1200)]
  epochs: Count
  batch_sizes: Annotated[study.Sizes, pydantic.Field(min_length=3, max_length=3)]
  b2: study.Share
  learning_rates: Rates


class Settings(study.Config):
  """The configuration; configs/methods.py says what each value means."""

  claims: Annotated[tuple[CLAIMS, ...], pydantic.Field(min_length=1)]
  images: Literal['digits', 'mnist']
  text: Literal['excerpt', 'shakespeare']
  seeds: study.Seeds
  race: _Race
  quadratic: _Quadratic
  valleys: _Valleys
  overfit: _Overfit
  order: _Order
  explosion: _Explosion
  classes: _Classes
  border: _Border
  small: _Small

  @classmethod
  def checked(cls, values):
    """The configuration of these values, which no field alone can refuse either."""
    config = super().checked(values)
    race, small = config.race, config.small
    grids = [race.plain, race.momentum, race.adagrad, race.adam, race.sign, race.matrix]
    if len({len(rates) for rates in grids}) > 1:
      raise InputError(f'race must have as many rates for every arm, got {[len(rates) for rates in grids]}')
    tried = [len(rates) for rates in (config.classes.plain, config.classes.network, config.classes.adam)]
    if len(set(tried)) > 1:
      raise InputError(f'classes must have as many rates for every arm, got {tried}')
    if 1e-3 not in race.adam:
      raise InputError(f"race.adam must hold Adam's default rate 0.001, got {race.adam}")
    images, tests = {'digits': (1437, 360), 'mnist': (60_000, 10_000)}[config.images]
    check_count('race.train plus race.validation', race.train + race.validation, maximum=images)
    check_count(
      'overfit.examples plus race.validation', config.overfit.examples + race.validation, maximum=images
    )
    check_count('race.test', race.test, maximum=tests)
    check_count('race.batch_size', race.batch_size, maximum=min(race.train, config.overfit.examples))
    check_count('race.text_batch_size', race.text_batch_size, maximum=race.text_train)
    check_count('small.examples', small.examples, minimum=small.batch_sizes[-1])
    return config
