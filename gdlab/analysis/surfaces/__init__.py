"""Data for figures: the loss along lines and planes, in the plane of a run's path, and between two solutions."""

from gdlab.analysis.surfaces.alignment import Aligned, align, permute_units
from gdlab.analysis.surfaces.directions import filter_direction
from gdlab.analysis.surfaces.matching import match_activations, match_weights
from gdlab.analysis.surfaces.paths import barrier, interpolate
from gdlab.analysis.surfaces.planes import loss_line, loss_plane
from gdlab.analysis.surfaces.stacks import DenseStack, dense_stack
from gdlab.analysis.surfaces.trajectories import principal_plane, trajectory_plane

__all__ = [
  'Aligned',
  'DenseStack',
  'align',
  'barrier',
  'dense_stack',
  'filter_direction',
  'interpolate',
  'loss_line',
  'loss_plane',
  'match_activations',
  'match_weights',
  'permute_units',
  'principal_plane',
  'trajectory_plane',
]
