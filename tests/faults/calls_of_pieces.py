"""One valid call of each function of gdlab.sampling, schedules, estimators and transforms, and one step with it."""

# ruff: noqa: C408 - dict(...) reads as the call whose arguments these are

import jax
import jax.numpy as jnp
import numpy as np
import optax
from malformed import Call

import gdlab
from gdlab import estimators, problems, sampling, schedules, transforms

PROBLEM = problems.linear_regression(np.eye(6, 2, dtype=np.float32), np.arange(6, dtype=np.float32))
LABELS = [0, 0, 0, 1, 1, 1]
PARAMS = {'w': np.ones(3, np.float32)}
INFO = gdlab.EstimateInfo(
  loss=np.float32(1),
  model_state=(),
  gradient_evaluations=np.float32(2),
  losses=np.ones(2, np.float32),
  gradients={'w': np.ones((2, 3), np.float32)},
)


def drawn(sampler):
  """A batch of six examples."""
  state = sampler.init(jax.random.key(0), 6)
  return sampler.sample(state)[0]


def at_some_steps(schedule):
  return [schedule(jnp.int32(step)) for step in (0, 3, 30)]


def one_step(transform):
  state = transform.init(PARAMS)
  return transform.update(PARAMS, state, PARAMS)[0]


def one_step_per_example(transform):
  state = transform.init(PARAMS)
  gradients = {'w': jnp.arange(6.0).reshape(2, 3)}
  return transform.update(gradients, state, PARAMS)[0]


def one_estimate(estimator):
  key = jax.random.key(0)
  params, model_state = PROBLEM.init(key)
  state = estimator.init(PROBLEM, params)
  batch = gdlab.Batch(np.array([0, 1], np.int32), np.array([0.5, 0.5], np.float32))
  return estimator.estimate(state, PROBLEM, params, model_state, batch, key)[0]


def state_of(transform):
  return transform.init(PARAMS)


def after_a_step(transform, gradients=PARAMS):
  return transform.update(gradients, transform.init(PARAMS), PARAMS)[1]


BALL = dict(radius=0.5, grad_threshold=1.0, min_interval=2)
RATE = dict(initial=0.1, num_steps=20, final=0.01)

CALLS = {
  'sampling.adaptive_importance': Call(
    lambda: dict(batch_size=2, score=sampling.last_loss, mixing=0.2, decay=0.0), drawn
  ),
  'sampling.block_shuffle': Call(lambda: dict(batch_size=2, block_size=4, drop_remainder=True), drawn),
  'sampling.batch_size_schedule': Call(lambda: dict(max_batch_size=4, schedule=lambda step: 2), drawn),
  'sampling.full_batch': Call(lambda: {}, drawn),
  'sampling.grab': Call(lambda: dict(batch_size=2, like=PARAMS), drawn),
  'sampling.gradient_norm': Call(lambda: dict(info=INFO)),
  'sampling.last_loss': Call(lambda: dict(info=INFO)),
  'sampling.importance': Call(
    lambda: dict(batch_size=2, probabilities=[0.1, 0.1, 0.2, 0.2, 0.2, 0.2]), drawn
  ),
  'sampling.paired_reversal': Call(lambda: dict(batch_size=2, drop_remainder=True), drawn),
  'sampling.piecewise_sizes': Call(lambda: dict(sizes=[2.0, 4.0], boundaries=[3]), at_some_steps),
  'sampling.poisson': Call(lambda: dict(rate=0.1, max_batch=6), drawn),
  'sampling.reshuffle': Call(lambda: dict(batch_size=2, drop_remainder=True), drawn),
  'sampling.sequential': Call(lambda: dict(batch_size=2, drop_remainder=True), drawn),
  'sampling.shuffle_buffer': Call(lambda: dict(batch_size=2, buffer_size=3, drop_remainder=True), drawn),
  'sampling.shuffle_once': Call(lambda: dict(batch_size=2, drop_remainder=True), drawn),
  'sampling.single': Call(lambda: {}, drawn),
  'sampling.stratified': Call(lambda: dict(batch_size=2, labels=LABELS), drawn),
  'sampling.stream': Call(lambda: dict(batch_size=2, window=3, arrivals_per_step=2), drawn),
  'sampling.with_replacement': Call(lambda: dict(batch_size=2), drawn),
  'schedules.adam_scaling': Call(
    lambda: dict(learning_rate=1e-3, b1=0.9, b2=0.99, eps=1e-8, num_steps=100, factor=2.0)
  ),
  'schedules.constant_then_linear': Call(lambda: dict(**RATE, cooldown=0.5), at_some_steps),
  'schedules.cosine': Call(lambda: dict(**RATE), at_some_steps),
  'schedules.cosine_one_cycle': Call(
    lambda: dict(peak=0.1, num_steps=20, peak_at=0.3, initial_divisor=25.0, final_divisor=1e4), at_some_steps
  ),
  'schedules.exponential_per_epoch': Call(
    lambda: dict(initial=0.1, factor=0.9, updates_per_epoch=5, staircase=True), at_some_steps
  ),
  'schedules.linear': Call(lambda: dict(**RATE), at_some_steps),
  'schedules.linear_scaling': Call(lambda: dict(learning_rate=0.1, factor=2.0)),
  'schedules.observe': Call(
    lambda: dict(
      opt_state=schedules.reduce_on_plateau(metric='test_loss').init(PARAMS),
      metrics={'test_loss': jnp.float32(1)},
    )
  ),
  'schedules.one_cycle': Call(
    lambda: dict(
      peak=0.1, num_steps=20, peak_at=0.3, return_at=0.85, initial_divisor=25.0, final_divisor=1e4
    ),
    at_some_steps,
  ),
  'schedules.reduce_on_plateau': Call(
    lambda: dict(
      factor=0.1,
      patience=10,
      metric='test_loss',
      largest=False,
      min_scale=0.01,
      cooldown=1,
      rtol=1e-4,
      atol=0.01,
    ),
    one_step,
  ),
  'schedules.robbins_monro': Call(lambda: dict(initial=0.1, exponent=1.0, offset=2.0), at_some_steps),
  'schedules.square_root_scaling': Call(lambda: dict(learning_rate=0.1, factor=2.0)),
  'schedules.step_decay': Call(lambda: dict(initial=0.1, factor=0.5, boundaries=(5, 10)), at_some_steps),
  'schedules.warmup': Call(
    lambda: dict(schedule=lambda count: 0.1, num_warmup_steps=5, start=0.01), at_some_steps
  ),
  'estimators.batch_mean': Call(lambda: {}, one_estimate),
  'estimators.microbatched': Call(lambda: dict(size=1, estimator=estimators.batch_mean()), one_estimate),
  'estimators.per_example': Call(lambda: dict(stacked=False), one_estimate),
  'estimators.per_example_clipped': Call(lambda: dict(max_norm=1.0), one_estimate),
  'estimators.saga': Call(lambda: {}, one_estimate),
  'estimators.sam': Call(lambda: dict(rho=0.05, adaptive=False), one_estimate),
  'estimators.storm': Call(lambda: dict(a=0.1), one_estimate),
  'estimators.svrg': Call(lambda: dict(period=2, block_size=4), one_estimate),
  'transforms.annealed_gradient_noise': Call(lambda: dict(eta=0.1, gamma=0.5, seed=1), one_step),
  'transforms.average_iterates': Call(lambda: dict(weights=lambda step: 1 / step), one_step),
  'transforms.averaged_params': Call(
    lambda: dict(opt_state=after_a_step(transforms.average_iterates()), like=PARAMS)
  ),
  'transforms.coordinate_updates': Call(lambda: dict(blocks={'w': np.array([0, 1, 1])}), one_step),
  'transforms.exponential_weights': Call(lambda: dict(decay=0.9), at_some_steps),
  'transforms.freeze_non_finite': Call(lambda: dict(inner=optax.sgd(0.1)), one_step),
  'transforms.freeze_status': Call(
    lambda: dict(opt_state=state_of(transforms.freeze_non_finite(optax.sgd(0.1))))
  ),
  'transforms.gradient_statistics': Call(lambda: dict(every=2), one_step),
  'transforms.statistics': Call(lambda: dict(opt_state=after_a_step(transforms.gradient_statistics()))),
  'transforms.langevin_noise': Call(
    lambda: dict(temperature=0.1, learning_rate=0.1, preconditioner=2.0, seed=1), one_step
  ),
  'transforms.noise_scale': Call(lambda: dict(decay=0.9, examples_per_row=2), one_step_per_example),
  'transforms.noise_scale_estimate': Call(
    lambda: dict(
      opt_state=after_a_step(transforms.noise_scale(), {'w': jnp.arange(6.0).reshape(2, 3)}),
    )
  ),
  'transforms.shampoo': Call(lambda: dict(decay=0.9, eps=0.1, max_size=2), one_step),
  'transforms.perturb_at_saddle': Call(lambda: dict(**BALL, learning_rate=0.1, seed=1), one_step),
  'transforms.perturbed_gradient_descent': Call(lambda: dict(learning_rate=0.1, **BALL, seed=1), one_step),
  'transforms.pgd_constants': Call(
    lambda: dict(
      smoothness=1.0, hessian_lipschitz=1.0, epsilon=0.1, dimension=10, gap=1.0, failure=0.1, c=0.5
    )
  ),
  'transforms.uniform_weights': Call(lambda: dict(start=2), at_some_steps),
}
