"""From the parameters of a problem back to the variables of its Flax module."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Problem, PyTree
from gdlab.problems.adapters import ModelInit
from gdlab.problems.checks import check_problem
from gdlab.problems.linen import LinenModel
from gdlab.problems.nnx import NnxModel


@checked('problem', 'params', 'model_state')
def to_flax(problem: Problem, params: PyTree, model_state: PyTree = ()) -> dict[str, PyTree] | nnx.Module:
  r"""Parameters and model state of a problem as those of the user's own Flax module, ready to call.

  A problem from `gdlab.problems.from_linen` gives the collections that `module.apply` takes, `{'params': ...}` and
  those of the model's state, such as `'batch_stats'`. One from `gdlab.problems.from_nnx` gives a module made by the
  user's `make_module(nnx.Rngs(0))` with these values set, also where they are shared. It is in evaluation mode
  (by `module.eval()` and the attributes of `flags`; with `flags={}` no mode is set); `module.train()` switches it to
  training. Arguments of the call, such as `train=False`, are up to the caller. It also works for problems derived by
  `with_penalty`, `split` and others.

  Example:
    >>> import flax.linen as nn, numpy as np, optax, gdlab
    >>> module, data = nn.Dense(2), (np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]))
    >>> problem = gdlab.problems.from_linen(module, data, optax.softmax_cross_entropy_with_integer_labels)
    >>> params, model_state = problem.init(jax.random.key(0))
    >>> module.apply(gdlab.to_flax(problem, params, model_state), problem.train.inputs).shape
    (4, 2)

  Args:
    problem: made from a Flax module.
    params: like the problem's parameters, as in a run's state or from `gdlab.kept_params`; cast to their dtypes.
    model_state: like the problem's model state, `()` if it has none.

  Returns:
    A dict of collections for Linen, a module for NNX.

  Raises:
    InputError: a problem that was not made from a Flax module; parameters or a model state unlike its own.
  """
  check_problem(problem)
  init = problem.init
  if not isinstance(init, ModelInit):
    raise InputError(
      f'problem must be made of a Flax module, by gdlab.problems.from_linen or from_nnx, got {problem.name!r}'
    )
  own = jax.eval_shape(init, jax.random.key(0))
  params, model_state = like('params', params, own[0]), like('model_state', model_state, own[1])
  model: Any = init.model
  if isinstance(model, LinenModel):
    return {'params': params, **dict(model_state)}
  if not isinstance(model, NnxModel):
    raise InputError(f'problem must have a Linen or an NNX module, got {shown(model)}')
  return model.module_with(params, model_state)


def like(name: str, tree: PyTree, own: PyTree) -> PyTree:
  """A tree of arrays cast to the dtypes of another one.

  Args:
    name: the argument's name in messages.
    tree: arrays.
    own: shapes and dtypes, a pytree of the same structure.

  Raises:
    InputError: another structure or shape, or numbers of another kind: integers for floats, complex for real ones.
  """
  structures: list[Any] = [jax.tree.structure(one) for one in (tree, own)]
  if structures[0] != structures[1]:
    different = sorted(_places(name, tree) ^ _places(name, own))
    kinds = f'a {type(tree).__name__} with other nodes than the {type(own).__name__}'
    what = f'one that differs at {shown(different)}' if different else kinds
    raise InputError(f"{name} must have the structure of the problem's own, got {what}")

  def cast(path: Any, leaf: Any, kind: Any) -> Any:
    place, array = f'{name}{jax.tree_util.keystr(path)}', jnp.asarray(leaf)
    kinds = [
      next((group for group in (jnp.floating, jnp.complexfloating) if jnp.issubdtype(dtype, group)), dtype)
      for dtype in (array.dtype, kind.dtype)
    ]
    if array.shape != kind.shape or kinds[0] != kinds[1]:
      raise InputError(
        f'{place} must be like {kind.dtype}{list(kind.shape)}, got {array.dtype}{list(array.shape)}'
      )
    return array.astype(kind.dtype)

  return jax.tree_util.tree_map_with_path(cast, tree, own)


def _places(name: str, tree: PyTree) -> set[str]:
  return {f'{name}{jax.tree_util.keystr(path)}' for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
