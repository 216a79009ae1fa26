"""What a configuration of the benchmark must be, refused before anything is measured."""

from typing import Annotated, Literal

import pydantic

from gdlab.study import Config, Count, Counts, Positive
from gdlab.study.schema import Widths, check_rules, different

NUM_DIGITS, NUM_MNIST = 1437, 60_000  # training images
BatchSizes = Annotated[Counts, pydantic.AfterValidator(different)]
Part = Literal['mlp', 'samplers', 'cnn', 'users_cnn', 'lanes', 'memory', 'saves']
STEPS = ('num_steps', 'vmap_steps', 'loop_steps', 'torch_steps')  # one value for each batch size


class Peak(Config):
  """The machine's matrix products."""

  sizes: Counts
  gflop: Positive


class Cnn(Config):
  """The CNN of gdlab against PyTorch's."""

  batch_size: Count
  num_seeds: Count
  num_images: Annotated[int, pydantic.Field(ge=1, le=NUM_MNIST)]
  num_steps: Count
  torch_steps: Count


class UsersCnn(Config):
  """A user's own CNN."""

  num_seeds: Count
  batch_sizes: BatchSizes
  num_steps: Counts

  @pydantic.model_validator(mode='after')
  def _alike(self) -> 'UsersCnn':
    if len(self.num_steps) != len(self.batch_sizes):
      raise ValueError('num_steps should have one value for each of the batch_sizes')
    return self


class Lanes(Config):
  """Time per lane against lanes."""

  counts: Counts
  num_rounds: Count
  batch_size: Count
  num_steps: Count


def _rising(values: tuple) -> tuple:
  if len(values) != 2 or values[0] >= values[1]:
    raise ValueError('should be two rising numbers of lanes')
  return values


class Memory(Config):
  """Memory per lane."""

  counts: Annotated[Counts, pydantic.AfterValidator(_rising)]
  num_steps: Count


class Saves(Config):
  """What checkpoints cost."""

  num_lanes: Count
  num_steps: Count
  num_rounds: Count


class Settings(Config):
  """The configuration; see configs/throughput.py."""

  parts: Annotated[tuple[Part, ...], pydantic.Field(min_length=1)]
  num_rounds: Count
  hidden: Widths
  learning_rate: Positive
  num_seeds: Count
  batch_sizes: BatchSizes
  num_steps: Counts
  vmap_steps: Counts
  loop_steps: Counts
  torch_steps: Counts
  peak: Peak
  cnn: Cnn
  users_cnn: UsersCnn
  lanes: Lanes
  memory: Memory
  saves: Saves

  @pydantic.model_validator(mode='after')
  def _alike(self) -> 'Settings':
    for name in STEPS:
      if len(getattr(self, name)) != len(self.batch_sizes):
        raise ValueError(f'{name} should have one value for each of the batch_sizes')
    images = self.cnn.num_images
    check_rules(
      {
        f'batch_sizes should be at most {NUM_DIGITS}, all images': max(self.batch_sizes) <= NUM_DIGITS,
        f'lanes.batch_size should be at most {NUM_DIGITS}, all images': self.lanes.batch_size <= NUM_DIGITS,
        'cnn.batch_size should be at most cnn.num_images': self.cnn.batch_size <= images,
        'users_cnn.batch_sizes should be at most cnn.num_images': max(self.users_cnn.batch_sizes) <= images,
      }
    )
    return self
