"""A study as a registry of decorated functions: cells, comparisons, claims and sections of the page."""

import functools
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import ml_collections
import xarray as xr
from absl import flags
from matplotlib.figure import Figure

from gdlab.claims import Finding, Rule, Verdict
from gdlab.comparison.answer import Comparison
from gdlab.comparison.comparing import compare
from gdlab.core.errors import InputError, unknown_name
from gdlab.plots.style import to_svg
from gdlab.report import Section, Table
from gdlab.statistics import Interval
from gdlab.study import app, graded
from gdlab.study.cells import Cell, Unmeasured
from gdlab.study.graded import Asked, Effect, Story
from gdlab.study.schema import Config, Seeds
from gdlab.study.view import View
from gdlab.study.workdir import Results

PAGE = 9.2  # inches
Made: TypeAlias = Figure | Table | tuple[Figure, Table]


class Told(NamedTuple):
  """A registered section of the page; see `Study.section`."""

  heading: str
  text: tuple[str, ...]
  caption: str
  make: 'Callable[[View], Made]'
  printed: bool
  when: Callable[[Any], bool] | None


class Measured(NamedTuple):
  """Registered cells; see `Study.cell`."""

  function: Callable[..., xr.Dataset]
  needs: tuple[str, ...]
  over: Callable[[Any], Sequence[Any]] | None
  alone: bool
  once: bool
  when: Callable[[Any], bool] | None

  def items(self, config: Any) -> Sequence[tuple[Any, ...]]:
    """The item of each cell, `(item,)`, or `()` for a single cell."""
    if not _holds(self.when, config):
      return []
    return [()] if self.over is None else [(item,) for item in self.over(config)]

  def name(self, *item: Any) -> str:
    """The name of a cell."""
    return '_'.join(map(str, (self.function.__name__, *item)))


class Study:
  """A study: its parts are registered by decorators, `main` runs it.

  Example: `tests/study/own_study.py` of a checkout, which needs only an installed gdlab.

  Args:
    config: the class of its configuration, with a field `seeds: Seeds`.
    title: the title of its page.
    question: the question, in a sentence or two.
    conditions: the conditions of all claims, in words; `{config.name}` is filled in.
    module: the module in the command that runs it, such as 'experiments.variants'; by default the script itself.
    view: the class of the argument of effects, pictures and tables.
  """

  def __init__(
    self,
    config: type[Config],
    *,
    title: str,
    question: str,
    conditions: str = '',
    module: str = '',
    view: type[View] = View,
  ):
    field = config.model_fields.get('seeds')
    if field is None or field.annotation is not Seeds:
      raise InputError(f'config must have a field `seeds: Seeds`, and {config.__name__} has none')
    self.config, self.title, self.question, self.conditions = config, title, question, conditions
    self.module, self.view = module, view
    self.claims: dict[str, Asked] = {}
    self.compared: dict[str, tuple[str, ...]] = {}
    self.under: dict[str, str | Callable[[Any], str]] = {}
    self._when: dict[str, Callable[[Any], bool] | None] = {}
    self._measured: dict[str, Measured] = {}
    self._comparisons: dict[str, Callable[[Any], Mapping[str, Any]]] = {}
    self._sections: list[Told] = []

  def cell(
    self,
    *needs: str,
    over: Callable[[Any], Sequence[Any]] | None = None,
    alone: bool = False,
    once: bool = False,
    when: Callable[[Any], bool] | None = None,
  ) -> Callable:
    """Registers `(config, *results of needs, progress) -> Dataset`, measured once and kept under the function's name.

    Every set of seeds has its own cells, with its own `config.seeds.ids` and `config.seeds.for_tuning`.

    Args:
      *needs: names of earlier cells, whose results are arguments; `{}` in a name stands for the item.
      over: `(config) -> items`: one cell per item, called as `(config, item, ...)` and kept as `<name>_<item>`.
      alone: whether nothing else may be measured at the same time, because it measures time.
      once: whether all sets of seeds share it; it must not depend on the seeds, nor may its needs.
      when: `(config) -> bool`, whether it is measured at all; None for always.
    """

    def add(function: Callable[..., xr.Dataset]) -> Callable[..., xr.Dataset]:
      _check_new('cell', function.__name__, self._measured)
      self._measured[function.__name__] = Measured(function, needs, over, alone, once, when)
      return function

    return add

  def comparison(self, function: Callable[[Any], Mapping[str, Any]]) -> Callable[[Any], Mapping[str, Any]]:
    """Registers `(config) -> the arguments of gdlab.compare`; the study adds the seeds, for one set after another."""
    _check_new('comparison', function.__name__, self._comparisons)
    self._comparisons[function.__name__] = function
    return function

  def claim(
    self,
    name: str,
    statement: str,
    *compared: str,
    under: str | Callable[[Any], str] = '',
    when: Callable[[Any], bool] | None = None,
  ) -> Callable[..., Callable]:
    """Registers a claim; returns the decorator of its parts, `part(effect in words, rule)(effect)`.

    An effect is `(view) -> Interval`. A claim with several parts is supported if all of them are; for mixed results and
    premises see `gdlab.claims.together` and `gdlab.claims.premise`.

    Args:
      name: its stable id, such as 'V5'.
      statement: the claim in words.
      *compared: the comparisons that it uses, whose tuned choices are added to its conditions.
      under: further conditions, in words or as a function of the view; `{config.name}` is filled in.
      when: `(config) -> bool`, whether it is tested at all; None for always.
    """
    _check_new('claim', name, self.claims)
    self.under[name], self._when[name] = under, when
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

  def section(
    self,
    heading: str,
    *text: str,
    caption: str = '',
    printed: bool = False,
    when: Callable[[Any], bool] | None = None,
  ) -> Callable:
    """Registers `(view) -> Figure, Table or a tuple of both`, a section of the page.

    Args:
      heading: its heading.
      *text: paragraphs; `{config.name}` and `{view.name}` are filled in, here and in the caption.
      caption: the caption of the picture.
      printed: whether the table is also printed at the end of a run.
      when: `(config) -> bool`, whether it is on the page; None for always.
    """

    def add(function: Callable[[View], Made]) -> Callable[[View], Made]:
      self._sections.append(Told(heading, text, caption, function, printed, when))
      return function

    return add

  def sections_on(self, claim: str) -> list[str]:
    """The headings of the sections whose text or caption names a claim, as in '(V5, V6)'."""
    named = re.compile(rf'\b{re.escape(claim)}\b')
    return [told.heading for told in self._sections if named.search(' '.join((*told.text, told.caption)))]

  def cells(self, given: ml_collections.ConfigDict) -> list[Cell]:
    """The cells of a configuration, all sets of seeds included."""
    config: Any = self.config.checked(given.to_dict())
    return [cell for repeat in range(config.seeds.repeats + 1) for cell in self._cells(config, repeat)]

  def _cells(self, config: Any, repeat: int) -> list[Cell]:
    """The cells of one set of seeds, without those that it shares with the first set."""
    own = config.again(repeat)
    made, shared = [], self._shared(config)
    for measured in self._measured.values():
      for item in measured.items(own):
        name = measured.name(*item)
        if repeat and name in shared:
          continue
        needs = [need.format(*item) for need in measured.needs]
        if foreign := [need for need in needs if name in shared and need not in shared]:
          raise InputError(f'cell {name!r} is measured once and must not need {foreign[0]!r}, which is not')
        made.append(
          Cell(
            stored_name(name, repeat, shared),
            functools.partial(measured.function, own, *item),
            tuple(stored_name(need, repeat, shared) for need in needs),
            measured.alone,
          )
        )
    return made

  def _shared(self, config: Any) -> set[str]:
    """The names of cells that all sets of seeds share."""
    once = [measured for measured in self._measured.values() if measured.once]
    return {measured.name(*item) for measured in once for item in measured.items(config)}

  def seen(
    self,
    config: Any,
    repeat: int,
    cells: Mapping[str, xr.Dataset],
    comparisons: Mapping[str, Callable[[], Comparison] | None] = MappingProxyType({}),
  ) -> View:
    """The view of one set of seeds: 0 gives the verdicts, others repeat the study. Cells may be missing."""
    shared = self._shared(config)
    names = [measured.name(*item) for measured in self._measured.values() for item in measured.items(config)]
    own = {name: cells.get(stored_name(name, repeat, shared)) for name in names}
    return self.view(self, config.again(repeat), own, comparisons)

  def finish(
    self,
    given: ml_collections.ConfigDict,
    cells: Mapping[str, xr.Dataset],
    workdir: pathlib.Path,
    only: Sequence[str] = (),
  ) -> None:
    """Runs the comparisons that are not in the folder, grades the claims for every set of seeds, writes the page.

    Comparisons are made in this process, on all of its devices: workers measure cells.

    Args:
      given: the configuration.
      cells: what was measured.
      workdir: the folder.
      only: the claims that are graded; () for all that the configuration asks. Comparisons and sections that need
        more than these are left out.

    Raises:
      InputError: if the configuration does not ask one of `only`, or a claim has no part.
      Unmeasured: with cells that `only` read and that are not among those given.
    """
    config: Any = self.config.checked(given.to_dict())
    if empty := [name for name, asked in self.claims.items() if not asked.effects]:
      raise InputError(f'claim {empty[0]!r} must have at least one part')
    asked = {name: self.claims[name] for name, when in self._when.items() if _holds(when, config)}
    if unknown := [name for name in only if name not in asked]:
      raise unknown_name('claim', unknown[0], asked)
    asked = {name: claim for name, claim in asked.items() if name in (only or asked)}
    results = Results(workdir, given)
    answers = [
      {
        name: functools.cache(functools.partial(self._answer, name, config, repeat, results))
        for name in self._comparisons
      }
      for repeat in range(config.seeds.repeats + 1)
    ]
    for answer in () if only else (answer for own in answers for answer in own.values()):
      answer()
    views = [self.seen(config, repeat, cells, own) for repeat, own in enumerate(answers)]
    if absent := [
      stored_name(name, repeat, self._shared(config))
      for repeat, view in enumerate(views if only else [])
      for name in graded.unmeasured(asked, view)
    ]:
      raise Unmeasured(absent)
    findings, *again = (graded.grade_all(asked, view) for view in views)
    # Sections are of what the claims have asked for.
    made = {name: answer if answer.cache_info().currsize else None for name, answer in answers[0].items()}
    sections, printed = self._told(self.seen(config, 0, cells, made))
    words = (self.question.format(config=config), lead(findings))
    graded.conclude(
      workdir,
      Story(self.title.format(config=config), words, sections),
      findings,
      results.all(),
      module=self.module,
      again=again,
      tables=printed,
    )

  def _answer(self, name: str, config: Any, repeat: int, results: Results) -> Comparison:
    """A comparison on one set of seeds, from the folder or made now."""
    own = config.again(repeat)
    given = {'seeds': own.seeds.count, 'tuning_seeds': own.seeds.tuning} | dict(self._comparisons[name](own))
    stored = functools.partial(results.stored, stored_name(name, repeat))
    return compare(**given, first_seed=own.seeds.first, stored=stored)

  def _told(self, view: View) -> tuple[list[Section], list[Table]]:
    """The sections of the page, and the tables that are also printed."""
    sections, printed = list[Section](), list[Table]()
    for told in self._sections:
      if not _holds(told.when, view.config):
        continue
      try:
        made = told.make(view)
        text = [words.format(config=view.config, view=view) for words in (*told.text, told.caption)]
      except Unmeasured:
        continue
      parts = made if type(made) is tuple else (made,)  # a table is a tuple, too: of its class
      tables = [part for part in parts if isinstance(part, Table)]
      svg = ''.join(to_svg(_as_wide_as_the_page(part)) for part in parts if isinstance(part, Figure))
      sections.append(Section(told.heading, tuple(text[:-1]), svg, text[-1], tables[0] if tables else None))
      printed += tables if told.printed else []
    return sections, printed

  def main(self, default_config: str | None = None) -> None:
    """Runs the study from the command line: `--config.key=value --workdir=DIR`, `--workers=N` or `--dask=...`.

    `--repeat=N` does it N times again, each with other seeds, tuned anew: more repeats can be added to a folder later.
    `--claims=ID,...` asks these claims alone, and measures only what they read.

    Args:
      default_config: a file with `get_config()`, which `--config=FILE` replaces; None for the default values.
    """
    repeat = flags.DEFINE_integer('repeat', None, 'How often the study is done again with other seeds.')
    only = flags.DEFINE_list(
      'claims', [], 'The claims that are asked, of which alone the page is; by default all.'
    )

    def adjust(config: ml_collections.ConfigDict) -> None:
      if repeat.value is not None:
        config.seeds.repeats = repeat.value

    def finish(
      given: ml_collections.ConfigDict, cells: Mapping[str, xr.Dataset], workdir: pathlib.Path
    ) -> None:
      self.finish(given, cells, workdir, only.value)

    app.main(self.cells, finish, default_config or self.config.defaults(), adjust, lambda: bool(only.value))


def stored_name(name: str, repeat: int, shared: Collection[str] = ()) -> str:
  """The name under which a set of seeds stores a cell or comparison."""
  return f'{name}-{repeat}' if repeat and name not in shared else name


def _as_wide_as_the_page(figure: Figure) -> Figure:
  """The figure, at least as wide as the page."""
  width, height = figure.get_size_inches()
  figure.set_size_inches(max(width, PAGE), height)
  return figure


def _holds(when: Callable[[Any], bool] | None, config: Any) -> bool:
  return when is None or when(config)


def _check_new(kind: str, name: str, known: Mapping[str, Any]) -> None:
  if name in known:
    raise InputError(f'{kind} must have a name of its own, got {name!r} twice')


def lead(findings: Sequence[Finding]) -> str:
  """The number of statements tested, and of each verdict, in one sentence."""
  counts = [(sum(finding.verdict is verdict for finding in findings), verdict) for verdict in Verdict]
  parts = [f'{count} {verdict}' for count, verdict in counts if count]
  return f'{len(findings)} statement{"s were" if len(findings) > 1 else " was"} tested: {", ".join(parts)}.'
