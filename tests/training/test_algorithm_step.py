"""One composed update: against NumPy by hand, and against Optax called by hand for many of its optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.types import Info, Problem, State, Streams

EPS = np.finfo(np.float64).eps
N, D, B = 10, 3, 4


def data(seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(N, D)), rng.normal(size=N)


def least_squares():
  inputs, targets = data()
  loss = lambda w, examples: (examples[0] @ w - examples[1]) ** 2 / 2
  return Problem(
    init=lambda key: (jax.random.normal(key, (D,)), ()),
    loss=lambda w, model_state, examples, mask, key: (loss(w, examples), model_state),
    metrics=lambda w, model_state, examples: {'loss': loss(w, examples)},
    name='least squares',
    train=(jnp.asarray(inputs), jnp.asarray(targets)),
  )


def batches(sampler, key, count):
  """The batches that the algorithm is to draw, drawn by hand from its order stream."""
  state, found = sampler.init(gdlab.streams(key).order, N), []
  sample = jax.jit(sampler.sample)
  for _ in range(count):
    batch, state = sample(state)
    found.append(batch)
  return found


def loop(algorithm, problem, key, num_steps, **init):
  state = algorithm.init(key, problem, **init)
  step = jax.jit(algorithm.step)
  history = []
  for _ in range(num_steps):
    state, info = step(state, problem)
    history.append((state, info))
  return history


class NumpyTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('reshuffle', lambda: gdlab.sampling.reshuffle(B)),
    ('with_replacement', lambda: gdlab.sampling.with_replacement(B)),
    ('full_batch', gdlab.sampling.full_batch),
  )
  def test_momentum_descent_written_by_hand(self, make_sampler):
    rate, momentum, steps = 0.05, 0.9, 25
    inputs, targets = data()
    with jax.enable_x64(True):
      problem, sampler, key = least_squares(), make_sampler(), jax.random.key(3)
      descent = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(rate, momentum))
      w = np.asarray(problem.init(gdlab.streams(key).init)[0])
      drawn = [(np.asarray(b.indices), np.asarray(b.weights)) for b in batches(sampler, key, steps)]
      history = loop(descent, problem, key, steps)
    velocity, size = np.zeros(D), 10.0
    for (indices, weights), (state, info) in zip(drawn, history, strict=True):
      residuals = inputs[indices] @ w - targets[indices]
      gradient = (weights * residuals) @ inputs[indices]
      loss = weights @ residuals**2 / 2
      velocity = momentum * velocity + gradient
      w = w - rate * velocity
      # Each step rounds sums of some 30 terms near 1; the map is a contraction up to momentum's factor 10.
      close = lambda found, expected: np.testing.assert_allclose(
        found, expected, rtol=0, atol=2e3 * EPS * size
      )
      close(state.params, w)
      close(info.loss, loss)
      close(info.grad_norm, np.linalg.norm(gradient))
      close(info.update_norm, rate * np.linalg.norm(velocity))
      close(info.param_norm, np.linalg.norm(w))
      self.assertEqual(int(info.examples), np.count_nonzero(weights))
      self.assertEqual(int(info.gradient_evaluations), np.count_nonzero(weights))
      self.assertEqual(info.loss.dtype, jnp.float64)
    self.assertEqual(int(state.step), steps)


OPTIMIZERS = {
  'sgd': lambda: optax.sgd(0.1),
  'momentum': lambda: optax.sgd(0.1, momentum=0.9),
  'adam': lambda: optax.adam(0.1),
  'rmsprop': lambda: optax.rmsprop(0.05),
  'clipped_and_scheduled': lambda: optax.chain(
    optax.clip_by_global_norm(0.5), optax.sgd(optax.cosine_decay_schedule(0.3, 8))
  ),
  'injected': lambda: optax.inject_hyperparams(optax.sgd)(learning_rate=lambda count: 0.1 / (1 + count)),
  'accumulated': lambda: optax.MultiSteps(optax.adam(0.1), every_k_schedule=2),
  'noisy': lambda: optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1)),
  'polyak': lambda: optax.polyak_sgd(0.5),
  'lbfgs': lambda: optax.lbfgs(memory_size=3, linesearch=optax.scale_by_zoom_linesearch(6)),
}


class OptaxTest(parameterized.TestCase):
  @parameterized.parameters(*OPTIMIZERS)
  def test_any_optimizer_moves_as_in_a_loop_written_by_hand(self, name):
    with (
      jax.enable_x64(True),
      jax.debug_key_reuse(False),
    ):  # Optax's noise looks to the checker like a key used twice
      problem, sampler, key, steps = least_squares(), gdlab.sampling.reshuffle(B), jax.random.key(1), 6
      inputs, targets = problem.train

      def weighted(w, batch):
        return jnp.sum(batch.weights * (inputs[batch.indices] @ w - targets[batch.indices]) ** 2) / 2

      optimizer = optax.with_extra_args_support(OPTIMIZERS[name]())

      @jax.jit
      def by_hand(w, state, batch):
        value, gradient = jax.value_and_grad(weighted)(w, batch)
        value_fn = lambda w: weighted(w, batch)
        updates, state = optimizer.update(gradient, state, w, value=value, grad=gradient, value_fn=value_fn)
        return optax.apply_updates(w, updates), state

      w = problem.init(gdlab.streams(key).init)[0]
      state = optimizer.init(w)
      history = loop(gdlab.algorithm(sampler=sampler, optimizer=OPTIMIZERS[name]()), problem, key, steps)
      moved = 0.0
      for batch, (found, _) in zip(batches(sampler, key, steps), history, strict=True):
        before, (w, state) = w, by_hand(w, state, batch)
        # The same float64 operations in programs fused differently; adaptive rules divide by small numbers.
        np.testing.assert_allclose(found.params, w, rtol=1e-9, atol=1e-12)
        moved += float(jnp.linalg.norm(w - before))
      self.assertGreater(moved, 0.01)


class ExtraArgumentsTest(parameterized.TestCase):
  def test_each_run_has_its_own_noise_inside_multi_steps_too(self):
    # MultiSteps is no GradientTransformationExtraArgs, and hands extra arguments on all the same.
    noisy = optax.MultiSteps(gdlab.transforms.langevin_noise(1.0, 0.1), 1)
    descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=noisy)
    with jax.debug_key_reuse(False):
      problem = least_squares()
      runs = [loop(descent, problem, jax.random.key(seed), 1, params=jnp.ones(D)) for seed in (0, 1)]
    first, second = (history[0][0].params for history in runs)
    self.assertTrue((first != second).all())

  def test_only_what_an_update_takes_is_handed_on(self):
    def update(updates, state, params, *, value):
      return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), updates), state

    named = optax.GradientTransformationExtraArgs(lambda params: (), update)
    descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=named)
    [(state, info)] = loop(descent, least_squares(), jax.random.key(0), 1, params=jnp.zeros(D))
    np.testing.assert_array_equal(state.params, jnp.full(D, info.loss))


class CompositionTest(parameterized.TestCase):
  def test_state_info_and_streams(self):
    with jax.debug_key_reuse(False):  # the keys are looked at more than once here
      self.check_state_info_and_streams()

  def check_state_info_and_streams(self):
    descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(B), optimizer=optax.sgd(0.1))
    key, problem = jax.random.key(0), least_squares()
    state = descent.init(key, problem)
    self.assertIsInstance(state, State)
    self.assertEqual((int(state.step), state.step.dtype), (0, jnp.int32))
    streams = gdlab.streams(key)
    self.assertIsInstance(streams, Streams)
    np.testing.assert_array_equal(state.params, problem.init(streams.init)[0])
    self.assertEqual(state.key, streams.noise)
    # Streams given one by one are used as they are: here with another order, and nothing else changed.
    other = descent.init(streams._replace(order=jax.random.key(9)), problem)
    np.testing.assert_array_equal(other.params, state.params)
    self.assertEqual(other.key, state.key)
    self.assertNotEqual(other.sampler.key, state.sampler.key)
    moved, info = descent.step(state, problem)
    self.assertIsInstance(info, Info)
    self.assertEqual(jax.tree.structure(moved), jax.tree.structure(state))
    self.assertEqual(jax.tree.map(jnp.shape, moved), jax.tree.map(jnp.shape, state))

  def test_own_parameters_override_the_problems(self):
    descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.adam(0.1))
    state = descent.init(jax.random.key(0), least_squares(), params=jnp.full(D, 7.0))
    np.testing.assert_array_equal(state.params, np.full(D, 7.0))

  def test_legacy_keys_are_welcome(self):
    descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(B), optimizer=optax.sgd(0.1))
    for seed in (0, 5):
      typed = loop(descent, least_squares(), jax.random.key(seed), 3)[-1][0]
      legacy = loop(descent, least_squares(), jax.random.PRNGKey(seed), 3)[-1][0]
      np.testing.assert_array_equal(typed.params, legacy.params)

  def test_the_noise_stream_gives_every_step_its_own_key(self):
    seen = []

    def loss(w, model_state, examples, mask, key):
      return examples @ w, jax.random.uniform(key)

    problem = Problem(lambda key: (jnp.ones(D), jnp.zeros(())), loss, None, 'noise', jnp.ones((N, D)))
    descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.1))
    for seed in (0, 1):
      seen += [float(state.model_state) for state, _ in loop(descent, problem, jax.random.key(seed), 4)]
    self.assertLen(set(seen), 8)

  def test_a_training_loop_can_be_differentiated_by_its_learning_rate(self):
    key = jax.random.key(0)

    def trained(rate):
      descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(5), optimizer=optax.sgd(rate))
      start = descent.init(key, problem)
      return jnp.sum(
        jax.lax.scan(lambda s, _: (descent.step(s, problem)[0], None), start, length=2)[0].params
      )

    # JAX's check of reuse takes what the backward pass keeps of the forward one for a second use.
    with jax.enable_x64(True), jax.debug_key_reuse(False):
      problem = least_squares()
      slope = jax.jit(jax.grad(trained))(0.1)
      # A polynomial of degree 2 in the rate (two steps of a linear map): central differences are exact.
      values = np.asarray(jax.jit(jax.vmap(trained))(jnp.array([0.1 - 0.01, 0.1 + 0.01])))
    np.testing.assert_allclose(slope, (values[1] - values[0]) / 0.02, rtol=1e-10)

  @parameterized.parameters(
    ('sampler', 3),
    ('sampler', gdlab.sampling.reshuffle),
    ('optimizer', 0.1),
    ('optimizer', optax.sgd),
    ('optimizer', None),
    ('estimator', gdlab.estimators.batch_mean),
    ('estimator', 'mean'),
  )
  def test_what_is_not_of_its_kind_is_refused_by_name(self, name, value):
    pieces = {'sampler': gdlab.sampling.single(), 'optimizer': optax.sgd(0.1), name: value}
    with self.assertRaisesRegex(InputError, f'^{name} must be .* such as .*, got .+$'):
      gdlab.algorithm(**pieces)

  def test_a_problem_in_place_of_a_sampler_is_refused_on_one_line(self):
    with self.assertRaises(InputError) as caught:
      gdlab.algorithm(sampler=least_squares(), optimizer=optax.sgd(0.1))
    self.assertNotIn('\n', str(caught.exception))

  def test_a_batch_above_n_is_refused_by_init(self):
    descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(N + 1), optimizer=optax.sgd(0.1))
    with self.assertRaisesRegex(InputError, r'^batch_size must be .* \[1, 10\] .*, got 11$'):
      descent.init(jax.random.key(0), least_squares())
