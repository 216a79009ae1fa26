"""The configuration; configs/practice.py says what each value means."""

from typing import Annotated

import pydantic

from gdlab import study
from gdlab.study.schema import APART, Widths, check_rules

IMAGES = 1437  # of the digits, for training and validation
Several = Annotated[int, pydantic.Field(ge=2, le=APART)]
Images = Annotated[int, pydantic.Field(ge=8, le=IMAGES)]
# Below these the terms that P1's law leaves out are more than its tolerance.
Broad = Annotated[
  tuple[Annotated[int, pydantic.Field(ge=64, le=8192)], ...],
  pydantic.Field(min_length=1),
  pydantic.AfterValidator(study.ascending),
]


class _Counts(study.Config):
  widths: Broad
  depths: study.Sizes
  batch_sizes: Broad
  channels: Widths
  layers: Widths


class _Trained(study.Config):
  hidden: Widths
  batch_size: Images
  learning_rates: study.Tried
  num_updates: study.Count


class _Mnist(_Trained):
  asked: bool
  momentum: study.Share
  records: study.Count
  num_validation: Annotated[int, pydantic.Field(ge=1, le=30_000)]


class _Norm(_Trained):
  equal: study.Positive
  records: study.Count
  steps: study.Tried


class _Shards(study.Config):
  hidden: Widths
  batch_size: Annotated[int, pydantic.Field(ge=8, le=IMAGES, multiple_of=8)]


class _Checks(study.Config):
  hidden: Widths
  num_examples: Images
  directions: study.Count
  num_steps: Annotated[int, pydantic.Field(ge=10, le=100_000)]


class _Penalties(study.Config):
  l1: study.Positive
  l2: study.Positive
  learning_rate: study.Share
  num_updates: study.Count


class _Squares(study.Config):
  sizes: Annotated[study.Sizes, pydantic.Field(min_length=2)]
  ratio: Annotated[int, pydantic.Field(ge=2, le=1000)]
  condition: Annotated[float, pydantic.Field(ge=1, le=1e6)]
  batch_size: study.Count
  multiples: study.Tried
  targets: Annotated[tuple[study.Share, ...], pydantic.Field(min_length=2, max_length=2)]
  epochs: study.Count
  iterations: study.Count
  rounds: study.Count


class Settings(study.Config):
  """The configuration; configs/practice.py says what each value means."""

  seeds: study.Seeds
  some: Several
  few: Several
  few_tuning: study.Count
  num_train: Images
  num_validation: Images
  counts: _Counts
  precision: _Trained
  shards: _Shards
  checks: _Checks
  mnist: _Mnist
  norm: _Norm
  penalties: _Penalties
  squares: _Squares

  @property
  def few_ids(self) -> list[int]:
    """The first seeds, where there is little chance or much to compute."""
    return self.seeds.ids[: self.few]

  @property
  def few_tuned(self) -> list[int]:
    """Those on which such things are tuned."""
    return self.seeds.for_tuning[: self.few_tuning]

  @property
  def some_ids(self) -> list[int]:
    """More of them."""
    return self.seeds.ids[: self.some]

  @pydantic.model_validator(mode='after')
  def _fits(self) -> 'Settings':
    mnist, norm, images = self.mnist, self.norm, self.num_train
    sizes = (self.precision.batch_size, self.shards.batch_size, norm.batch_size, self.checks.num_examples)
    check_rules(
      {
        'some and few should be at most seeds.count': max(self.some, self.few) <= self.seeds.count,
        'few_tuning should be at most seeds.tuning': self.few_tuning <= self.seeds.tuning,
        'num_train should leave num_validation images': images + self.num_validation <= IMAGES,
        'num_train should hold every batch_size and checks.num_examples': max(sizes) <= images,
        'norm.equal should be one of norm.learning_rates': norm.equal in norm.learning_rates,
        'mnist.records should be at most mnist.num_updates': mnist.records <= mnist.num_updates,
        'norm.records should be at most norm.num_updates': norm.records <= norm.num_updates,
        'squares.batch_size should be at most the fewest rows': self.squares.batch_size
        <= self.squares.sizes[0] * self.squares.ratio,
      }
    )
    return self
