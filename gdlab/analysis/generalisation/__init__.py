"""Measures of generalisation at a point: gap, sharpness, flatness, distance, margin."""

from gdlab.analysis.generalisation.ascent import BallSharpness, adaptive_sharpness, sam_sharpness
from gdlab.analysis.generalisation.distance import Distance, distance_from_init
from gdlab.analysis.generalisation.flatness import Flatness, flatness
from gdlab.analysis.generalisation.gap import Gap, generalisation_gap
from gdlab.analysis.generalisation.keskar import KeskarSharpness, keskar_sharpness
from gdlab.analysis.generalisation.margin import Margins, margins, output_margins

__all__ = [
  'BallSharpness',
  'Distance',
  'Flatness',
  'Gap',
  'KeskarSharpness',
  'Margins',
  'adaptive_sharpness',
  'distance_from_init',
  'flatness',
  'generalisation_gap',
  'keskar_sharpness',
  'margins',
  'output_margins',
  'sam_sharpness',
]
