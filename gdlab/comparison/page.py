"""The page of a comparison: the answer in words, the tables, the figures, and what might change it."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from gdlab import report
from gdlab.comparison import figures
from gdlab.comparison.answer import Comparison
from gdlab.comparison.figures import words
from gdlab.comparison.search import Distribution
from gdlab.comparison.verdicts import Outcome, Row
from gdlab.host import files
from gdlab.plots.style import to_svg
from gdlab.report import Section, Table, number
from gdlab.statistics.power import MOST_SEEDS, seeds_needed


def write(answer: Comparison, path: str | os.PathLike[str], title: str) -> pathlib.Path:
  """Writes the page; see `Comparison.report`."""
  text = report.page(
    title, lead=lead(answer), sections=sections(answer), findings=(), facts=facts(answer), command=''
  )
  with files.replacing(path) as temporary:
    temporary.write_text(text, encoding='utf-8')
  return pathlib.Path(path)


def lead(answer: Comparison) -> list[str]:
  """The answer in a few sentences."""
  question, rows = answer.question, answer.verdicts
  told = []
  for row in rows:
    where = f' on {row.problem}' if len(answer.problems) > 1 else ''
    against = f'{answer.baseline} at equal {words(row.budget)}{where}'
    size = f'{_effect(answer, row)}'
    told.append(
      {
        Outcome.BETTER: f'{row.arm} is better than {against} ({size})',
        Outcome.WORSE: f'{row.arm} is worse than {against} ({size})',
        Outcome.EQUIVALENT: f'{row.arm} is as good as {against}, within the margin ({size})',
        Outcome.UNDECIDED: f'{row.arm} against {against} is undecided ({size})',
      }[row.verdict]
    )
  trials = max(entry.num_trials for entry in answer.entries.values())
  margin = f'{100 * question.margin:g} %' if question.ratio else f'{question.margin:g}'
  return [
    '. '.join(told) + '.',
    f'Graded by {words(question.graded)} at the end of a budget, over {answer.num_seeds} seeds. A difference below '
    f'{margin} was said beforehand not to matter. Every arm was chosen by {words(answer.metric)} among {trials} '
    f'trial{"s" if trials > 1 else ""} on other seeds. The intervals are simultaneous, with '
    f'{100 * question.confidence:g} % confidence, and include the uncertainty of that choice'
    + (f', over all looks up to {answer.most_seeds} seeds.' if answer.most_seeds > answer.num_seeds else '.'),
  ]


def _effect(answer: Comparison, row: Row) -> str:
  if answer.question.ratio:
    return f'{number(row.effect.estimate)} times its {words(answer.question.graded)}, {_interval(row)}'
  sign = '+' if row.effect.estimate > 0 else ''
  return f'{words(answer.question.graded)} {sign}{number(row.effect.estimate)}, {_interval(row)}'


def _interval(row: Row) -> str:
  return f'[{number(row.effect.low)}, {number(row.effect.high)}]'


def sections(answer: Comparison) -> list[Section]:
  """The parts of the page, in order."""
  first = next(iter(answer.budgets))
  found = [Section('Verdicts', svg=to_svg(figures.effects(answer)), caption=EFFECTS, table=verdicts(answer))]
  for problem in answer.problems:
    on = f' on {problem}' if len(answer.problems) > 1 else ''
    found.append(Section(f'Along the runs{on}', svg=to_svg(figures.curves(answer, problem)), caption=CURVES))
    over = (
      f'Means are over all {answer.num_seeds} seeds; rows of the verdicts keep those they were decided with.'
    )
    found.append(Section(f'What was chosen{on}', (CHOSEN, over), table=chosen(answer, problem)))
    if tuned := figures.tuning(answer, problem, first):
      drawn = ''.join(map(to_svg, tuned))
      found.append(Section(f'How much care the hyperparameters need{on}', svg=drawn, caption=TUNED))
    worth = figures.best_of(answer, problem, first)
    if worth is not None:
      found.append(Section(f'What a further trial is worth{on}', svg=to_svg(worth), caption=WORTH))
  if len(answer.problems) > 1 and all(min(row.mean, row.baseline_mean) > 0 for row in answer.verdicts):
    found += [
      Section(
        f'Over all problems, equal {words(budget)}',
        svg=to_svg(figures.profile(answer, budget)),
        caption=PROFILE,
      )
      for budget in answer.budgets
    ]
  found.append(Section('What would change this', changes(answer)))
  found.append(Section('How it was asked', seeds(answer), table=searches(answer)))
  return found


EFFECTS = 'Effects with the intervals on which the verdicts are based. Shaded: too small to matter.'
CURVES = (
  'Medians over the graded runs; bands: the middle 80 %. Every panel shows the runs of its own budget; one that would '
  'differ from another by the unit of its axis alone is left out.'
)
CHOSEN = (
  "Times as fast: the baseline's budget over the part that this arm needs for the same mean metric, by the curves of "
  'the runs (for an arm that is behind, the other way round). Near the best: the share of trials within the margin of '
  'the best.'
)
TUNED = (
  'Every trial on the tuning seeds, at the end of the first budget: medians with the middle 80 %. Dashed: the chosen '
  'trial. Dotted: a run failed.'
)
WORTH = 'Expected metric, on the tuning seeds, of the best of k trials.'
PROFILE = 'Share of problems on which an arm is within a factor of the best arm there.'


def verdicts(answer: Comparison) -> Table:
  """Every row with its numbers."""
  heads: tuple[str, ...] = (
    'arm',
    'budget',
    'verdict',
    'effect',
    'interval',
    'mean',
    answer.baseline,
    'updates',
    'failed',
    'seeds',
    'remark',
  )
  several = len(answer.problems) > 1
  rows: list[tuple[str, ...]] = [
    (
      row.arm,
      words(row.budget),
      str(row.verdict),
      number(row.effect.estimate),
      _interval(row),
      number(row.mean),
      number(row.baseline_mean),
      f'{row.updates:,} : {row.baseline_updates:,}',
      f'{row.failed} : {row.baseline_failed}',
      str(row.num_seeds),
      row.remark,
    )
    for row in answer.verdicts
  ]
  if several:
    rows = [(row.problem, *cells) for row, cells in zip(answer.verdicts, rows, strict=True)]
    heads = ('problem', *heads)
  if not any(row.remark for row in answer.verdicts):
    heads, rows = heads[:-1], [cells[:-1] for cells in rows]
  return Table(heads, rows)


def chosen(answer: Comparison, problem: str) -> Table:
  """Each arm at each budget: its chosen hyperparameters, its mean metric, its speed."""
  rows = []
  for name, arm in answer.arms.items():
    for budget in answer.budgets:
      best = arm.best(budget, problem)
      ends = arm.at_an_end(budget, problem)
      tuned = (problem, name) in answer.tuning
      speed = 1.0 if name == answer.baseline else arm.speedup(budget, problem)
      rows.append(
        (
          name,
          words(budget),
          ', '.join(
            f'{words(key)} {_shown(value)}' + (' (an end)' if key in ends else '')
            for key, value in best.items()
          )
          or 'not tuned',
          number(float(arm.final(budget, problem=problem).mean())),
          number(speed) if np.isfinite(speed) else 'at once',
          f'{100 * arm.window(budget, problem=problem).share:.0f} %' if tuned else '',
        )
      )
  return Table(
    ('arm', 'budget', 'chosen', words(answer.question.graded), 'times as fast', 'near the best'), rows
  )


def _shown(value: object) -> str:
  return f'{value:.3g}' if isinstance(value, float) else getattr(value, '__name__', str(value))


def seeds(answer: Comparison) -> list[str]:
  """Which seeds the runs had, and what of the problem changed with them."""
  first = answer.first_seed
  told = f'Graded on the seeds {first} to {first + answer.num_seeds - 1}'
  if answer.tuning:
    ids = next(iter(answer.tuning.values())).result.seed.values
    told += f', tuned on the seeds {ids.min():,} to {ids.max():,}'
  redrawn = any(entry.redraw is not None for entry in answer.entries.values())
  return [f'{told}. ' + ('Every seed has data of its own.' if redrawn else 'All seeds have the same data.')]


def searches(answer: Comparison) -> Table:
  """For each arm what was tried, how often, and how many examples an update of the first budget's runs sees."""
  budget, rows = next(iter(answer.budgets)), []
  for (problem, name), entry in answer.entries.items():
    runs = answer.arms[name].curve(budget, problem).isel(step=-1)
    seen = runs.examples.astype(float).values / np.maximum(runs.updates.values, 1)
    tried = '; '.join(f'{words(key)}: {_place(where)}' for key, where in entry.search.items())
    rows.append((problem, name, tried or 'nothing', str(entry.num_trials), f'{seen.mean():.6g}'))
  return Table(('problem', 'arm', 'searched', 'trials', 'examples per update'), rows)


def _place(where: Distribution | Sequence[object]) -> str:
  if isinstance(where, Distribution):
    return f'{where.low:g} to {where.high:g}' + (', uniform in the logarithm' if where.logarithmic else '')
  return ', '.join(map(_shown, where))


def changes(answer: Comparison) -> list[str]:
  """What may change a verdict: ends of the search, failures, few seeds."""
  told = []
  for problem in answer.problems:
    for name, arm in answer.arms.items():
      for budget in answer.budgets:
        if ends := arm.at_an_end(budget, problem):
          told.append(
            f'{name} was best at an end of the search over {" and ".join(map(words, ends))} (equal {words(budget)}, '
            f'{problem}): a wider search may find better.'
          )
        if failures := arm.num_failed(budget, problem):
          told.append(
            f'{failures} of {answer.num_seeds} graded runs of {name} failed (equal {words(budget)}, {problem}); each '
            'counts as ' + ('its start.' if answer.failed is None else f'{answer.failed:g}.')
          )
  for row in answer.verdicts:
    if row.verdict is Outcome.UNDECIDED and not row.remark:
      told.append(_seeds_needed(answer, row))
  told.append(
    'All of this holds for these problems, budgets and searches only. Means over seeds say how the methods do on this '
    'split of the data; another split may differ by more than the intervals.'
  )
  return told


def _seeds_needed(answer: Comparison, row: Row) -> str:
  """About how many seeds an undecided row may take."""
  pair = [
    answer.arms[name].final(row.budget, problem=row.problem).values for name in (row.arm, answer.baseline)
  ]
  effects = answer.question.effects(*pair)
  margin = np.log1p(answer.question.margin) if answer.question.ratio else answer.question.margin
  spread = effects.std(ddof=1)
  shared = (1 - answer.question.confidence) / len(answer.verdicts)  # Bonferroni, a little more than is needed
  needed = seeds_needed(margin / spread, significance=shared) if margin / spread > 1e-3 else MOST_SEEDS
  return (
    f'{row.arm} against {answer.baseline} at equal {words(row.budget)} ({row.problem}) is undecided: differences '
    f'between seeds have a standard deviation of {number(float(spread))}, so that about {needed:,} seeds are needed to '
    'detect an effect as large as the margin with a power of 80 %.'
  )


def facts(answer: Comparison) -> Table:
  """The origin of the results: device, versions, and the number of runs and updates."""
  runs = next(iter(answer.graded.values())).result
  names = ['device', 'git_revision'] + sorted(name for name in runs.attrs if name.startswith('version_'))
  label = {'git_revision': "git revision of gdlab's checkout"}
  rows = [[label.get(name, words(name)), str(runs.attrs[name])] for name in names if name in runs.attrs]
  every = [*answer.tuning.values(), *answer.graded.values()]
  rows.append(['runs', str(sum(int(np.prod(each.result.status.isel(step=-1).shape)) for each in every))])
  rows.append(
    ['updates of all runs', f'{sum(int(each.result.updates.isel(step=-1).sum()) for each in every):,}']
  )
  rows += [
    [
      f'microseconds of an update, {arm}, {problem}',
      ' to '.join(dict.fromkeys((number(1e6 * s.min()), number(1e6 * s.max())))),
    ]
    for (problem, arm), s in answer.seconds.items()
  ]
  return Table(('fact', 'value'), rows)
