"""The pictures: those of `gdlab.plots`, and one of margins."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gdlab import plots


def seen(result: xr.Dataset, name: str) -> xr.DataArray:
  """A probe where it was measured."""
  return result[name].dropna('step', how='all')


def eigenvalues(config, result: xr.Dataset) -> Figure:
  """The largest eigenvalues along the first run."""
  values = seen(result, 'eigenvalues').isel(seed=0)
  return plots.eigenvalue_curves(values.step, values, threshold=2 / config.learning_rate)


def noise(config, result: xr.Dataset) -> Figure:
  """Both noise scales along the runs."""
  values = seen(result, 'noise_scales').transpose('seed', 'step', ...).values
  scales = {'tr Σ / |G|²': values[..., 0], 'tr HΣ / GᵀHG': values[..., 1]}
  return plots.noise_scale(seen(result, 'noise_scales').step, scales, batch_size=config.batch_size)


def losses(result: xr.Dataset) -> Figure:
  """Training and test loss."""
  test = result[['test_loss']].rename(test_loss='train_loss')
  return plots.curves({'training': result, 'test': test}, label='loss')


def sharpness(config, result: xr.Dataset) -> Figure:
  """Both sharpnesses along the runs."""
  arms = {
    f'SAM, radius {config.radius:g}': result.sharpness[..., 0],
    f'adaptive, radius {config.relative_radius:g}': result.sharpness[..., 1],
  }
  named = {label: values.to_dataset(name='sharpness') for label, values in arms.items()}
  return plots.curves(named, 'sharpness', label='rise of the loss')


def margins(found: xr.Dataset) -> Figure:
  """The share of examples whose margin is at most so large, at the start and at the end."""
  with plots.panels(1, width=4.6, height=3.4) as (figure, (axes,)):
    for number, moment in enumerate(found.moment.values):
      for split, line in (('train', '-'), ('test', '--')):
        values = np.sort(found[f'{split}_margin'].sel(moment=moment))
        share = np.arange(1, values.size + 1) / values.size
        axes.step(
          values, share, where='post', color=plots.COLOURS[number], linestyle=line, label=f'{moment}, {split}'
        )
    axes.axvline(0, color='black', linewidth=0.8, linestyle=':')
    axes.set(xlabel='margin: logit of the label less the next', ylabel='share of examples')
    axes.legend(fontsize=9)
  return figure
