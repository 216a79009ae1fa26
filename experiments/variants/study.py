"""The study: its configuration, what its effects ask of stored results, and the claims V1-V13 with their rules.

Rules were written before the runs; docs/studies/variants.md has what pilots and reviews changed. Thresholds are the
smallest effects that matter: 5 % on a variance, 10 % on a loss or a roughness, 2 % on a time per example, half a point
of accuracy, 0.25 on a slope. Identities are held to 1e-10 in float64: 20 steps of sums of N terms, rounded at 2e-16.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import xarray as xr

from experiments.variants import effects
from gdlab import study, theory
from gdlab.claims import exact, greater_than, less_than, within


class _Timing(study.Config):
  precision: study.Share
  powers: study.Counts
  offset: study.Count


class _Noise(study.Config):
  num_batches: study.Count


class _Smoothness(study.Config):
  learning_rate: study.Positive
  num_updates: study.Count


class _Floor(study.Config):
  learning_rates: study.Tried
  l2: study.Positive
  epochs: study.Count


class _Convex(study.Config):
  l2: study.Positive
  num_steps: study.Count
  num_seeds: study.Count


class _Stream(study.Config):
  drift: study.NotNegative
  noise: study.NotNegative
  learning_rates: study.Tried


class Settings(study.Config):
  """The configuration; configs/variants.py says what each value means."""

  dataset: Literal['digits', 'mnist']
  hidden: tuple[study.Count, ...]
  seeds: study.Seeds
  batch_sizes: study.Counts
  mini_batch: Annotated[int, pydantic.Field(ge=32, le=256)]
  learning_rates: study.Tried
  epochs: study.Count
  min_updates: study.Count
  evaluations: study.Count
  target_loss: study.Positive
  target_accuracy: study.Share
  population: Annotated[int, pydantic.Field(ge=2, le=100_000)]
  components: study.Count
  timing: _Timing
  noise: _Noise
  smoothness: _Smoothness
  floor: _Floor
  convex: _Convex
  stream: _Stream

  def arms(self, num_examples: int) -> dict[int, str]:
    """Batch size -> sampler: the sizes asked for, and the three of the title."""
    asked = {1, self.mini_batch, *self.batch_sizes}
    return {size: 'without' for size in sorted(asked) if size < num_examples} | {num_examples: 'full'}


class Seen(study.View):
  """What one set of seeds has measured, with the questions that several effects ask."""

  config: Settings

  @property
  def three(self) -> dict[str, int]:
    """The batch sizes of the variants of the title."""
    return {'single': 1, 'mini': self.config.mini_batch, 'full': int(self.cell('timing').num_examples)}

  @property
  def sizes(self) -> list[int]:
    return [*self.config.arms(self.three['full'])]

  @property
  def time_budget(self) -> float:
    """Equal time: the seconds that the mini-batch arm takes for its epochs."""
    return self.clock('time', self.three['mini'], self.budget('examples', self.three['mini']))

  def clock(self, kind: str, batch_size: int, step: Any) -> Any:
    """Examples that an arm has drawn after so many updates, or the seconds of these (`time`)."""
    if kind == 'time':
      return step * float(self.cell('timing').seconds_per_update.median('round').sel(batch_size=batch_size))
    epochs, updates = np.divmod(step, theory.updates_per_epoch(self.three['full'], batch_size))
    return epochs * self.three['full'] + updates * batch_size  # the last batch of an epoch is short

  def budget(self, kind: str, batch_size: int) -> int:
    """Updates that an arm makes in the epochs that all have (`examples`), or in the mini-batch arm's time (`time`)."""
    if kind == 'time':
      return max(1, round(self.time_budget / self.clock('time', batch_size, 1)))
    return self.config.epochs * theory.updates_per_epoch(self.three['full'], batch_size)

  def rate(self, kind: str, batch_size: int) -> float:
    """The rate of least mean training loss at the end of that budget; a failed run counts as infinite."""
    runs = self.cell(f'tuning_{batch_size}').sel(step=self.budget(kind, batch_size))
    return study.best(study.unless_failed(runs, 'train_loss', np.inf), 'learning_rate')

  def arm(self, kind: str, batch_size: int, cell: str = 'arm') -> xr.Dataset:
    """The arm's runs at that rate; those with the tuning seeds are in the cell 'tuning'."""
    return self.cell(f'{cell}_{batch_size}').sel(learning_rate=self.rate(kind, batch_size))

  def ended(
    self, kind: str, batch_size: int, variable: str, failed: float, cell: str = 'arm'
  ) -> xr.DataArray:
    """A variable at the end of that budget, by seed; `failed` for a run that diverged before."""
    runs = self.arm(kind, batch_size, cell).sel(step=self.budget(kind, batch_size))
    return study.unless_failed(runs, variable, failed)

  def late_errors(self, drift: int) -> tuple[xr.Dataset, float]:
    """Errors in the second half of streams, infinite if diverged, and the rate of the least on the tuning seeds."""
    stream = self.cell('stream').isel(drift=drift)
    late = stream.isel(example=slice(stream.sizes['example'] // 2, None)).mean('example', skipna=False)
    late = late.where(np.isfinite(late), np.inf)
    return late, study.best(late.single.sel(seed=self.config.seeds.for_tuning), 'learning_rate')


variants = study.Study(
  Settings,
  title='Full batch, single example, mini-batch: {config.dataset}',
  question='Textbooks tell batch, stochastic and mini-batch gradient descent apart by how many examples feed one '
  'update, and say a good deal about what follows from that. Thirteen such statements were tested on {config.dataset} '
  'with {config.seeds.count} seeds: one update rule, samplers that differ. Every arm tries the same learning rates on '
  '{config.seeds.tuning} seeds of its own and runs at the best with the others; arms are paired by seed, that is by '
  'initial parameters.',
  conditions='{config.dataset}, plain gradient descent',
  module='experiments.variants',
  view=Seen,
)

NETWORK = 'perceptron with hidden widths {config.hidden}'
TIMED = f'{NETWORK}; seconds in compiled loops of one run on one device'
FIRST = 'the first {config.population} images'
CONVEX = f'{FIRST}, at most {{config.components}} principal components'


def tuned(kind: str, *names: str, words: str = '') -> Callable[[Seen], str]:
  """Conditions of a claim about arms at their tuned rates; of all arms where none is named."""

  def under(view: Seen) -> str:
    rates = {size: view.rate(kind, size) for size in [view.three[name] for name in names] or view.sizes}
    told = [f'{study.at_an_end(rates[size], view.config.learning_rates)} for B={size}' for size in rates]
    end = '{config.epochs} epochs' if kind == 'examples' else f'{view.time_budget:.3g} s in a compiled loop'
    return f'{NETWORK}{words}; rates tuned on other seeds for {end}: {", ".join(told)}'

  return under


V1 = variants.claim(
  'V1',
  'The three variants are one update rule; only how many examples feed it differs.',
  under=f'{NETWORK}, {FIRST}, 20 steps in float64',
)
V1('distance of N examples in order from full batch', exact(0), name='one_rule_in_order')(effects.identity)
words = 'relative distance of N shuffled examples from full batch'
V1(words, exact(1e-10), name='one_rule_shuffled')(effects.identity)

V2 = variants.claim(
  'V2',
  'The variance of the gradient estimate falls as 1/B with replacement, and as (1-B/N)*N/(N-1)/B without; '
  'full batch has none.',
  under=f'{NETWORK}, initial parameters, {FIRST}, {{config.noise.num_batches}} batches for each size and seed',
)
for kind, words in {'with': 'with replacement', 'without': 'without'}.items():
  V2(f'variance over law at every B, {words}', within(0.95, 1.05), replacement=kind)(effects.variance_ratio)
V2('variance of full batch over that of one example', exact(1e-6))(effects.full_batch_variance)

V3 = variants.claim(
  'V3',
  'A batch gradient equals the mean of its per-example gradients, and the reduction, mean or sum, rescales '
  'the learning rate.',
  under=f'{NETWORK}, initial parameters, {FIRST}, B={{config.mini_batch}}, float64',
)
words = 'relative distance of mean per-example gradient from batch gradient'
V3(words, exact(1e-10), name='mean_of_gradients')(effects.identity)
words = 'relative distance of gradient of the summed loss over B from batch gradient'
V3(words, exact(1e-10), name='sum_of_losses')(effects.identity)

V4 = variants.claim(
  'V4',
  'One epoch takes ceil(N/B) updates: 1 for full batch, N for single-example, 79 for N=10,000 B=128, 1,000 '
  'for N=32,000 B=32.',
)
V4('miscounted epochs', exact(0))(effects.miscounted)

V5 = variants.claim(
  'V5',
  'Per update, full batch is the slowest and smoothest, single-example the fastest and noisiest; mini-batch '
  'lies between on both.',
  under=TIMED + '; {config.smoothness}',
)
for slow, fast in (('full', 'mini'), ('mini', 'single')):
  V5(f'time per update, {slow} over {fast}', greater_than(1), slow=slow, fast=fast)(effects.time_ratio)
for rough, smooth in (('mini', 'full'), ('single', 'mini')):
  words = f'roughness of the loss curve, {rough} over {smooth}'
  V5(words, greater_than(1.1), rough=rough, smooth=smooth)(effects.roughness_ratio)

V6 = variants.claim(
  'V6',
  'Per example seen, small batches reach a given loss sooner than full batch; many small steps beat few large ones.',
  under=tuned('examples', 'single', 'mini', 'full', words='; target training loss {config.target_loss}'),
)
for small in ('mini', 'single'):
  V6(f'examples to target, full over {small}', greater_than(1), kind='examples', small=small)(effects.reached)

V7 = variants.claim(
  'V7',
  'Full batch with a much larger learning rate makes up for its fewer updates.',
  under=tuned('examples', 'mini', 'full'),
)
words = 'training loss after equal examples, full over mini, each at its best rate'
V7(words, less_than(1.1))(effects.loss_ratio)

V8 = variants.claim(
  'V8',
  'Single-example descent hardly ever converges smoothly at a fixed learning rate: its loss floor grows with '
  'the learning rate.',
  under=f'logistic regression on {CONVEX}; {{config.floor}}',
)
V8('log-log slope of the loss floor in the rate', greater_than(0.25))(effects.floor_slope)
V8('share of late evaluations at which the loss had risen', greater_than(0.1))(effects.late_rises)

V9 = variants.claim(
  'V9', 'Batches of 32-256 are the best trade of wall-clock time against final quality.', under=tuned('time')
)
V9('test accuracy at equal time, best in 32-256 minus best outside', greater_than(0.005))(effects.middle_gain)

V10 = variants.claim(
  'V10',
  'Batch sizes that are powers of two run faster than their neighbours (64 against 60).',
  under=TIMED + '; {config.timing}',
)
V10('time per example, neighbours over powers', greater_than(1.02))(effects.power_gain)

V11 = variants.claim(
  'V11',
  'On a convex problem full batch always converges to the global minimum for lr < 2/L, at rate no worse than '
  '(1-mu/L) per step with lr 1/L.',
  under=f'{CONVEX}; l2={{config.convex.l2}}, float64, {{config.convex.num_steps}} steps',
)
for kind in ('linear', 'logistic'):
  words = f'{kind} regression: worst factor per step over 1-mu/L, at lr 1/L'
  V11(words, less_than(1 + 1e-6), problem=kind)(effects.worst_contraction)
gap_left = effects.remaining_gap
for kind in ('linear', 'logistic'):
  V11(f'{kind} regression: gap left at lr 1.9/L', less_than(1e-6), problem=kind, rate=1.9)(gap_left)
V11('linear regression: gap left at lr 2.1/L', greater_than(1), problem='linear', rate=2.1)(gap_left)

V12 = variants.claim(
  'V12',
  'A whole MNIST fits one device, so full batch is feasible there; it is still slower to a given accuracy.',
  under=tuned('time', 'mini', 'full', words='; all data on one device; target {config.target_accuracy}'),
)
V12('seconds to target accuracy, full over mini', greater_than(1), kind='time', small='mini')(effects.reached)

V13 = variants.claim(
  'V13',
  "Single-example updates suit data that arrives as a stream; full batch can't follow a drifting source.",
  under=f'{CONVEX}, as a stream; target weights walk by {{config.stream.drift}} per example and coordinate',
)
V13('squared error on a drifting stream, full over single', greater_than(1))(effects.tracking_ratio)
