"""Imbalanced digits, label noise and penalties: problems made of other problems."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

import gdlab
from gdlab import sampling
from gdlab.core.errors import InputError
from gdlab.core.types import Examples, Known
from gdlab.problems import MLP, digits, from_linen, linear_regression, logistic_regression, quadratic
from gdlab.problems.imbalanced import class_accuracy, imbalanced_digits
from gdlab.problems.label_noise import with_label_noise
from gdlab.problems.penalties import not_biases, with_penalty

N, CLASSES = 1000, 5
NET = MLP((3,), CLASSES)


def classification():
  rng = np.random.default_rng(0)
  data = rng.normal(size=(N, 2)), rng.integers(0, CLASSES, N)
  test = rng.normal(size=(7, 2)), rng.integers(0, CLASSES, 7)
  return from_linen(NET, data, optax.softmax_cross_entropy_with_integer_labels, test=test)


def loss_and_gradient(problem, params, state=()):
  """Of the mean training loss."""

  def loss(params):
    mask = jnp.ones(problem.num_examples, bool)
    return problem.loss(params, state, problem.train, mask, jax.random.key(0))[0].mean()

  return jax.value_and_grad(loss)(params)


class ImbalancedDigitsTest(parameterized.TestCase):
  def test_class_sizes_follow_the_law(self):
    full = np.bincount(digits().train.targets)
    largest = full.min()
    order = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
    sizes = np.bincount(imbalanced_digits(exponent=1.5, order=order).train.targets)[list(order)]
    self.assertEqual(sizes[0], largest)
    # Rounded to whole images.
    self.assertLessEqual(np.abs(sizes - largest * np.arange(1, 11) ** -1.5).max(), 0.5)
    np.testing.assert_array_equal(np.bincount(imbalanced_digits(exponent=0).train.targets), [largest] * 10)
    for exponent in (9.0, 1e5):
      self.assertEqual(np.bincount(imbalanced_digits(exponent=exponent).train.targets).tolist()[4:], [1] * 6)

  def test_images_are_of_the_digits_each_once_and_the_test_set_is_whole(self):
    full, few = digits(), imbalanced_digits(exponent=1.0, seed=1)
    chex.assert_trees_all_equal(few.test, full.test)
    places = {image.tobytes(): place for place, image in enumerate(np.asarray(full.train.inputs))}
    found = [places[image.tobytes()] for image in np.asarray(few.train.inputs)]
    # In the same order, and none twice, as far as the images differ.
    self.assertEqual(found, sorted(set(found)))
    np.testing.assert_array_equal(few.train.targets, full.train.targets[np.array(found)])
    self.assertEqual(few.num_examples, len(found))

  def test_seed(self):
    one, same, other = (np.asarray(imbalanced_digits(seed=seed).train.inputs) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    self.assertFalse((one == other).all())

  def test_accuracy_of_each_class_as_a_probe(self):
    problem = imbalanced_digits(exponent=2.0)
    method = gdlab.algorithm(sampler=sampling.reshuffle(32), optimizer=optax.sgd(0.1))
    probes = {'class_accuracy': class_accuracy, 'params': lambda _, state: state.params['Dense_1']['bias']}
    run = gdlab.run(problem, method, num_steps=100, seeds=1, probes=probes, plan=gdlab.Plan(1, 1))
    accuracies = run.class_accuracy.values[0, -1]
    shares = np.bincount(problem.test.targets) / len(problem.test.targets)
    np.testing.assert_allclose(accuracies @ shares, run.test_accuracy[0, -1], rtol=1e-5)
    # Of the most frequent digit there are 141 images, of the rarest one.
    self.assertGreater(accuracies[0], 0.9)
    self.assertLess(accuracies[-1], 0.1)

  @parameterized.parameters(
    ({'exponent': -1.0}, 'exponent.*>= 0, got -1.0'),
    ({'order': 3}, r'order must hold each of 0, ..., 9 once, got 3'),
    ({'order': 'abc'}, 'order must be a rectangular array of real numbers'),
    ({'order': range(9)}, r'order must hold each of 0, ..., 9 once'),
    ({'seed': 0.5}, 'seed.*0.5'),
  )
  def test_refusals(self, options, message):
    with self.assertRaisesRegex(InputError, message):
      imbalanced_digits(**options)


class LabelNoiseTest(parameterized.TestCase):
  @parameterized.parameters((0.0, 0), (0.3, 300), (0.12345, 123), (1.0, 1000))
  def test_exactly_the_share_is_changed(self, fraction, expected):
    clean = classification()
    noisy = with_label_noise(clean, fraction, num_classes=CLASSES, seed=2)
    before, after = np.asarray(clean.train.targets), np.asarray(noisy.train.targets)
    self.assertEqual(np.count_nonzero(before != after), expected)
    self.assertBetween(after.min(), 0, CLASSES - 1)
    self.assertBetween(after.max(), 0, CLASSES - 1)
    self.assertEqual(after.dtype, before.dtype)
    chex.assert_trees_all_equal((noisy.train.inputs, noisy.test), (clean.train.inputs, clean.test))

  def test_all_other_classes_are_equally_likely(self):
    clean = classification()
    noisy = with_label_noise(clean, 1.0, num_classes=CLASSES)
    shift = (np.asarray(noisy.train.targets) - np.asarray(clean.train.targets)) % CLASSES
    counts = np.bincount(shift, minlength=CLASSES)
    self.assertEqual(counts[0], 0)
    # Three standard errors of a share of 1/4.
    np.testing.assert_allclose(counts[1:] / N, 0.25, atol=3 * np.sqrt(0.25 * 0.75 / N))

  def test_seed_decides(self):
    one, same, other = (
      np.asarray(with_label_noise(classification(), 0.5, num_classes=CLASSES, seed=seed).train.targets)
      for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    self.assertGreater(np.count_nonzero(one != other), N / 4)

  def test_nothing_is_known_and_little_is_compiled(self):
    clean = logistic_regression(np.ones((4, 1)), [0, 1, 0, 1], l2=0.1)
    noisy = [with_label_noise(clean, fraction, num_classes=2) for fraction in (0.25, 0.5)]
    self.assertEqual(noisy[0].known, Known())
    self.assertEqual(*map(jax.tree.structure, noisy))

  def test_labels_of_sequences(self):
    data = Examples(np.zeros((4, 3)), np.zeros((4, 3), np.int32))
    problem = dataclasses.replace(classification(), train=jax.tree.map(jnp.asarray, data))
    targets = np.asarray(with_label_noise(problem, 0.5, num_classes=2).train.targets)
    self.assertEqual((targets.shape, targets.sum()), ((4, 3), 6))

  @parameterized.parameters(
    ({'fraction': 1.1}, r'fraction must be a real number in \[0, 1\], got 1.1'),
    ({'fraction': -0.1}, r'fraction.*-0.1'),
    ({'num_classes': 1}, 'num_classes.*>= 2, got 1'),
    ({'num_classes': 4}, r'problem.train.targets must be labels in \[0, 3\].*got 4'),
    ({'seed': -1}, 'seed.*-1'),
    ({'problem': 3}, 'problem must be a gdlab Problem such as .*, got 3'),
    ({'problem': quadratic([1.0])}, 'problem must have Examples.*QuadraticExamples'),
    ({'problem': linear_regression([[1.0]], [1.0])}, 'problem must have one array of integer labels'),
  )
  def test_refusals(self, options, message):
    arguments = {'problem': classification(), 'fraction': 0.5, 'num_classes': CLASSES, **options}
    with self.assertRaisesRegex(InputError, message):
      with_label_noise(**arguments)


class PenaltyTest(parameterized.TestCase):
  @parameterized.product(l1=(0.0, 0.3), l2=(0.0, 0.7), where=(None, not_biases))
  def test_loss_and_gradient(self, l1, l2, where):
    plain = classification()
    penalised = with_penalty(plain, l1=l1, l2=l2, where=where)
    params, state = plain.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases start at 0
    value, gradient = loss_and_gradient(plain, params)
    found, found_gradient = loss_and_gradient(penalised, params)
    for layer, arrays in params.items():
      for name, leaf in arrays.items():
        if where is not None and name == 'bias':
          continue
        host = np.asarray(leaf, np.float64)
        value += l1 * np.abs(host).sum() + l2 / 2 * (host**2).sum()
        gradient[layer][name] += l1 * np.sign(host) + l2 * host
    # float32: a mean of 1000 losses.
    np.testing.assert_allclose(found, value, rtol=1e-5)
    chex.assert_trees_all_close(found_gradient, gradient, atol=1e-6)
    for examples in (plain.train, plain.test):
      difference = (
        penalised.metrics(params, state, examples)['loss'] - plain.metrics(params, state, examples)['loss']
      )
      np.testing.assert_allclose(difference, found - loss_and_gradient(plain, params)[0], atol=2e-6)

  def test_ridge_is_ridge(self):
    rng = np.random.default_rng(1)
    x, y, w = rng.normal(size=(20, 3)), rng.normal(size=20), rng.normal(size=3)
    with jax.enable_x64(True):
      ridge, penalised = linear_regression(x, y, l2=0.4), with_penalty(linear_regression(x, y), l2=0.4)
      chex.assert_trees_all_close(loss_and_gradient(penalised, w), loss_and_gradient(ridge, w), rtol=1e-12)
      for name in ('smoothness', 'strong_convexity'):
        np.testing.assert_allclose(getattr(penalised.known, name), getattr(ridge.known, name), rtol=1e-12)
    self.assertIsNone(penalised.known.params)

  def test_lasso_descends_to_the_soft_threshold(self):
    eigenvalues, target, l1 = np.array([1.0, 0.5, 2.0]), np.array([2.0, -0.1, -1.0]), 0.2
    # An orthogonal design: each weight is the least-squares one moved towards 0 by l1/lambda, or 0.
    expected = np.sign(target) * np.maximum(np.abs(target) - l1 / eigenvalues, 0)
    problem = with_penalty(
      linear_regression(np.diag(np.sqrt(3 * eigenvalues)), np.sqrt(3 * eigenvalues) * target), l1=l1
    )
    rate = 0.01
    method = gdlab.algorithm(sampler=sampling.full_batch(), optimizer=optax.sgd(rate))
    probes = {'w': lambda _, state: state.params}
    run = gdlab.run(problem, method, num_steps=3000, seeds=1, probes=probes, plan=gdlab.Plan(1, 1))
    # The subgradient at 0 jumps by 2 l1, so that weight goes on stepping by up to rate * l1 and its slope.
    np.testing.assert_allclose(run.w[0, -1], expected, atol=2 * rate * l1)
    self.assertEqual(expected[1], 0)

  def test_what_is_known_stays_known_where_it_does(self):
    plain = quadratic([1.0, 3.0])
    chex.assert_trees_all_equal(with_penalty(plain).known, plain.known)
    box_alone = Known(box=plain.known.box)
    chex.assert_trees_all_equal(with_penalty(plain, l1=0.1).known, box_alone)
    chex.assert_trees_all_equal(with_penalty(plain, l2=0.1, where=not_biases).known, box_alone)
    known = with_penalty(plain, l2=0.5).known
    self.assertEqual((known.smoothness, known.strong_convexity), (3.5, 1.5))

  def test_equal_penalties_compile_once(self):
    build = lambda l2: jax.tree.structure(with_penalty(classification(), l2=l2, where=not_biases))
    self.assertEqual(build(0.1), build(0.1))
    self.assertEqual(hash(build(0.1)), hash(build(0.1)))
    self.assertNotEqual(build(0.1), build(0.2))

  def test_a_penalised_net_runs(self):
    problem = with_penalty(with_label_noise(classification(), 0.1, num_classes=CLASSES), l1=1e-3, l2=1e-3)
    method = gdlab.algorithm(sampler=sampling.with_replacement(32), optimizer=optax.sgd(0.1))
    run = gdlab.run(problem, method, num_steps=50, seeds=1, plan=gdlab.Plan(1, 1))
    self.assertLess(run.train_loss[0, -1], run.train_loss[0, 0])

  @parameterized.parameters(
    ({'l1': -0.1}, 'l1.*>= 0, got -0.1'),
    ({'l2': np.inf}, 'l2.*inf'),
    ({'where': 'bias'}, "where must be a function.*'bias'"),
    ({'problem': None}, 'problem must be a gdlab Problem such as .*, got None'),
  )
  def test_refusals(self, options, message):
    with self.assertRaisesRegex(InputError, message):
      with_penalty(**{'problem': quadratic([1.0]), **options})
