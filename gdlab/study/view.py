"""The argument of a study's effects, pictures and tables."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import xarray as xr

from gdlab.comparison.answer import Comparison
from gdlab.core.errors import unknown_name
from gdlab.report import number
from gdlab.study.cells import Unmeasured

if TYPE_CHECKING:
  from gdlab.study.registry import Study


class View:
  """The argument of effects, pictures and tables: the configuration, and the results of one set of seeds.

  A study may use a subclass, with quantities that several effects share.

  Attributes:
    config: the configuration, with the seeds of this set.
    confidence: the confidence that intervals of effects must have, so that all verdicts of a claim hold simultaneously.
  """

  confidence = 0.95

  def __init__(
    self,
    study: 'Study',
    config: Any,
    cells: Mapping[str, xr.Dataset | None],
    comparisons: Mapping[str, Callable[[], Comparison] | None],
  ):
    self.config, self._study, self._cells, self._comparisons = config, study, cells, comparisons

  def with_confidence(self, confidence: float) -> Self:
    """The same view, for intervals of this confidence."""
    other = copy.copy(self)
    other.confidence = confidence
    return other

  def cell(self, name: str) -> xr.Dataset:
    """The result of a cell."""
    if name not in self._cells:
      raise unknown_name('cell', name, self._cells)
    if (found := self._cells[name]) is None:
      raise Unmeasured([name])
    return found

  def comparison(self, name: str) -> Comparison:
    """The result of a comparison on this set's seeds, tuned on its tuning seeds."""
    if name not in self._comparisons:
      raise unknown_name('comparison', name, self._comparisons)
    if (make := self._comparisons[name]) is None:
      raise Unmeasured([name])
    return make()

  def conditions(self, claim: str) -> str:
    """The conditions of a claim, in words: those of the study, and the tuned choices of its comparisons."""
    under = self._study.under[claim]
    words = (self._study.conditions, under(self) if callable(under) else under)
    told = [part.format(config=self.config) for part in words if part]
    for name in self._study.compared[claim]:
      answer = self.comparison(name)
      told += [
        _chosen(arm.name, budget, arm.best(budget, problem), arm.at_an_end(budget, problem))
        for problem in answer.problems
        for budget in answer.budgets
        for arm in answer.arms.values()
        if arm.best(budget, problem)
      ]
    return '; '.join(told)


def _chosen(arm: str, budget: str, point: Mapping[str, Any], ends: Sequence[str]) -> str:
  parts = [
    f'{name} {number(value) if isinstance(value, float) else value}'
    + (' (an end of those tried)' if name in ends else '')
    for name, value in point.items()
  ]
  return f'{arm} at equal {budget}: {", ".join(parts)}'
