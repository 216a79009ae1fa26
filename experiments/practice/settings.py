"""The configuration; configs/practice.py says what each value means."""

from typing import Annotated

import pydantic

from gdlab import study
from gdlab.study.schema import APART, Widths, check_rules

IMAGES = 1437  # of the digits, for training and validation
SHARED, FITTED = 128, 100  # examples of a batch that devices share, and of those that a network has to fit
Several = Annotated[int, pydantic.Field(ge=2, le=APART)]
Images = Annotated[int, pydantic.Field(ge=8, le=IMAGES)]


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


class _Squares(study.Config):
  sizes: Annotated[study.Sizes, pydantic.Field(min_length=2)]
  ratio: Annotated[int, pydantic.Field(ge=2, le=1000)]
  condition: Annotated[float, pydantic.Field(ge=1, le=1e6)]
  batch_size: study.Count
  multiples: study.Tried
  targets: Annotated[tuple[study.Share, ...], pydantic.Field(min_length=2, max_length=2)]
  updates: study.Count
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
  precision: _Trained
  mnist: _Mnist
  norm: _Norm
  squares: _Squares

  @property
  def some_ids(self) -> list[int]:
    """The seeds of P5 and P7, whose runs take long."""
    return self.seeds.ids[: self.some]

  @property
  def few_ids(self) -> list[int]:
    """The first seeds, where there is little chance or much to compute."""
    return self.seeds.ids[: self.few]

  @property
  def few_tuned(self) -> list[int]:
    """Those on which such things are tuned."""
    return self.seeds.for_tuning[: self.few_tuning]

  @pydantic.model_validator(mode='after')
  def _fits(self) -> 'Settings':
    few = {max(self.some, self.few): self.seeds.count, self.few_tuning: self.seeds.tuning}
    sizes = self.precision.batch_size, self.norm.batch_size, SHARED, FITTED
    check_rules(
      {
        'some, few and few_tuning should be at most seeds.count and tuning': all(
          n <= most for n, most in few.items()
        ),
        'num_train should leave num_validation images': self.num_train + self.num_validation <= IMAGES,
        'num_train should hold every batch_size and 128 images': max(sizes) <= self.num_train,
        'norm.equal should be one of its learning_rates': self.norm.equal in self.norm.learning_rates,
      }
    )
    return self
