"""The parameters that a run has kept, as pytrees like its problem's."""

import jax
import xarray as xr

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.leaves import named
from gdlab.core.types import Problem, PyTree
from gdlab.problems.checks import check_problem
from gdlab.problems.variables import like

TREES = 'params', 'model_state'


@checked('result')
def kept_params(problem: Problem, result: xr.Dataset) -> tuple[PyTree, PyTree]:
  r"""The parameters and model state that one run has kept, at which its last metrics were evaluated.

  `gdlab.run(..., keep='params')` stores every array as a variable, such as `params.Dense_0.kernel`. This function
  restores pytrees like those of `problem.init`, with the same dtypes (results store half precision as float32). Pass
  the parameters to `gdlab.run(..., params=...)`, or both to `gdlab.to_flax` and the instruments of `gdlab.analysis`.

  Example:
    >>> import gdlab, optax
    >>> problem = gdlab.problems.quadratic([1.0, 0.5], start=[1.0, 1.0])
    >>> method = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(1.0))
    >>> result = gdlab.run(problem, method, num_steps=1, seeds=4, keep='params')
    >>> params, model_state = kept_params(problem, result.isel(seed=3))
    >>> params.tolist(), model_state
    ([0.0, 0.5], ())

  Args:
    problem: the problem of the run.
    result: a result of `gdlab.run` or `gdlab.sweep` with `keep='params'`, reduced to one run: `result.isel(seed=0)`,
      with an index for each further dim of the points.

  Returns:
    `(params, model_state)`.

  Raises:
    InputError: if the result has no kept parameters or several runs, or its arrays are not those of the problem.
  """
  check_problem(problem)
  if not isinstance(result, xr.Dataset):
    raise InputError(f'result must be of gdlab.run or gdlab.sweep, got {shown(result)}')
  own = jax.eval_shape(problem.init, jax.random.key(0))
  places = named(dict(zip(TREES, own, strict=True)))
  found = {str(name) for name in result.data_vars if str(name).partition('.')[0] in TREES}
  if not found:
    raise InputError(
      "result must be of run(..., keep='params') or sweep(..., keep='params'), got one without params"
    )
  if different := sorted(found ^ {*places}):
    side = 'lacks' if different[0] in places else 'has besides'
    raise InputError(
      f'result must hold the arrays of problem {problem.name!r}, {shown(sorted(places))}, and {side} {different[0]!r}'
    )
  arrays = [_array(name, result[name], len(kind.shape)) for name, kind in places.items()]
  trees = jax.tree.unflatten(jax.tree.structure(own), arrays)
  params, model_state = (like(name, tree, kinds) for name, tree, kinds in zip(TREES, trees, own, strict=True))
  return params, model_state


def _array(name: str, variable: xr.DataArray, rank: int):
  """The values of one array; raises InputError if there are several runs."""
  axes = [f'{name}_{number}' for number in range(rank)]
  if several := [str(dim) for dim in variable.dims if dim not in axes]:
    choice = ', '.join(f'{dim}=0' for dim in several)
    raise InputError(
      f'result must be of one run, got one with the dims {several}: choose by result.isel({choice})'
    )
  if missing := [dim for dim in axes if dim not in variable.dims]:
    raise InputError(f'{name} must have its own dims {axes}, got a result without {missing}')
  return variable.transpose(*axes).values
