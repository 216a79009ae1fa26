"""Optimizers compared from flags: tuned alike, graded on other seeds, at equal budgets; see `gdlab.compare`.

python -m experiments.compare --config=configs/compare.py --workdir=DIR
"""

import functools
import inspect
import json
import numbers
import pathlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import ml_collections
import numpy as np
import optax
from pydantic import Field, model_validator

import gdlab
from gdlab.comparison.comparing import TUNING
from gdlab.core.errors import InputError, check_count, check_real, shown, unknown_name
from gdlab.study import Config, Count, Index, Positive, Share
from gdlab.study.launch import start
from gdlab.study.schema import LARGEST, Width, check_rules
from gdlab.study.workdir import Results, replacing

# What has a rate of some kind is an optimizer; names are looked up, never evaluated.
OPTIMIZERS = [
  name
  for name, function in vars(optax).items()
  if inspect.isfunction(function)
  and not name.startswith(('_', 'scale_by'))
  and any('learning_rate' in each for each in inspect.signature(function).parameters)
]
BATCH_SIZE = 32  # of an arm that says nothing else
SCHEDULES = ('constant', 'cosine')
DECAYS = ('momentum', 'decay', 'b1', 'b2')  # shares of the past that are kept
Several = Annotated[int, Field(ge=2, le=1_000_000)]


class _MLP(Config):
  """What `model` may say of a perceptron."""

  features: tuple[Width, ...] = (300, 100)
  batch_norm: bool = False
  dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0


class _Transformer(Config):
  """What `model` may say of a Transformer, which sees windows of 64 characters."""

  width: Width = 64
  num_layers: Annotated[int, Field(ge=1, le=100)] = 2
  num_heads: Count = 4
  max_context: Annotated[int, Field(ge=64, le=65_536)] = 128
  tied: bool = True

  @model_validator(mode='after')
  def _whole_heads(self) -> '_Transformer':
    if self.width % self.num_heads:
      raise ValueError('width should be a multiple of num_heads')
    return self


class Settings(Config):
  """The configuration; see configs/compare.py."""

  problem: Literal['digits', 'mnist', 'character_lm']
  model: dict[str, Any]
  arms: dict[str, dict[str, Any]]
  validation: Share
  baseline: str
  updates: Count
  seconds: bool
  margin: Positive
  effect: Literal['difference', 'ratio']
  trials: Annotated[int, Field(ge=1, le=10_000)]
  tuning_seeds: Annotated[int, Field(ge=1, le=1_000_000)]
  seeds: Several
  most_seeds: Several
  first_seed: Index

  @model_validator(mode='after')
  def _possible(self) -> 'Settings':
    if len(self.arms) < 2:
      raise ValueError(f'arms should be at least two, got {shown([*self.arms])}')
    if self.baseline not in self.arms:
      raise unknown_name('baseline', self.baseline, self.arms)
    last = TUNING - self.most_seeds
    check_rules(
      {
        'most_seeds should be at least seeds': self.most_seeds >= self.seeds,
        f'first_seed should be at most {last}, below the tuning seeds': self.first_seed <= last,
      }
    )
    try:
      (_Transformer if self.problem == 'character_lm' else _MLP).checked(self.model)
    except InputError as error:
      raise ValueError(f'model: {error}') from error
    return self


def make_problem(config: Settings) -> gdlab.Problem:
  """The problem of the configuration, with a validation set.

  Raises:
    InputError: if it has fewer examples than an arm has in a batch.
  """
  if config.problem == 'character_lm':
    model = functools.partial(gdlab.problems.Transformer, **config.model)
    made = gdlab.problems.character_lm(model)
  else:
    read = gdlab.problems.digits if config.problem == 'digits' else gdlab.problems.mnist
    made = read(gdlab.problems.MLP(**config.model))
  made = gdlab.problems.split(made, validation=config.validation)
  for name, entry in config.arms.items():
    check_count(f'arms.{name}.batch_size', entry.get('batch_size', BATCH_SIZE), maximum=made.num_examples)
  return made


def constant(optimizer: Callable[..., Any], batch_size: int, fixed: tuple, **numbers: Any) -> gdlab.Algorithm:
  """An Optax optimizer at a constant rate."""
  return gdlab.algorithm(
    sampler=gdlab.sampling.reshuffle(batch_size), optimizer=optimizer(**dict(fixed), **numbers)
  )


def cosine(
  optimizer: Callable[..., Any], batch_size: int, fixed: tuple, num_steps: int, **numbers: Any
) -> gdlab.Algorithm:
  """The same at a rate that falls to 0 along half a cosine, where the budget ends."""
  every = dict(fixed) | numbers
  rate = optax.cosine_decay_schedule(every.pop('learning_rate'), num_steps)
  return constant(optimizer, batch_size, (), learning_rate=rate, **every)


def make_arm(name: str, entry: Mapping[str, Any]) -> gdlab.Arm:
  """An arm of its entries: `optimizer`, `batch_size`, `schedule`, and the optimizer's own numbers.

  A pair of numbers is a range, searched in its logarithm; one number is fixed.

  Raises:
    InputError: if Optax has no such optimizer, an entry is not what it should be, or an update cannot be made of them.
  """
  own = dict(entry)
  called, batch_size = str(own.pop('optimizer', name)), own.pop('batch_size', BATCH_SIZE)
  schedule = str(own.pop('schedule', 'constant'))
  check_count(f'arms.{name}.batch_size', batch_size)
  if called not in OPTIMIZERS:
    raise unknown_name(f'arms.{name}.optimizer', called, OPTIMIZERS)
  if schedule not in SCHEDULES:
    raise unknown_name(f'arms.{name}.schedule', schedule, SCHEDULES)
  if schedule == 'cosine' and 'learning_rate' not in own:
    raise InputError(
      f'arms.{name} must have a learning_rate for its cosine to begin with, got {shown([*own]) if own else "nothing"}'
    )
  search, fixed = {}, {}
  known = inspect.signature(getattr(optax, called)).parameters
  for key, value in own.items():
    if key not in known:
      raise unknown_name(f'arms.{name}', str(key), [*known, 'optimizer', 'batch_size', 'schedule'])
    # A flag makes a list of one of a number in a range's place.
    value = value[0] if isinstance(value, tuple | list) and len(value) == 1 else value
    if isinstance(value, tuple | list):
      if len(value) != 2:
        raise InputError(f'arms.{name}.{key} must be a number or a pair (low, high), got {shown(value)}')
      try:
        search[key] = gdlab.log_uniform(*map(functools.partial(_number, key), value))
      except InputError as error:
        raise InputError(f'arms.{name}.{key}: {error}') from error
    else:
      is_number = isinstance(value, numbers.Number) and not isinstance(known[key].default, bool)
      fixed[key] = _number(f'arms.{name}.{key}', value) if is_number else value
  _check_update(name, called, fixed | {key: where.low for key, where in search.items()})
  make = functools.partial(
    cosine if schedule == 'cosine' else constant, getattr(optax, called), batch_size, tuple(fixed.items())
  )
  return gdlab.Arm(make, search)


def _number(name: str, value: Any) -> Any:
  """A hyperparameter of an optimizer, which none has below 0."""
  share = name.rpartition('.')[2] in DECAYS
  return check_real(name, value, minimum=0, **({'below': 1} if share else {'maximum': LARGEST}))


def _check_update(name: str, called: str, own: Mapping[str, Any]) -> None:
  """Traces one update, so that what the optimizer does not take is refused before anything runs."""

  def update(params: jax.Array) -> Any:
    optimizer = optax.with_extra_args_support(getattr(optax, called)(**own))
    extra = {'value': params.sum(), 'grad': params, 'value_fn': lambda params: params.sum()}
    return optimizer.update(params, optimizer.init(params), params, **extra)

  try:
    jax.eval_shape(update, jax.ShapeDtypeStruct((2,), np.float32))
  except Exception as error:  # whatever Optax may raise
    given = ', '.join(f'{key}={shown(value)}' for key, value in own.items()) or 'nothing'
    raise InputError(f'arms.{name} must be what optax.{called} takes, got {given}: {shown(error)}') from error


def prepared(given: ml_collections.ConfigDict) -> tuple[Settings, dict[str, gdlab.Arm]]:
  """The configuration and its arms.

  Raises:
    InputError: if anything in it cannot be.
  """
  config = Settings.checked(given.to_dict())
  return config, {name: make_arm(name, entry) for name, entry in config.arms.items()}


def compare(given: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Measures what is not in the folder yet, and writes `report.html` and `verdicts.json`."""
  config, arms = prepared(given)
  problem, results = make_problem(config), Results(workdir, given)
  answer = gdlab.compare(
    problem,
    arms,
    baseline=config.baseline,
    budgets={'updates': config.updates} | ({'seconds': config.baseline} if config.seconds else {}),
    margin=config.margin,
    effect=config.effect,
    trials=config.trials,
    tuning_seeds=config.tuning_seeds,
    seeds=config.seeds,
    most_seeds=config.most_seeds,
    first_seed=config.first_seed,
    stored=functools.partial(results.stored, ''),
  )
  if config.most_seeds > config.seeds:
    answer = answer.extend()
  answer.report(workdir / 'report.html')
  with replacing(workdir / 'verdicts.json') as path:
    rows = [row._asdict() | {'effect': row.effect._asdict()} for row in answer.verdicts]
    path.write_text(json.dumps(rows, indent=2) + '\n', encoding='utf-8')
  print(answer)
  print(f'\nReport: {workdir / "report.html"}')


if __name__ == '__main__':
  start(compare, 'configs/compare.py')
