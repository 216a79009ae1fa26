"""Sampler, estimator and optimizer composed into one update of gradient descent."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdlab._cpu.norms import norm
from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, shown
from gdlab.core.objective import batch_loss, spread
from gdlab.core.types import (
  Algorithm,
  Array,
  Batch,
  EstimateInfo,
  Estimator,
  Info,
  Key,
  Problem,
  PyTree,
  Sampler,
  State,
  Streams,
)
from gdlab.estimators import batch_mean
from gdlab.estimators.common import check_estimator
from gdlab.problems.checks import check_problem
from gdlab.schedules import observe
from gdlab.updates.misfits import explained, unpacked
from gdlab.updates.optimizers import check_like, check_params, evaluation_params, fitted
from gdlab.updates.real_slots import filled, on_real_slots, real_sizes, warn_of_single_examples
from gdlab.updates.running_averages import reestimated

_OPTIMIZER = 0x6F7074  # folds the optimizer's key apart from those of slices and examples
_STATISTICS = 0x737461  # and that of the pass that re-estimates statistics


@checked
def streams(key: Key) -> Streams:
  """The three independent random streams of a run, derived from one key by `fold_in`."""
  return Streams(*(jax.random.fold_in(key, number) for number in range(len(Streams._fields))))


@checked('sampler', 'estimator', 'evaluate_at', 'reestimate')
def algorithm(
  *,
  sampler: Sampler,
  optimizer: Any,
  estimator: Estimator | None = None,
  evaluate_at: Callable[[State], PyTree] | None = None,
  reestimate: bool = False,
) -> Algorithm:
  r"""Composes one update of gradient descent from independent choices.

  With batch $(i_b, w_b)$ from the sampler, estimate $g_t$ from the estimator and $u$ the optimizer's update rule,

  $$\theta_{t+1} = \theta_t + u(g_t), \qquad
    g_t \approx \nabla_\theta \sum_b w_b\, \ell_{i_b}(\theta_t).$$

  Batch, stochastic and mini-batch gradient descent differ in `sampler` only.

  `Info.gradient_evaluations` counts those of the estimator. Evaluations by the optimizer itself through `value_fn`
  (line searches, L-BFGS) are not included: add the steps recorded in its state
  (`optax.tree.get(state.optimizer, 'info').num_linesearch_steps`; each evaluates the loss once for every example of the
  batch, in a zoom search the gradient too), or compare times.

  Example:
    >>> import jax, optax, gdlab
    >>> problem = gdlab.problems.quadratic([1.0, 0.1])
    >>> descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.5))
    >>> state = descent.init(jax.random.key(0), problem)
    >>> step = jax.jit(descent.step)
    >>> for _ in range(100):
    ...   state, info = step(state, problem)
    >>> bool(info.loss < 1e-4)
    True

  Args:
    sampler: chooses the examples of each update. `init` warns of batches of one example where the losses depend on the
      others in a batch (BatchNorm).
    optimizer: any Optax gradient transformation. It gets `value`, `grad` and `value_fn` (the loss on the same batch) as
      extra arguments, so that line searches and Polyak steps work, and `key`, a new one for every update from the run's
      noise stream, so that injected noise differs between runs. Its input is one gradient, the estimate; optimizers
      that take per-example gradients (`optax.contrib.dpsgd`, `gdlab.transforms.noise_scale` first in a chain) need
      `gdlab.estimators.per_example(stacked=True)`. `optax.lookahead` must be the outermost transformation; its slow
      parameters are kept in the state. `optax.contrib.sam` must be used alone; with `opaque_mode` it gets the gradient
      on the same batch (which is not counted).
    estimator: the gradient estimator; `gdlab.estimators.batch_mean()` by default.
    evaluate_at: `(state) -> params`, the parameters at which `gdlab.run` evaluates metrics, instead of the iterate:
      `lambda state: gdlab.transforms.averaged_params(state.optimizer, like=state.params)` for averages. By default
      the iterate; for schedule-free optimizers the average (Optax's evaluation parameters), for `optax.lookahead` the
      slow parameters, for `optax.contrib.sam` the unperturbed ones. Probes see the state itself, from which the next
      update starts; there `evaluated(state, problem)` of the Algorithm gives these parameters.
    reestimate: whether to re-estimate the running statistics of batch normalisation for those parameters at each
      evaluation, by a pass over the training data in training mode; the iterate's are wrong for an average.

  Returns:
    An Algorithm. `init(key, problem, params=None)` takes one key, or `Streams` to set each stream separately; `params`
    replaces the problem's own initial parameters. `step(state, problem)` makes one update. `observe(state, metrics)`
    passes the metrics of an evaluation to optimizers that use them, see `gdlab.schedules.observe`; `gdlab.run` does so.

  Raises:
    InputError: if an argument has the wrong type; from `init` or `step`, if the optimizer does not fit.
  """
  estimator = batch_mean() if estimator is None else check_estimator('estimator', estimator)
  if not isinstance(sampler, Sampler):
    raise InputError(
      f'sampler must be a gdlab Sampler such as gdlab.sampling.reshuffle(32), got {shown(sampler)}'
    )
  if evaluate_at is not None and not callable(evaluate_at):
    raise InputError(f'evaluate_at must be a function (state) -> params or None, got {shown(evaluate_at)}')
  if not isinstance(reestimate, bool):
    raise InputError(f'reestimate must be True or False, got {shown(reestimate)}')
  transformation = fitted(optimizer)

  def init(key: Key | Streams, problem: Problem, params: PyTree = None) -> State:
    stream = key if isinstance(key, Streams) else streams(key)
    check_problem(problem)
    own_params, model_state = problem.init(stream.init)
    params = own_params if params is None else check_params(params, own_params)
    real_sizes(sampler, estimator, problem, params, model_state)  # refuses what does not fit
    warn_of_single_examples(sampler, problem, params, model_state)
    return State(
      step=jnp.zeros((), jnp.int32),
      params=params,
      model_state=model_state,
      optimizer=transformation.init(params),
      estimator=estimator.init(problem, params),
      sampler=sampler.init(stream.order, problem.num_examples),
      key=stream.noise,
    )

  def step(state: State, problem: Problem) -> tuple[State, Info]:
    loss_key = jax.random.fold_in(state.key, state.step)
    optimizer_key = jax.random.fold_in(jax.random.fold_in(state.key, _OPTIMIZER), state.step)
    drawn, sampler_state = sampler.sample(state.sampler)

    def update(batch: Batch) -> tuple[PyTree, PyTree, PyTree, PyTree, EstimateInfo]:
      batch = spread(batch)
      gradient, estimator_state, estimated = estimator.estimate(
        state.estimator, problem, state.params, state.model_state, batch, loss_key
      )

      def value_fn(params, key=None):
        # Optax's line searches hand on every extra argument, and refuse those that are not named here.
        del key
        return batch_loss(problem, params, state.model_state, batch, loss_key)[0]

      mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradient) if estimator.stacked else gradient
      extra = {'value': estimated.loss, 'grad': mean, 'value_fn': value_fn, 'key': optimizer_key}

      transform = lambda given: transformation.update(given, state.optimizer, state.params, **extra)
      fits = transform, gradient, state.params, estimator.stacked
      with explained(*fits):  # The call stands here, not in a wrapper: a user's traceback stays short.
        returned = transformation.update(gradient, state.optimizer, state.params, **extra)
      updates, optimizer_state = unpacked(returned, *fits)
      return mean, updates, optimizer_state, estimator_state, filled(estimated, drawn.weights.shape[0])

    sizes = real_sizes(sampler, estimator, problem, state.params, state.model_state)
    gradient, updates, optimizer_state, estimator_state, estimated = on_real_slots(sizes, drawn, update)
    if sampler.update is not None:
      sampler_state = sampler.update(sampler_state, drawn, estimated)
    params = optax.apply_updates(state.params, updates)
    info = Info(
      loss=estimated.loss,
      grad_norm=norm(gradient),
      update_norm=norm(updates),
      param_norm=norm(params),
      examples=jnp.sum(drawn.weights != 0, dtype=jnp.int32),
      gradient_evaluations=estimated.gradient_evaluations,
    )
    new_state = State(
      state.step + 1,
      params,
      estimated.model_state,
      optimizer_state,
      estimator_state,
      sampler_state,
      state.key,
    )
    return new_state, info

  def told(state: State, metrics: Mapping[str, Array]) -> State:
    return state._replace(optimizer=observe(state.optimizer, metrics))

  def evaluated(state: State, problem: Problem) -> tuple[PyTree, PyTree]:
    if evaluate_at is None:
      params = evaluation_params(state.optimizer, state.params)
    else:
      params = check_like('evaluate_at', evaluate_at(state), state.params)
    if not reestimate:
      return params, state.model_state
    return params, reestimated(problem, params, state.model_state, jax.random.fold_in(state.key, _STATISTICS))

  return Algorithm(init, step, sampler, told, evaluated)
