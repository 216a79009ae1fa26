"""The configuration; configs/batch_size.py says what each value means."""

from typing import Annotated, Literal

import pydantic

from gdlab import study
from gdlab.core.errors import InputError, check_count
from gdlab.study.schema import APART, Widths, different

IMAGES = {'digits': 1437, 'mnist': 60_000}  # for training and validation
CLAIMS = Literal['G1', 'G2', 'G3', 'G4', 'G5', 'G6', 'G7', 'G8', 'G9']
Momenta = Annotated[
  tuple[Annotated[float, pydantic.Field(ge=0, lt=1)], ...],
  pydantic.Field(min_length=1),
  pydantic.AfterValidator(different),
]


class _Arms(study.Config):
  num_seeds: study.Count
  learning_rates: study.Tried
  momenta: Momenta
  epochs: study.Count


class _CNN(_Arms):
  features: Widths
  updates: study.Count


class _Norm(_Arms):
  ghost: study.Count


class _Target(study.Config):
  clean: study.Positive
  noisy: study.Positive
  cnn: study.Positive


class _Sharpness(study.Config):
  batch_sizes: Annotated[study.Sizes, pydantic.Field(min_length=2)]
  settings: Annotated[tuple[tuple[float, float], ...], pydantic.Field(min_length=2)]
  num_seeds: study.Count
  updates: study.Count
  eval_every: study.Count
  cooling_rate: study.Positive
  cooling_updates: study.Count
  cooling_limit: study.Count
  epsilon: study.Positive
  probes: study.Count


class _Steps(study.Config):
  batch_sizes: Annotated[study.Sizes, pydantic.Field(min_length=4)]
  learning_rates: study.Tried
  losses: Annotated[tuple[study.Positive, ...], pydantic.Field(min_length=3, max_length=3)]
  budget_updates: study.Count
  budget_examples: study.Count
  records: study.Count
  num_seeds: study.Count


class _Growth(study.Config):
  batch_size: study.Count
  factor: Annotated[study.Count, pydantic.Field(ge=2)]
  epochs: Annotated[study.Sizes, pydantic.Field(min_length=3, max_length=3)]
  learning_rates: study.Tried


class _Ramp(study.Config):
  adam: study.Tried
  normalised: study.Tried
  num_seeds: study.Count


class Settings(study.Config):
  """The configuration; configs/batch_size.py says what each value means."""

  claims: Annotated[tuple[CLAIMS, ...], pydantic.Field(min_length=1)]
  dataset: Literal['digits', 'mnist']
  hidden: Widths
  num_train: Annotated[study.Count, pydantic.Field(ge=2)]
  num_validation: study.Count
  label_noise: study.Share
  seeds: study.Seeds
  small_batch: Annotated[int, pydantic.Field(ge=32, le=128)]  # as the claims have it
  large_batch: study.Count
  learning_rates: study.Tried
  momenta: Momenta
  epochs: study.Count
  updates: study.Count
  evaluations: study.Count
  lanes_per_block: study.Index
  target: _Target
  cnn: _CNN
  norm: _Norm
  sharpness: _Sharpness
  steps: _Steps
  growth: _Growth
  ramp: _Ramp

  @classmethod
  def checked(cls, values):
    """The configuration of these values, which no field alone can refuse either."""
    config = super().checked(values)
    full, growth, sharp, steps = config.num_train, config.growth, config.sharpness, config.steps
    check_count('num_train plus num_validation', full + config.num_validation, maximum=IMAGES[config.dataset])
    check_count('sharpness.eval_every', sharp.eval_every, maximum=sharp.updates)
    for name, sizes in (('sharpness', sharp.batch_sizes), ('steps', steps.batch_sizes)):
      if sizes[-1] > full:
        raise InputError(f'{name}.batch_sizes must be at most num_train ({full}), got {sizes}')
    if missing := {config.small_batch, config.large_batch} - {*sharp.batch_sizes}:
      raise InputError(f'sharpness.batch_sizes must hold {min(missing)}, got {sharp.batch_sizes}')
    for name in ('cnn', 'norm', 'sharpness', 'steps', 'ramp'):
      # Seeds of a repeat begin so much later.
      check_count(f'{name}.num_seeds', getattr(config, name).num_seeds, minimum=2, maximum=APART)
    check_count('large_batch', config.large_batch, minimum=config.small_batch + 1, maximum=full)
    check_count('norm.ghost', config.norm.ghost, maximum=config.large_batch)
    check_count('sharpness.cooling_limit', sharp.cooling_limit, minimum=sharp.cooling_updates)
    tried = {(rate, momentum) for rate in config.learning_rates for momentum in config.momenta}
    if set(sharp.settings) - tried or len(set(sharp.settings)) < len(sharp.settings):
      allowed = 'different pairs of one of learning_rates and one of momenta'
      raise InputError(f'sharpness.settings must be {allowed}, got {sharp.settings}')
    if list(steps.losses) != sorted(set(steps.losses), reverse=True):
      raise InputError(f'steps.losses must decrease, got {steps.losses}')
    last = growth.batch_size * growth.factor**2
    check_count('growth.batch_size times growth.factor squared', last, maximum=full)
    return config
