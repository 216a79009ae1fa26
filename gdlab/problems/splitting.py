"""Validation sets taken from a problem's training examples, and new random splits of its data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.core.objective import take
from gdlab.core.types import Known, Problem, PyTree
from gdlab.problems.checks import check_problem
from gdlab.problems.drifting import DriftingExamples
from gdlab.problems.functions import Draws
from gdlab.problems.quadratics import QuadraticExamples

# Examples that differ but are not a sample from a distribution.
NO_SAMPLES = {
  Draws: 'are fixed draws of noise, and updates draw others',
  DriftingExamples: 'come in the order of a stream',
  QuadraticExamples: 'are one function with noise that sums to zero over all of them',
}


@checked('validation', 'seed', 'train')
def split(problem: Problem, *, validation: float, seed: int = 0, train: int | None = None) -> Problem:
  r"""The problem with some of its training examples moved into a validation set.

  Of the N training examples $n = \mathrm{round}(\text{share} \cdot N)$, or a given number, are drawn without
  replacement and become `Problem.validation`; the others stay `Problem.train`. Both parts keep the order of the
  examples. The test set is unchanged, and what was known exactly of the old training loss is dropped. Runs then also
  report metrics `validation_<name>`.

  Examples are assumed to be independent: what two of them share (overlapping windows of a text, images of one person)
  may end up in both parts.

  Example:
    >>> import gdlab
    >>> problem = gdlab.problems.split(gdlab.problems.digits(), validation=0.2, seed=1)
    >>> problem.num_examples, len(problem.validation.targets), len(problem.test.targets)
    (1150, 287, 360)

  Args:
    problem: without a validation set, and with at least 2 training examples that differ.
    validation: a share in (0, 1), a float; or a number of examples in [1, N - 1], an integer.
    seed: >= 0, of the draw.
    train: how many of the others stay, also drawn at random; None for all.

  Raises:
    InputError: an argument out of range, or a share that leaves a part empty; a problem that has a validation set, or
      whose examples are not a sample: a landscape (also with noise, as its examples are all the same), a function with
      noise, `quadratic`, a drifting stream.
  """
  check_problem(problem)
  _check_sample(problem)
  seed = check_count('seed', seed, minimum=0)
  total = problem.num_examples
  if isinstance(validation, int | np.integer) and not isinstance(validation, bool):
    count = check_count('validation', validation, maximum=total - 1)
  else:
    count = round(float(check_real('validation', validation, above=0, below=1)) * total)
    if not 0 < count < total:
      raise InputError(
        f'validation must be a share that leaves examples in both parts, got {validation} of {total} examples: '
        f'{count} for validation'
      )
  rest = total - count if train is None else check_count('train', train, maximum=total - count)
  moved = np.zeros(total, bool)
  rng = np.random.default_rng(seed)
  moved[rng.choice(total, size=count, replace=False)] = True
  kept = np.flatnonzero(~moved)
  if rest < kept.size:
    kept = np.sort(rng.choice(kept, size=rest, replace=False))
  return dataclasses.replace(
    problem,
    train=take(problem.train, jnp.asarray(kept)),
    validation=take(problem.train, jnp.flatnonzero(moved)),
    known=Known(),
  )


@checked('problem', 'seed')
def redraw(problem: Problem, seed: int) -> Problem:
  """The problem with a new random split of its examples: all sets are pooled and drawn again with the same sizes.

  So the test set is also a random sample: over seeds, differences between methods vary as they would over other data of
  the same kind. For `redraw=` of `gdlab.compare`.

  Example:
    >>> import gdlab
    >>> problem = gdlab.problems.split(gdlab.problems.digits(), validation=0.2)
    >>> other = gdlab.problems.redraw(problem, seed=1)
    >>> other.num_examples, len(other.validation.targets), len(other.test.targets)
    (1150, 287, 360)

  Args:
    problem: with examples that are a sample, as for `split`, and at least one held-out set.
    seed: >= 0, of the draw.

  Raises:
    InputError: if there is no held-out set, or the examples are not a sample; a seed out of range.
  """
  check_problem(problem)
  _check_sample(dataclasses.replace(problem, validation=None))
  seed = check_count('seed', seed, minimum=0)
  sets = [name for name in ('train', 'validation', 'test') if getattr(problem, name) is not None]
  if sets == ['train']:
    raise InputError(f'problem must have a validation or test set to redraw, and {problem.name!r} has none')
  counts = [jax.tree.leaves(getattr(problem, name))[0].shape[0] for name in sets]
  pooled = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(getattr(problem, name) for name in sets))
  order = np.random.default_rng(seed).permutation(sum(counts))
  parts = np.split(order, np.cumsum(counts)[:-1])
  drawn = {name: take(pooled, jnp.asarray(np.sort(part))) for name, part in zip(sets, parts, strict=True)}
  return dataclasses.replace(problem, known=Known(), **drawn)


def _check_sample(problem: Problem) -> None:
  """Raises InputError for a problem whose training examples cannot be split."""
  if problem.validation is not None:
    count = jax.tree.leaves(problem.validation)[0].shape[0]
    raise InputError(
      f'problem must have no validation set yet, got {problem.name!r} with one of {count} examples'
    )
  for kind, reason in NO_SAMPLES.items():
    if isinstance(problem.train, kind):
      raise InputError(f'problem must have examples to split, and those of {problem.name!r} {reason}')
  if problem.num_examples < 2:
    raise InputError(
      f'problem must have at least 2 training examples to split, got {problem.name!r} with {problem.num_examples}'
    )
  if _all_equal(problem.train):
    raise InputError(
      f'problem must have examples to split, and the {problem.num_examples} of {problem.name!r} are all the same'
    )


def _all_equal(examples: PyTree) -> bool:
  def equal(leaf: np.ndarray) -> bool:
    return bool((leaf == leaf[:1]).all())

  leaves = jax.tree.leaves(examples)
  # Two examples first: nearly always they differ, and data sets are large.
  return all(equal(np.asarray(leaf[:2])) for leaf in leaves) and all(
    equal(np.asarray(leaf)) for leaf in leaves
  )
