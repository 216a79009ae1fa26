"""The page, from the stored results alone."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

import gdlab
from experiments.landscapes import catalogue, figures
from gdlab.report import Section, Table, number
from gdlab.study.graded import Story

NEAR = 0.01  # of the box's width: an end closer than this to a stationary point is said to be there
MOST_ROWS = 17  # of a table of stationary points


def tell(config, results: Mapping[str, xr.Dataset]) -> Story:
  """What the page tells: every landscape."""
  lead = (
    f'{len(results)} functions of two parameters, their stationary points where they are known, and where five methods '
    'go on them: plain descent, heavy ball, Nesterov, Adam, and plain descent on noisy gradients.',
    f'How: every method tries {config.num_rates} rates from one start for {config.num_updates:,} updates, and the path '
    'with the lowest mean loss over the last tenth is drawn: the same budget for each. Rates are in units of 1 / '
    'curvature, the median over the box of the largest eigenvalue of the Hessian, for Adam in widths of the box. '
    f'The noise has a standard deviation of {config.noise:g} times the typical gradient.',
    'White marks are stationary points as the problem lists them: circles minima, crosses saddles, triangles maxima, '
    'diamonds points with a flat direction. Contours have equal areas between them.',
  )
  sections = [_section(name, result) for name, result in results.items()]
  return Story('Landscapes with known stationary points', lead, sections)


def _section(name: str, result: xr.Dataset) -> Section:
  kinds = figures.kinds(result)
  text = [catalogue.LANDSCAPES[name].says]
  if kinds:
    counts = [
      f'{kinds.count(kind)} {_several(kind, kinds.count(kind))}' for kind in figures.KINDS if kind in kinds
    ]
    complete = 'all there are in the box' if bool(result.complete) else 'not claimed to be all'
    symmetry = ', up to symmetry' if catalogue.LANDSCAPES[name].symmetric else ''
    text.append(f'Known: {", ".join(counts)}; {complete}{symmetry}.')
  text += [_where(result, kinds)]
  return Section(
    _title(name),
    text,
    figures.drawn(result),
    '',
    _points(result, kinds) if kinds else None,
  )


def _title(name: str) -> str:
  proper = {'pca': 'PCA', 'styblinski_tang': 'Styblinski–Tang', 'mueller_brown': 'Müller–Brown'}
  return proper.get(name, name[0].upper() + name[1:].replace('_', ' '))


def _several(kind: str, count: int) -> str:
  if kind == 'degenerate':
    return 'degenerate point' + 's' * (count != 1)
  return kind if count == 1 else {'minimum': 'minima', 'maximum': 'maxima'}.get(kind, f'{kind}s')


def _where(result: xr.Dataset, kinds: list[str]) -> str:
  """Where each method ended, in words."""
  ends = [_end(result.sel(optimizer=name), result, kinds) for name in result.optimizer.values]
  return f'Ends: {"; ".join(ends)}.'


def _end(path: xr.Dataset, result: xr.Dataset, kinds: list[str]) -> str:
  name = f'{figures.label(path.optimizer.item())} (rate {float(path.rate):.2g})'
  if (path.status == gdlab.DIVERGED).any():
    return f'{name} diverged at every rate'
  last, loss = path.params.values[-1], float(path.train_loss[-1])
  box = np.array([[result.x[0], result.x[-1]], [result.y[0], result.y[-1]]], float)
  if ((last < box[:, 0]) | (last > box[:, 1])).any():
    return f'{name} left the box, loss {number(loss)}'
  if kinds:
    distance = np.linalg.norm(result.point.values - last, axis=1)
    nearest = int(distance.argmin())
    if distance[nearest] < NEAR * (box[:, 1] - box[:, 0]).min():
      return f'{name} at {_several(kinds[nearest], 1)} {nearest + 1}, loss {number(loss)}'
  return f'{name} at ({last[0]:.3g}, {last[1]:.3g}), loss {number(loss)}'


def _points(result: xr.Dataset, kinds: list[str]) -> Table:
  rows = [
    [
      str(place + 1),
      kinds[place],
      # + 0.0: no minus before a zero.
      ', '.join(f'{x + 0.0:.5g}' for x in result.point.values[place]),
      f'{float(result.value[place]):.6g}',
      ', '.join(f'{x:.4g}' for x in result.eigenvalues.values[place]),
    ]
    for place in range(min(MOST_ROWS, len(kinds)))
  ]
  if len(kinds) > MOST_ROWS:
    rows.append(['…', f'{len(kinds) - MOST_ROWS} more', '', '', ''])
  return Table(('', 'kind', 'where', 'loss', 'Hessian eigenvalues'), rows)
