"""What is compared, and what effects and pictures ask of one set of seeds."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.practice.settings import Settings
from gdlab import statistics, study
from gdlab.statistics import Interval

DTYPES = {'bfloat16': jnp.bfloat16, 'float32': jnp.float32}
ACTIVATIONS = ('tanh', 'relu')
# Operations are counted of such perceptrons; activations are measured of one, of so many examples as no layer is wide.
DEPTHS, WIDTHS, SIZES, CHANNELS = (1, 2, 4), (64, 256, 512), (64, 512), (8, 16)
LAYERED, MEASURED = (256, 256, 256, 256), 1021
HIDDEN, DIRECTIONS = (64,), 64  # of networks that are checked, and of differences
L1, L2, RATE, UPDATES = 0.3, 0.5, 0.01, 10_000  # of penalties and full-batch descent
DEVICES = (2, 4)  # that are compared with one
LAYERS = {'one': 0, 'two': 1, 'three': 2}  # and how many are hidden
NORMS = ('plain', 'normed')
METHODS = ('normal equations', 'conjugate gradients', 'mini-batches')
WRONG = 1e-3  # the share by which a planted gradient is too large
SOUND = {
  'wide': 'one hidden layer',
  'deep': 'three hidden layers of tanh',
  'cnn': 'convolutions',
  'two': 'two hidden units',
}
BROKEN = {
  'dead': 'units that are never above 0',
  'blind': 'inputs that do not reach the last layer',
  'softmax': 'a softmax before the loss that has one',
  'frozen': 'a first layer that gets no gradient',
  'unscaled': 'inputs of 0 to 255',
  'shuffled': 'labels of other images',
}


def chooser(tuned: xr.Dataset) -> Callable[[np.ndarray], float]:
  """The rate of the highest mean validation accuracy, then the least loss, as a function of tuning runs' numbers."""
  end = tuned.isel(step=-1)
  accuracy = study.unless_failed(end, 'validation_accuracy', 0.0)
  return study.chooser(-accuracy, 'learning_rate', study.unless_failed(end, 'validation_loss', np.inf))


def fastest(tuned: xr.Dataset, target: float) -> Callable[[np.ndarray], float]:
  """The multiple with which mini-batches take the fewest steps to a target, by numbers of tuning runs."""
  runs = tuned.sel(way=METHODS[-1], target=target)
  return study.chooser(np.log(runs.steps).where(runs.reached, np.inf), 'multiple', runs.steps)


class Seen(study.View):
  """What one set of seeds has measured."""

  config: Settings

  def chosen(self, arm: str) -> float:
    """The rate that all tuning runs of an arm choose."""
    return chooser(self.cell(f'tuning_{arm}'))(np.arange(self.cell(f'tuning_{arm}').sizes['seed']))

  def words(self, arms: Sequence[str]) -> str:
    """The rates that were chosen for arms."""
    tried = {arm: self.cell(f'tuning_{arm}').learning_rate.values.tolist() for arm in arms}
    rates = (f'{study.at_an_end(self.chosen(arm), tried[arm])} ({arm})' for arm in arms)
    return f'best rates on other seeds: {", ".join(rates)}'

  def multiple(self, size: int, target: float) -> str:
    """The multiple of the rate that was chosen for mini-batches, in words, and whether they come to the target."""
    cell = self.cell(f'squares_{size}')
    chosen = fastest(cell.sel(seed=self.config.few_tuned), target)(np.arange(self.config.few_tuning))
    runs = cell.reached.sel(seed=self.config.few_ids, target=target, multiple=chosen, way=METHODS[-1])
    words = study.at_an_end(chosen, cell.multiple.values.tolist())
    return f'{words} with {size} weights, where {int(runs.sum())} of {runs.size} come there'

  def ends(self, arm: str, rate: float) -> xr.DataArray:
    """Test accuracy at the end, by seed; 0 of a failed run."""
    runs = self.cell(f'runs_{arm}').sel(learning_rate=rate, drop=True).isel(step=-1)
    return study.unless_failed(runs, 'test_accuracy', 0.0)

  def over_mini_batches(self, size: int, way: str, target: float) -> Interval:
    """Seconds of a method over those of mini-batches, by seed; who never comes to a target has all that it had."""
    cell = self.cell(f'squares_{size}')
    seconds = cell.seconds.sel(target=target, seed=self.config.few_ids)

    def ratio(multiple: float) -> Interval:
      pair = (seconds.sel(way=each, multiple=multiple, drop=True) for each in (way, METHODS[-1]))
      return statistics.paired_log_ratio(*pair, confidence=self.confidence)

    tuned = self.config.few_tuned
    return study.after_choice(ratio, [fastest(cell.sel(seed=tuned), target)], len(tuned), scale='log')
