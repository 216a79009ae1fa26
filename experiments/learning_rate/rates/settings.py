"""The configuration of the claims on rates and schedules; configs/learning_rate.py says what each value means."""

from typing import Annotated, Literal

import pydantic

from gdlab import study
from gdlab.study.schema import Width, Widths, ascending, check_rules, different

Even = Annotated[int, pydantic.Field(ge=32, multiple_of=32, le=10**6)]
Momentum = Annotated[float, pydantic.Field(ge=0, lt=1)]


class _Quadratics(study.Config):
  num_seeds: study.Count
  dimension: Annotated[int, pydantic.Field(ge=2, le=100)]
  conditions: Annotated[
    tuple[Annotated[int, pydantic.Field(ge=2, le=1000)], ...], pydantic.AfterValidator(ascending)
  ]
  momenta: Annotated[tuple[Momentum, ...], pydantic.Field(min_length=1)]
  updates: Annotated[int, pydantic.Field(ge=16, le=10**6)]


class _Decays(study.Config):
  num_seeds: study.Count
  exponents: Annotated[tuple[study.NotNegative, ...], pydantic.AfterValidator(different)]
  updates: Even
  first_rate: study.Positive
  offset: study.Positive


class _Schedules(study.Config):
  dataset: Literal['digits', 'mnist']
  num_train: study.Count
  num_validation: study.Count
  label_noise: study.Share
  hidden: Widths
  batch_size: study.Count
  updates: Even
  evaluations: study.Count
  patience: study.Count
  regression_rates: study.Rising
  logistic_rates: study.Rising
  network_rates: study.Rising
  prodigy_rates: study.Rising


class _WarmUp(study.Config):
  hidden: Widths
  momentum: Momentum
  batch_size: study.Count
  updates: study.Count
  shares: Annotated[tuple[study.NotNegative, ...], pydantic.AfterValidator(different)]
  trained: study.Positive
  sgd_peaks: study.Rising
  adam_peaks: study.Rising


class _Transfer(study.Config):
  hidden: Width
  wide: Width
  scale: study.Positive
  batch_size: study.Count
  large_batch: study.Count
  epochs: study.Count
  full_updates: study.Count
  learning_rates: study.Rising


class _Batches(study.Config):
  hidden: Widths
  batch_sizes: Annotated[study.Sizes, pydantic.Field(min_length=4)]
  sgd_rates: study.Rising
  adam_rates: study.Rising
  target: study.Positive
  budget_updates: study.Count
  budget_examples: study.Count
  records: study.Count


class Rates(study.Config):
  """What the claims on rates are measured with."""

  num_seeds: Annotated[study.Count, pydantic.Field(ge=2)]
  num_tuning: study.Count
  quadratics: _Quadratics  # L1, L11: exact borders, exact line search
  decays: _Decays  # L5
  schedules: _Schedules  # L3, L6, L10, L14
  warm_up: _WarmUp  # L4
  transfer: _Transfer  # L7, and L1 on a network
  batches: _Batches  # L8, L9

  @pydantic.model_validator(mode='after')
  def _fits(self) -> 'Rates':
    exact, batches, options = self.quadratics, self.batches, self.schedules
    rates = [getattr(options, f'{name}_rates') for name in ('regression', 'logistic', 'network', 'prodigy')]
    images = 1437 if options.dataset == 'digits' else 60_000
    check_rules(
      {
        f'schedules.num_train and num_validation should be {images} together at most': options.num_train
        + options.num_validation
        <= images,
        'schedules.batch_size should be at most schedules.num_train': options.batch_size <= options.num_train,
        'schedules.evaluations should be at most schedules.updates': options.evaluations <= options.updates,
        'quadratics.conditions should hold 10 and 100, of L11': {10, 100} <= {*exact.conditions},
        'quadratics.momenta should hold 0.5 and 0.9, of L1': {0.5, 0.9} <= {*exact.momenta},
        'decays.exponents should hold 0, 0.6, 1 and 2, of L5': {0.0, 0.6, 1.0, 2.0}
        <= {*self.decays.exponents},
        'decays.first_rate should be below 0.2, where regression is stable': self.decays.first_rate < 0.2,
        'schedules.*_rates should be equally many': len({*map(len, rates)}) == 1,
        'warm_up.shares should hold 0, 0.05 and 0.1, of L4': {0.0, 0.05, 0.1} <= {*self.warm_up.shares},
        'batches.batch_sizes should begin with 4, end with 1024 and hold 16, of L9': batches.batch_sizes[0]
        == 4
        and batches.batch_sizes[-1] == 1024
        and 16 in batches.batch_sizes,
      }
    )
    return self
