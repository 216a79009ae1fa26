"""Malformed calls of the public functions: an InputError of one line that names argument and value, or a valid result.

Each public function has one valid call (valid_calls*.py). In it one argument after another is replaced by every bad
value of malformed.py. What returns must be allowed by the table, kind by kind, and be free of NaN, so that a function
which computes nonsense without a word fails here as one does that ends in a traceback of JAX.
"""

import collections
import inspect
import re
import signal
import warnings
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from allowed import ALLOWED, UNDEFINED
from malformed import bad_values, is_key, listed
from valid_calls import CALLS, NOT_COVERED, PICTURES, STUDIES, public_functions

import gdlab

SECONDS = 10
refused: collections.Counter[str] = collections.Counter()


class TooLong(BaseException):
  """A call that would have hung."""


def _stop(number: int, frame: Any) -> None:
  raise TooLong


def has_nan(value: Any) -> bool:
  """Whether some number in a result is NaN; in a function or another object none is seen."""
  leaves = []
  for leaf in jax.tree.leaves(value):
    is_data = isinstance(leaf, xr.Dataset)
    leaves += (
      [part.values for part in leaf.data_vars.values()] if is_data else [getattr(leaf, 'values', leaf)]
    )
  kinds = float, np.ndarray, np.generic, jax.Array
  arrays = [np.asarray(leaf) for leaf in leaves if isinstance(leaf, kinds) and not is_key(leaf)]
  return any(np.isnan(array).any() for array in arrays if array.dtype.kind in 'fc')


def outcome(name: str, argument: str, kind: str, value: Any) -> str:
  """'refused', 'allowed', or what is wrong with what the call came to."""
  function, call = public_functions()[name], CALLS[name]
  arguments = {**call.make(), argument: value}
  before = signal.signal(signal.SIGALRM, _stop)
  signal.alarm(SECONDS)
  try:
    with warnings.catch_warnings(), jax.enable_x64(call.double):
      warnings.simplefilter('error')
      result = call.use(function(**arguments))
  except gdlab.InputError as error:
    # `starts` are the `params` of many, and data are inputs and targets.
    names = {
      argument,
      *arguments,
      *(['params'] if 'starts' in arguments else []),
      *(value if isinstance(value, dict) else ()),
    }
    return wrong_message(str(error), names | ({'inputs', 'targets'} if 'data' in names else set()))
  except TooLong:
    return f'took over {SECONDS} s'
  except BaseException as error:
    text = str(error).splitlines()
    return f'raised {type(error).__name__}: {text[0] if text else ""}'
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
  if kind in listed(UNDEFINED, name, argument):
    return 'allowed' if has_nan(result) else 'returned a number where none is defined'
  if has_nan(result):
    return 'returned NaN'
  if kind not in listed(ALLOWED, name, argument):
    return f'returned {" ".join(repr(result).split())[:100]}'
  return 'allowed'


def wrong_message(message: str, names: set[str]) -> str:
  """'refused' for a message of one line that names the argument and says what was given; else what it lacks."""
  if '\n' in message:
    return f'refused in {len(message.splitlines())} lines: {message.splitlines()[0]}'
  # Where two arguments do not fit each other, either may be named; `unknown metric 'x'` is one of `metrics`.
  if not any(re.search(rf'\b{re.escape(name.removesuffix("s"))}', message) for name in names):
    return f'refused without the name of the argument: {message}'
  if not re.search(r'\b(got|found)\b|^unknown|cannot take|of shape', message):
    return f'refused without the value: {message}'
  return 'refused'


def arguments_of(name: str) -> list[str]:
  return list(CALLS[name].make())


@pytest.mark.parametrize('name', CALLS)
def test_the_valid_call_is_one(name):
  with warnings.catch_warnings(), jax.enable_x64(CALLS[name].double):
    warnings.simplefilter('error')
    result = CALLS[name].use(public_functions()[name](**CALLS[name].make()))
  assert not has_nan(result)


@pytest.mark.faults
@pytest.mark.parametrize('name', CALLS)
def test_malformed_calls_are_refused(name):
  wrong = []
  refused[name] += 0  # so that functions without arguments are counted as tried
  for argument in arguments_of(name):
    for kind, value in bad_values(CALLS[name].make()[argument]):
      found = outcome(name, argument, kind, value)
      refused[name] += found == 'refused'
      if found not in ('refused', 'allowed'):
        wrong.append(f'{argument}: {kind}: {found}')
  assert wrong == []
  with pytest.raises(TypeError, match='no_such_argument'):
    public_functions()[name](**CALLS[name].make(), no_such_argument=1)


def test_every_public_function_is_covered():
  elsewhere = {name for name in public_functions() if name.startswith((PICTURES, STUDIES))}
  assert {*public_functions()} - elsewhere == {*CALLS} | {*NOT_COVERED}
  assert {*CALLS} & {*NOT_COVERED} == set()


@pytest.mark.faults
def test_enough_was_refused(capsys):
  if len(refused) < len(CALLS):
    pytest.skip('the whole file has to run')
  with capsys.disabled():
    print(f'\ninputs refused: {refused.total()} (of {len(CALLS)} functions)')
  assert refused.total() >= 1000


def test_what_the_judge_catches():
  assert wrong_message('rate must be a real number, got nan', {'rate'}) == 'refused'
  assert wrong_message('it must be a real number, got nan', {'rate'}) != 'refused'
  assert wrong_message('rate must be a real number', {'rate'}) != 'refused'
  assert wrong_message('rate is bad\ngot nan', {'rate'}) != 'refused'
  assert has_nan({'a': (1.0, np.array([np.nan]))})
  assert not has_nan({'a': (1.0, np.array([1, 2]), sum)})
  assert inspect.isfunction(public_functions()['theory.fastest'])
