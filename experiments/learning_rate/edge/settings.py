"""The configuration of the claims on the edge of stability; configs/learning_rate.py says what each value means."""

from typing import Annotated, TypeAlias

import pydantic

from gdlab import study
from gdlab.study.schema import Width, check_rules

Points = Annotated[int, pydantic.Field(ge=4, le=1000)]
Units = Annotated[int, pydantic.Field(ge=2, le=1024)]
Momentum = Annotated[float, pydantic.Field(gt=0, lt=1)]
Images = Annotated[int, pydantic.Field(ge=16, le=1437)]  # training images of the digits
# A start: the scale of the hidden weights, and that of the last ones.
Start: TypeAlias = tuple[study.Positive, study.NotNegative]
Lengths = Annotated[tuple[study.Index, ...], pydantic.Field(min_length=2)]


class _Climb(study.Config):
  points: Points
  degree: Annotated[int, pydantic.Field(ge=1, le=20)]
  hidden: Units
  borders: study.Rising
  control: study.Positive
  momentum: Momentum
  updates: Annotated[int, pydantic.Field(ge=8, le=10**6)]
  every: study.Count
  substeps: Annotated[int, pydantic.Field(ge=2, le=1000)]


class _Model(study.Config):
  learning_rate: study.Positive
  push: study.Positive
  rise: study.Positive
  little: study.Positive
  noises: study.Rising
  updates: Annotated[int, pydantic.Field(ge=1000, multiple_of=1000, le=10**8)]


class _Batches(study.Config):
  num_seeds: Annotated[study.Count, pydantic.Field(ge=2)]
  num_train: Images
  hidden: Width
  last: study.NotNegative
  sizes: study.Sizes
  rates: study.Rising
  control: study.Positive
  updates: Annotated[int, pydantic.Field(ge=8, le=10**6)]
  every: study.Count
  draws: Annotated[int, pydantic.Field(ge=2, le=10**4)]


class _Warm(study.Config):
  num_seeds: Annotated[study.Count, pydantic.Field(ge=2)]
  num_train: Images
  hidden: Width
  sharp: Start
  flat: Start
  peaks: study.Rising
  adam_peaks: study.Rising
  lengths: Lengths
  updates: study.Count
  target: study.Positive


class Edge(study.Config):
  """The configuration; configs/learning_rate.py says what each value means."""

  climb: _Climb
  model: _Model
  batches: _Batches
  warm: _Warm

  @pydantic.model_validator(mode='after')
  def _fits(self) -> 'Edge':
    climb, batches, warm = self.climb, self.batches, self.warm
    check_rules(
      {
        'climb.control should be above climb.borders': climb.control > climb.borders[-1],
        'climb.every should divide climb.updates': climb.updates % climb.every == 0,
        'batches.control should be below batches.rates': batches.control < batches.rates[0],
        'batches.rates should be as many as batches.sizes': len(batches.rates) == len(batches.sizes),
        'batches.sizes should be at most half of batches.num_train': 2 * batches.sizes[-1]
        <= batches.num_train,
        'batches.every should divide batches.updates': batches.updates % batches.every == 0,
        'warm.lengths should ascend from 0': warm.lengths[0] == 0
        and list(warm.lengths) == sorted(set(warm.lengths)),
        'warm.lengths should end before warm.updates': warm.lengths[-1] < warm.updates,
      }
    )
    return self
