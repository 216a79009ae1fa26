"""What goes wrong with traced hyperparameters, on one line that says what to do instead."""

import contextlib
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType

import jax

from gdlab.errors import InputError

# Optax's schedules that look at their numbers, and what of `gdlab.schedules` has the same shape for tracers.
COUNTERPARTS = {
  'polynomial_schedule': 'linear',
  'linear_schedule': 'linear',
  'piecewise_constant_schedule': 'step_decay',
  'piecewise_interpolate_schedule': 'one_cycle or cosine_one_cycle',
  'exponential_decay': 'exponential_per_epoch',
  'cosine_decay_schedule': 'cosine',
  'linear_onecycle_schedule': 'one_cycle',
  'cosine_onecycle_schedule': 'cosine_one_cycle',
  'warmup_constant_schedule': 'warmup',
  'warmup_cosine_decay_schedule': 'warmup(cosine(...), ...)',
  'warmup_exponential_decay_schedule': 'warmup(exponential_per_epoch(...), ...)',
  'sgdr_schedule': 'warmup(cosine(...), ...), joined by optax.join_schedules,',
  'reduce_on_plateau': 'reduce_on_plateau',
}


@contextlib.contextmanager
def explained(names: Iterable[str]) -> Iterator[None]:
  """Turns the error of code that looks at a tracer into an InputError that names the traced hyperparameters.

  Args:
    names: of the traced hyperparameters; with none the error is raised as it is.
  """
  names = sorted(names)
  try:
    yield
  except (jax.errors.JAXTypeError, TypeError) as error:
    schedule = _schedule(error.__traceback__)
    looked = isinstance(error, jax.errors.JAXTypeError) or 'unhashable type' in str(error)
    if not names or not looked:
      raise
    traced = f'floats of the grid are traced ({", ".join(names)})'
    if schedule is not None:
      raise InputError(
        f'{traced}, and optax.{schedule} takes some of its numbers only as constants: '
        f'use gdlab.schedules.{COUNTERPARTS[schedule]} in its place'
      ) from error
    raise InputError(
      f'{traced}, and make_algorithm needs one as a constant ({str(error).splitlines()[0].rstrip(".")}): give it as '
      'whole numbers, strings or functions, for which there is a program each'
    ) from error


def _schedule(found: TracebackType | None) -> str | None:
  """The Optax schedule that was called where an error arose: the outermost, if several call one another."""
  for frame, _ in traceback.walk_tb(found):
    module, name = frame.f_globals.get('__name__', ''), frame.f_code.co_name
    if module.startswith('optax.') and name in COUNTERPARTS:
      return name
  return None
