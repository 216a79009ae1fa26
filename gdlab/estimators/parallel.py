"""An estimate by several devices, each with its own batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.types import Array, Estimator
from gdlab.estimators.common import check_summed
from gdlab.estimators.plain import batch_mean


@checked('axis', 'estimator')
def data_parallel(axis: Any, estimator: Estimator | None = None) -> Estimator:
  r"""The mean of the estimates of all devices along a named axis, for use inside `jax.shard_map` or `jax.pmap`.

  Every device calls it with the same parameters and its own batch, whose weights sum to 1. The gradient, the loss and
  the floats in the states of model and estimator are averaged over the axis, gradient evaluations are summed, and for
  integers in the states the maximum is taken; so all devices make the same update. `EstimateInfo.losses` and
  `.gradients` stay those of each device. Device k's key is fold_in(key, k).

  With `batch_mean()` or `storm`, if the model does not mix examples, this is the estimate on the joint batch to
  rounding; BatchNorm normalises within a device. With `sam` every device has its own perturbation, as in the paper.
  `svrg` takes, and counts, a full gradient on every device. `saga` stays unbiased, but an example drawn on one of n
  devices moves its entry in the averaged table only 1/n of the way.

  `gdlab.run` does not need it: there `gdlab.Plan(data_parallel=n)` splits the batch, and BatchNorm sees all of it.

  Example:
    >>> import functools, gdlab, jax, jax.numpy as jnp
    >>> from jax.sharding import AxisType, PartitionSpec as P
    >>> problem, w = gdlab.problems.linear_regression([[1.0], [2.0]], [1.0, 4.0]), jnp.zeros(1)
    >>> mean = data_parallel('data')
    >>> mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
    >>> @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P('data')), out_specs=P())
    ... def gradient(w, indices):
    ...   batch = gdlab.Batch(indices, jnp.full(indices.shape, 1 / indices.size))
    ...   return mean.estimate(mean.init(problem, w), problem, w, (), batch, jax.random.key(0))[0]
    >>> gradient(w, jnp.arange(2))
    Array([-4.5], dtype=float32)

  Args:
    axis: the name of the mapped axis, or a tuple of names.
    estimator: the estimator of each device; `batch_mean()` by default.

  Returns:
    An Estimator.

  Raises:
    InputError: if `axis` is not a name, or `estimator` not an Estimator of one gradient.

  Source: Goyal et al. 2017, arXiv 1706.02677, section 3.
  """
  names = axis if isinstance(axis, tuple) else (axis,)
  if not names or not all(isinstance(name, str) for name in names):
    raise InputError(f'axis must be the name of a mapped axis or a tuple of names, got {shown(axis)}')
  inner = batch_mean() if estimator is None else check_summed('estimator', estimator)

  def estimate(state, problem, params, model_state, batch, key):
    device = jax.lax.axis_index(axis)
    own = functools.partial(_own, device=device)
    state, params, model_state = jax.tree.map(own, (state, params, model_state))
    key = jax.random.fold_in(key, device)
    gradient, state, info = inner.estimate(state, problem, params, model_state, batch, key)
    joint = info._replace(
      loss=jax.lax.pmean(info.loss, axis),
      model_state=jax.tree.map(lambda leaf: _agreed(leaf, axis), info.model_state),
      gradient_evaluations=jax.lax.psum(info.gradient_evaluations, axis),
    )
    return jax.lax.pmean(gradient, axis), jax.tree.map(lambda leaf: _agreed(leaf, axis), state), joint

  return Estimator(inner.init, estimate)


def _own(leaf: Array, device: Array) -> Array:
  """The same value, marked for shard_map as one that depends on the device.

  With respect to values known to be replicated, shard_map would sum the gradients of all devices.
  """
  is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return leaf if is_key else jnp.where(device >= 0, leaf, leaf)


def _agreed(leaf: Array, axis: Any) -> Array:
  """One value for all devices: the mean of floats, the maximum of integers."""
  if jnp.issubdtype(leaf.dtype, jnp.floating):
    return jax.lax.pmean(leaf, axis)
  return jax.lax.pmax(leaf, axis) if jnp.issubdtype(leaf.dtype, jnp.integer) else leaf
