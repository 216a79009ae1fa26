"""Plots of runs: each function returns a Matplotlib figure, without pyplot.

Colours are distinguishable with any colour vision and in grey print; markers, hatches and line styles repeat the
distinction. One panel is as wide as a column, so that it fits the screen of a phone.

| figure | function |
|---|---|
| a quantity along the runs, median and band over seeds | `curves` |
| a map of two hyperparameters, failed cells marked | `heat_map` |
| steps to a target against batch size, with 1/B and the bend | `steps_by_batch_size` |
| all eigenvalues; their density; the largest along a run | `eigenvalue_histogram`, `spectrum`, `eigenvalue_curves` |
| a plane of the loss with the path of a run; a line between two solutions | `plane`, `interpolation` |
| the share of runs that have not reached a target | `survival` |
| effects of claims with verdicts | `forest` |
| the gradient noise scale along a run | `noise_scale` |

Pieces for other figures: `panels` (a figure in this style), `band`, `spread`, `surface`, `contours`, and `to_svg`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
