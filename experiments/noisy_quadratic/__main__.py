"""python -m experiments.noisy_quadratic --config=configs/noisy_quadratic.py --workdir=DIR."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from pydantic import AfterValidator, Field, model_validator

from gdlab import plots, theory
from gdlab.host.progress import Progress
from gdlab.report import Section, Table
from gdlab.study import Config, app, ascending
from gdlab.study.graded import Story, conclude
from gdlab.study.schema import check_rules

SOURCE = 'Zhang et al. 2019, "Which algorithmic choices matter at which batch sizes?", arXiv 1907.04164'


def _named(values: tuple) -> tuple:
  """By hundredths curves are named."""
  cents = [round(100 * power) for power in values]
  if len(set(cents)) < len(cents) or not np.allclose(cents, 100 * np.asarray(values), atol=1e-6):
    raise ValueError('should be different multiples of 0.01')
  return values


Exponent = Annotated[int, Field(ge=0, le=40)]
Rate = Annotated[
  float, Field(ge=-8, le=3)
]  # with momentum steps are looked at one by one: lower ones take days
Power = Annotated[float, Field(ge=0.01, le=0.99)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Settings(Config):
  """The configuration; see configs/noisy_quadratic.py."""

  dimension: Annotated[int, Field(ge=1, le=10**6)]  # with some arrays of this length in float64
  target: Annotated[float, Field(ge=1e-9)]
  exponents: Annotated[tuple[Exponent, Exponent], AfterValidator(ascending)]
  rates: Annotated[tuple[Rate, Rate], AfterValidator(ascending)]
  num_rates: Annotated[int, Field(ge=2, le=10_000)]
  powers: Annotated[tuple[Power, ...], AfterValidator(_named)]
  momentum: Decay
  averaging: Decay

  @model_validator(mode='after')
  def _possible(self) -> 'Settings':
    start = 0.5 * float((1 / np.arange(1, self.dimension + 1)).sum())
    check_rules({f'target should be below {start:.4g}, the loss at the start': self.target < start})
    return self


def cells(given) -> list[app.Cell]:
  """One for every curve."""
  config = Settings.checked(given.to_dict())
  model = theory.noisy_quadratic(1 / np.arange(1, config.dimension + 1))
  curves: dict[str, tuple[theory.NoisyQuadratic, dict[str, Any]]] = {'plain': (model, {})}
  for power in config.powers:
    curves[f'preconditioned_{round(100 * power):02}'] = (theory.preconditioned(model, power), {})
  curves['momentum'] = (model, {'momentum': config.momentum})
  curves['averaged'] = (model, {'averaging': config.averaging})
  return [
    app.Cell(name, functools.partial(measure, config, model, options))
    for name, (model, options) in curves.items()
  ]


def measure(
  config, model: theory.NoisyQuadratic, options: Mapping[str, Any], *, progress: Progress
) -> xr.Dataset:
  """Steps to the target at the best rate, by batch size."""
  (low, high), (slowest, fastest) = config.exponents, config.rates
  sizes, rates = 2 ** np.arange(low, high + 1), np.logspace(slowest, fastest, config.num_rates)
  found = theory.fastest(model, sizes, rates, target=config.target, **options)
  progress(1, 1)
  return xr.Dataset(
    {'steps': ('batch_size', found.steps), 'rate': ('batch_size', found.learning_rate)},
    {'batch_size': sizes},
  )


def finish(config, results: Mapping[str, xr.Dataset], workdir: pathlib.Path) -> None:
  """Writes the page."""
  title = 'Steps to a target against batch size: the noisy quadratic model'
  lead = (
    f'Expected loss of {config.dimension:,} directions of curvature 1/i with gradient noise of covariance H/B: how '
    f'many steps until it is {config.target:g}, at the best of {config.num_rates} constant rates for every batch size. '
    f'No simulation: closed forms of the second moments. Source: {SOURCE}.',
    'Steps fall as 1/B while noise decides and stay where curvature does. Momentum helps at large batches only; a '
    'preconditioner helps at all, and moves the bend to larger ones; an average of the iterates helps as far as '
    'the bend.',
  )
  section = Section('Steps to the target', (), plots.to_svg(figure(results)), '', table(results))
  conclude(workdir, Story(title, lead, [section]), (), results, module='experiments.noisy_quadratic')


def label(name: str) -> str:
  """What a curve is called."""
  kind, _, power = name.partition('_')
  return f'preconditioned, p = 0.{power}' if power else {'averaged': 'average of iterates'}.get(kind, kind)


def figure(results: Mapping[str, xr.Dataset]) -> Figure:
  """Steps against batch size, all curves, with 1/B for comparison."""
  with plots.panels(1, width=6.4, height=4.6) as (drawn, (axes,)):
    for number, (name, result) in enumerate(results.items()):
      colour, marker = plots.COLOURS[number % len(plots.COLOURS)], plots.MARKERS[number % len(plots.MARKERS)]
      axes.loglog(
        result.batch_size, result.steps, color=colour, marker=marker, markersize=4, label=label(name)
      )
    plain = results['plain']
    axes.loglog(
      plain.batch_size,
      plain.steps[0] * plain.batch_size[0] / plain.batch_size,
      color='grey',
      linestyle=':',
      label='1/B',
    )
    lowest = min(float(result.steps.min()) for result in results.values())
    axes.set(xlabel='batch size', ylabel='steps to the target', ylim=(lowest / 2, None))
    axes.set_xscale('log', base=2)
    axes.legend(fontsize=8)
  return drawn


def table(results: Mapping[str, xr.Dataset]) -> Table:
  """Steps at every batch size."""
  sizes = next(iter(results.values())).batch_size.values
  return Table(
    ('B', *map(label, results)),
    [
      [f'{size:,}', *(f'{float(result.steps[place]):,.0f}' for result in results.values())]
      for place, size in enumerate(sizes)
    ],
  )


if __name__ == '__main__':
  app.main(cells, finish, 'configs/noisy_quadratic.py')
