"""Whether a module really has two modes: Dropout and BatchNorm on in training, off in evaluation."""

from collections.abc import Collection
from typing import Any

import jax
import numpy as np

from gdlab.dependence import follow
from gdlab.errors import InputError
from gdlab.problems.flags import USUAL, Flags
from gdlab.types import PyTree

_KEY, _OTHERS = 1 << 15, (1 << 15) - 1  # labels of the key, and of the examples


def check_modes(
  name: str, model: Any, at: tuple[PyTree, PyTree], inputs: PyTree, holds: Collection[str], flags: Flags
) -> None:
  """Raises InputError if Dropout or BatchNorm stays in one mode, by what the outputs and the state depend on.

  A module without either may have one mode; with `flags={}` the user says that one is meant.

  Args:
    name: the module's, for messages.
    model: see `gdlab.problems.adapters.Model`.
    at: its parameters and state, shapes and dtypes.
    inputs: a batch of at most 14 inputs, shapes and dtypes.
    holds: 'Dropout' and 'BatchNorm', as far as they are in the module.
    flags: what it is told.
  """
  if not holds or flags.given == 'none':
    return
  size = jax.tree.leaves(inputs)[0].shape[0]
  key, mask = jax.eval_shape(lambda: jax.random.key(0)), np.ones(size, bool)
  own = np.asarray([1 << slot for slot in range(size)], np.uint16)
  outputs, state = follow(model.train, (*at, inputs, mask, key), (0, 0, own, 0, _KEY)).labels
  evaluated, doubt = follow(model.evaluate, (*at, inputs, key), (0, 0, own, _KEY))
  on = {'Dropout': _carries(outputs, _KEY), 'BatchNorm': _carries(state, _OTHERS)}
  still_on = {
    'Dropout': _carries(evaluated, _KEY),
    'BatchNorm': any(_several(leaf & _OTHERS) for leaf in jax.tree.leaves(evaluated)),
  }
  off = [layer for layer in sorted(holds) if not on[layer]]
  if off and (flags.given == '' or len(off) == len(holds)):
    raise InputError(_complaint(name, off[0], 'off in training', flags))
  # Where labels are only assumed, what looks stuck may be so for no more reason than that.
  if flags.given == '' and not doubt and (stuck := [layer for layer in sorted(holds) if still_on[layer]]):
    raise InputError(_complaint(name, stuck[0], 'on in evaluation', flags))


def _complaint(name: str, layer: str, what: str, flags: Flags) -> str:
  told = [flag for flag, *_ in (*flags.arguments, *flags.attributes)]
  heard = f'is told {", ".join(told)}' if told else f'takes none of {", ".join(USUAL)}'
  return (
    f'module {name} holds a {layer} that is {what}: its call {heard}; name the argument or attribute that switches it, '
    "with its value in training, as in flags={'training': True}, or give flags={} if one mode is meant"
  )


def _carries(tree: PyTree, bits: int) -> bool:
  return any((leaf & bits).any() for leaf in jax.tree.leaves(tree))


def _several(labels: np.ndarray) -> bool:
  """Whether a number depends on more than one example."""
  return bool((labels & (labels - 1)).any())
