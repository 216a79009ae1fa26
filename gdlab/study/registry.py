"""A study as a registry: what is measured, compared, claimed and told, each by a decorated function."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import xarray as xr
from matplotlib.figure import Figure

from gdlab.claims import Finding, Rule, Verdict
from gdlab.comparison.answer import Comparison
from gdlab.comparison.comparing import compare
from gdlab.core.errors import InputError, unknown_name
from gdlab.plots.style import to_svg
from gdlab.report import Section, Table, number
from gdlab.statistics import Interval
from gdlab.study import app, graded
from gdlab.study.cells import Cell
from gdlab.study.graded import Asked, Effect, Story
from gdlab.study.schema import Config, Seeds
from gdlab.study.workdir import Results

GROUPS = 2  # sets of seeds: the first gives the verdicts, the second grades them again


class Told(NamedTuple):
  """A section of the page: its words, and the function of a `View` that draws its picture or makes its table."""

  heading: str
  text: tuple[str, ...]
  caption: str
  make: 'Callable[[View], Figure | Table]'


class View:
  """What effects, pictures and tables are given: the configuration, and what one set of seeds has measured."""

  def __init__(
    self,
    study: 'Study',
    config: Any,
    cells: Mapping[str, xr.Dataset],
    comparisons: Mapping[str, Comparison],
    group: int,
  ):
    self.config, self.group = config, group
    self._study, self._cells, self._comparisons = study, cells, comparisons

  @property
  def seeds(self) -> list[int]:
    """The ids of this set."""
    return self.config.seeds.ids(self.group)

  def cell(self, name: str) -> xr.Dataset:
    """What a cell has measured, with this set's seeds where it has a dim `seed`."""
    if name not in self._cells:
      raise unknown_name('cell', name, self._cells)
    found = self._cells[name]
    return found.sel(seed=self.seeds) if 'seed' in found.dims else found

  def comparison(self, name: str) -> Comparison:
    """A comparison on this set's seeds, tuned on its tuning seeds."""
    if name not in self._comparisons:
      raise unknown_name('comparison', name, self._comparisons)
    return self._comparisons[name]

  def num_seeds(self, claim: str) -> int:
    """The least number of values behind any effect of a claim, those left out of its interval included."""
    found = [effect.measure(self) for effect in self._study.claims[claim].effects]
    return min(interval.num + interval.excluded for interval in found)

  def conditions(self, claim: str) -> str:
    """Under what a claim was tested, in words: those of the study, and what was chosen in its comparisons."""
    told = [self._study.conditions.format(config=self.config)]
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


class Study:
  """A study: registered by decorators, run by `main`.

  Example: tests/study/own_study.py, which runs on an installed gdlab alone.

  Args:
    config: the model of its configuration, with a field `seeds: Seeds`.
    title: of its page.
    question: what is asked, in a sentence or two.
    conditions: under what all of it holds, in words; `{config.name}` is filled in.
    module: of the command that runs it, such as 'experiments.variants'; by default the file that was started.
  """

  def __init__(self, config: type[Config], *, title: str, question: str, conditions: str, module: str = ''):
    field = config.model_fields.get('seeds')
    if field is None or field.annotation is not Seeds:
      raise InputError(f'config must have a field `seeds: Seeds`, and {config.__name__} has none')
    self.config, self.title, self.question, self.conditions, self.module = (
      config,
      title,
      question,
      conditions,
      module,
    )
    self.claims: dict[str, Asked] = {}
    self.compared: dict[str, tuple[str, ...]] = {}
    self._cells: dict[str, tuple[Callable[..., xr.Dataset], tuple[str, ...], bool]] = {}
    self._comparisons: dict[str, Callable[[Any], Mapping[str, Any]]] = {}
    self._sections: list[Told] = []

  def cell(self, *needs: str, alone: bool = False) -> Callable:
    """Registers `(config, *results of needs, progress) -> Dataset`, measured once and kept under the function's name.

    Args:
      *needs: names of earlier cells, whose results it is given.
      alone: whether nothing else may be measured meanwhile, because it measures time.
    """

    def add(function: Callable[..., xr.Dataset]) -> Callable[..., xr.Dataset]:
      _check_new('cell', function.__name__, self._cells)
      self._cells[function.__name__] = function, needs, alone
      return function

    return add

  def comparison(self, function: Callable[[Any], Mapping[str, Any]]) -> Callable[[Any], Mapping[str, Any]]:
    """Registers `(config) -> the arguments of gdlab.compare`; the study gives the seeds, one set after the other."""
    _check_new('comparison', function.__name__, self._comparisons)
    self._comparisons[function.__name__] = function
    return function

  def claim(self, name: str, statement: str, *compared: str) -> Callable[[str, Rule], Callable]:
    """Registers a claim; returns the decorator of its parts, `part(effect in words, rule)(effect)`.

    An effect is `(view) -> Interval`. A claim with several parts is supported if all of them are.

    Args:
      name: its stable id, such as 'V5'.
      statement: in words.
      *compared: the comparisons that it rests on, for its conditions.
    """
    _check_new('claim', name, self.claims)
    self.claims[name] = Asked(statement, ())
    self.compared[name] = compared

    def part(words: str, rule: Rule, **options: Any) -> Callable:
      def add(function: Callable[..., Interval]) -> Callable[..., Interval]:
        asked = self.claims[name]
        effect = Effect(words, rule, functools.partial(function, **options))
        self.claims[name] = asked._replace(effects=(*asked.effects, effect))
        return function

      return add

    return part

  def section(self, heading: str, *text: str, caption: str = '') -> Callable:
    """Registers `(view) -> Figure or Table`, a section of the page; `{config.name}` in its words is filled in."""

    def add(function: Callable[[View], Figure | Table]) -> Callable[[View], Figure | Table]:
      self._sections.append(Told(heading, text, caption, function))
      return function

    return add

  def cells(self, given: ml_collections.ConfigDict) -> list[Cell]:
    """The cells of a configuration, for the process that runs the study and for its workers."""
    config = self.config.checked(given.to_dict())
    return [
      Cell(name, functools.partial(function, config), needs, alone)
      for name, (function, needs, alone) in self._cells.items()
    ]

  def finish(
    self, given: ml_collections.ConfigDict, cells: Mapping[str, xr.Dataset], workdir: pathlib.Path
  ) -> None:
    """Makes the comparisons that are not in the folder, grades the claims on both sets of seeds, writes the page.

    Comparisons are made in this process, on all of its devices: workers measure cells.
    """
    config: Any = self.config.checked(given.to_dict())
    if empty := [name for name, asked in self.claims.items() if not asked.effects]:
      raise InputError(f'claim {empty[0]!r} must have at least one part')
    results, views = Results(workdir, given), []
    for group in range(GROUPS):
      answers = {
        name: compare(
          **{'seeds': config.seeds.count, 'tuning_seeds': config.seeds.tuning} | dict(make(config)),
          first_seed=config.seeds.first[group],
          stored=functools.partial(results.stored, f'{name} {group}'),
        )
        for name, make in self._comparisons.items()
      }
      views.append(View(self, config, cells, answers, group))
    findings, again = (graded.grade_all(self.claims, view) for view in views)
    graded.conclude(
      workdir,
      Story(self.title, (self.question, lead(findings)), self._told(views[0])),
      findings,
      results.all(),
      module=self.module,
      again=again,
      replication='on other seeds, tuned anew on other tuning seeds',
    )

  def _told(self, view: View) -> list[Section]:
    sections = []
    for told in self._sections:
      made, text = told.make(view), tuple(words.format(config=view.config) for words in told.text)
      caption = told.caption.format(config=view.config)
      if isinstance(made, Table):
        sections.append(Section(told.heading, text, caption=caption, table=made))
      else:
        sections.append(Section(told.heading, text, to_svg(made), caption))
    return sections

  def main(self, default_config: str | None = None) -> None:
    """Runs the study from the command line: `--config.key=value --workdir=DIR`, and `--workers=N` or `--dask=...`.

    Args:
      default_config: a file with `get_config()`, which `--config=FILE` replaces; None for the model's own defaults.
    """
    app.main(self.cells, self.finish, default_config or self.config.defaults())


def _check_new(kind: str, name: str, known: Mapping[str, Any]) -> None:
  if name in known:
    raise InputError(f'{kind} must have a name of its own, got {name!r} twice')


def lead(findings: Sequence[Finding]) -> str:
  """How many statements were tested, and what came out."""
  counts = [(sum(finding.verdict is verdict for finding in findings), verdict) for verdict in Verdict]
  parts = [f'{count} {verdict}' for count, verdict in counts if count]
  return f'{len(findings)} statement{"s were" if len(findings) > 1 else " was"} tested: {", ".join(parts)}.'
