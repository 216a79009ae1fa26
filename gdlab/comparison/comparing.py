"""`compare`: a comparison of methods, with intervals and verdicts."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

import jax

from gdlab.comparison.answer import Comparison, graded_name, judged
from gdlab.comparison.arms import Arm, Entry, check_problems, entries
from gdlab.comparison.budgets import Budgets, check_budgets, clock, ends_of
from gdlab.comparison.measuring import How, Stored, check_work, choose, measure, measured
from gdlab.comparison.verdicts import Question
from gdlab.core.errors import InputError, check_count, check_real, shown, unknown_name
from gdlab.core.evaluation import evaluate
from gdlab.core.metrics import bare, large_is_good
from gdlab.core.types import Problem
from gdlab.host import checkpoints
from gdlab.host.checkpoints import Every
from gdlab.host.progress import Progress, reporting
from gdlab.statistics import likely
from gdlab.training.plan import Plan, check_plan

TUNING = 1_000_000_000  # seeds for tuning start here
NEVER = 2**30  # updates between evaluations, except those where a budget ends
EFFECTS = ('difference', 'ratio')


def compare(
  problem: Problem | Mapping[str, Problem],
  arms: Mapping[str, Arm],
  *,
  baseline: str,
  budgets: Budgets,
  margin: float,
  metric: str | None = None,
  graded: str | None = None,
  effect: str = 'difference',
  largest: Sequence[str] | None = None,
  failed: float | None = None,
  trials: int = 16,
  tuning_seeds: int = 8,
  seeds: int = 16,
  most_seeds: int | None = None,
  first_seed: int = 0,
  confidence: float = 0.95,
  search_seed: int = 0,
  redraw: Callable[[Problem, int], Problem] | None = None,
  eval_every: int | None = None,
  keep: str | None = None,
  clock_precision: float = 0.01,
  stored: Stored | None = None,
  plan: Plan | None = None,
  checkpoint: str | os.PathLike | None = None,
  checkpoint_every: Every | None = None,
  executor: Executor | None = None,
  progress: bool | Progress | None = None,
) -> Comparison:
  r"""Compares methods with a baseline: tuned alike, graded on other seeds, at equal budgets.

  All arms have the same number of trials. For each problem and budget the trial with the best mean `metric` over the
  tuning seeds, where the budget ends, is run with the grading seeds, which tuning does not use. Runs are paired by
  seed: arms share initial parameters and, with the same sampler, the order of examples. The effect is the mean over
  seeds of the arm's graded metric minus the baseline's, or with `effect='ratio'` the geometric mean of their ratio.
  Intervals are simultaneous for all rows (arm, problem, budget), with `confidence`; see
  `gdlab.statistics.joint_intervals`. Then a row is

  - equivalent if its interval lies within the margin on both sides of no effect,
  - else better or worse if its interval is on one side of no effect,
  - else undecided.

  So the probability that any arm equal to the baseline is called "better" or "worse", or any arm that differs by the
  margin or more "equivalent", is at most 1 - `confidence`, for differences that are not very skewed.

  Example:
    >>> import optax, gdlab
    >>> def method(momentum):
    ...   def make(learning_rate):
    ...     optimizer = optax.sgd(learning_rate, momentum)
    ...     return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optimizer)
    ...   return gdlab.Arm(make, {'learning_rate': gdlab.log_uniform(0.01, 1.0)})
    >>> valley = gdlab.problems.quadratic([1.0, 0.02])
    >>> arms = {'plain': method(0.0), 'momentum': method(0.9)}
    >>> answer = gdlab.compare(
    ...   valley, arms, baseline='plain', budgets={'updates': 50}, margin=0.1, effect='ratio', seeds=8
    ... )
    >>> str(answer.verdicts[0].verdict)
    'better'

  Args:
    problem: the problem, or several by name.
    arms: name -> Arm, at least two.
    baseline: the arm with which the others are compared.
    budgets: kind -> amount, of 'updates', 'examples', 'gradient_evaluations' and 'seconds'. Seconds, of a run's updates
      without evaluations, are a number, or the name of an arm: the time that it takes for the `updates` of the budgets.
      They are measured beforehand, all arms in turn.
    margin: the smallest effect that matters, > 0: a difference of the graded metric, or with `effect='ratio'` a
      relative one. Choose it before the runs.
    metric: by which trials are chosen: 'validation_loss' by default, 'train_loss' for problems without held-out
      examples. Never of the test set.
    graded: by which arms are compared: 'test_loss' by default, 'train_loss' without a test set.
    effect: 'difference' or 'ratio'.
    largest: metrics for which larger is better, such as 'test_f1', on all sets of examples; accuracies always are.
    failed: the graded value of a run that failed (it diverged, or the value is not finite); by default that of its
      parameters before the first update, and then the side with more failed runs is neither better nor equivalent. In
      tuning, a trial with fewer failures is always better.
    trials: number per arm, from a quasi-random search; arms that search lists of values get all their combinations,
      whose number must be the same for all arms. An arm without hyperparameters is not tuned.
    tuning_seeds: number of seeds for tuning. Other tuning seeds may choose otherwise: all trials that are chosen in at
      least 5 % of the resamples of these seeds are graded, and the intervals include this uncertainty; with one tuning
      seed they cannot.
    seeds: number of grading seeds, >= 2.
    most_seeds: the limit of `extend`; None for a single look. The more it exceeds `seeds`, the wider are the intervals
      of the first look.
    first_seed: the id of the first grading seed; another id, which also changes the tuning seeds, gives a replication.
    confidence: of all verdicts together, in (0, 1).
    search_seed: of the quasi-random search.
    redraw: `(problem, seed) -> problem` with the data of that seed, also for tuning seeds, such as
      `gdlab.problems.redraw`: then the intervals hold for other data of this kind. None keeps one split of the data for
      all seeds.
    eval_every: updates between evaluations of the graded runs, as for `sweep`; there is always one where a budget ends.
    keep: as for `sweep`: 'params' keeps the parameters of the graded runs.
    clock_precision: the relative standard error of the seconds of an update, relative to the first arm's.
    stored: `(name, make) -> Dataset` returns the dataset stored under a name, or else stores and returns `make()`, so
      that a stopped comparison can be resumed. None stores nothing.
    plan: as for `sweep`.
    checkpoint: as for `sweep`: a folder from which the same comparison resumes, also for `extend`. It keeps the seconds
      of an update too, as new ones would change where a budget in seconds ends.
    checkpoint_every: as for `sweep`.
    executor: as for `sweep`.
    progress: as for `sweep`, for all runs together.

  Returns:
    A Comparison: its `verdicts`, `arms`, `extend`, and `report`.

  Raises:
    InputError: if an argument is out of range or arms do not fit the problem, before any run.
  """
  problems = check_problems(problem)
  check_real('margin', margin, above=0)
  check_real('confidence', confidence, above=0, below=1)
  for name, count, least in (('tuning_seeds', tuning_seeds, 1), ('seeds', seeds, 2)):
    check_count(name, count, minimum=least)
  most = check_count('most_seeds', seeds if most_seeds is None else most_seeds, minimum=seeds)
  check_count('first_seed', first_seed, minimum=0, maximum=TUNING - most)
  if effect not in EFFECTS:
    raise unknown_name('effect', str(effect), EFFECTS)
  if failed is not None:
    check_real('failed', failed)
  if keep not in (None, 'params'):
    raise InputError(f"keep must be None or 'params', got {shown(keep)}")
  check_real('clock_precision', clock_precision, above=0)
  check_count('search_seed', search_seed, minimum=0)
  if eval_every is not None:
    check_count('eval_every', eval_every)
  made = entries(problems, arms, baseline, trials, search_seed)
  if redraw is not None:
    made = {key: entry._replace(redraw=redraw) for key, entry in made.items()}
    for entry in made.values():
      entry.of_seed(first_seed)
  budgets = check_budgets(budgets, arms)
  metric, graded = _metrics(made, metric, graded)
  large = _large(made, largest)
  question = Question(
    graded, large_is_good(graded, large), float(margin), effect == 'ratio', float(confidence)
  )
  plan = check_plan(plan)

  place = None if checkpoint is None else checkpoints.place(checkpoint, checkpoint_every)
  if place is None and checkpoint_every is not None:
    raise InputError('checkpoint_every must be None without checkpoint, which names the folder')
  if place is not None and stored is not None:
    raise InputError('checkpoint must be None with stored, which keeps results itself')
  keeps = stored or measured
  seconds = clock(made, plan, clock_precision, keeps, place) if 'seconds' in budgets else {}
  ends = ends_of(made, budgets, seconds)
  places, tuned = range(len(budgets)), {key: entry for key, entry in made.items() if entry.num_trials > 1}
  total = sum(made[key].longest(ends[key]).sum() * tuning_seeds for key in tuned)
  # For one budget, and where one choice alone is likely, exactly.
  total += sum(entry.longest(ends[key]).max() * seeds for key, entry in made.items())
  with reporting(progress, int(total)) as report:
    how = How(keeps, place, eval_every, None, plan, executor, _told(report))
    at_ends = how._replace(eval_every=NEVER)
    tuning, chances, runs = {}, {}, {}
    for key, entry in made.items():
      chances[key] = ({0: 1.0},) * len(budgets)
      if key in tuned:
        pairs = [(trial, place) for trial in range(entry.num_trials) for place in places]
        ids = range(TUNING + first_seed, TUNING + first_seed + tuning_seeds)
        untested = entry._replace(problem=dataclasses.replace(entry.problem, test=None))
        tuning[key] = measure(f'tuning {key[0]} {key[1]}', untested, ends[key], pairs, ids, at_ends)
        chances[key] = tuple(
          likely(choose(tuning[key], entry, place, metric, large_is_good(metric, large)), tuning_seeds)
          for place in places
        )
    for key, entry in made.items():
      pairs = [(trial, place) for place in places for trial in chances[key][place]]
      ids = range(first_seed, first_seed + seeds)
      runs[key] = measure(graded_name(key, ids), entry, ends[key], pairs, ids, how._replace(keep=keep))
  kinds, amounts = [*budgets], [*budgets.values()]
  for (_, name), own in (*tuning.items(), *runs.items()):
    check_work(own, kinds, amounts, name)
  answer = Comparison(
    verdicts=(),
    problems=tuple(problems),
    baseline=baseline,
    budgets=budgets,
    question=question,
    metric=metric,
    large=large,
    seconds=seconds,
    num_seeds=seeds,
    most_seeds=most,
    first_seed=first_seed,
    failed=failed,
    entries=made,
    ends=ends,
    tuning=tuning,
    likely=chances,
    graded=runs,
    how=How(keeps, place, eval_every, keep, plan, executor, progress),
  )
  return judged(answer, 0)


def _metrics(
  made: Mapping[tuple[str, str], Entry], metric: str | None, graded: str | None
) -> tuple[str, str]:
  """The metric by which trials are chosen and the graded one, which all arms have on all problems."""
  own = [entry.problem for entry in made.values()]
  tested, validated = (
    any(getattr(each, split) is not None for each in own) for split in ('test', 'validation')
  )
  if metric is None:
    if tested and not validated:
      raise InputError(
        'problem must have a validation set, as trials are not chosen on the test set: make one by '
        'gdlab.problems.split(problem, validation=0.2), or give metric='
      )
    metric = 'validation_loss' if validated else 'train_loss'
  if str(metric).startswith('test_'):
    raise InputError(
      f'metric must not be of the test set, on which arms are graded, got {metric!r}: make a validation set by '
      'gdlab.problems.split(problem, validation=0.2)'
    )
  if graded is None:
    if validated and not tested:
      raise InputError("graded must be given for a problem without a test set, such as 'validation_loss'")
    graded = 'test_loss' if tested else 'train_loss'
  for (label, name), entry in made.items():
    begun = jax.eval_shape(entry.problem.init, jax.random.key(0))
    known = jax.eval_shape(evaluate, entry.problem, *begun)
    for what in (metric, graded):
      if what not in known:
        raise InputError(f'arms[{name!r}] on {label!r}: {unknown_name("metric", str(what), known)}')
  return metric, graded


def _large(made: Mapping[tuple[str, str], Entry], largest: Sequence[str] | None) -> tuple[str, ...]:
  """The metrics for which larger is better, without the names of their sets."""
  if isinstance(largest, str):
    raise InputError(f'largest must be a list of metrics, got {largest!r}')
  known = set[str]()
  for entry in made.values():
    begun = jax.eval_shape(entry.problem.init, jax.random.key(0))
    known |= {*jax.eval_shape(evaluate, entry.problem, *begun)}
  for name in largest or ():
    if bare(str(name)) not in {*map(bare, known)}:
      raise unknown_name('metric in largest', str(name), known)
  return tuple(bare(name) for name in largest or ())


def _told(report: Callable[[int], None]) -> Callable[[int, int], None]:
  """A progress function for successive sweeps, which reports the newly finished updates of each."""
  before = 0

  def progress(done: int, total: int) -> None:
    nonlocal before
    report(done - before)
    before = 0 if done >= total else done

  return progress
