"""Per-example gradients and clipping against NumPy, what they do to the model's state, and microbatches of them."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from estimator_cases import Float64, Truth, batch_of, close, stepper

from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.estimators import batch_mean, data_parallel, microbatched, per_example, per_example_clipped, saga

BATCH = ([4, 0, 0, 5, 1, 2, 3], [0.3, 0.2, 0.1, -0.1, 0.5, 0.0, 0.0])
SIZE = 30


def estimate(estimator, problem, params, batch, model_state=(), key=None):
  state = estimator.init(problem, params)
  gradient, _, info = stepper(estimator, problem, model_state)(state, params, batch, key)
  return gradient, info


def clipped_by_hand(truth, w, max_norm):
  gradients, weights = truth.gradients(w)[BATCH[0]], BATCH[1]
  norms = np.linalg.norm(gradients, axis=1)
  return np.asarray(weights) @ (gradients * np.minimum(1, max_norm / norms)[:, None])


class GradientTest(Float64):
  @parameterized.parameters(None, 1, 3, 7)
  def test_each_example_and_their_sum(self, size):
    truth = Truth()
    estimator = per_example() if size is None else microbatched(size, per_example())
    gradient, info = estimate(estimator, truth.problem(), truth.start, batch_of(*BATCH))
    mask = np.array(BATCH[1]) != 0
    close(gradient, truth.batch(truth.start, *BATCH), SIZE)
    close(info.gradients, truth.gradients(truth.start)[BATCH[0]] * mask[:, None], SIZE)
    close(info.losses, truth.losses(truth.start)[BATCH[0]] * mask, SIZE)
    close(info.loss, np.array(BATCH[1]) @ truth.losses(truth.start)[BATCH[0]], SIZE)
    self.assertEqual(info.gradient_evaluations, 5)

  @parameterized.product(max_norm=(0.1, 1.0, 3.0), size=(None, 2))
  def test_clipping(self, max_norm, size):
    truth = Truth()
    estimator = per_example_clipped(max_norm)
    estimator = estimator if size is None else microbatched(size, estimator)
    gradient, info = estimate(estimator, truth.problem(), truth.start, batch_of(*BATCH))
    close(gradient, clipped_by_hand(truth, truth.start, max_norm), SIZE)
    close(info.gradients[0], truth.gradients(truth.start)[4], SIZE)  # not clipped
    norms = np.linalg.norm(truth.gradients(truth.start)[BATCH[0][:5]], axis=1)
    if max_norm == 1.0:  # some are clipped and some are not, or it tests one branch only
      self.assertLess(norms.min(), max_norm)
      self.assertGreater(norms.max(), max_norm)

  @parameterized.parameters(np.inf, jnp.inf, 1e6)
  def test_clipping_at_infinity_is_plain(self, max_norm):
    truth = Truth()
    problem, batch = truth.problem(), batch_of(*BATCH)
    found = estimate(per_example_clipped(max_norm), problem, truth.start, batch)[0]
    close(found, estimate(batch_mean(), problem, truth.start, batch)[0], SIZE)

  def test_a_zero_gradient_stays_zero(self):
    truth = Truth()
    truth.inputs = np.zeros_like(truth.inputs)
    gradient, _ = estimate(per_example_clipped(0.1), truth.problem(), truth.start, batch_of(*BATCH))
    np.testing.assert_array_equal(gradient, np.zeros(3))

  @parameterized.parameters(jnp.float32, jnp.bfloat16)
  def test_a_traced_norm_of_another_width_than_the_parameters(self, dtype):
    truth = Truth()
    problem, batch = truth.problem(), batch_of(*BATCH)
    params = jnp.asarray(truth.start, dtype)

    @jax.jit
    @jax.vmap
    def gradient(max_norm):
      return per_example_clipped(max_norm).estimate((), problem, params, (), batch, jax.random.key(0))[0]

    found = gradient(jnp.array([0.1, 1.0]))
    self.assertEqual(found.dtype, dtype)
    for row, max_norm in zip(found, (0.1, 1.0), strict=True):
      expected = clipped_by_hand(truth, np.asarray(params, float), max_norm)
      # Each example's gradient is rounded to the type of the parameters, and so is the sum.
      np.testing.assert_allclose(
        row.astype(float), expected, atol=20 * float(jnp.finfo(dtype).eps) * max_norm
      )


class RangeTest(parameterized.TestCase):
  @parameterized.product(scale=(1e-30, 1e20), max_norm=(1e-3, np.inf))
  def test_squares_neither_overflow_nor_vanish_in_float32(self, scale, max_norm):
    truth = Truth()
    truth.inputs, truth.start = truth.inputs.astype(np.float32), np.zeros(3, np.float32)
    truth.targets = (truth.targets * scale).astype(np.float32)
    gradient, _ = estimate(
      per_example_clipped(max_norm), truth.problem(), jnp.asarray(truth.start), batch_of(*BATCH)
    )
    truth.inputs, truth.targets = truth.inputs.astype(float), truth.targets.astype(float)
    size = min(max_norm, SIZE * scale)
    np.testing.assert_allclose(
      gradient,
      clipped_by_hand(truth, np.zeros(3), max_norm),
      rtol=0,
      atol=20 * np.finfo(np.float32).eps * size,
    )


class ModelStateTest(Float64):
  def problem(self):
    """The state: the running mean of the inputs that were seen, and the number of calls."""
    truth = Truth()

    def loss(w, model_state, examples, mask, key):
      seen = jnp.sum(examples[0][:, 0] * mask) / jnp.sum(mask)
      running = 0.9 * model_state['mean'] + 0.1 * seen
      new = {'mean': running, 'calls': model_state['calls'] + 1}
      return (examples[0] @ w - examples[1]) ** 2 / 2, new

    train = (jnp.asarray(truth.inputs), jnp.asarray(truth.targets))
    return truth, Problem(None, loss, None, 'with state', train)

  @parameterized.parameters(per_example, saga, lambda: per_example_clipped(1.0))
  def test_floats_are_averaged_over_real_examples(self, make):
    truth, problem = self.problem()
    before = {'mean': jnp.asarray(2.0), 'calls': jnp.int32(3)}
    _, info = estimate(make(), problem, truth.start, batch_of(*BATCH), before)
    expected = 0.9 * 2 + 0.1 * truth.inputs[BATCH[0][:5], 0].mean()
    close(info.model_state['mean'], expected, 10)
    self.assertEqual(info.model_state['calls'], 4)

  def test_a_batch_of_padding_changes_nothing(self):
    truth, problem = self.problem()
    before = {'mean': jnp.asarray(2.0), 'calls': jnp.int32(3)}
    gradient, info = estimate(per_example(), problem, truth.start, batch_of([1, 2], [0.0, 0.0]), before)
    np.testing.assert_array_equal(gradient, np.zeros(3))
    self.assertEqual((info.model_state['mean'], info.model_state['calls']), (2, 3))
    self.assertEqual((info.loss, info.gradient_evaluations), (0, 0))


class RefusalTest(parameterized.TestCase):
  @parameterized.parameters(0.0, -1.0, np.nan, -np.inf, True, None, 'inf')
  def test_a_norm_that_is_no_number_above_0(self, max_norm):
    with self.assertRaisesRegex(InputError, r'^max_norm must be a real number in \(0\.0, inf\), got '):
      per_example_clipped(max_norm)

  @parameterized.parameters(saga, lambda: data_parallel('data', saga()))
  def test_slices_of_an_estimator_with_a_state(self, make):
    truth = Truth()
    estimator = microbatched(2, make())
    with self.assertRaisesRegex(InputError, "^estimator must carry no state .*, got one with 'SagaState'$"):
      estimator.init(truth.problem(), jnp.asarray(truth.start))

  @parameterized.parameters(per_example, 'sam', 3)
  def test_no_estimator(self, wrong):
    for make in (lambda e: microbatched(2, e), lambda e: data_parallel('data', e)):
      with self.assertRaisesRegex(InputError, '^estimator must be a gdlab Estimator such as .*, got '):
        make(wrong)
