"""The study of orders: measurements against closed forms and enumeration, and a tiny run of the whole."""

import itertools
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdlab
from configs import order as defaults
from configs import order_full
from experiments.order import convex, exact, figures, networks  # noqa: F401, figures register sections
from experiments.order.study import order
from gdlab import theory
from gdlab.claims import write_claims
from gdlab.study import graded

CONFIG = order.config.checked(defaults.get_config().to_dict())


def ends(signs, orders, rate, x=0.0):
  """Where descent with gradients x + s ends after the given orders, one after the other."""
  for index in itertools.chain(*orders):
    x -= rate * (x + signs[index])
  return x


@pytest.mark.parametrize('rate', [0.01, 0.3])
def test_floors_are_those_of_theory_and_of_enumeration(rate):
  for count in (2, 5, 8):
    known = theory.loss_floor([1.0], 1.0, learning_rate=rate, num_examples=count)
    assert exact.floor('reshuffled', rate, count) == pytest.approx(2 * known, rel=1e-9)
  known = theory.loss_floor([1.0], 1.0, learning_rate=rate)
  assert exact.floor('with replacement', rate, 5) == pytest.approx(2 * known, rel=1e-9)
  signs = np.sqrt(3 / 2) * np.array([1.0, 0.0, -1.0])
  added = [ends(signs, (own, own[::-1]), rate) for own in itertools.permutations(range(3))]
  assert np.mean(added) == pytest.approx(0, abs=1e-15)
  law = np.mean(np.square(added)) / (1 - (1 - rate) ** 12)
  assert exact.floor('paired reversal', rate, 3) == pytest.approx(law, rel=1e-9)


def test_errors_after_some_epochs_are_those_of_enumeration():
  signs, rate = np.array([1.0, 1.0, -1.0, -1.0]), 0.2
  orders = list(itertools.permutations(range(4)))
  runs = {
    'reshuffled': itertools.product(orders, orders),
    'shuffled once': ((own, own) for own in orders),
    'sorted': [(range(4), range(4))],
    'with replacement': ((draws,) for draws in itertools.product(range(4), repeat=8)),
  }
  for name, each in runs.items():
    squares = [ends(signs, own, rate) ** 2 for own in each]
    assert exact.after(name, rate, 4, 2) == pytest.approx(np.mean(squares), rel=1e-9), name


def test_the_spread_between_two_orders_is_that_worked_by_hand():
  features, targets, rate = np.array([[1.0], [2.0]]), np.array([1.0, -1.0]), 0.1
  first, second = lambda x: x - rate * (x - 1), lambda x: x - rate * 2 * (2 * x + 1)
  there = second(first(0.5)), first(second(0.5))
  paired = first(second(there[0])), second(first(there[1]))
  every = [end for x in there for end in (second(first(x)), first(second(x)))]
  for ends, is_paired in ((paired, True), (every, False)):
    found = exact.spread_between_orders(features, targets, rate, np.array([0.5]), is_paired)
    assert found == pytest.approx(np.var(ends), rel=1e-9)


def test_a_lane_is_descent_on_its_own_problem_in_its_order():
  with jax.enable_x64(True):
    each = [convex.logistic(CONFIG.convex, seed, 6) for seed in (1, 2)]
    starts, rates = np.zeros((2, 9)), [0.1, 0.3]
    squares, last = convex.lanes('sequential', each, starts, [1, 2], rates, 3, keep=2, num_orders=2)
  assert squares.shape == (2, 2, 2, 2)
  for row, problem in enumerate(each):
    rows, labels = np.asarray(problem.train.inputs), np.asarray(problem.train.targets)
    for column, rate in enumerate(rates):
      x, after = np.zeros(9), []
      for _ in range(3):
        for example, label in zip(rows, labels, strict=True):
          x = x - rate * ((1 / (1 + np.exp(-example @ x)) - label) * example + CONFIG.convex.l2 * x)
        after.append(np.sum((x - problem.known.params) ** 2))
      # Rounding of 18 updates of size 1.
      np.testing.assert_allclose(last[row, column], [x, x], atol=1e-13)
      np.testing.assert_allclose(squares[row, column, 0], after[1:], rtol=1e-10)


def test_digits_lie_as_asked_and_are_the_same_ones():
  found = {
    name: convex.logistic(CONFIG.convex, 3, 16, name).train for name in ('drawn', 'alternating', 'sorted')
  }
  labels = {name: train.targets.tolist() for name, train in found.items()}
  assert labels['sorted'] == [0] * 8 + [1] * 8
  assert labels['alternating'] == [0, 1] * 8
  assert labels['drawn'] not in (labels['sorted'], labels['alternating'])
  rows = [np.asarray(sorted(map(tuple, np.asarray(train.inputs).tolist()))) for train in found.values()]
  np.testing.assert_array_equal(rows[0], rows[1])
  np.testing.assert_array_equal(rows[0], rows[2])
  curvature = np.sum(np.asarray(found['drawn'].inputs, float) ** 2, axis=1) / 4 + CONFIG.convex.l2
  assert curvature.max() <= convex.smoothness(CONFIG.convex) * (1 + 1e-6)


def test_constructions_have_their_minimum_at_0_and_their_curvatures():
  for name in ('reshuffled', 'biased'):
    problem = convex.constructed(name, 8)
    gradients = np.asarray(-problem.train.inputs[:, 0] * problem.train.targets)
    np.testing.assert_allclose(gradients, np.repeat([-1.0, 1.0], 4))
    assert float(problem.known.params[0]) == pytest.approx(0, abs=1e-7)
    assert float(problem.known.smoothness) == pytest.approx(2.5 if name == 'biased' else 1)


def test_images_are_sorted_by_class_and_drawn_for_the_seed():
  by_class, drawn, other = (
    networks.bench(CONFIG, 'mini', seed, flag) for seed, flag in ((1, True), (1, False), (2, False))
  )
  assert (np.diff(by_class.train.targets) >= 0).all()
  assert (np.diff(drawn.train.targets) < 0).any()
  total = lambda problem: np.sort(np.asarray(problem.train.inputs).sum(axis=(1, 2)))
  np.testing.assert_array_equal(total(by_class), total(drawn))
  assert (total(drawn) != total(other)).any()


def test_examples_laid_out_in_order_train_as_the_sampler_does():
  problem = networks.bench(CONFIG, 'mini', 1, True)
  epochs, size = 2, 80
  laid = networks.unrolled(problem, 'buffer of 10 %', size, epochs, jax.random.key(5))
  assert laid.num_examples == epochs * problem.num_examples
  labels = np.asarray(laid.train.targets).reshape(epochs, -1)
  for epoch in range(epochs):  # every example once, none before a buffer of 40 reaches it
    np.testing.assert_array_equal(np.sort(labels[epoch]), np.asarray(problem.train.targets))
    assert labels[epoch, 0] <= problem.train.targets[39]
  sgd = lambda sampler: gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(0.1))
  given = {'seeds': [3], 'num_steps': 10, 'eval_every': 10}
  own = gdlab.run(problem, sgd(gdlab.sampling.sequential(size)), **given).train_loss
  laid = networks.unrolled(problem, 'sorted', size, epochs, jax.random.key(5))
  found = gdlab.run(laid, sgd(gdlab.sampling.sequential(size)), **given).validation_loss
  np.testing.assert_allclose(found, own, rtol=1e-5)  # float32 sums in another order


def test_variances_are_those_of_the_formula_and_of_the_sampler_in_use():
  rng = np.random.default_rng(0)
  problem = gdlab.problems.linear_regression(rng.normal(size=(12, 2)), rng.normal(size=12))
  drawn = gdlab.sampling.adaptive_importance(3, gdlab.sampling.gradient_norm, mixing=0.3)
  descent = gdlab.algorithm(
    sampler=drawn, estimator=gdlab.estimators.per_example(), optimizer=optax.sgd(0.01)
  )
  state = descent.init(jax.random.key(1), problem)
  for _ in range(4):
    state, _ = descent.step(state, problem)
  found = networks.variances(problem, state, 3, 0.3)
  inputs, targets, weights = (np.asarray(each, float) for each in (*problem.train, state.params))
  rows = inputs * (inputs @ weights - targets)[:, None]
  mean, norms = rows.mean(axis=0), np.linalg.norm(rows, axis=1)
  batches = [drawn.sample(state.sampler._replace(step=jnp.int32(step)))[0] for step in range(60)]
  shares = np.empty(12)
  for batch in batches:  # a weight is 1/(N p B)
    shares[np.asarray(batch.indices)] = 1 / (36 * np.asarray(batch.weights))
  for name, own in {
    'uniform': np.full(12, 1 / 12),
    'optimal': norms / norms.sum(),
    'learned': shares,
  }.items():
    law = (np.sum(norms**2 / own) / 144 - mean @ mean) / 3
    assert float(found[name]) == pytest.approx(law, rel=1e-4), name
  # The mean of 400 squares, each with a standard deviation of about its mean: 5 standard errors are 25 %.
  assert float(found['drawn']) == pytest.approx(float(found['optimal']), rel=0.25)


def test_the_full_configuration_is_one():
  assert order.config.checked(order_full.get_config().to_dict()).cnn.dataset == 'mnist'


TINY = """
  seeds.first=0 seeds.count=3 seeds.tuning=2 floors.multiples=(0.05,0.2) floors.rates=(0.05,0.2) floors.settle=1.0
  floors.average=1.0 floors.quadratic_orders=2 published.equal.sizes=(4,6,8) published.equal.epochs=(2,3,4)
  published.equal.at_size=4 published.biased.sizes=(4,6,8) published.biased.epochs=(2,3,4)
  published.biased.at_epochs=4 published.num_orders=3 reduced.num_examples=8 reduced.passes=16 reduced.num_orders=2
  pairs.num_examples=3 pairs.num_digits=4 pairs.num_orders=4 blocks.num_examples=16 blocks.num_draws=2
  blocks.num_orders=4 perceptron.hidden=(4,) perceptron.train=40 perceptron.held_out=20 perceptron.batch_size=20
  perceptron.epochs=2 perceptron.single_epochs=2 perceptron.looks=2 perceptron.single_rates=(0.01,0.1)
  perceptron.rates=(0.1,1.0) perceptron.num_seeds=3 cnn.train=40 cnn.held_out=20 cnn.batch_size=20 cnn.epochs=2
  cnn.looks=2 cnn.rates=(0.1,0.3) cnn.num_seeds=3 importance.batch_size=8 importance.epochs=(1,2)
  importance.num_seeds=3
"""


@pytest.mark.slow
@pytest.mark.parametrize('name', ['order', 'order_full'])
def test_a_study_runs_to_its_report_and_its_verdicts_follow_from_the_stored_results(tmp_path, name):
  """Of both configurations, shrunk; the full one with MNIST, where it is."""
  images = 'mnist' if name == 'order_full' and 'GDLAB_DATA' in os.environ else 'digits'
  changes = [f'--config.{each}' for each in (f'cnn.dataset={images}', *TINY.split())]
  command = [
    sys.executable,
    '-m',
    'experiments.order',
    f'--config=configs/{name}.py',
    f'--workdir={tmp_path}',
  ]
  process = subprocess.run([*command, *changes], capture_output=True, text=True, timeout=1800, check=False)
  assert process.returncode == 0, process.stderr
  assert 'Warning' not in process.stderr
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<svg') >= len(list((tmp_path / 'figures').iterdir())) == 5
  assert not re.findall(r'(?:src|href)="([^"#][^"]*)"', page), 'the page needs other files'
  cells = {file.stem: gdlab.load(file) for file in (tmp_path / 'results').glob('*.nc')}
  config = order.config.checked(json.loads(cells['pairs'].attrs['config']))
  for number, name in enumerate(('claims.json', 'claims-1.json')):
    written = (tmp_path / name).read_text()
    assert [claim['id'] for claim in json.loads(written)] == [*order.claims]
    write_claims(tmp_path / 'again.json', graded.grade_all(order.claims, order.seen(config, number, cells)))
    assert (tmp_path / 'again.json').read_text() == written
