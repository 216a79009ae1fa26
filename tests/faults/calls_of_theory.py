"""One valid call of each function of gdlab.theory."""
# ruff: noqa: C408 - dict(...) reads as the call whose arguments these are

import jax
import numpy as np
from malformed import Call

from gdlab import theory

EIGENVALUES = [0.5, 1.0, 2.0]
MATRIX = [[2.0, 0.5], [0.5, 1.0]]
MODEL = theory.noisy_quadratic(EIGENVALUES)
PHASES = [theory.Phase(0.5, 10, 2), theory.Phase(0.1, 10, 2)]
GOAL = dict(fewest_steps=10.0, fewest_examples=100.0)
MOMENTUM = dict(momentum=0.5, nesterov=False)
METHOD = dict(momentum=0.5, nesterov=False, averaging=0.0)

CALLS = {
  'theory.bigram_loss': Call(lambda: dict(shares=[0.6, 0.4], steps=[1, 5])),
  'theory.class_loss': Call(lambda: dict(margins=[0.0, 2.0], num_classes=4)),
  'theory.class_margin': Call(lambda: dict(shares=[0.6, 0.4], times=2.0, num_classes=4)),
  'theory.class_time': Call(lambda: dict(shares=[0.6, 0.4], losses=0.1, num_classes=4)),
  'theory.batch_sizes_of_epoch': Call(lambda: dict(num_examples=10, batch_size=4, drop_remainder=False)),
  'theory.best_heavy_ball': Call(lambda: dict(smoothness=2.0, strong_convexity=0.5)),
  'theory.best_nesterov': Call(lambda: dict(smoothness=2.0, strong_convexity=0.5)),
  'theory.best_plain': Call(lambda: dict(smoothness=2.0, strong_convexity=0.5)),
  'theory.best_rate': Call(lambda: dict(batch_size=[1.0, 2.0], largest=1.0, scale=10.0)),
  'theory.central_flow': Call(
    lambda: dict(
      loss=lambda w: (w**2).sum(),
      params=np.ones(2),
      learning_rate=0.1,
      key=jax.random.key(0),
      num_updates=4,
      record_every=2,
      substeps=2,
    )
  ),
  'theory.continuous_escape_time': Call(lambda: dict(distance=1.0, start=0.1, curvature=2.0)),
  'theory.contraction_rate': Call(lambda: dict(learning_rate=0.1, smoothness=2.0, strong_convexity=0.5)),
  'theory.covariance_path': Call(
    lambda: dict(hessian=MATRIX, noise_covariance=MATRIX, learning_rate=0.1, num_steps=3, batch_size=2)
  ),
  'theory.critical_batch_size': Call(lambda: dict(**GOAL)),
  'theory.effective_temperature': Call(lambda: dict(learning_rate=0.1, noise=1.0, batch_size=2)),
  'theory.escape_growth': Call(lambda: dict(curvature=0.5, learning_rate=0.1, **MOMENTUM)),
  'theory.escape_steps': Call(
    lambda: dict(
      distance=1.0, start=0.1, curvature=0.5, learning_rate=0.1, noise=0.0, batch_size=2, **MOMENTUM
    )
  ),
  'theory.escaped_probability': Call(
    lambda: dict(
      steps=5,
      distance=1.0,
      start=0.1,
      curvature=0.5,
      learning_rate=0.1,
      noise=0.5,
      batch_size=2,
      **MOMENTUM,
    )
  ),
  'theory.examples_for_batch': Call(lambda: dict(batch_size=[1.0, 2.0], **GOAL)),
  'theory.examples_for_steps': Call(lambda: dict(steps=[11.0, 20.0], **GOAL)),
  'theory.steps_for_batch': Call(lambda: dict(batch_size=[1.0, 2.0], **GOAL)),
  'theory.expected_loss': Call(
    lambda: dict(model=MODEL, steps=[1, 5], learning_rate=0.5, batch_size=2, **METHOD)
  ),
  'theory.eyring_kramers_rate': Call(
    lambda: dict(well=[[2.0]], saddle=[[-1.0]], barrier=1.0, temperature=0.1)
  ),
  'theory.fastest': Call(
    lambda: dict(model=MODEL, batch_sizes=[100, 200], learning_rates=[0.1, 0.5], target=0.1, **METHOD)
  ),
  'theory.kramers_rate': Call(lambda: dict(well=2.0, top=1.0, barrier=1.0, temperature=0.1)),
  'theory.kramers_rate_underdamped': Call(
    lambda: dict(well=2.0, top=1.0, barrier=1.0, temperature=0.1, friction=1.0)
  ),
  'theory.largest_linear_batch': Call(lambda: dict(scale=10.0, tolerance=0.1)),
  'theory.largest_linear_scaling': Call(
    lambda: dict(eigenvalues=EIGENVALUES, learning_rate=0.1, tolerance=0.1)
  ),
  'theory.largest_square_root_scaling': Call(lambda: dict(signal=[0.1, 0.2], b1=0.9, b2=0.99, tolerance=0.1)),
  'theory.largest_stable_rate': Call(lambda: dict(smoothness=2.0, **MOMENTUM)),
  'theory.largest_useful_rate': Call(lambda: dict(gradient=[1.0, 2.0], hessian=MATRIX)),
  'theory.last_iterate_bound': Call(lambda: dict(rates=[1.0, 0.5], distance=2.0, gradient_norm=[1.0, 2.0])),
  'theory.line_search_rate': Call(lambda: dict(smoothness=2.0, strong_convexity=0.5)),
  'theory.line_search_worst_start': Call(lambda: dict(eigenvalues=EIGENVALUES)),
  'theory.linear_scaling_change': Call(
    lambda: dict(kappa=2.0, eigenvalues=EIGENVALUES, learning_rate=0.1, **MOMENTUM)
  ),
  'theory.loss_floor': Call(
    lambda: dict(
      eigenvalues=EIGENVALUES,
      noise=1.0,
      learning_rate=0.1,
      batch_size=2,
      num_examples=10,
      drop_remainder=False,
      **MOMENTUM,
    )
  ),
  'theory.mean_escape_steps': Call(
    lambda: dict(distance=1.0, curvature=0.5, learning_rate=0.1, noise=0.5, batch_size=2, **MOMENTUM)
  ),
  'theory.mean_first_passage_time': Call(
    lambda: dict(potential=lambda x: (x * x - 1) ** 2, temperature=0.3, start=-1.0, end=0.0, wall=-3.0)
  ),
  'theory.mean_variance': Call(lambda: dict(variance=1.0, batch_size=2, num_examples=10)),
  'theory.noise_scale': Call(lambda: dict(gradient=[1.0, 2.0], covariance=MATRIX, hessian=MATRIX)),
  'theory.simple_noise_scale': Call(lambda: dict(gradient=[1.0, 2.0], covariance=MATRIX)),
  'theory.noisy_quadratic': Call(
    lambda: dict(eigenvalues=EIGENVALUES, noise=[1.0, 1.0, 2.0], initial=[1.0, 2.0, 3.0])
  ),
  'theory.octopus_gap_ratio': Call(lambda: dict(learning_rate=0.1, smoothness=2.0, curvature=0.5)),
  'theory.phased_loss': Call(lambda: dict(model=MODEL, phases=PHASES, **METHOD)),
  'theory.phased_steps': Call(lambda: dict(model=MODEL, phases=PHASES, target=0.5, **METHOD)),
  'theory.preconditioned': Call(lambda: dict(model=MODEL, power=0.5)),
  'theory.replacement_bound': Call(
    lambda: dict(steps=10, learning_rate=0.01, smoothness=2.0, strong_convexity=0.5, noise=1.0, start=1.0)
  ),
  'theory.reshuffled_bias': Call(
    lambda: dict(hessian=MATRIX, product=[1.0, 2.0], learning_rate=0.1, num_examples=10, batch_size=2)
  ),
  'theory.reshuffled_bound': Call(
    lambda: dict(
      epochs=10,
      learning_rate=0.01,
      smoothness=2.0,
      strong_convexity=0.5,
      noise=1.0,
      start=1.0,
      num_examples=10,
    )
  ),
  'theory.second_moments': Call(
    lambda: dict(
      eigenvalues=EIGENVALUES,
      noise=1.0,
      learning_rate=0.1,
      num_steps=3,
      batch_size=2,
      initial=1.0,
      num_examples=10,
      drop_remainder=False,
      **MOMENTUM,
    )
  ),
  'theory.small_rate_covariance': Call(
    lambda: dict(hessian=MATRIX, noise_covariance=MATRIX, learning_rate=0.1, batch_size=2, momentum=0.5)
  ),
  'theory.spectral_radius': Call(lambda: dict(curvature=[0.5, 1.0], learning_rate=0.1, **MOMENTUM)),
  'theory.square_root_scaling_change': Call(lambda: dict(kappa=2.0, signal=[0.1, 0.2])),
  'theory.stationary_covariance': Call(
    lambda: dict(
      hessian=MATRIX,
      noise_covariance=MATRIX,
      learning_rate=0.1,
      batch_size=2,
      subsets_of=10,
      **MOMENTUM,
    )
  ),
  'theory.stationary_moments': Call(
    lambda: dict(
      eigenvalues=EIGENVALUES,
      noise=1.0,
      learning_rate=0.1,
      batch_size=2,
      num_examples=10,
      drop_remainder=False,
      **MOMENTUM,
    )
  ),
  'theory.steps_to_target': Call(
    lambda: dict(model=MODEL, batch_sizes=[100, 200], learning_rates=[0.1, 0.5], target=0.1, **METHOD)
  ),
  'theory.updates_per_epoch': Call(lambda: dict(num_examples=10, batch_size=4)),
}
