"""Predicting the next character of a text: the file, its vocabulary, and windows of it as examples."""

import functools
import hashlib
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real, shown
from gdlab.core.types import Array, Examples, Key, Problem
from gdlab.problems.language_models import Transformer
from gdlab.problems.linen import from_linen
from gdlab.problems.nnx import from_nnx

SHAKESPEARE_SHA256 = '86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed'


@checked('path')
def character_lm(
  model: Callable[[int], Any] = Transformer,
  path: str | os.PathLike[str] | None = None,
  *,
  context: int = 64,
  stride: int | None = None,
  test_fraction: float = 0.1,
) -> Problem:
  r"""Predicting each character of a text from those before it.

  An example is a window of the text: inputs int32[N, T], the ids of T successive characters, and targets
  int32[N, T], of the characters that follow each. $\ell_i(\theta) = -\frac1T \sum_t \log p_\theta(y_{it} \mid
  x_{i1} \ldots x_{it})$, in nats per character; the metric 'accuracy' is the share of positions where the most likely
  character is the right one. The end of the text is the test set, in windows that do not overlap. Ids number the
  characters of the whole text in order of their code points, see `vocabulary`.

  Example:
    >>> problem = character_lm(context=32)
    >>> problem.train.inputs.shape[1], decode(problem.train.inputs[0], vocabulary(read_text()))[:16]
    (32, 'There is an old ')

  Args:
    model: `(vocabulary_size) -> Linen module` from ids [B, T] to logits [B, T, V]: the class
      `gdlab.problems.Transformer` or `GRU`, `functools.partial(Transformer, width=32)`, or a function; for NNX
      `(vocabulary_size) -> (nnx.Rngs) -> nnx.Module`.
    path: a text file in UTF-8; None for an excerpt of about 20,000 characters that comes with gdlab.
    context: T >= 1.
    stride: distance between the starts of successive training windows, in characters, >= 1; by default T, so that
      windows do not overlap.
    test_fraction: share of the text that is held out, in [0, 1); at 0 there is no test set.

  Raises:
    InputError: the file cannot be read or is not UTF-8; one of its two parts is shorter than a window; an argument
      out of range; `model` does not make a Linen or NNX module, or makes one with too few outputs.
  """
  return _problem(model, read_text(path), context, stride, test_fraction, 'character model')


@checked('data_dir')
def shakespeare(
  model: Callable[[int], Any] = Transformer,
  data_dir: str | os.PathLike[str] | None = None,
  *,
  context: int = 64,
  stride: int | None = None,
  test_fraction: float = 0.1,
) -> Problem:
  """`character_lm` on Tiny Shakespeare: 1,115,394 characters of English plays, 65 different ones.

  The file `input.txt` is taken from `data_dir` if given, else from the folder `tinyshakespeare` in $GDLAB_DATA, and
  checked by its SHA-256. It is not downloaded.

  Args:
    model: as for `character_lm`.
    data_dir: a folder with the file.
    context: as for `character_lm`.
    stride: as for `character_lm`.
    test_fraction: as for `character_lm`; at 0.1 the last tenth is held out, as is customary.

  Raises:
    InputError: the file is missing or has other contents; else as for `character_lm`.

  Source: A. Karpathy, char-rnn, 2015.
  """
  data = os.environ.get('GDLAB_DATA')
  if data_dir is None and not data:
    raise InputError(
      'Tiny Shakespeare: give the folder of its input.txt as data_dir, or put it into a folder tinyshakespeare and '
      'set GDLAB_DATA to the folder that holds it'
    )
  if not isinstance(data_dir, (str, os.PathLike, type(None))):
    raise InputError(f'data_dir must be the path of a folder, or None, got {shown(data_dir)}')
  path = Path(data or '', 'tinyshakespeare', 'input.txt') if data_dir is None else Path(data_dir, 'input.txt')
  text = read_text(path)
  if (found := hashlib.sha256(text.encode()).hexdigest()) != SHAKESPEARE_SHA256:
    raise InputError(f'{path}: expected a text with SHA-256 {SHAKESPEARE_SHA256}, found {found}')
  return _problem(model, text, context, stride, test_fraction, 'shakespeare')


@checked('path')
def read_text(path: str | os.PathLike[str] | None = None) -> str:
  """The text of a UTF-8 file, with its line ends unchanged; for None, the excerpt that comes with gdlab.

  Raises:
    InputError: `path` is not a path; the file cannot be read or is not UTF-8.
  """
  if path is None:
    return resources.files('gdlab.problems').joinpath('data', 'descent.txt').read_text(encoding='utf-8')
  if not isinstance(path, (str, os.PathLike)):
    raise InputError(f'path must be that of a text file, or None, got {shown(path)}')
  try:
    return Path(path).read_bytes().decode('utf-8')
  except OSError as error:
    raise InputError(f'path {path}: expected a readable text file, found {error.strerror}') from None
  except UnicodeDecodeError as error:
    raise InputError(f'{path}: expected a text in UTF-8, found {error}') from None


@checked
def vocabulary(text: str) -> str:
  """The distinct characters of a text in order of their code points; a character's id is its position here."""
  return ''.join(sorted(set(text)))


@checked
def encode(text: str, characters: str) -> np.ndarray:
  """The ids of a text, int32[len(text)].

  Raises:
    InputError: the text has a character that is not among `characters`.
  """
  ids = {character: place for place, character in enumerate(characters)}
  if strange := set(text) - set(ids):
    raise InputError(f'text must consist of the given characters, got {min(strange)!r}')
  return np.array([ids[character] for character in text], np.int32)


@checked('ids')
def decode(ids: Array | np.ndarray, characters: str) -> str:
  """The text of ids int[T].

  Raises:
    InputError: ids that are not whole numbers in one dimension, or not positions in `characters`.
  """
  places = np.asarray(ids)
  if places.ndim != 1 or (places.size and not np.issubdtype(places.dtype, np.integer)):
    raise InputError(f'ids must be whole numbers in one dimension, got {shown(ids)}')
  wrong = places[(places < 0) | (places >= len(characters))]
  if wrong.size:
    raise InputError(f'ids must be in [0, {len(characters) - 1}], places in characters, got {wrong[0]}')
  return ''.join(characters[i] for i in places.tolist())


@checked('length', 'context', 'temperature')
def sample_text(
  predict: Callable[[Array], Array],
  prompt: str,
  characters: str,
  *,
  length: int,
  key: Key,
  context: int = 64,
  temperature: float = 1.0,
) -> str:
  r"""Text sampled from a character model, one character at a time.

  $p(c) \propto \exp(z_c / \tau)$ with the logits z at the last character; at temperature 0 the most likely one. The
  model gets the last `context` characters. While there are fewer, its window is padded at the end, so it must be
  causal.

  Example:
    >>> next_one = lambda ids: 30.0 * jax.nn.one_hot((ids + 1) % 3, 3)  # instead of a trained model
    >>> sample_text(next_one, 'ab', 'abc', length=5, key=jax.random.key(0))
    'abcabca'

  Args:
    predict: ids int32[1, T] -> logits [1, T, V]; for a problem of `character_lm` for instance
      `functools.partial(module.apply, gdlab.to_flax(problem, params))`, or for NNX `gdlab.to_flax(problem, params)`.
    prompt: the beginning of the text, at least one character.
    characters: `vocabulary` of the training text.
    length: how many characters to add, >= 1.
    key: for the draws.
    context: T >= 1.
    temperature: tau >= 0.

  Returns:
    The prompt followed by the sampled characters.

  Raises:
    InputError: an argument out of range, or a character of the prompt that is not in `characters`.
  """
  check_count('length', length)
  check_count('context', context)
  check_real('temperature', temperature, minimum=0)
  if not prompt:
    raise InputError('prompt must have at least one character')
  begun = encode(prompt, characters)[-context:]
  window = jnp.zeros(context, jnp.int32).at[: len(begun)].set(begun)

  def write(state: tuple[Array, Array], key: Key) -> tuple[tuple[Array, Array], Array]:
    window, count = state
    logits = predict(window[None])[0, count - 1]
    chosen = jnp.argmax(logits) if temperature == 0 else jax.random.categorical(key, logits / temperature)
    chosen = chosen.astype(jnp.int32)
    full = count == context
    moved = jnp.where(full, jnp.roll(window, -1), window)
    place = jnp.where(full, context - 1, count)
    return (moved.at[place].set(chosen), jnp.minimum(count + 1, context)), chosen

  keys = jax.random.split(key, length)
  _, added = jax.jit(functools.partial(jax.lax.scan, write))((window, jnp.int32(len(begun))), keys)
  return prompt + decode(np.asarray(added), characters)


def windows(ids: np.ndarray, context: int, stride: int) -> Examples:
  """Windows of `context` ids, one every `stride` ids; the targets are the ids one position later."""
  starts = np.arange(0, len(ids) - context, stride)[:, None] + np.arange(context)
  return Examples(ids[starts], ids[starts + 1])


def _problem(
  model: Callable[[int], Any],
  text: str,
  context: int,
  stride: int | None,
  test_fraction: float,
  name: str,
) -> Problem:
  context = check_count('context', context)
  stride = context if stride is None else check_count('stride', stride)
  test_fraction = float(check_real('test_fraction', test_fraction, minimum=0, below=1.0))
  if isinstance(model, nn.Module | nnx.Module) or not callable(model):
    raise InputError(
      'model must be a function (vocabulary_size) -> flax.linen.Module, or -> a function (nnx.Rngs) -> nnx.Module, got '
      f'{shown(model)}'
    )
  characters = vocabulary(text)
  cut = len(text) - round(test_fraction * len(text))
  parts = [text[:cut], text[cut:]] if test_fraction else [text]
  for part in parts:
    if len(part) <= context:
      raise InputError(
        f'context must be less than the length of the training and of the test text, {[*map(len, parts)]}, '
        f'got {context}'
      )
  ids = [encode(part, characters) for part in parts]
  module = model(len(characters))
  train, *test = (windows(part, context, step) for part, step in zip(ids, (stride, context)))
  adapter: Any = from_linen if isinstance(module, nn.Module) or not callable(module) else from_nnx
  return adapter(module, train, _loss, test=test[0] if test else None, metrics={'accuracy': _hits}, name=name)


def _loss(logits: Array, ids: Array) -> Array:
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, ids), axis=-1)


def _hits(logits: Array, ids: Array) -> Array:
  return jnp.mean(jnp.argmax(logits, axis=-1) == ids, axis=-1, dtype=logits.dtype)
