"""One valid call of each function of gdlab.problems, and one evaluation of the problem that it makes."""

# ruff: noqa: C408 - dict(...) reads as the call whose arguments these are

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from malformed import Call

import gdlab
from gdlab import problems
from gdlab.problems import landscapes

FEATURES = np.eye(6, 2, dtype=np.float32)
TARGETS = np.arange(6, dtype=np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])
PROBLEM = problems.linear_regression(FEATURES, TARGETS)
CLASSES = problems.logistic_regression(FEATURES, LABELS, l2=0.1)
MODULE = nn.Dense(1)


DIGITS = problems.digits(problems.MLP((4, 10)))


def digits_state():
  params, model_state = DIGITS.init(jax.random.key(0))
  return gdlab.State(*[None] * 7)._replace(params=params, model_state=model_state)


def evaluated(problem):
  """The metrics where runs start."""
  params, model_state = problem.init(jax.random.key(0))
  return gdlab.evaluate(problem, params, model_state)


def small_lm(num_characters):
  return problems.GRU(num_characters, 4, 4)


def of_nothing(problem):
  """For problems whose evaluation costs more than what is tested here."""
  return problem.num_examples


def walked(path):
  return path(np.random.default_rng(0), 5, 2)


def noisy(noise):
  return evaluated(problems.with_noise(landscapes.booth(), noise, num_examples=8))


def squares(outputs, targets):
  return jnp.sum((outputs[..., 0] - targets) ** 2 / 2, axis=tuple(range(1, targets.ndim)))


def made(rngs):
  return nnx.Linear(2, 1, rngs=rngs)


HELD_OUT = dict(
  data=(FEATURES, TARGETS), loss=squares, test=(FEATURES, TARGETS), metrics={'error': squares}, name='mine'
)
PLANE = dict(start=[0.5, 0.5], initial_scale=None)
STARTED = dict(start=[0.5, 0.5], initial_scale=1.0)


def plane(**numbers):
  return Call(lambda: dict(**numbers, **PLANE), evaluated)


CALLS = {
  'problems.character_lm': Call(
    lambda: dict(model=small_lm, path=None, context=16, stride=512, test_fraction=0.1),
    of_nothing,
  ),
  'problems.class_accuracy': Call(lambda: dict(problem=DIGITS, state=digits_state())),
  'problems.decode': Call(lambda: dict(ids=np.array([0, 1]), characters='abc')),
  'problems.encode': Call(lambda: dict(text='ab', characters='abc')),
  'problems.vocabulary': Call(lambda: dict(text='ab')),
  'problems.read_text': Call(lambda: dict(path=None)),
  'problems.sample_text': Call(
    lambda: dict(
      predict=lambda ids: 1.0 * jax.nn.one_hot((ids + 1) % 3, 3),
      prompt='ab',
      characters='abc',
      length=2,
      key=jax.random.key(0),
      context=4,
      temperature=1.0,
    )
  ),
  'problems.digits': Call(lambda: dict(model=problems.MLP((4, 10))), of_nothing),
  'problems.imbalanced_digits': Call(
    lambda: dict(model=problems.MLP((4, 10)), exponent=1.0, order=tuple(range(10)), seed=1), of_nothing
  ),
  'problems.drifting_regression': Call(
    lambda: dict(features=FEATURES, path=problems.rotation(10.0), noise_std=0.1, seed=1, initial_scale=1.0),
    evaluated,
  ),
  'problems.from_function': Call(
    lambda: dict(
      f=lambda x, point: jnp.sum((x - point) ** 2),
      init=np.ones(2, np.float32),
      data=FEATURES,
      test=FEATURES,
      metrics={'other': lambda x, point: jnp.sum(x)},
      name='mine',
    ),
    evaluated,
  ),
  'problems.from_linen': Call(lambda: dict(module=MODULE, **HELD_OUT), evaluated),
  'problems.from_nnx': Call(lambda: dict(make_module=made, **HELD_OUT), evaluated),
  'problems.gaussian_random_field': Call(
    lambda: dict(dimension=2, length_scale=1.0, num_features=16, seed=1, start=[0.5, 0.5], initial_scale=1.0),
    evaluated,
  ),
  'problems.spherical_spin_glass': Call(
    lambda: dict(dimension=3, order=3, seed=1, start=[0.5, 0.5, 1.0], initial_scale=1.0), evaluated
  ),
  'problems.linear_regression': Call(
    lambda: dict(features=FEATURES, targets=TARGETS, l2=0.1, test=(FEATURES, TARGETS), initial_scale=1.0),
    evaluated,
  ),
  'problems.logistic_regression': Call(
    lambda: dict(
      features=FEATURES, labels=LABELS, l2=0.1, num_classes=3, test=(FEATURES, LABELS), initial_scale=1.0
    ),
    evaluated,
  ),
  'problems.mixing': Call(lambda: dict(problem=PROBLEM)),
  'problems.noisy_quadratic_model': Call(
    lambda: dict(dimension=2, exponent=1.0, num_examples=8, **STARTED), evaluated
  ),
  'problems.octopus': Call(
    lambda: dict(dimension=2, smoothness=1.0, gamma=0.5, tau=2.0, **STARTED), evaluated
  ),
  'problems.quadratic': Call(
    lambda: dict(eigenvalues=[1.0, 2.0], noise=0.5, num_examples=8, **STARTED), evaluated
  ),
  'problems.random_walk': Call(lambda: dict(step=0.1, start=[0.5, 0.5]), walked),
  'problems.rotation': Call(lambda: dict(period=10.0, radius=1.0), walked),
  'problems.redraw': Call(lambda: dict(problem=problems.split(PROBLEM, validation=0.34), seed=1), evaluated),
  'problems.split': Call(lambda: dict(problem=PROBLEM, validation=0.34, seed=1, train=2), evaluated),
  'problems.spectral_logistic': Call(
    lambda: dict(
      eigenvalues=[1.0, 2.0],
      num_examples=8,
      l2=0.1,
      weights=[1.0, 1.0],
      signal=1.0,
      rotated=True,
      seed=1,
      initial_scale=1.0,
    ),
    evaluated,
  ),
  'problems.spectral_regression': Call(
    lambda: dict(
      eigenvalues=[1.0, 2.0],
      num_examples=8,
      minimiser=[1.0, 1.0],
      noise=0.1,
      l2=0.1,
      rotated=True,
      seed=1,
      initial_scale=1.0,
    ),
    evaluated,
  ),
  'problems.two_parameter_network': Call(lambda: dict(start=(0.5, 0.5), initial_scale=1.0), evaluated),
  'problems.with_label_noise': Call(
    lambda: dict(problem=CLASSES, fraction=0.2, num_classes=3, seed=1), evaluated
  ),
  'problems.with_noise': Call(
    lambda: dict(problem=PROBLEM, noise=problems.noise.isotropic(0.1), num_examples=8), evaluated
  ),
  'problems.with_penalty': Call(
    lambda: dict(problem=PROBLEM, l1=0.1, l2=0.1, where=lambda path, array: True), evaluated
  ),
  'problems.landscapes.ackley': plane(dim=2),
  'problems.landscapes.beale': plane(),
  'problems.landscapes.booth': plane(),
  'problems.landscapes.branin': plane(),
  'problems.landscapes.cliff': plane(dim=2, height=2.0, width=0.1, position=1.0, curvature=0.2),
  'problems.landscapes.degenerate_saddle': plane(confinement=0.1),
  'problems.landscapes.double_well': plane(dim=2, depth=1.0, tilt=0.1, stiffness=1.0),
  'problems.landscapes.griewank': plane(dim=2),
  'problems.landscapes.himmelblau': plane(),
  'problems.landscapes.monkey_saddle': plane(confinement=0.1),
  'problems.landscapes.mueller_brown': plane(),
  'problems.landscapes.plateau': plane(dim=2, width=1.0),
  'problems.landscapes.rastrigin': plane(dim=2),
  'problems.landscapes.rosenbrock': plane(dim=2),
  'problems.landscapes.six_hump_camel': plane(),
  'problems.landscapes.strict_saddle': plane(eigenvalues=[1.0, -1.0], confinement=0.1),
  'problems.landscapes.styblinski_tang': plane(dim=2),
  'problems.landscapes.three_hump_camel': plane(),
  'problems.landscapes.two_valleys': plane(dim=2, curvatures=(100.0, 1.0), depths=(1.0, 1.0), stiffness=1.0),
  'problems.value_fn': Call(lambda: dict(problem=landscapes.booth())),
  'problems.matrices.deep_linear_network': Call(
    lambda: dict(
      singular_values=[2.0, 1.0],
      depth=2,
      width=3,
      num_inputs=2,
      num_outputs=2,
      rotation=1,
      initial_scale=1.0,
    ),
    evaluated,
  ),
  'problems.matrices.low_rank_factorization': Call(
    lambda: dict(eigenvalues=[2.0, 1.0], rank=1, rotation=1, initial_scale=1.0), evaluated
  ),
  'problems.matrices.matrix_sensing': Call(
    lambda: dict(eigenvalues=[2.0], dimension=3, num_measurements=8, rank=1, seed=1, initial_scale=1.0),
    evaluated,
  ),
  'problems.matrices.orthogonal_tensor_decomposition': Call(
    lambda: dict(weights=[2.0, 1.0], penalty=5.0, rotation=1, initial_scale=1.0), evaluated
  ),
  'problems.matrices.phase_retrieval': Call(
    lambda: dict(signal=[1.0, 2.0], num_measurements=8, seed=1, **STARTED), evaluated
  ),
  'problems.matrices.population_phase_retrieval': Call(lambda: dict(signal=[1.0, 2.0], **STARTED), evaluated),
  'problems.noise.isotropic': Call(lambda: dict(variance=0.1), noisy),
  'problems.noise.gaussian': Call(lambda: dict(covariance=[[1.0, 0.5], [0.5, 1.0]]), noisy),
  'problems.noise.hessian_noise': Call(lambda: dict(scale=0.1), noisy),
  'problems.noise.heavy_tailed': Call(lambda: dict(alpha=1.5, scale=0.1), noisy),
  'problems.noise.state_dependent': Call(lambda: dict(deviation=lambda params: params), noisy),
}
