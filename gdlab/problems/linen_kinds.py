"""The kind of each parameter array of a Linen model, see `gdlab.problems.kinds`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

from gdlab.core.types import PyTree
from gdlab.problems.adapters import Model
from gdlab.problems.kinds import (
  Path,
  Role,
  Shape,
  all_axes,
  by_name,
  einsum_outputs,
  kernel,
  leaf_kinds,
  other,
)
from gdlab.problems.language_models import Transformer

_CONVOLUTIONS = nn.Conv, nn.ConvLocal, nn.ConvTranspose
_LAYERS = nn.Dense, nn.DenseGeneral, nn.Einsum, *_CONVOLUTIONS
_NORMS = nn.BatchNorm, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm
# Their own classes only: what a subclass does with the keys is not known.
_ATTENTION = nn.MultiHeadDotProductAttention, nn.MultiHeadAttention, nn.SelfAttention


@dataclasses.dataclass(frozen=True)
class LinenKinds:
  """`Problem.kinds` of a Linen module.

  The owner of every array is found while the module's initialisation is traced; nothing is computed.

  Attributes:
    model: the model whose `init` initialises the module.
  """

  model: Model

  def __call__(self) -> PyTree:
    """Returns a pytree like the parameters, of LeafKind."""
    roles: dict[Path, Role] = {}
    with nn.intercept_methods(recorder(roles)):
      params = self._traced()
    shapes = {names(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)}
    roles = {path: roles.get(path, by_name(path[-1], shape)) for path, shape in shapes.items()}
    found = leaf_kinds(roles, shapes, self._stacked)
    return jax.tree.map_with_path(lambda path, _: found[names(path)], params)

  def _traced(self) -> PyTree:
    # A function of its own, or a trace that JAX has kept would be used, in which no module is called.
    return jax.eval_shape(lambda key: self.model.init(key)[0], jax.random.key(0))

  def _stacked(self) -> dict[Path, tuple[int, ...]]:
    """The axes along which copies are stacked, which Flax reports to metadata boxes around the arrays of a copy."""
    try:
      with nn.intercept_methods(_boxing):
        params = self._traced()
    except Exception:  # a module of the user may look into the boxes, and fail in any way
      return {}
    boxes = jax.tree.leaves_with_path(params, is_leaf=lambda leaf: isinstance(leaf, _Box))
    return {names(path): box.stacked for path, box in boxes if isinstance(box, _Box)}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Box(nn.meta.AxisMetadata[Any]):
  """An array and the axes that lifted transformations have added to it."""

  value: Any
  stacked: tuple[int, ...] = dataclasses.field(default=(), metadata={'static': True})

  def unbox(self) -> Any:
    return self.value

  def replace_boxed(self, val: Any) -> '_Box':
    return _Box(val, self.stacked)

  def add_axis(self, index: int, params: dict[Any, Any]) -> '_Box':
    index %= self.value.ndim
    return _Box(self.value, (*sorted([*(axis + (axis >= index) for axis in self.stacked), index]),))

  def remove_axis(self, index: int, params: dict[Any, Any]) -> '_Box':
    index %= self.value.ndim + 1
    return _Box(self.value, tuple(axis - (axis > index) for axis in self.stacked if axis != index))


def _boxing(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
  """An interceptor that boxes every array while its module is initialised."""
  returned = method(*args, **kwargs)
  module = context.module
  if module.scope is not None and module.is_mutable_collection('params'):
    for name, leaf in module.variables.get('params', {}).items():
      if isinstance(leaf, jax.Array):
        module.put_variable('params', name, _Box(leaf))
  return returned


def names(path: Any) -> Path:
  """A path's dictionary keys, without the attribute in which a metadata box keeps its array."""
  return tuple(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))


def recorder(roles: dict[Path, Role]) -> Callable[..., Any]:
  """An interceptor for `nn.intercept_methods` that records the role of every array whose owner is called."""

  def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
    returned = method(*args, **kwargs)
    module = context.module
    if module.scope is None:
      return returned
    # Einsum's parameters are made in its call, and its equation may be an argument of that.
    if isinstance(module, nn.Einsum) and context.method_name != '__call__':
      return returned
    equation = next((value for value in (*args, *kwargs.values()) if isinstance(value, str)), None)
    owned = nn.unbox(module.variables.get('params', {}))
    for name, leaf in owned.items():
      if not isinstance(leaf, Mapping):
        role, path = _role(module, name, leaf.shape, equation), (*module.path, name)
        # A wrapper may share its scope with the layer in it (`nn.share_scope`): the one that is known says.
        if path not in roles or (role.surely and not roles[path].surely):
          roles[path] = role
    if is_plain_attention(module) and 'bias' in owned.get('key', {}):
      path = (*module.path, 'key', 'bias')
      roles[path] = roles[path]._replace(inert=True)
    return returned

  return intercept


def is_plain_attention(module: nn.Module) -> bool:
  """Whether softmax gets a module's keys unchanged, so that a shift of all keys has no effect."""
  return (
    type(module) in _ATTENTION
    and module.attention_fn is nn.dot_product_attention
    and not module.normalize_qk
    and not module.decode
  )


def _role(module: nn.Module, name: str, shape: Shape, equation: str | None) -> Role:
  if isinstance(module, _NORMS) and name in ('scale', 'bias'):
    return all_axes(name, shape)
  if isinstance(module, nn.WeightNorm) and name.endswith('/scale'):
    return all_axes('scale', shape)
  is_table = isinstance(module, nn.Embed) and name == 'embedding'
  if is_table or (isinstance(module, Transformer) and name == 'positions'):
    return Role('embedding', (0,), shape)
  if isinstance(module, _LAYERS) and name == 'bias':
    return all_axes('bias', shape)
  if isinstance(module, _LAYERS) and name == 'kernel':
    return _kernel(module, shape, equation)
  return by_name(name, shape)


def _kernel(module: nn.Module, shape: Shape, equation: str | None) -> Role:
  rank = len(shape)
  if isinstance(module, nn.Dense):
    return kernel([-1], shape) if rank == 2 else other(shape)
  if isinstance(module, nn.DenseGeneral):
    # A unit of a layer with batch_dims has a place in them too.
    groups = len(module.batch_dims)
    features = rank - groups - (1 if isinstance(module.axis, int) else len(module.axis))
    return kernel([*range(groups), *range(rank - features, rank)], shape)
  if isinstance(module, nn.Einsum):
    return kernel(einsum_outputs(equation or module.einsum_str or '', rank), shape)
  if isinstance(module, nn.ConvLocal):  # a filter at every place: [*places, inputs, features]
    return kernel([*range(rank - 2), -1], shape)
  if isinstance(module, nn.ConvTranspose) and module.transpose_kernel:
    return kernel([-2], shape)
  return kernel([-1], shape)
