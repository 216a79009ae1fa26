"""The study's configuration, and what its effects ask of stored results."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import xarray as xr

from gdlab import statistics, study, theory
from gdlab.study.schema import APART, Width, check_rules, different

IMAGES = {'digits': 1437, 'mnist': 60_000}  # for training and validation
Different = Annotated[study.Counts, pydantic.AfterValidator(different)]
Several = Annotated[int, pydantic.Field(ge=2, le=APART)]
# V9 is asked at the times per update that were measured. What it would be at those of a straight line t(B) = a + b B,
# with these factors of a and b, stands beside it on the page.
MEASURED = 'as measured'
MODELS = {
  MEASURED: None,
  'line': (1.0, 1.0),
  'line, a - 20 %': (0.8, 1.0),
  'line, a + 20 %': (1.2, 1.0),
  'line, b - 20 %': (1.0, 0.8),
  'line, b + 20 %': (1.0, 1.2),
}
BUDGETS = ('short', 'medium', 'long')
NEIGHBOURS = ('neighbours 4 away', 'odd neighbours')  # of powers of two (V10), by `powers.offsets`
DRIFTS = (0.003, 0.01, 0.03, 0.1)  # standard deviation of a target weight's step per example (V13)


class _Timing(study.Config):
  precision: study.Share


class _Powers(study.Config):
  sizes: study.Counts
  offsets: study.Counts
  between: study.Counts
  processes: Annotated[int, pydantic.Field(ge=2, le=1000)]
  rounds: study.Count
  examples: study.Count


class _Race(study.Config):
  whole: bool
  learning_rates: study.Tried
  epochs: study.Count
  min_updates: study.Count
  evaluations: study.Count
  target_loss: study.Positive
  target_accuracy: study.Share


class _Trade(study.Config):
  budgets: Annotated[study.Sizes, pydantic.Field(min_length=3, max_length=3)]
  learning_rates: study.Tried
  tuning: Several
  num_seeds: Several


class _Noise(study.Config):
  num_batches: Annotated[study.Count, pydantic.Field(ge=2)]


class _Smoothness(study.Config):
  num_seeds: Several
  learning_rate: study.Positive
  num_updates: study.Count


class _Floor(study.Config):
  num_seeds: Several
  learning_rates: study.Tried
  l2: study.Positive
  epochs: study.Count


class _Convex(study.Config):
  l2: study.Positive
  num_steps: study.Count
  num_seeds: Several


class _Stream(study.Config):
  components: study.Count
  noise: study.NotNegative
  learning_rates: study.Tried
  windows: Different


class Settings(study.Config):
  """The configuration; configs/variants.py says what each value means."""

  dataset: Literal['digits', 'mnist']
  train: study.Count
  validation: study.Count
  hidden: tuple[Width, ...]
  seeds: study.Seeds
  batch_sizes: Different
  mini_batch: Annotated[int, pydantic.Field(ge=32, le=256)]
  population: Annotated[int, pydantic.Field(ge=2, le=100_000)]
  components: study.Count
  race: _Race
  trade: _Trade
  timing: _Timing
  powers: _Powers
  noise: _Noise
  smoothness: _Smoothness
  floor: _Floor
  convex: _Convex
  stream: _Stream

  @pydantic.model_validator(mode='after')
  def _possible(self) -> 'Settings':
    most, powers = IMAGES[self.dataset], self.powers
    fewest = max(self.mini_batch, *self.batch_sizes) + 1
    check_rules(
      {
        f'train and validation should be at most {most} together': self.train + self.validation <= most,
        f'train should be at least {fewest}, above mini_batch and batch_sizes': self.train >= fewest,
        f'population should be at most {most}': self.population <= most,
        'powers.sizes should be above powers.offsets': min(powers.sizes) > max(powers.offsets),
      }
    )
    return self

  @property
  def arms(self) -> dict[int, str]:
    """Batch size -> sampler on the data drawn for a seed: the sizes asked for, and the three of the title."""
    asked = {1, self.mini_batch, *self.batch_sizes}
    return {size: 'without' for size in sorted(asked) if size < self.train} | {self.train: 'full'}

  @property
  def racers(self) -> tuple[str, ...]:
    """The variants whose ways to a target are compared: on MNIST without single examples, which V12 does not name."""
    return ('single', 'mini', 'full') if on_digits(self) else ('mini', 'full')


def on_digits(config: Settings) -> bool:
  """Whether all claims are asked; of MNIST only V9 and V12 are."""
  return config.dataset == 'digits'


class Seen(study.View):
  """What one set of seeds has measured, with the questions that several effects ask."""

  config: Settings

  @property
  def three(self) -> dict[str, int]:
    """The batch sizes of the variants of the title."""
    return {'single': 1, 'mini': self.config.mini_batch, 'full': int(self.race_clock.num_examples)}

  @property
  def race_clock(self) -> xr.Dataset:
    return self.cell('whole_timing' if self.config.race.whole else 'timing')

  def clock(self, kind: str, name: str, step: Any) -> Any:
    """Examples that a variant has drawn after so many updates, or the seconds of these as measured (`time`)."""
    size, count = self.three[name], self.three['full']
    if kind == 'time':
      return step * float(self.race_clock.seconds_per_update.median('round').sel(batch_size=size))
    epochs, updates = np.divmod(step, theory.updates_per_epoch(count, size))
    return epochs * count + updates * size  # the last batch of an epoch is short

  def budget(self, name: str) -> int:
    """Updates that a variant makes in the epochs that all have."""
    return self.config.race.epochs * theory.updates_per_epoch(self.three['full'], self.three[name])

  def crossing(self, runs: xr.Dataset, question: str, images: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Updates to the target (all that were made where it was not reached), and whether it was not."""
    race = self.config.race
    targets = {'loss': ('train_loss', race.target_loss, 1)}
    targets['accuracy'] = (f'{images}_accuracy', race.target_accuracy, -1)
    variable, target, sign = targets[question]
    values = sign * runs[variable].transpose(..., 'step')
    found = statistics.first_crossing(values.step, values, sign * target)
    alike = values.isel(step=0, drop=True)
    return alike.copy(data=found.time.astype(float)), alike.copy(data=found.censored)

  def chooser(self, question: str, name: str) -> Callable[[np.ndarray], float]:
    """A variant's rate as a function of the tuning runs: the one that is best at what is asked.

    That is least training loss at the end of equal examples ('ended'), or fewest updates to the target, of accuracy on
    the training images; a rate at which a run failed counts as infinite. The last training loss decides between equals.
    """
    runs = self.cell(f'tuning_{name}')
    losses = study.unless_failed(runs, 'train_loss', np.inf)
    if question == 'ended':
      return study.chooser(losses.sel(step=self.budget(name)), 'learning_rate')
    time, censored = self.crossing(runs, question, 'train')
    return study.chooser(time.where(~censored, np.inf), 'learning_rate', losses.isel(step=-1))

  def after_choice(self, effect: Callable[..., statistics.Interval], choose: list, **options: Any):
    return study.after_choice(effect, choose, self.config.seeds.tuning, **options)

  def costs(self) -> xr.DataArray:
    """Seconds of an update, float[model, batch_size]."""
    timing = self.cell('timing')
    measured = timing.seconds_per_update.median('round')
    a, b = timing.per_update, timing.per_example * timing.batch_size
    costs = [measured if factors is None else factors[0] * a + factors[1] * b for factors in MODELS.values()]
    return xr.concat(costs, xr.Variable('model', [*MODELS]), coords='minimal', compat='override')

  def seconds(self, budget: str) -> float:
    """A budget of V9: what so many updates of the mini-batch take, as measured."""
    cost = self.costs().sel(model=MEASURED, batch_size=self.config.mini_batch)
    return self.config.trade.budgets[BUDGETS.index(budget)] * float(cost)

  def ends(self, batch_size: int) -> xr.DataArray:
    """Updates of a batch size that fit into each budget by each cost model, int[model, budget]."""
    budgets = xr.DataArray([self.seconds(budget) for budget in BUDGETS], {'budget': [*BUDGETS]})
    # A hair more, so that the mini-batch makes all of the updates that the budget is defined by.
    fitting = budgets / self.costs().sel(batch_size=batch_size, drop=True) * (1 + 1e-9)
    return fitting.astype(int).transpose('model', 'budget')

  def pairs(self, budget: str, model: str = MEASURED) -> dict[tuple, float]:
    """The best batch size in 32-256 and the best outside, each with its rate, by validation accuracy of tuning runs.

    Pairs that are likely to be chosen with their shares, the one chosen first; by a cost model that one alone.
    """
    tuned = -self.cell('trade_tuning').validation_accuracy.sel(model=model, budget=budget, drop=True)
    sides = []
    for middle in (True, False):
      own = tuned.sel(batch_size=[B for B in tuned.batch_size.values.tolist() if (32 <= B <= 256) is middle])
      stacked = own.stack(arm=('batch_size', 'learning_rate'))
      arms = stacked.arm.values.tolist()
      stacked = stacked.drop_vars(('arm', 'batch_size', 'learning_rate')).assign_coords(arm=range(len(arms)))
      sides.append((arms, study.chooser(stacked, 'arm')))
    both = lambda numbers: tuple(arms[choose(numbers)] for arms, choose in sides)
    if model == MEASURED:
      return statistics.likely(both, tuned.sizes['seed'])
    return {both(np.arange(tuned.sizes['seed'])): 1.0}

  def stream(self, drift: float) -> tuple[xr.Dataset, dict[str, Callable[[np.ndarray], Any]]]:
    """Errors in the second half of the graded streams, infinite if diverged, and choosers of rate and window."""
    stream = self.cell('stream').sel(drift=drift)
    late = stream.isel(example=slice(stream.sizes['example'] // 2, None)).mean('example', skipna=False)
    late = late.where(np.isfinite(late), np.inf)
    tuned = late.sel(seed=self.config.seeds.for_tuning)
    choose = {
      'rate': study.chooser(tuned.single, 'learning_rate'),
      'window': study.chooser(tuned.windowed, 'window'),
    }
    return late.sel(seed=self.config.seeds.ids), choose
