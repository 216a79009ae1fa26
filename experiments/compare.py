"""Optimizers compared from flags: tuned alike, graded on other seeds, at equal budgets; see `gdlab.compare`.

python -m experiments.compare --config=configs/compare.py --workdir=DIR
"""

import functools
import inspect
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import ml_collections
import optax
from pydantic import Field

import gdlab
from gdlab.core.errors import InputError, shown, unknown_name
from gdlab.study import Config, Count, Index, Positive
from gdlab.study.launch import start
from gdlab.study.workdir import Results, replacing

SCHEDULES = ('constant', 'cosine')
Several = Annotated[int, Field(ge=2, le=1_000_000)]


class Settings(Config):
  """The configuration; see configs/compare.py."""

  problem: Literal['digits', 'mnist', 'character_lm']
  model: dict[str, Any]
  arms: dict[str, dict[str, Any]]
  validation: Positive
  baseline: str
  updates: Count
  seconds: bool
  margin: Positive
  effect: Literal['difference', 'ratio']
  trials: Count
  tuning_seeds: Count
  seeds: Several
  most_seeds: Several
  first_seed: Index


def make_problem(config: Settings) -> gdlab.Problem:
  """The problem of the configuration, with a validation set."""
  if config.problem == 'character_lm':
    model = functools.partial(gdlab.problems.Transformer, **config.model)
    made = gdlab.problems.character_lm(model)
  else:
    read = gdlab.problems.digits if config.problem == 'digits' else gdlab.problems.mnist
    made = read(gdlab.problems.MLP(**config.model))
  return gdlab.problems.split(made, validation=config.validation)


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
    InputError: if Optax has no such optimizer, or an entry is not what it should be.
  """
  own = dict(entry)
  called, batch_size = own.pop('optimizer', name), own.pop('batch_size', 32)
  schedule = own.pop('schedule', 'constant')
  if not callable(getattr(optax, str(called), None)):
    raise unknown_name(f'arms.{name}.optimizer', str(called), [each for each in dir(optax) if each.islower()])
  if schedule not in SCHEDULES:
    raise unknown_name(f'arms.{name}.schedule', str(schedule), SCHEDULES)
  if schedule == 'cosine' and 'learning_rate' not in own:
    raise InputError(f'arms.{name} must have a learning_rate for its cosine to begin with')
  search, fixed = {}, {}
  known = inspect.signature(getattr(optax, called)).parameters
  for key, value in own.items():
    if key not in known:
      raise unknown_name(f'arms.{name}', str(key), [*known, 'optimizer', 'batch_size', 'schedule'])
    if isinstance(value, tuple | list):
      if len(value) != 2:
        raise InputError(f'arms.{name}.{key} must be a number or a pair (low, high), got {shown(value)}')
      try:
        search[key] = gdlab.log_uniform(*value)
      except InputError as error:
        raise InputError(f'arms.{name}.{key}: {error}') from error
    else:
      fixed[key] = value
  make = functools.partial(
    cosine if schedule == 'cosine' else constant, getattr(optax, called), batch_size, tuple(fixed.items())
  )
  return gdlab.Arm(make, search)


def compare(given: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Measures what is not in the folder yet, and writes `report.html` and `verdicts.json`."""
  config = Settings.checked(given.to_dict())
  arms = {name: make_arm(name, entry) for name, entry in config.arms.items()}
  results = Results(workdir, given)
  answer = gdlab.compare(
    make_problem(config),
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
