"""Problems from functions of one's own, against Optax loops written out, closed forms and `jax.grad`."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

import gdlab
from gdlab import sampling
from gdlab.core.errors import InputError
from gdlab.core.types import Known
from gdlab.problems import from_function, mixing

PLAN = gdlab.Plan(1, 1)
START = {'a': np.array([2.0, -1.0]), 'b': (0.5,)}
RNG = np.random.default_rng(0)
POINTS = {'x': RNG.normal(size=(10, 2)).astype(np.float32), 'y': RNG.normal(size=10).astype(np.float32)}
SIGMA = 0.3


def bowl(params):
  return jnp.sum(jnp.array([1.0, 3.0]) * params['a'] ** 2) / 2 + jnp.cos(params['b'][0])


def shaken_bowl(params, key):
  """Its gradient in a is that of the bowl plus N(0, SIGMA^2)."""
  return bowl(params) + SIGMA * jax.random.normal(key, (2,)) @ params['a']


def squared_error(params, example):
  return (example['x'] @ params['a'] + params['b'][0] - example['y']) ** 2 / 2


def is_close(params, example):
  return jnp.abs(example['x'] @ params['a'] + params['b'][0] - example['y']) < 1


def draw(key):
  return {'a': jax.random.normal(key, (2,)), 'b': (0.0,)}


def norm_of(params):
  return jnp.linalg.norm(params['a'])


def method(sampler=None, optimizer=None):
  return gdlab.algorithm(sampler=sampler or sampling.full_batch(), optimizer=optimizer or optax.adam(0.1))


def optax_loop(value, params, num_steps):
  """A plain loop, without gdlab."""
  optimizer = optax.adam(0.1)
  state = optimizer.init(params)
  for _ in range(num_steps):
    updates, state = optimizer.update(jax.grad(value)(params), state, params)
    params = optax.apply_updates(params, updates)
  return params


def as_arrays(tree):
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


class LandscapeTest(parameterized.TestCase):
  def test_a_run_is_a_plain_optax_loop(self):
    problem = from_function(bowl, START, metrics={'norm': norm_of})
    result = gdlab.run(problem, method(), num_steps=30, seeds=2, eval_every=30, keep='params', plan=PLAN)
    expected = optax_loop(bowl, as_arrays(START), 30)
    for seed in range(2):
      params, state = gdlab.kept_params(problem, result.isel(seed=seed))
      # The same operations compiled otherwise: float32 rounding of thirty steps of a contraction.
      chex.assert_trees_all_close(params, expected, rtol=1e-5, atol=1e-5)
      self.assertEqual(state, ())
    last = result.isel(step=-1, seed=0)
    np.testing.assert_allclose(last.train_loss, bowl(expected), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(last.train_norm, norm_of(expected), rtol=1e-4, atol=1e-5)

  def test_name_known_and_repr(self):
    known = Known(params={'a': np.zeros(2), 'b': (np.pi,)}, value=-1.0)
    problem = from_function(bowl, START, known=known)
    self.assertEqual((problem.name, problem.num_examples, float(problem.known.value)), ('bowl', 1, -1.0))
    self.assertEqual(from_function(lambda p: p, 1.0).name, 'function')
    self.assertEqual(from_function(bowl, START, name='mine').name, 'mine')
    self.assertEqual(from_function(functools.partial(bowl), START).name, 'partial')

  def test_known_may_be_python_numbers(self):
    problem = from_function(lambda p: p**2, 1.0, known=Known(params=0.0, value=0.0, smoothness=2.0))
    self.assertEqual(gdlab.run(problem, method(), num_steps=1, seeds=1, plan=PLAN).sizes['step'], 2)

  def test_the_start_is_given_or_drawn(self):
    fixed, drawn = from_function(bowl, START), from_function(bowl, draw)
    for seed in range(2):
      starts = [problem.init(jax.random.key(seed))[0] for problem in (fixed, drawn)]
      chex.assert_trees_all_equal(starts, [as_arrays(START), as_arrays(draw(jax.random.key(seed)))])
      # Python's numbers are weakly typed, and would be of another type after the first update.
      self.assertFalse(any(leaf.weak_type for leaf in jax.tree.leaves(starts)))

  def test_half_precision_stays(self):
    problem = from_function(lambda p: jnp.sum(p.astype(float) ** 2), jnp.ones(3, jnp.bfloat16))
    self.assertEqual(problem.init(jax.random.key(0))[0].dtype, jnp.bfloat16)

  def test_float64_under_x64(self):
    with jax.enable_x64(True):
      problem = from_function(bowl, START)
      self.assertEqual(problem.init(jax.random.key(0))[0]['a'].dtype, np.float64)

  def test_an_empty_array_and_a_callable_pytree_are_starts(self):
    empty = from_function(lambda p: p['x'] ** 2, {'x': 1.0, 'none': np.zeros((0, 2))})
    self.assertEqual(empty.init(jax.random.key(0))[0]['none'].shape, (0, 2))
    partial = jax.tree_util.Partial(lambda w, x: w * x, 2.0)  # as modules that are pytrees are
    problem = from_function(lambda model: model(3.0), partial)
    self.assertEqual(float(gdlab.evaluate(problem, problem.init(jax.random.key(0))[0])['train_loss']), 6.0)

  @parameterized.parameters(
    *(sampling.full_batch, sampling.single),
    *(lambda name=name: getattr(sampling, name)(1) for name in ('reshuffle', 'shuffle_once', 'sequential')),
    *(lambda: sampling.with_replacement(1), lambda: sampling.poisson(1.0, 1)),
  )
  def test_every_batch_is_the_full_batch(self, make):
    algorithm = method(make())
    result = gdlab.run(from_function(bowl, START), algorithm, num_steps=3, seeds=1, plan=PLAN)
    expected = bowl(optax_loop(bowl, as_arrays(START), 3))
    np.testing.assert_allclose(result.train_loss[0, -1], expected, rtol=1e-5)

  def test_sweeps_and_instruments(self):
    problem = from_function(lambda x: x @ jnp.diag(jnp.array([1.0, 4.0])) @ x / 2, np.ones(2))
    make = lambda rate: method(optimizer=optax.sgd(rate))
    result = gdlab.sweep(problem, make, {'rate': [0.1, 0.25]}, num_steps=5, seeds=1, plan=PLAN)
    # Gradient descent on a quadratic in closed form.
    for rate, losses in zip((0.1, 0.25), result.train_loss.values[:, 0], strict=True):
      steps = np.arange(6)
      exact = ((1 - rate) ** (2 * steps) + 4 * (1 - 4 * rate) ** (2 * steps)) / 2
      np.testing.assert_allclose(losses, exact, rtol=1e-5)
    value = gdlab.problems.value_fn(problem)
    np.testing.assert_allclose(jax.hessian(value)(jnp.ones(2)), np.diag([1.0, 4.0]), atol=1e-6)
    point = gdlab.analysis.classify_stationary(problem, jnp.zeros(2), (), jax.random.key(0))
    self.assertEqual((int(point.status), int(point.index)), (0, 0))
    np.testing.assert_allclose(point.eigenvalues, [1.0, 4.0], rtol=1e-5)


class NoiseTest(parameterized.TestCase):
  def problem(self, num_draws=64, **options):
    return from_function(shaken_bowl, START, num_draws=num_draws, **options)

  def gradients(self, problem, count, key=0):
    """Of each slot of a batch."""
    params = as_arrays(START)
    losses = lambda params: problem.loss(
      params, (), problem.train, jnp.ones(count, bool), jax.random.key(key)
    )[0]
    return np.asarray(jax.jacobian(losses)(params)['a'])

  def test_every_slot_and_every_update_draws_anew(self):
    problem = self.problem(4000)
    found = [self.gradients(problem, 4000, key) for key in range(2)]
    exact = np.array([2.0, -3.0])
    for gradients in found:
      self.assertLen(np.unique(gradients, axis=0), 4000)
      # Four standard errors of a mean and of a standard deviation of 4,000 normal draws.
      np.testing.assert_allclose(gradients.mean(0), exact, atol=4 * SIGMA / np.sqrt(4000))
      np.testing.assert_allclose(gradients.std(0), SIGMA, atol=4 * SIGMA / np.sqrt(8000))
    correlation = np.corrcoef(found[0][:, 0], found[1][:, 0])[0, 1]
    self.assertLess(abs(correlation), 4 / np.sqrt(4000))

  def test_metrics_are_a_mean_over_draws_that_stay(self):
    problem, params = self.problem(metrics={'noise': lambda p, key: jax.random.normal(key)}), as_arrays(START)
    found = [gdlab.evaluate(problem, params) for _ in range(2)]
    chex.assert_trees_all_equal(*found)
    values = np.asarray(problem.metrics(params, (), problem.train)['loss'])
    self.assertLen(np.unique(values), 64)
    np.testing.assert_allclose(found[0]['train_loss'], values.mean(), rtol=1e-5)
    # Of a sum of two normal draws times 2 and -1; four standard errors of a mean of 64.
    error = 4 * SIGMA * np.sqrt(5 / 64)
    np.testing.assert_allclose(found[0]['train_loss'], bowl(params), atol=error)
    np.testing.assert_allclose(found[0]['train_noise'], 0, atol=4 / 8)

  def test_the_metric_of_an_example_is_f_at_its_key(self):
    problem, params = self.problem(), as_arrays(START)
    root = jax.random.fold_in(jax.random.key(0), 0x64726177)
    for number in (0, 63):
      one = jax.tree.map(lambda leaf, at=number: leaf[at : at + 1], problem.train)
      expected = shaken_bowl(params, jax.random.fold_in(root, number))
      np.testing.assert_allclose(problem.metrics(params, (), one)['loss'], [expected], rtol=1e-6)

  def test_examples_do_not_mix(self):
    self.assertEqual(mixing(self.problem(4)), (False, False, False))

  def test_seeds_differ_and_larger_batches_are_calmer(self):
    problem = self.problem()
    spread = {}
    for size in (1, 64):
      run = gdlab.run(
        problem,
        method(sampling.reshuffle(size), optax.sgd(1.0)),
        num_steps=1,
        seeds=200,
        keep='params',
        plan=PLAN,
      )
      spread[size] = run['params.a'].values[:, 0].std()
    # The standard deviation of one step at rate 1 is that of the gradient; four standard errors for 200 runs.
    for size, found in spread.items():
      np.testing.assert_allclose(found, SIGMA / np.sqrt(size), rtol=4 / np.sqrt(400))

  @parameterized.parameters(
    *(
      sampling.full_batch,
      sampling.single,
      lambda: sampling.with_replacement(8),
      lambda: sampling.poisson(0.5, 64),
    ),
    *(lambda: sampling.reshuffle(24), lambda: sampling.importance(8, np.arange(1.0, 65))),
    lambda: sampling.adaptive_importance(8, sampling.last_loss),
  )
  def test_samplers(self, make):
    result = gdlab.run(self.problem(), method(make()), num_steps=20, seeds=1, plan=PLAN)
    self.assertLess(result.train_loss[0, -1], result.train_loss[0, 0])

  @parameterized.parameters('per_example', 'svrg', 'saga', 'storm')
  def test_estimators(self, name):
    estimator = {
      'svrg': lambda: gdlab.estimators.svrg(8),
      'storm': lambda: gdlab.estimators.storm(0.5),
    }.get(name, getattr(gdlab.estimators, name))()
    algorithm = gdlab.algorithm(
      sampler=sampling.with_replacement(8), optimizer=optax.sgd(0.1), estimator=estimator
    )
    result = gdlab.run(self.problem(), algorithm, num_steps=20, seeds=1, plan=PLAN)
    self.assertLess(result.train_loss[0, -1], result.train_loss[0, 0])

  def test_the_default_number_of_draws(self):
    self.assertEqual(from_function(shaken_bowl, START).num_examples, 128)


class PerExampleTest(parameterized.TestCase):
  def problem(self, **options):
    return from_function(squared_error, START, data=POINTS, metrics={'close': is_close}, **options)

  def mean(self, params, data):
    errors = data['x'] @ params['a'] + params['b'][0] - data['y']
    return jnp.mean(errors**2) / 2

  def test_a_full_batch_run_is_a_plain_optax_loop(self):
    held_out = jax.tree.map(lambda leaf: leaf[:3] + 1, POINTS)
    problem = self.problem(test=held_out, validation=jax.tree.map(lambda leaf: leaf[1:3], POINTS))
    result = gdlab.run(problem, method(), num_steps=30, seeds=1, eval_every=30, plan=PLAN)
    expected = optax_loop(lambda params: self.mean(params, POINTS), as_arrays(START), 30)
    last = result.isel(step=-1, seed=0)
    # The same operations compiled otherwise: float32 rounding of thirty steps.
    np.testing.assert_allclose(last.train_loss, self.mean(expected, POINTS), rtol=1e-4)
    np.testing.assert_allclose(last.test_loss, self.mean(expected, held_out), rtol=1e-4)
    two = jax.tree.map(lambda leaf: leaf[1:3], POINTS)
    np.testing.assert_allclose(last.validation_loss, self.mean(expected, two), rtol=1e-4)
    errors = POINTS['x'] @ expected['a'] + expected['b'][0] - POINTS['y']
    np.testing.assert_allclose(last.train_close, np.mean(np.abs(errors) < 1))

  def test_gradients_of_a_padded_batch(self):
    problem, params = self.problem(), as_arrays(START)
    batch = gdlab.Batch(jnp.array([7, 2, 0], jnp.int32), jnp.array([0.5, 0.5, 0.0]))
    found, _, info = gdlab.estimators.batch_mean().estimate((), problem, params, (), batch, jax.random.key(0))
    two = jax.tree.map(lambda leaf: leaf[[7, 2]], POINTS)
    value, expected = jax.value_and_grad(lambda params: self.mean(params, two))(params)
    chex.assert_trees_all_close(found, expected, rtol=1e-5)
    np.testing.assert_allclose(info.loss, value, rtol=1e-5)

  def test_it_is_linear_regression(self):
    """The same problem that ships with gdlab, drawn from the same streams."""
    data = POINTS['x'], POINTS['y']
    mine = from_function(
      lambda w, example: (example[0] @ w - example[1]) ** 2 / 2,
      lambda key: jax.random.normal(key, (2,)),
      data=data,
    )
    losses = [
      gdlab.run(p, method(sampling.reshuffle(3)), num_steps=20, seeds=2, plan=PLAN).train_loss
      for p in (mine, gdlab.problems.linear_regression(*data))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)

  def test_examples_do_not_mix_and_lists_are_arrays(self):
    self.assertEqual(mixing(self.problem()), (False, False, False))
    self.assertEqual(from_function(lambda p, e: p * e[0], 1.0, data=[[1.0], [2.0]]).train.shape, (2, 1))

  def test_curvature_is_that_of_the_mean(self):
    problem, params = self.problem(), as_arrays(START)
    operator = gdlab.analysis.hessian(problem, params, (), jax.random.key(0))
    found = gdlab.analysis.eigenpairs(operator, jax.random.key(1), num_largest=3)
    flat = lambda v: self.mean({'a': v[:2], 'b': (v[2],)}, POINTS)
    exact = np.linalg.eigvalsh(jax.hessian(flat)(jnp.array([2.0, -1.0, 0.5])))
    np.testing.assert_allclose(np.sort(found.largest.values), exact, rtol=1e-4)


def with_default(params, key=None):
  return bowl(params)


class RefusalsTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      {'f': 3},
      r'f must be a function of \(params\), \(params, key\) or, with data, \(params, example\), got 3',
    ),
    ({'f': lambda p: p['a']}, r'f must return one float, of shape \(\), got float32\[2\] for parameters'),
    (
      {'f': lambda p: (bowl(p), 1.0)},
      r'f must return one float, of shape \(\), got \(float32\[\], float32\[\]\)',
    ),
    ({'f': lambda p: 1}, r'f must return one float, of shape \(\), got int32\[\]'),
    ({'f': lambda p: None}, r'f must return one float, of shape \(\), got None'),
    ({'f': lambda p: bowl(p) * 1j}, r'f must return one float, of shape \(\), got complex64'),
    ({'f': lambda p: p['c']}, r"f cannot take parameters .*: KeyError: 'c'"),
    ({'f': lambda p, q, r: 0.0}, r"f must take .*, got one with \['p', 'q', 'r'\]"),
    ({'f': with_default}, 'f must need its key or not have one, got one with a default: give num_draws'),
    ({'init': {'a': np.arange(2)}}, r"init must hold floats alone, got int\d\d\[2\] at \['a'\]"),
    ({'init': [1, 2.0]}, r'init must hold floats alone, got 1 of type int at \[0\]'),
    ({'init': 'zeros'}, r"init must hold floats alone, got 'zeros' of type str at its root"),
    ({'init': {}}, r'init must hold at least one float, got \{\}'),
    ({'init': {'a': np.array([1.0, np.nan])}}, r"init\['a'\] must be finite, got nan at index \(1,\)"),
    ({'init': {'a': 1e300}}, r"init\['a'\] must be finite, got 1e\+300 at index \(\)"),
    (
      {'init': np.ma.masked_array([1.0, 2.0], [0, 1])},
      'init must be a plain array, got a masked one with 1 masked',
    ),
    ({'init': lambda: 1.0}, 'init must be a function of a key: TypeError'),
    (
      {'init': lambda key: jnp.arange(2)},
      r'what init returns must hold floats alone, got int32\[2\] at its root',
    ),
    ({'metrics': bowl}, 'metrics must be a mapping from name to function'),
    ({'metrics': {'loss': bowl}}, "metrics must not hold 'loss'"),
    ({'metrics': {3: bowl}}, 'metrics must have strings for names, got 3'),
    ({'metrics': {'m': 3}}, r"metrics\['m'\] must be a function .*, got 3"),
    (
      {'metrics': {'m': lambda p: p['a']}},
      r"metrics\['m'\] must return one real number, of shape \(\), got float32\[2\]",
    ),
    ({'metrics': {'m': squared_error}}, r"metrics\['m'\] cannot take parameters .*: TypeError"),
    ({'known': 3}, 'known must be a gdlab.Known, got 3'),
    (
      {'known': Known(params=np.zeros(2))},
      r'known.params must have the shapes of the parameters, .*, got \(2,\)',
    ),
    ({'test': POINTS}, 'test must be None without data'),
    ({'validation': POINTS}, 'validation must be None without data'),
    ({'num_draws': 3}, 'f cannot take parameters .* and a key: TypeError'),
    ({'f': shaken_bowl, 'num_draws': 0}, 'num_draws must be a whole number >= 1, got 0'),
    ({'f': squared_error, 'data': POINTS, 'num_draws': 3}, 'num_draws must be None with data'),
    ({'data': POINTS}, 'f cannot take parameters .* and an example .*: TypeError'),
    ({'f': squared_error, 'data': {}}, r'data must hold at least one array, got \{\}'),
    (
      {'f': squared_error, 'data': POINTS | {'y': np.ones(3)}},
      r"data must hold arrays of one length, but .*'y'\] has 3",
    ),
    (
      {'f': squared_error, 'data': POINTS | {'y': np.full(10, np.inf)}},
      r"data\['y'\] must be finite, got inf",
    ),
    (
      {'f': squared_error, 'data': POINTS, 'test': POINTS | {'y': np.ones((10, 2))}},
      'test must hold examples like',
    ),
    (
      {'f': squared_error, 'data': POINTS, 'validation': {'x': POINTS['x']}},
      'validation must hold examples like',
    ),
  )
  def test_in_one_line(self, options, message):
    with self.assertRaisesRegex(InputError, message) as caught:
      from_function(**{'f': bowl, 'init': START, **options})
    self.assertNotIn('\n', str(caught.exception))

  def test_functions_without_a_hash(self):
    class Unhashable:
      __hash__ = None

      def __call__(self, params):
        return bowl(params)

    for options in ({'f': Unhashable()}, {'f': bowl, 'metrics': {'m': Unhashable()}}):
      with self.assertRaisesRegex(InputError, 'must be hashable'):
        from_function(init=START, **options)
