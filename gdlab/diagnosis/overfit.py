"""Whether a model can fit a few of its examples: if not, the fault is in the model or the data, not in training."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
import optax

from gdlab.analysis.blocks import evenly_spaced
from gdlab.core.arguments import checked
from gdlab.core.dependence import mixes_in_evaluation
from gdlab.core.errors import check_count, check_real
from gdlab.core.objective import take
from gdlab.core.types import Algorithm, Examples, Known, Problem, PyTree
from gdlab.sampling import full_batch
from gdlab.training.sweeps import sweep
from gdlab.updates.compose import algorithm

RATES = (1e-3, 1e-2)  # Adam's; the better one counts
FITTED_LOSS = 0.01  # of the loss at the start: counts as fitted where there is no accuracy


class OverfitSmall(NamedTuple):
  """Whether a model fits a few examples perfectly.

  Attributes:
    fits: whether it does: accuracy 1 or, without an accuracy, the loss at most `tolerance` times the first.
    num_examples: number of examples.
    first_loss: their mean loss at the start.
    loss: the lowest reached.
    accuracy: the highest reached; NaN where the problem has none.
    steps: updates after which it fitted; -1 if it did not.
    words: the verdict; for a model that does not fit, with the shapes in its loss and likely causes.
  """

  fits: bool
  num_examples: int
  first_loss: float
  loss: float
  accuracy: float
  steps: int
  words: str

  def __str__(self) -> str:
    return self.words


@checked('num_examples', 'num_steps', 'seed', 'tolerance')
def overfit_small(
  problem: Problem,
  *,
  num_examples: int = 100,
  num_steps: int = 1000,
  seed: int = 0,
  tolerance: float = FITTED_LOSS,
) -> OverfitSmall:
  """Tests whether full-batch Adam fits a few examples perfectly.

  Any sound model with more parameters than examples can, even with random labels. One that cannot has a layer that
  passes no signal, inputs that do not reach it, equal inputs with different labels, or a loss that does not depend on
  its outputs.

  A host function: two runs of `num_steps` updates, one for each of Adam's rates 0.001 and 0.01.

  Example:
    >>> import gdlab
    >>> verdict = gdlab.overfit_small(gdlab.problems.quadratic([1.0, 0.5]), num_steps=1000)
    >>> verdict.fits, verdict.num_examples
    (True, 1)

  Args:
    problem: the model and the data.
    num_examples: evenly spaced in the training set; all, if it has fewer.
    num_steps: updates, >= 10.
    seed: of the start.
    tolerance: in (0, 1): the share of the first loss that counts as fitted if the problem has no metric 'accuracy'.

  Raises:
    InputError: if an argument is out of range.
  """
  num_examples = check_count('num_examples', num_examples)
  check_count('num_steps', num_steps, minimum=10)
  check_real('tolerance', tolerance, above=0, below=1)
  seed = check_count('seed', seed, minimum=0)
  chosen = evenly_spaced(problem.num_examples, num_examples).indices
  small = dataclasses.replace(
    problem, train=take(problem.train, chosen), validation=None, test=None, known=Known()
  )
  found = sweep(small, _adam, {'rate': RATES}, num_steps=num_steps, seeds=[seed], progress=False).isel(seed=0)
  loss = found.train_loss.values
  first = float(loss[0, 0])
  if 'train_accuracy' in found:
    reached, best = found.train_accuracy.values >= 1, float(found.train_accuracy.max())
  else:
    reached, best = loss <= tolerance * first, float('nan')
  fits = bool(reached.any())
  steps = int(found.step.values[reached.any(0).argmax()]) if fits else -1
  lowest = float(np.nanmin(loss)) if np.isfinite(loss).any() else float('nan')
  count = small.num_examples
  right = '' if np.isnan(best) else f', with {best:.0%} of them right'
  if fits:
    words = f'The model fits {count} examples perfectly, after {steps} updates: '
    words += f'the loss went from {first:.3g} to {lowest:.3g}.'
  else:
    words = (
      f'The model CANNOT fit {count} examples in {num_steps} updates of Adam: the loss went from {first:.3g} to '
      f'{lowest:.3g}{right}. {_shapes_of(small)} Look for a layer that passes no signal, equal inputs with different '
      'labels, or a loss that ignores the outputs; check_gradients checks the gradient.'
    )
  return OverfitSmall(fits, count, first, lowest, best, steps, words)


def _adam(rate: float) -> Algorithm:
  return algorithm(sampler=full_batch(), optimizer=optax.adam(rate))


def _shapes_of(problem: Problem) -> str:
  """In words, the shapes in the loss, and whether they may be broadcast."""
  count = problem.num_examples
  params, model_state = jax.eval_shape(problem.init, jax.random.key(0))
  mask = jax.ShapeDtypeStruct((count,), bool)
  losses, _ = jax.eval_shape(problem.loss, params, model_state, problem.train, mask, jax.random.key(0))
  data = problem.train
  parts = {'inputs': data.inputs, 'targets': data.targets} if isinstance(data, Examples) else {'data': data}
  words = f'Shapes: {", ".join(f"{name} {_shape(part)}" for name, part in parts.items())}, '
  words += f'losses {_shape(losses)}.'
  if mixes_in_evaluation(problem, params, model_state):
    words += (
      ' The loss of one example depends on the others, in evaluation as well: unless it is contrastive, the '
    )
    words += f'likeliest cause is broadcasting, as of outputs [{count}] minus targets [{count}, 1], which is '
    words += (
      f'[{count}, {count}], and whose mean compares every output with all targets. Give both the same shape.'
    )
  return words


def _shape(tree: PyTree) -> str:
  """`float32[100, 3]`; for a tree the first three, and the number of others."""
  leaves = jax.tree.leaves(tree)
  shown = ', '.join(f'{leaf.dtype}{list(leaf.shape)}' for leaf in leaves[:3])
  return shown if len(leaves) <= 3 else f'{shown} and {len(leaves) - 3} more'
