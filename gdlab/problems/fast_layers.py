"""Products and convolutions that are fast on a CPU, for the layers of a user's module while gdlab calls it.

`nn.Dense`, `nn.Conv`, `nnx.Linear` and `nnx.Conv` have an attribute for the operation inside. If the user has not set
it, it is one of `gdlab._cpu`, which is equal up to rounding. The user's module is not changed.
"""

from typing import Any

import jax
from flax import linen as nn
from flax import nnx

from gdlab._cpu.patches import conv_general_dilated
from gdlab._cpu.products import dot_general

_OPERATIONS = (
  (nn.Dense, nnx.Linear, 'dot_general', dot_general),
  (nn.Conv, nnx.Conv, 'conv_general_dilated', conv_general_dilated),
)


def with_fast_layers() -> Any:
  """A context in which Linen modules, also those behind `nnx.bridge`, use the fast operations."""
  return nn.intercept_methods(_linen)


def make_fast(module: nnx.Module) -> None:
  """Sets the fast operations in an NNX module, which must be a copy of the user's."""
  for _, part in nnx.iter_modules(module):
    for _, kind, name, operation in _OPERATIONS:
      # What a subclass makes of the attribute by itself, or does without, is its own affair.
      if isinstance(part, kind) and vars(part).get(name) is getattr(jax.lax, name):
        setattr(part, name, operation)


def _linen(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
  module = context.module
  for kind, _, name, operation in _OPERATIONS:
    open_ = (
      isinstance(module, kind) and getattr(module, name) is None and getattr(module, f'{name}_cls') is None
    )
    if open_ and context.method_name == '__call__':
      # Around the dataclass, which is frozen, and only while it is called.
      object.__setattr__(module, name, operation)
      try:
        return method(*args, **kwargs)
      finally:
        object.__setattr__(module, name, None)
  return method(*args, **kwargs)
