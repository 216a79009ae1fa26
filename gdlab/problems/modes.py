"""Whether a module really has two modes, from what its outputs and its state depend on in each."""

import dataclasses
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from gdlab.core.dependence import Traced, follow, of_examples, trace
from gdlab.core.dependence.labels import BITS
from gdlab.core.errors import InputError
from gdlab.core.types import PyTree
from gdlab.problems.flags import USUAL, Flags

_KEY, _STATE, _EXAMPLES = (
  1 << 31,
  1 << 30,
  (1 << 30) - 1,
)  # labels of the key, the model's state, and the examples


class _Pass(NamedTuple):
  """Whether a forward pass draws, whether examples change the state, and whether outputs depend on the state."""

  draws: bool
  learns: bool
  reads: bool


def check_modes(
  name: str,
  model: Any,
  at: tuple[PyTree, PyTree],
  inputs: PyTree,
  holds: Collection[str],
) -> None:
  """Raises InputError if a module that should have two modes stays in one.

  By default Dropout and BatchNorm must be on in training and off in evaluation, and no unnamed boolean argument of the
  call may switch on draws or a changing state. Flags that the user names must have an effect if the module has Dropout
  or BatchNorm; with `flags={}` nothing is checked.

  Args:
    name: the module's, for messages.
    model: see `gdlab.problems.adapters.Model`.
    at: its parameters and state, shapes and dtypes.
    inputs: a batch of at most 16 inputs, shapes and dtypes.
    holds: which of 'Dropout' and 'BatchNorm' are in the module.
  """
  flags = model.flags
  if flags.given == 'none' or not (holds or flags.switches or flags.given or flags.mask):
    return
  args = _arguments(at, inputs)
  traced = trace(model.train, args)
  if flags.mask:
    _check_mask(name, traced, args)
  if flags.given:
    turned = dataclasses.replace(model, flags=flags.turned())
    if holds and str(trace(turned.train, args).program) == str(traced.program):
      told = ', '.join(flags.names())
      raise InputError(f'flags must make a difference to module {name}, and {told} makes none in training')
    return
  training, own = _pass(traced, args), _own(inputs)
  at_evaluation = (*at, inputs, args[-1])
  evaluated, doubt = follow(trace(model.evaluate, at_evaluation), at_evaluation, (0, _STATE, own, _KEY))
  if not (training.learns or training.reads or _carries(evaluated, _STATE)):
    holds = {*holds} - {'BatchNorm'}  # one that is there and never called
  on = {'Dropout': training.draws, 'BatchNorm': training.learns}
  if off := [layer for layer in sorted(holds) if not on[layer]]:
    raise InputError(_complaint(name, f'holds a {off[0]} that is off in training', flags))
  for switch, default in flags.switches:
    turned = dataclasses.replace(model, flags=flags.told(switch, not default))
    try:
      other = _pass(trace(turned.train, args), args)
    except Exception:  # what does not run that way is no mode
      continue
    if (other.draws and not training.draws) or (other.learns and not training.learns):
      what = 'draws' if other.draws and not training.draws else 'changes its state'
      raise InputError(
        _complaint(name, f'{what} only with {switch}={not default}', flags, switch, not default)
      )
  still_on = {
    'Dropout': _carries(evaluated, _KEY),
    'BatchNorm': any(_several(leaf & _EXAMPLES) for leaf in jax.tree.leaves(evaluated)),
  }
  # Where labels are only assumed, what looks stuck may be so for no more reason than that.
  if not doubt and (stuck := [layer for layer in sorted(holds) if still_on[layer]]):
    raise InputError(_complaint(name, f'holds a {stuck[0]} that is on in evaluation', flags))


def _check_mask(name: str, traced: Traced, args: tuple[Any, ...]) -> None:
  """Raises InputError if `mask` is not the batch's: it affects other examples although examples do not."""
  params, model_state, inputs, mask, key = args
  own, size = _own(inputs), len(mask)
  unknown = params, model_state, inputs, jax.ShapeDtypeStruct(mask.shape, mask.dtype), key
  labels = jax.tree.leaves(follow(traced, unknown, (0, 0, own, own << BITS(size), 0)).labels[0])
  examples = (1 << size) - 1
  masks = [leaf >> BITS(size) for leaf in labels]
  if any(_several(leaf) for leaf in masks) and not any(_several(leaf & examples) for leaf in labels):
    raise InputError(
      f"module {name} takes mask for something else than the batch's padding, bool[B]: give flags={{'mask': None}} to "
      'leave it out, and what it masks among the inputs'
    )


def _pass(traced: Traced, args: tuple[Any, ...]) -> _Pass:
  outputs, state = follow(traced, args, (0, _STATE, _own(args[2]), 0, _KEY)).labels
  return _Pass(_carries(outputs, _KEY), _carries(state, _EXAMPLES), _carries(outputs, _STATE))


def _arguments(at: tuple[PyTree, PyTree], inputs: PyTree) -> tuple[Any, ...]:
  """The arguments of a training pass on a batch without padding."""
  size = jax.tree.leaves(inputs)[0].shape[0]
  return *at, inputs, np.ones(size, bool), jax.eval_shape(lambda: jax.random.key(0))


def _own(inputs: PyTree) -> np.ndarray:
  return of_examples(jax.tree.leaves(inputs)[0].shape[0])


def _complaint(name: str, what: str, flags: Flags, switch: str = 'training', on: bool = True) -> str:
  told = flags.names()
  heard = f'is told {", ".join(told)}' if told else f'takes none of {", ".join(USUAL)}'
  meant = str(flags.as_given()) if told else '{}'
  return (
    f'module {name} {what}: its call {heard}; name the argument or attribute that switches it, with its value in '
    f"training, as in flags={{'{switch}': {on}}}, or give flags={meant} if it is meant so"
  )


def _carries(tree: PyTree, bits: int) -> bool:
  return any((leaf & bits).any() for leaf in jax.tree.leaves(tree))


def _several(labels: np.ndarray) -> bool:
  """Whether a number depends on more than one example."""
  return bool((labels & (labels - 1)).any())
