"""A third set of examples: its metrics wherever there are those of the others, and `split`, which makes it."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from flax import linen as nn
from flax import nnx

import gdlab
from gdlab import problems
from gdlab.core.errors import InputError
from gdlab.core.types import Examples, Known

N, VALIDATION, TEST = 20, 5, 3
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def pair(seed, count):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(count, 2)).astype(np.float32), rng.integers(0, 3, count)


def make_linear(rngs):
  return nnx.Linear(2, 3, rngs=rngs)


SETS = {'test': pair(1, TEST), 'validation': pair(2, VALIDATION)}
MAKERS = {
  'from_linen': lambda sets: problems.from_linen(nn.Dense(3), pair(0, N), cross_entropy, **sets),
  'from_nnx': lambda sets: problems.from_nnx(make_linear, pair(0, N), cross_entropy, **sets),
  'linear_regression': lambda sets: problems.linear_regression(*pair(0, N), **sets),
  'logistic_regression': lambda sets: problems.logistic_regression(*pair(0, N), l2=0.1, **sets),
}


def classification(**sets):
  return MAKERS['logistic_regression'](sets)


def sgd(rate=0.1):
  return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.sgd(rate))


def cross_entropy_of(weights, inputs, labels):
  """By hand, in float64, with the penalty of l2 = 0.1."""
  logits = np.asarray(inputs, float) @ np.asarray(weights, float)
  norm = np.log(np.exp(logits).sum(axis=1))
  return np.mean(norm - logits[np.arange(len(labels)), labels]) + 0.05 * np.sum(
    np.square(weights, dtype=float)
  )


class ValidationTest(parameterized.TestCase):
  @parameterized.parameters(*MAKERS)
  def test_makers_take_it_and_every_metric_has_it(self, name):
    problem = MAKERS[name](SETS)
    chex.assert_trees_all_close(problem.validation.inputs, SETS['validation'][0])
    params, state = problem.init(jax.random.key(0))
    found = gdlab.evaluate(problem, params, state)
    swapped = dataclasses.replace(problem, train=problem.validation, validation=None)
    for metric in problem.metrics(params, state, problem.train):
      np.testing.assert_allclose(
        found[f'validation_{metric}'], gdlab.evaluate(swapped, params, state)[f'train_{metric}'], rtol=1e-6
      )
    self.assertEqual({label.partition('_')[0] for label in found}, {'train', 'validation', 'test'})

  def test_the_mean_is_that_of_a_loop_by_hand(self):
    weights = np.linspace(-1, 1, 6).reshape(2, 3)
    found = gdlab.evaluate(classification(**SETS), jnp.asarray(weights, jnp.float32))
    for split, data in {'train': pair(0, N), **SETS}.items():
      # Sums of twenty float32 numbers of order 1.
      np.testing.assert_allclose(found[f'{split}_loss'], cross_entropy_of(weights, *data), rtol=3e-6)

  @parameterized.parameters(*MAKERS)
  def test_none_is_none(self, name):
    problem = MAKERS[name]({})
    self.assertIsNone(problem.validation)
    self.assertEqual(
      {label.partition('_')[0] for label in gdlab.evaluate(problem, *problem.init(jax.random.key(0)))},
      {'train'},
    )

  def test_runs_and_lines_have_it_and_the_updates_do_not_see_it(self):
    with_it, without = classification(**SETS), classification(test=SETS['test'])
    results = [gdlab.run(p, sgd(), num_steps=6, seeds=2, plan=gdlab.Plan(1, 1)) for p in (with_it, without)]
    self.assertEqual(
      {*results[0].data_vars} - {*results[1].data_vars}, {'validation_loss', 'validation_accuracy'}
    )
    self.assertEqual(results[0].validation_loss.dims, ('seed', 'step'))
    self.assertTrue(np.isfinite(results[0].validation_loss).all())
    np.testing.assert_allclose(results[0].test_loss, results[1].test_loss, rtol=1e-5)
    first, second = (with_it.init(jax.random.key(seed))[0] for seed in range(2))
    line = gdlab.analysis.interpolate(with_it, first, second, num_points=3)
    self.assertIn('validation_barrier', line)
    np.testing.assert_allclose(
      line.validation_loss[0], gdlab.evaluate(with_it, first)['validation_loss'], rtol=1e-6
    )

  def test_what_is_made_of_another_problem_keeps_it(self):
    problem = classification(**SETS)
    made = [
      problems.with_penalty(problem, l2=0.5),
      problems.with_label_noise(problem, 0.5, num_classes=3),
      problems.with_noise(problem, problems.noise.isotropic(0.1)),
    ]
    for other in made:
      chex.assert_trees_all_equal(other.validation, problem.validation)
    params = jnp.ones((2, 3))
    penalised, plain = (gdlab.evaluate(p, params)['validation_loss'] for p in (made[0], problem))
    np.testing.assert_allclose(penalised - plain, 0.25 * 6, rtol=1e-5)

  def test_repr(self):
    self.assertEqual(
      repr(classification(validation=SETS['validation'])),
      "Problem('logistic regression', train: 20 examples of float32[2] and int32[], "
      'validation: 5 examples of float32[2] and int32[])',
    )

  @parameterized.parameters(
    ((pair(2, 5)[0], np.full(5, 7)), r'validation\.targets must be labels in \[0, 2\].*got 7'),
    (
      (np.ones((5, 3)), pair(2, 5)[1]),
      r'validation must hold examples like those of the training data.*\(3,\)',
    ),
    (
      (pair(2, 5)[0], pair(2, 4)[1]),
      r'validation must hold as many inputs as targets.*validation\.targets has 4',
    ),
    (3, r'validation must be a pair \(inputs, targets\), got 3'),
  )
  def test_refusals(self, validation, message):
    for name in ('from_linen', 'from_nnx'):
      with self.assertRaisesRegex(InputError, message):
        MAKERS[name]({'validation': validation})

  def test_masked_arrays_are_refused(self):
    masked = np.ma.masked_array(np.ones((5, 2), np.float32), mask=np.eye(5, 2))
    problem = dataclasses.replace(classification(), validation=Examples(masked, np.zeros(5, np.int32)))
    with self.assertRaisesRegex(InputError, r'problem\.validation\.inputs must be a plain array'):
      gdlab.run(problem, sgd(), num_steps=1, seeds=1)


class SplitTest(parameterized.TestCase):
  @parameterized.parameters((0.25, 5), (0.3, 6), (1, 1), (19, 19), (np.int64(7), 7))
  def test_the_parts_are_the_whole_in_order(self, validation, expected):
    problem = classification(test=SETS['test'])
    made = problems.split(problem, validation=validation, seed=3)
    rows = {row.tobytes(): place for place, row in enumerate(np.asarray(problem.train.inputs))}
    places = [
      [rows[row.tobytes()] for row in np.asarray(part.inputs)] for part in (made.train, made.validation)
    ]
    self.assertLen(places[1], expected)
    for part, own in zip(places, (made.train, made.validation), strict=True):
      self.assertEqual(part, sorted(part))
      np.testing.assert_array_equal(own.targets, np.asarray(problem.train.targets)[part])
    self.assertEqual(sorted(places[0] + places[1]), list(range(N)))
    chex.assert_trees_all_equal(made.test, problem.test)
    self.assertEqual((made.known, made.name, made.num_examples), (Known(), problem.name, N - expected))

  def test_every_example_is_as_likely(self):
    problem, trials = classification(), 400
    count = np.zeros(N)
    inputs = np.asarray(problem.train.inputs)
    for seed in range(trials):
      moved = np.asarray(problems.split(problem, validation=5, seed=seed).validation.inputs)
      count += (inputs[:, None] == moved[None]).all(-1).any(1)
    # Binomial with p = 1/4: four standard errors, for twenty counts.
    np.testing.assert_allclose(count / trials, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / trials))

  def test_seed_decides(self):
    made = [problems.split(classification(), validation=0.5, seed=seed) for seed in (0, 0, 1)]
    chex.assert_trees_all_equal(made[0].validation, made[1].validation)
    self.assertFalse(np.array_equal(made[0].validation.inputs, made[2].validation.inputs))
    self.assertEqual(*map(jax.tree.structure, made[:2]))

  def test_data_of_ones_own_are_divided(self):
    data = {'x': jnp.arange(6.0), 'mark': jnp.arange(6) % 2}
    problem = problems.from_function(lambda p, e: (p - e['x']) ** 2, 0.0, data=data)
    made = problems.split(problem, validation=2)
    self.assertEqual((made.train['x'].shape, made.validation['mark'].shape), ((4,), (2,)))

  @parameterized.parameters(
    ({'validation': 0.0}, r'validation must be a real number in \(0, 1\), got 0.0'),
    ({'validation': 1.0}, r'validation must be a real number in \(0, 1\), got 1.0'),
    ({'validation': np.nan}, r'validation must be a real number in \(0, 1\), got nan'),
    (
      {'validation': 0.01},
      'validation must be a share that leaves examples in both parts, got 0.01 of 20 examples: 0',
    ),
    ({'validation': 0.99}, 'got 0.99 of 20 examples: 20 for validation'),
    ({'validation': 0}, r'validation must be a whole number in \[1, 19\], got 0'),
    ({'validation': 20}, r'validation must be a whole number in \[1, 19\], got 20'),
    ({'validation': True}, r'validation must be a real number in \(0, 1\), got True'),
    ({'validation': '0.2'}, r"validation must be a real number in \(0, 1\), got '0.2'"),
    ({'seed': -1}, 'seed must be a whole number >= 0, got -1'),
    ({'seed': 0.5}, 'seed must be a whole number'),
    ({'problem': 3}, 'problem must be a gdlab Problem'),
  )
  def test_refusals(self, options, message):
    with self.assertRaisesRegex(InputError, message) as caught:
      problems.split(**{'problem': classification(), 'validation': 0.5, **options})
    self.assertNotIn('\n', str(caught.exception))

  @parameterized.parameters(
    (
      lambda: classification(**SETS),
      "no validation set yet, got 'logistic regression' with one of 5 examples",
    ),
    (lambda: problems.landscapes.booth(), 'at least 2 training examples to split'),
    (
      lambda: problems.from_function(jnp.sum, jnp.ones(2)),
      "at least 2 training examples to split, got 'sum'",
    ),
    (lambda: problems.noisy_quadratic_model(3), 'the 1024 of .* are all the same'),
    (lambda: problems.with_noise(problems.landscapes.booth(), problems.noise.isotropic(0.1)), 'all the same'),
    (lambda: problems.quadratic([1.0], noise=0.1), 'those of .* are one function with noise'),
    (lambda: problems.drifting_regression(np.eye(3), problems.random_walk(0.1)), 'the order of a stream'),
    (lambda: problems.from_function(lambda p, key: p, 0.0), 'those of .* are fixed draws of noise'),
  )
  def test_problems_without_a_sample(self, build, message):
    with self.assertRaisesRegex(InputError, message) as caught:
      problems.split(build(), validation=0.5)
    self.assertNotIn('\n', str(caught.exception))
