"""Stationary points: certified classification, search, and how long a run stays near one."""

from gdlab.analysis.stationary.classification import (
  STATIONARY_MEANINGS,
  SignCount,
  StationaryPoint,
  classify_stationary,
  count_signs,
)
from gdlab.analysis.stationary.escape import Visits, escape_times, saddle_visits
from gdlab.analysis.stationary.search import (
  FoundPoints,
  box_starts,
  find_stationary_points,
  seek_stationary,
)

__all__ = [
  'FoundPoints',
  'STATIONARY_MEANINGS',
  'SignCount',
  'StationaryPoint',
  'Visits',
  'box_starts',
  'classify_stationary',
  'count_signs',
  'escape_times',
  'find_stationary_points',
  'saddle_visits',
  'seek_stationary',
]
