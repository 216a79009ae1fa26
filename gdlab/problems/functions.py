"""Problems from a user's own functions: landscapes, functions with noise, and losses of single examples."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.core.types import Array, Key, Known, Problem, PyTree
from gdlab.problems.analytic import PointwiseLoss, PointwiseMetrics, of_function
from gdlab.problems.checks import as_data, check_alike, hashable
from gdlab.problems.fitting import arrays, batch_of, in_one_line
from gdlab.problems.starts import DrawnTree, FixedTree

NUM_DRAWS = 128
_DRAWS = 0x64726177  # for the fixed draws, so that they differ from those of runs


class Draws(NamedTuple):
  """The training examples of a function with noise: the numbers of the fixed draws over which metrics average."""

  numbers: Array  # int32[N]


@dataclasses.dataclass(frozen=True)
class ForEach:
  """Per-example numbers from a function of one example, `(params, example) -> []`."""

  function: Callable[[PyTree, PyTree], Array]

  def __call__(self, params: PyTree, examples: PyTree) -> Array:
    """Returns [B]."""
    return jax.vmap(self.function, (None, 0))(params, examples)


@dataclasses.dataclass(frozen=True)
class FreshDraws:
  """`Problem.loss` of `(params, key) -> float[]`: an independent draw for every slot of the batch."""

  function: Callable[[PyTree, Key], Array]

  def __call__(
    self, params: PyTree, model_state: PyTree, examples: Draws, mask: Array, key: Key
  ) -> tuple[Array, PyTree]:
    """Returns the losses, float[B], and the state unchanged."""
    return ForEach(self.function)(params, _folded(key, jnp.arange(mask.shape[0]))), model_state


@dataclasses.dataclass(frozen=True)
class FixedDraws:
  """The values of `(params, key) -> []` at the examples' fixed draws, the same at every call."""

  function: Callable[[PyTree, Key], Array]

  def __call__(self, params: PyTree, examples: Draws) -> Array:
    """Returns [B]."""
    key = jax.random.fold_in(jax.random.key(0), _DRAWS)
    return ForEach(self.function)(params, _folded(key, examples.numbers))


@checked('f', 'metrics', 'known', 'data', 'num_draws')
def from_function(
  f: Callable[..., Array],
  init: PyTree | Callable[[Key], PyTree],
  *,
  data: PyTree = None,
  test: PyTree = None,
  validation: PyTree = None,
  num_draws: int | None = None,
  metrics: Mapping[str, Callable[..., Array]] | None = None,
  known: Known | None = None,
  name: str | None = None,
) -> Problem:
  r"""The problem of minimising a given function of a pytree of parameters.

  The arguments of f decide which of three kinds it is:

  - `f(params)`, a landscape: $f(\theta)$ itself is minimised. The problem has one example, so that every batch is the
    full batch.
  - `f(params, key)`, with noise: $\mathbb E_\xi f(\theta, \xi)$ is minimised. At every update each slot of the batch
    draws independently, with a key folded from the run's noise stream, so a batch of B is the mean of B independent
    draws. The N = `num_draws` examples stand for fixed draws, the same in all runs and processes; metrics, and the
    functions of `gdlab.analysis` that measure in evaluation mode, use the mean over these. It differs from the
    expectation by about the standard deviation of f over $\sqrt N$. It does not matter which examples a sampler draws.
  - `f(params, example)`, with `data`: $\frac1N \sum_i f(\theta, x_i)$ is minimised. f gets one example, the leaves of
    `data` without their leading axis; it is mapped over batches by `jax.vmap`. (With a `while_loop` whose length
    depends on the example `gdlab.problems.mixing` cannot separate examples: functions that need single ones then
    refuse the problem.)

  Functions are traced, so they must consist of JAX operations. Arrays that they close over are constants of the
  compiled program; pass large ones as `data`. To build a problem again without compiling again, pass the same function
  object.

  Example:
    >>> import gdlab, jax.numpy as jnp, optax
    >>> bowl = from_function(lambda p: (p['x'] - 1) ** 2 + p['y'] ** 2, {'x': 0.0, 'y': 2.0}, name='bowl')
    >>> method = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.5))
    >>> gdlab.run(bowl, method, num_steps=1, seeds=1).train_loss.values.tolist()
    [[5.0, 0.0]]
    >>> points = jnp.arange(4.0)
    >>> mean = from_function(lambda center, point: (center - point) ** 2, 0.0, data=points)
    >>> gdlab.evaluate(mean, jnp.array(1.5))['train_loss'].item()
    1.25

  Args:
    f: `(params) -> float[]`, `(params, key) -> float[]`, or with data `(params, example) -> float[]`; hashable.
    init: the start of every run, a pytree of finite floats (a list is a pytree, as everywhere in JAX, and not an
      array); or `(key) -> pytree of floats`, drawn with the run's init stream.
    data: a pytree of finite arrays with one leading axis N >= 1. Floats are converted to JAX's default float.
    test: held-out examples like `data`.
    validation: further held-out examples like `data`, to choose methods and hyperparameters on.
    num_draws: N >= 1, of a function with noise; 128 by default. Not with data.
    metrics: name -> function of the arguments of f that returns one number, `[]`: a float, an integer or a boolean;
      `'loss'` is always reported.
    known: what is known exactly of the mean training loss; nothing by default.
    name: of the problem, in reports; the function's name by default.

  Raises:
    InputError: f or a metric is not a function, does not fit parameters and examples, or does not return one real
      number; `init` contains anything but floats; the data are not such arrays; held-out examples without data.
  """
  functions = _checked(f, metrics)
  start = _start(init)
  params, _ = jax.eval_shape(start, jax.random.key(0))
  known = _known(known, params)
  name = _name(f) if name is None else name
  given = {'test': test, 'validation': validation}
  others = tuple((label, functions[label]) for label in sorted(functions) if label != 'loss')

  if data is not None:
    if num_draws is not None:
      raise InputError(f'num_draws must be None with data, whose examples f is given, got {shown(num_draws)}')
    train = as_data('data', data)
    held_out = {label: as_data(label, more) for label, more in given.items() if more is not None}
    for label, more in held_out.items():
      check_alike(label, more, train)
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch_of(train))
    _check_results(
      functions, (params, example), f'parameters {arrays(params)} and an example {arrays(example)}'
    )
    named = tuple((label, ForEach(function)) for label, function in (('loss', f), *others))
    return Problem(
      start, PointwiseLoss(ForEach(f)), PointwiseMetrics(named), name, train, known=known, **held_out
    )

  for label, more in given.items():
    if more is not None:
      raise InputError(f'{label} must be None without data, got {shown(more)}')
  if _is_noisy(f, num_draws):
    count = NUM_DRAWS if num_draws is None else check_count('num_draws', num_draws)
    key = jax.eval_shape(lambda: jax.random.key(0))
    _check_results(functions, (params, key), f'parameters {arrays(params)} and a key')
    fixed = tuple((label, FixedDraws(function)) for label, function in (('loss', f), *others))
    train = Draws(jnp.arange(count, dtype=jnp.int32))
    return Problem(start, FreshDraws(f), PointwiseMetrics(fixed), name, train, known=known)
  _check_results(functions, (params,), f'parameters {arrays(params)}')
  return of_function(name, start, f, known, dict(others))


def _checked(f: Any, metrics: Any) -> dict[str, Callable]:
  """The loss and the metrics by name."""
  if metrics is not None and not isinstance(metrics, Mapping):
    raise InputError(f'metrics must be a mapping from name to function, got {shown(metrics)}')
  if 'loss' in (metrics or {}):
    raise InputError("metrics must not hold 'loss': the value of f is reported under that name")
  for label in metrics or {}:
    if not isinstance(label, str):
      raise InputError(f'metrics must have strings for names, got {shown(label)}')
  functions = {'loss': f, **(metrics or {})}
  for label, function in functions.items():
    if not callable(function):
      kinds = '(params), (params, key) or, with data, (params, example)'
      raise InputError(f'{_word(label)} must be a function of {kinds}, got {shown(function)}')
    hashable(_word(label), function)
  return functions


def _start(init: Any) -> FixedTree | DrawnTree:
  """`Problem.init`: a pytree is the start itself, even a callable one; a callable leaf draws it."""
  if callable(init) and jax.tree_util.all_leaves([init]):
    hashable('init', init)
    start = DrawnTree(init)
    with in_one_line('init must be a function of a key'):
      params, _ = jax.eval_shape(start, jax.random.key(0))
    word = 'what init returns'
  else:
    params, word = init, 'init'
  pairs = jax.tree_util.tree_leaves_with_path(params)
  if not pairs:
    raise InputError(f'{word} must hold at least one float, got {shown(params)}')
  for path, leaf in pairs:
    is_array = hasattr(leaf, 'dtype') and hasattr(leaf, 'shape')
    dtype = leaf.dtype if is_array else np.dtype(type(leaf)) if isinstance(leaf, float | complex) else None
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
      found = (
        f'{leaf.dtype}{list(leaf.shape)}' if is_array else f'{shown(leaf)} of type {type(leaf).__name__}'
      )
      raise InputError(
        f'{word} must hold floats alone, got {found} at {jax.tree_util.keystr(path) or "its root"}'
      )
  return start if word != 'init' else FixedTree.of('init', params)


def _known(known: Any, params: PyTree) -> Known:
  """What is known, as arrays on the host."""
  if known is None:
    return Known()
  if not isinstance(known, Known):
    raise InputError(f'known must be a gdlab.Known, got {shown(known)}')
  if known.params is not None:
    at = [jax.tree.map(jnp.shape, tree) for tree in (known.params, params)]
    if at[0] != at[1]:
      raise InputError(
        f'known.params must have the shapes of the parameters, {shown(at[1])}, got {shown(at[0])}'
      )
  return jax.tree.map(np.asarray, known)


def _is_noisy(f: Callable, num_draws: int | None) -> bool:
  """Whether f takes a key: `num_draws` is given, or f requires a second argument."""
  if num_draws is not None:
    return True
  try:
    parameters = inspect.signature(f).parameters.values()
  except (TypeError, ValueError):  # some built-in functions have none
    return False
  kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
  places = [parameter for parameter in parameters if parameter.kind in kinds]
  required = [parameter.name for parameter in places if parameter.default is parameter.empty]
  if len(required) > 2:
    raise InputError(
      f'f must take (params), (params, key) or, with data, (params, example), got one with {required}'
    )
  if len(required) < 2 and len(places) > 1 and places[1].name in ('key', 'rng'):
    raise InputError(
      f'f must need its {places[1].name} or not have one, got one with a default: give num_draws=... for a function '
      'with noise, or lambda params: f(params)'
    )
  return len(required) == 2


def _check_results(functions: Mapping[str, Callable], args: tuple[Any, ...], given: str) -> None:
  """Raises InputError unless each function returns one real number."""
  for label, function in functions.items():
    word = _word(label)
    with in_one_line(f'{word} cannot take {given}'):
      found = jax.eval_shape(function, *args)
    kinds = [jnp.floating] if label == 'loss' else [jnp.floating, jnp.integer, jnp.bool_]
    one = jax.tree_util.all_leaves([found])
    if not one or found.shape != () or not any(jnp.issubdtype(found.dtype, kind) for kind in kinds):
      what = 'one float, of shape ()' if label == 'loss' else 'one real number, of shape ()'
      raise InputError(
        f'{word} must return {what}, got {arrays(found) if jax.tree.leaves(found) else found} for {given}'
      )


def _word(label: str) -> str:
  return 'f' if label == 'loss' else f'metrics[{label!r}]'


def _name(f: Any) -> str:
  name = getattr(f, '__name__', type(f).__name__)
  return 'function' if name == '<lambda>' else name


def _folded(key: Key, numbers: Array) -> Key:
  """A key for each number, [B]."""
  return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
