"""The study's configuration, and what its effects ask of stored results."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import xarray as xr

from gdlab import statistics, study, theory

# Under all of these times per update a verdict of V9 has to hold: factors of a and b in t(B) = a + b B, and the times
# as they were measured, which no straight line fits exactly.
MODELS = {
  'as fitted': (1.0, 1.0),
  'a - 20 %': (0.8, 1.0),
  'a + 20 %': (1.2, 1.0),
  'b - 20 %': (1.0, 0.8),
  'b + 20 %': (1.0, 1.2),
  'as measured': None,
}
BUDGETS = ('short', 'medium', 'long')
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
  budgets: Annotated[study.Counts, pydantic.Field(min_length=3, max_length=3)]
  learning_rates: study.Tried
  num_seeds: Annotated[int, pydantic.Field(ge=2, le=100_000)]


class _Noise(study.Config):
  num_batches: study.Count


class _Smoothness(study.Config):
  num_seeds: study.Count
  learning_rate: study.Positive
  num_updates: study.Count


class _Floor(study.Config):
  num_seeds: study.Count
  learning_rates: study.Tried
  l2: study.Positive
  epochs: study.Count


class _Convex(study.Config):
  l2: study.Positive
  num_steps: study.Count
  num_seeds: study.Count


class _Stream(study.Config):
  components: study.Count
  noise: study.NotNegative
  learning_rates: study.Tried
  windows: study.Counts


class Settings(study.Config):
  """The configuration; configs/variants.py says what each value means."""

  dataset: Literal['digits', 'mnist']
  train: study.Count
  validation: study.Count
  hidden: tuple[study.Count, ...]
  seeds: study.Seeds
  batch_sizes: study.Counts
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

  def seconds(self, budget: str) -> float:
    """A budget of V9: what the cost model says that so many updates of the mini-batch take."""
    timing = self.cell('timing')
    cost = float(timing.per_update + timing.per_example * self.config.mini_batch)
    return self.config.trade.budgets[BUDGETS.index(budget)] * cost

  def ends(self, batch_size: int) -> xr.DataArray:
    """Updates of a batch size that fit into each budget by each cost model, int[model, budget]."""
    timing = self.cell('timing')
    a, b = float(timing.per_update), float(timing.per_example) * batch_size
    measured = float(timing.seconds_per_update.median('round').sel(batch_size=batch_size))
    costs = [measured if factors is None else factors[0] * a + factors[1] * b for factors in MODELS.values()]
    budgets = np.asarray([self.seconds(budget) for budget in BUDGETS])
    # A hair more, so that the mini-batch makes all of the updates that the budget is defined by.
    fitting = (budgets / np.asarray(costs)[:, None] * (1 + 1e-9)).astype(int)
    return xr.DataArray(fitting, {'model': [*MODELS], 'budget': [*BUDGETS]}, ('model', 'budget'))

  def side(self, middle: bool, model: str, budget: str) -> Callable[[np.ndarray], tuple[int, float]]:
    """The best batch size in 32-256, or outside, and its rate by validation accuracy as a function of tuning runs."""
    tuned = self.cell('trade_tuning').validation_accuracy.sel(model=model, budget=budget)
    sizes = [size for size in tuned.batch_size.values.tolist() if (32 <= size <= 256) is middle]
    arms = [(size, rate) for size in sizes for rate in tuned.learning_rate.values.tolist()]
    table = tuned.sel(batch_size=sizes).transpose('batch_size', 'learning_rate', 'seed').values
    table = table.reshape(len(arms), -1)
    return lambda numbers: arms[int(table[:, numbers].mean(axis=1).argmax())]

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
