"""The kind of each parameter array of an NNX model, see `gdlab.problems.kinds`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
from flax import linen as nn
from flax import nnx

from gdlab.core.types import PyTree
from gdlab.problems.kinds import (
  Path,
  Role,
  Shape,
  by_name,
  einsum_outputs,
  kernel,
  leaf_kinds,
  other,
  stacks,
)
from gdlab.problems.linen_kinds import recorder

_NORMS = nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.InstanceNorm
_CONVOLUTIONS = nnx.Conv, nnx.ConvTranspose
Owners: TypeAlias = Mapping[
  int, Sequence[tuple[Any, str]]
]  # id of a module or variable -> (module, its name there)


@dataclasses.dataclass(frozen=True)
class NnxKinds:
  """`Problem.kinds` of an NNX module.

  The construction of the module is traced; nothing is computed. Its parts give the shapes of their parameters.

  Attributes:
    make_module: `(rngs) -> module`.
  """

  make_module: Callable[[nnx.Rngs], nnx.Module]

  def __call__(self) -> PyTree:
    """Returns a pytree like the parameters, of LeafKind."""
    runs: dict[Any, dict[Path, Role]] = {}  # of Linen modules behind nnx.bridge.ToNNX, which are initialised
    with nn.intercept_methods(lambda *call: recorder(runs.setdefault(_root(call[-1]), {}))(*call)):
      module = nnx.eval_shape(lambda: self.make_module(nnx.Rngs(0)))
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    shapes = {names(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)}
    owners, bridged = _owners(module), [run for run in runs.values() if run]
    roles = {path: _found(module, path, shape, owners, bridged) for path, shape in shapes.items()}
    found = leaf_kinds(roles, shapes)
    return jax.tree.map_with_path(lambda path, _: found[names(path)], params)


def names(path: Any) -> tuple[Any, ...]:
  """A path's keys."""
  return tuple(key.key for key in path)


def _root(context: Any) -> Any:
  return context.module.scope and context.module.scope.root


def _owners(module: nnx.Module) -> Owners:
  """Which modules own a variable or module; several, where it is shared."""
  owners: dict[int, list[tuple[Any, str]]] = {}
  for _, node in nnx.iter_graph(module):
    if isinstance(node, nnx.Module):
      for name, part in vars(node).items():
        if isinstance(part, nnx.Module | nnx.Variable):
          owners.setdefault(id(part), []).append((node, name))
  return owners


def _found(
  module: Any, path: tuple[Any, ...], shape: Shape, owners: Owners, bridged: list[dict[Path, Role]]
) -> Role:
  """The role of the parameter at a path."""
  part = module
  for depth, key in enumerate(path):
    if isinstance(part, nnx.bridge.ToNNX):
      rest = tuple(map(str, path[depth:]))
      roles = [run[rest] for run in bridged if rest in run and stacks(run[rest].shape, shape)]
      return _agreed(roles, str(path[-1]), shape)
    part = part[key] if isinstance(part, Mapping | Sequence) else getattr(part, key)
  roles = [_role(owner, name, shape) for owner, name in owners.get(id(part), ())]
  return _agreed(roles, str(path[-1]), shape)._replace(inert=_is_inert(part, owners))


def _agreed(roles: Sequence[Role], name: str, shape: Shape) -> Role:
  """The role that all owners agree on; a kernel that is also an embedding is an embedding."""
  if not roles:
    return by_name(name, shape)
  embeddings = [role for role in roles if role.kind == 'embedding']
  return next((role for role in embeddings or roles if set(embeddings or roles) == {role}), other(shape))


def _is_inert(bias: Any, owners: Owners) -> bool:
  """Whether a variable is only the bias of attention keys, and softmax gets these keys unchanged."""
  layers = owners.get(id(bias), ())
  return bool(layers) and all(
    type(layer) is nnx.LinearGeneral
    and name == 'bias'
    and all(role == 'key' and is_plain_attention(user) for user, role in owners.get(id(layer), [(None, '')]))
    for layer, name in layers
  )


def is_plain_attention(module: Any) -> bool:
  """Whether softmax gets a module's keys unchanged, so that a shift of all keys has no effect."""
  # Its own class only: what a subclass does with the keys is not known.
  return (
    type(module) is nnx.MultiHeadAttention
    and module.attention_fn is nnx.dot_product_attention
    and not module.normalize_qk
    and not module.decode
  )


def _role(module: Any, name: str, shape: Shape) -> Role:
  """The role of a parameter for one of its owners."""
  if name in ('scale', 'bias') and isinstance(module, _NORMS):
    return Role(name, (0,), (module.num_features,))
  if name in ('scale', 'bias') and isinstance(module, nnx.GroupNorm):
    return Role(name, (0,), (module.num_groups * module.group_size,))
  if name == 'embedding' and isinstance(module, nnx.Embed):
    return Role('embedding', (0,), (module.num_embeddings, module.features))
  if name == 'kernel' and isinstance(module, nnx.Linear):
    return kernel([1], (module.in_features, module.out_features))
  if name == 'bias' and isinstance(module, (nnx.Linear, *_CONVOLUTIONS)):
    return Role('bias', (0,), (module.out_features,))
  if name in ('kernel', 'bias') and isinstance(module, nnx.LinearGeneral):
    groups, features = tuple(module.batch_axis.values()), module.out_features
    units = (*groups, *features)
    if name == 'bias':
      return Role('bias', tuple(range(len(units))), units)
    inner = (*groups, *module.in_features, *features)
    # A unit of a layer with batch_axis has a place in that axis too.
    return kernel([*range(len(groups)), *range(-len(features), 0)], inner)
  if name == 'kernel' and isinstance(module, nnx.Einsum):
    return kernel(einsum_outputs(module.einsum_str, len(module.kernel_shape)), tuple(module.kernel_shape))
  if name == 'bias' and isinstance(module, nnx.Einsum):
    units = tuple(module.bias_shape or ())
    return Role('bias', tuple(range(len(units))), units)
  if name == 'kernel' and isinstance(module, _CONVOLUTIONS):
    is_turned = isinstance(module, nnx.ConvTranspose) and module.transpose_kernel
    return kernel([-2 if is_turned else -1], tuple(module.kernel_shape))
  if name in ('lora_a', 'lora_b') and isinstance(module, nnx.LoRA):
    rank = _lora_rank(module)
    return kernel([1], (module.in_features, rank) if name == 'lora_a' else (rank, module.out_features))
  return by_name(name, shape)


def _lora_rank(module: nnx.LoRA) -> int:
  """The rank, which the module does not store: a length that fits the shapes of both its factors."""
  shapes = module.lora_a.shape, module.lora_b.shape
  fits = [
    rank
    for rank in reversed(shapes[0])
    if stacks((module.in_features, rank), shapes[0]) and stacks((rank, module.out_features), shapes[1])
  ]
  return fits[0] if fits else shapes[0][-1]
