"""Pictures of runs: one function each, which returns a Matplotlib figure made without pyplot.

Colours are told apart with any colour vision and in grey print; marks, hatches and line styles say the same again. One
panel is as wide as a column, so that a page shows it whole on a phone.

| picture | function |
|---|---|
| a quantity along the runs, median and band over seeds | `curves` |
| a map of two hyperparameters, failed cells marked | `heat_map` |
| steps to a target against batch size, with 1/B and the bend | `steps_by_batch_size` |
| all eigenvalues; their density; the largest along a run | `eigenvalue_histogram`, `spectrum`, `eigenvalue_curves` |
| a plane of the loss with the way of a run; a line between two solutions | `plane`, `interpolation` |
| the share of runs still on the way | `survival` |
| effects of claims with verdicts | `forest` |
| the gradient noise scale along a run | `noise_scale` |

Pieces for other pictures: `panels` (a figure in this style), `band`, `spread`, `surface`, `contours`, and `to_svg`.
"""

from gdlab.plots.batch_size import steps_by_batch_size
from gdlab.plots.curves import curves, eigenvalue_curves, noise_scale
from gdlab.plots.forest import forest
from gdlab.plots.maps import heat_map
from gdlab.plots.pieces import band, contours, spread, surface
from gdlab.plots.planes import interpolation, plane
from gdlab.plots.spectra import eigenvalue_histogram, spectrum
from gdlab.plots.style import COLOURS, LINES, MARKERS, STYLE, panels, to_svg
from gdlab.plots.survival import survival

__all__ = [
  'COLOURS',
  'LINES',
  'MARKERS',
  'STYLE',
  'band',
  'contours',
  'curves',
  'eigenvalue_curves',
  'eigenvalue_histogram',
  'forest',
  'heat_map',
  'interpolation',
  'noise_scale',
  'panels',
  'plane',
  'spectrum',
  'spread',
  'steps_by_batch_size',
  'surface',
  'survival',
  'to_svg',
]
