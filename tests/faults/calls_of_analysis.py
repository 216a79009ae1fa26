"""One valid call of each function of gdlab.analysis, on two parameters or a network of a few units."""

# ruff: noqa: C408 - dict(...) reads as the call whose arguments these are

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from malformed import Call

import gdlab
from gdlab import analysis, problems

FEATURES = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, 2.0], [0.5, 0.5]], np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])
PROBLEM = problems.linear_regression(
  FEATURES, np.arange(6, dtype=np.float32), test=(FEATURES, FEATURES[:, 0])
)
NET = problems.from_linen(
  problems.MLP((3, 3)), (FEATURES, LABELS), optax.softmax_cross_entropy_with_integer_labels, name='net'
)
BOWL = gdlab.problems.landscapes.booth()
VALUES = np.array([0.5, 1.5, 2.5, 1.0, 3.0, 8.0, 0.2, 4.0, 1.1, 0.9, 2.2, 6.0], np.float32)
RECORDS = xr.DataArray([5.0, 0.1, 0.1, 0.9, 2.0], dims='step', coords={'step': [0, 10, 20, 30, 40]})
PATH = np.array([[0.0, 0.0], [1.0, 0.5], [1.5, 1.0], [3.0, 1.0]], np.float32)


@functools.cache
def params_of(seed=0):
  return NET.init(jax.random.key(seed))[0]


def stack():
  return analysis.dense_stack(params_of())


def at_point(**numbers):
  return lambda: dict(
    problem=PROBLEM, params=np.ones(2, np.float32), model_state=(), key=jax.random.key(0), **numbers
  )


def operator():
  return analysis.hessian(PROBLEM, jnp.ones(2), (), jax.random.key(0))


def of_operator(**numbers):
  return lambda: dict(operator=operator(), key=jax.random.key(1), **numbers)


def on_ones(function):
  return function(jnp.ones(2))


CALLS = {
  f'analysis.{name}': call
  for name, call in {
    'adaptive_sharpness': Call(at_point(radius=0.5, num_steps=1, block_size=4)),
    'sam_sharpness': Call(at_point(radius=0.5, num_steps=1, block_size=4)),
    'align': Call(lambda: dict(problem=NET, first=params_of(), second=params_of(1))),
    'barrier': Call(lambda: dict(values=[1.0, 3.0, 2.0], positions=[0.0, 0.5, 1.0])),
    'box_starts': Call(lambda: dict(box=[[-1.0, 1.0], [0.0, 2.0]], count=4, seed=1)),
    'classify_stationary': Call(at_point(tol=1e-6, flat_tol=1e-3, block_size=4)),
    'count_signs': Call(lambda: dict(eigenvalues=[1.0, -1.0], bounds=[0.1, 0.1])),
    'dense': Call(lambda: dict(operator=operator())),
    'dense_stack': Call(
      lambda: dict(params=params_of(), model_state=(), layers=['Dense_0', 'Dense_1', 'Dense_2'])
    ),
    'diagonal': Call(of_operator(num_probes=8, rank=0)),
    'trace': Call(of_operator(num_probes=8, rank=0)),
    'distance_from_init': Call(lambda: dict(params=params_of(), initial=params_of(1))),
    'eigenpairs': Call(
      of_operator(num_largest=1, num_smallest=1, tolerance=0.01, max_products=4, dense_below=8)
    ),
    'escape_times': Call(lambda: dict(records=RECORDS, enter=0.2, leave=0.5)),
    'evaluation_losses': Call(
      lambda: dict(
        problem=PROBLEM,
        params=np.ones(2, np.float32),
        model_state=(),
        batch=gdlab.Batch(np.array([0, 1]), np.array([0.5, 0.5], np.float32)),
        key=jax.random.key(0),
      )
    ),
    'training_losses': Call(
      lambda: dict(
        problem=PROBLEM,
        params=np.ones(2, np.float32),
        model_state=(),
        batch=gdlab.Batch(np.array([0, 1]), np.array([0.5, 0.5], np.float32)),
        key=jax.random.key(0),
      )
    ),
    'filter_direction': Call(
      lambda: dict(key=jax.random.key(0), params=params_of(), biases=False, kinds=NET.kinds())
    ),
    'find_stationary_points': Call(
      lambda: dict(
        problem=BOWL,
        starts=np.zeros((2, 2), np.float64),
        model_state=(),
        key=jax.random.key(0),
        merge=1e-3,
        at_once=4,
        tol=1e-4,
        flat_tol=1e-3,
        reach=100.0,
        max_steps=3,
        newton_steps=3,
        block_size=4,
      ),
      double=True,
    ),
    'seek_stationary': Call(
      lambda: dict(
        problem=BOWL,
        params=np.zeros(2, np.float64),
        model_state=(),
        key=jax.random.key(0),
        tol=1e-4,
        flat_tol=1e-3,
        reach=100.0,
        max_steps=3,
        newton_steps=3,
        block_size=4,
      ),
      double=True,
    ),
    'flatness': Call(at_point(sigma=0.01, relative=False, num_pairs=2, block_size=4)),
    'full_gradient': Call(
      lambda: dict(problem=PROBLEM, model_state=(), key=jax.random.key(0), block_size=4), on_ones
    ),
    'full_loss': Call(
      lambda: dict(problem=PROBLEM, model_state=(), key=jax.random.key(0), block_size=4), on_ones
    ),
    'gauss_newton': Call(
      lambda: dict(
        problem=PROBLEM,
        params=np.ones(2, np.float32),
        model_state=(),
        predict=lambda params, model_state, examples: examples.inputs @ params,
        loss=lambda outputs, examples: (outputs - examples.targets) ** 2 / 2,
        block_size=4,
      ),
      lambda found: on_ones(found.product),
    ),
    'generalisation_gap': Call(
      lambda: dict(problem=PROBLEM, params=np.ones(2, np.float32), model_state=(), block_size=4)
    ),
    'gradient_covariance_trace': Call(at_point(block_size=4)),
    'gradient_moments': Call(at_point(block_size=4)),
    'gradient_predictiveness': Call(at_point(steps=np.array([0.1, 0.2], np.float32), block_size=4)),
    'hessian': Call(at_point(block_size=4), lambda found: on_ones(found.product)),
    'hill_index': Call(lambda: dict(values=VALUES, num_tail=4)),
    'stable_index': Call(lambda: dict(values=VALUES, group_size=3)),
    'interpolate': Call(
      lambda: dict(
        problem=PROBLEM,
        first=np.ones(2, np.float32),
        second=np.zeros(2, np.float32),
        num_points=3,
        points_at_once=1,
      )
    ),
    'keskar_sharpness': Call(
      at_point(epsilon=1e-3, subspace=1, num_iterations=2, num_starts=1, block_size=4)
    ),
    'layers': Call(lambda: dict(operator=analysis.hessian(NET, params_of(), (), jax.random.key(0)))),
    'loss_line': Call(
      lambda: dict(
        problem=PROBLEM,
        params=np.ones(2, np.float32),
        model_state=(),
        direction=np.ones(2, np.float32),
        interval=(-1.0, 1.0),
        num_points=3,
        points_at_once=1,
      )
    ),
    'loss_plane': Call(
      lambda: dict(
        problem=PROBLEM,
        params=np.ones(2, np.float32),
        model_state=(),
        directions=[np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)],
        intervals=((-1.0, 1.0), (-1.0, 1.0)),
        num_points=(3, 3),
        points_at_once=1,
      )
    ),
    'margins': Call(
      lambda: dict(
        outputs=np.eye(3, dtype=np.float32),
        labels=np.array([0, 1, 2]),
        params=params_of(),
        kinds=NET.kinds(),
        quantiles=(0.1, 0.5),
      )
    ),
    'output_margins': Call(lambda: dict(outputs=np.eye(3, dtype=np.float32), labels=np.array([0, 1, 2]))),
    'match_activations': Call(lambda: dict(first=[FEATURES], second=[FEATURES[:, ::-1]])),
    'match_weights': Call(lambda: dict(first=params_of(), second=params_of(1), stack=stack(), max_sweeps=5)),
    'noise_scales': Call(at_point(num_probes=2, block_size=4)),
    'noise_tails': Call(at_point(batch_size=1, num_groups=4, group_size=4, num_tail=3, block_size=4)),
    'per_example_gradients': Call(at_point(indices=np.array([0, 1]))),
    'permute_units': Call(
      lambda: dict(
        params=params_of(),
        model_state=(),
        stack=stack(),
        permutations=[np.array([2, 0, 1]), np.array([1, 0, 2])],
      )
    ),
    'principal_plane': Call(lambda: dict(path=PATH)),
    'saddle_visits': Call(lambda: dict(series=VALUES, enter=1.0, leave=2.0)),
    'sampled_noise_scale': Call(at_point(num_examples=4, block_size=4, confidence=0.9)),
    'sharpness': Call(at_point(tolerance=0.01, max_products=4, dense_below=8, block_size=4)),
    'signal_to_noise': Call(
      lambda: dict(
        moments=analysis.ParameterMoments(mean={'w': np.ones(2)}, variance={'w': np.ones(2)}),
        batch_size=2,
      )
    ),
    'spectral_density': Call(of_operator(num_probes=2, depth=2, num_points=8, width=0.1)),
    'trajectory_plane': Call(
      lambda: dict(
        problem=PROBLEM,
        path=PATH,
        params=np.ones(2, np.float32),
        model_state=(),
        num_points=(3, 3),
        margin=0.25,
        points_at_once=1,
      )
    ),
    'two_batch_noise_scale': Call(
      lambda: dict(
        small_squares=np.array([5.0, 7.0, 6.0], np.float32),
        large_squares=np.array([3.0, 3.5, 3.0], np.float32),
        small_size=1,
        large_size=4,
        confidence=0.9,
      )
    ),
    'two_batch_squares': Call(at_point(small_size=1, large_size=4, num_pairs=2)),
  }.items()
}
