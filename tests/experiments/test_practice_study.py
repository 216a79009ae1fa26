"""The study of practice: what is measured against what is known, refusals, and a tiny run of it."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import gdlab
from configs import practice as configs
from configs import practice_full
from experiments.practice import checks, costs, figures, seen, shards, squares, training  # noqa: F401, they register
from experiments.practice.study import practice
from gdlab import analysis, problems
from gdlab.claims import read_claims
from gdlab.core.errors import InputError
from gdlab.study.graded import grade_all
from tests.experiments.test_practice_can_fail import settings

CONFIG = settings('num_train=128; num_validation=64; precision.batch_size=8; norm.batch_size=8')


def test_operations_by_hand_and_by_xla():
  # Weights 2 * 3 and 3 * 10, biases 3 + 10: 2B for all three products but one of the first layer, 2 for every weight.
  assert costs.law((2, 3, 10), 4) == (49, 2 * 4 * (6 + 6 + 30 + 30 + 30) + 2 * 49)
  ratio = costs.operations(costs.Perceptron((64,)), 64, True) / costs.law((64, 64, 10), 64)[1]
  assert 1 < ratio < 1.03


def test_activations_of_one_layer_by_hand():
  sizes = [
    costs.kept_bytes(costs.Perceptron((32,), dtype, jnp.tanh), 17) for dtype in (jnp.float32, jnp.bfloat16)
  ]
  # Images and hidden units, which tanh keeps once for its own derivative and once as the next layer's input, at most
  # five arrays like the logits for the loss.
  least = [17 * size * (64 + 32) for size in (4, 2)]
  for found, low, size in zip(sizes, least, (4, 2), strict=True):
    assert low < found <= low + 17 * (size * 32 + 5 * 40)


def test_faults_are_what_they_are_called():
  images = jax.random.uniform(jax.random.key(0), (5, 8, 8))
  outputs = {}
  for fault in ('', 'dead', 'blind', 'frozen', 'softmax'):
    model = costs.Perceptron((6,), fault=fault)
    variables = model.init(jax.random.key(1), images)
    outputs[fault] = model.apply(variables, images)
    slopes = jax.grad(lambda given, model=model: jnp.sum(model.apply(given, images) ** 2))(variables)[
      'params'
    ]
    moves = [bool(jnp.any(layer['kernel'] != 0)) for layer in slopes.values()]
    assert moves == {'dead': [False, False], 'blind': [False, False], 'frozen': [False, True]}.get(
      fault, [True, True]
    )
  np.testing.assert_array_equal(outputs['frozen'], outputs[''])
  np.testing.assert_allclose(outputs['softmax'], jax.nn.softmax(outputs['']), rtol=1e-6)  # float32
  for fault in ('dead', 'blind'):
    assert (outputs[fault] == outputs[fault][:1]).all()
  plain, shuffled, unscaled = (
    checks.planted(CONFIG, name, 3).train for name in ('wide', 'shuffled', 'unscaled')
  )
  assert (plain.targets != shuffled.targets).any()
  assert (plain.inputs == shuffled.inputs).all()
  assert sorted(plain.targets.tolist()) == sorted(shuffled.targets.tolist())
  np.testing.assert_allclose(unscaled.inputs, 255 * plain.inputs)


def test_differences_of_a_quadratic():
  with jax.enable_x64(True):
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((9, 4)), rng.standard_normal(9)
    problem, point = problems.linear_regression(inputs, targets), jnp.asarray(rng.standard_normal(4))
    keys = lambda: jax.random.split(jax.random.key(0), 3)
    found = np.asarray(checks.errors_of(problem, point, keys()))
    way = jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys())
  point, way = np.asarray(point), np.asarray(way) / np.linalg.norm(way, axis=1, keepdims=True)
  curvature, slope = inputs.T @ inputs / 9, inputs.T @ (inputs @ point - targets) / 9
  steps = checks.STEPS * np.linalg.norm(point)
  seen_of_it = np.linalg.norm(slope) / 2  # over sqrt 4
  forward = np.einsum('ki,ij,kj->k', way, curvature, way)[:, None] * steps / 2 / seen_of_it
  # Rounding: some ten roundings of losses of size 10 over the step.
  rounding = 10 * 10 * np.finfo(float).eps / steps / seen_of_it
  assert (found[:, 0] <= rounding).all()
  assert (np.abs(found[:, 1] - forward) <= rounding + 1e-12 * forward).all()


def test_a_wrong_gradient_is_wrong_by_its_share():
  loss = lambda params: (params**2, None)
  assert float(jax.grad(lambda params: checks.scaled(loss)(params)[0])(3.0)) == pytest.approx(
    6 * 1.001, rel=1e-6
  )
  assert checks.scaled(loss)(3.0)[0] == 9


def test_devices_share_a_batch():
  with jax.enable_x64(True):
    problem = costs.widened(costs.digits(problems.MLP((5,)), CONFIG, 0))
    params, indices = problem.init(jax.random.key(0))[0], jnp.arange(8)

    def loss(params):
      losses, _ = problem.loss(
        params, (), jax.tree.map(lambda leaf: leaf[:8], problem.train), indices >= 0, jax.random.key(0)
      )
      return losses.mean()

    expected = ravel_pytree(jax.grad(loss)(params))[0]
    for devices in (1, 2, 4):
      found = shards.gradient(problem, params, indices, devices=devices)
      np.testing.assert_allclose(found, expected, atol=1e-14)  # sums of less than 100 terms below 1


@pytest.mark.parametrize('name', squares.PENALTIES)
def test_minima_are_where_the_gradient_and_a_subgradient_cancel(name):
  l1, l2 = squares.PENALTIES[name]
  inputs, targets = squares.design(1, l1)
  point = squares.minimum(inputs, targets, l1, l2)
  slope = inputs.T @ (inputs @ point - targets) / len(targets) + l2 * point
  moving = np.abs(point) > 0
  np.testing.assert_allclose(slope[moving], -l1 * np.sign(point[moving]), atol=1e-13)  # 64 terms of size 1
  assert (np.abs(slope[~moving]) <= l1 + 1e-13).all()


def test_ways_to_solve_least_squares():
  options = CONFIG.squares
  problem = squares.rows(options, 16, 0)
  inputs, targets = (np.asarray(part, float) for part in problem[:2])
  best = np.linalg.lstsq(inputs, targets)[0]
  loss = lambda point: np.mean((inputs @ point - targets) ** 2)
  point = np.asarray(jax.random.normal(jax.random.key(0), (16,)), float)
  excess = (loss(point) - loss(best)) / (loss(0 * best) - loss(best))
  assert float(problem.excess(jnp.asarray(point, jnp.float32))) == pytest.approx(
    excess, rel=1e-4
  )  # float32, kappa 100
  for found in (squares.normal_equations(problem), squares.conjugate_gradients(problem, 0.0, 48)[0]):
    assert float(problem.excess(found)) < 1e-8  # the square of kappa times float32's 1e-7, with room
  every, rate = len(targets), 0.1
  found, count = squares.mini_batches(problem, rate, 0.0, 3, 3, batch_size=every)
  point = np.zeros(16)
  for _ in range(3):
    point -= rate * inputs.T @ (inputs @ point - targets) / every
  assert int(count) == 3
  np.testing.assert_allclose(found, point, rtol=1e-4, atol=1e-5)
  tried = dict.fromkeys(options.targets, options.multiples)
  for (target, *_), (steps, there, call) in squares.solved(options, problem, tried).items():
    ended = call()
    at = ended[0] if isinstance(ended, tuple) else ended
    assert steps >= there
    assert there == bool(problem.excess(at) <= target)


@pytest.mark.slow  # it compiles Lanczos twice
@jax.numpy_rank_promotion('allow')
def test_population_statistics_have_the_value_but_not_the_curvature():
  model = problems.MLP((3,), batch_norm=True)
  problem = costs.digits(model, CONFIG, 0)
  state = training.descent(8)(0.5).init(jax.random.key(0), problem)
  for _ in range(5):
    state = training.descent(8)(0.5).step(state, problem)[0]
  with jax.debug_key_reuse(False):  # as in `sweep`: measures share their key
    found = jax.jit(training.landscape((0.1, 0.2), 128))(problem, state)
  flat, unravel = ravel_pytree(state.params)

  def loss(x, statistics=None):
    """Training mode, by hand; with the statistics of given parameters held fixed where these are given."""
    units = lambda params: (
      problem.train.inputs.reshape(128, -1) @ params['Dense_0']['kernel'] + params['Dense_0']['bias']
    )
    params, fixed = unravel(x), unravel(x if statistics is None else statistics)
    mean, variance = units(fixed).mean(axis=0), units(fixed).var(axis=0)
    norm = params['BatchNorm_0']
    hidden = nn.relu((units(params) - mean) / jnp.sqrt(variance + 1e-5) * norm['scale'] + norm['bias'])
    logits = hidden @ params['Dense_1']['kernel'] + params['Dense_1']['bias']
    return optax.softmax_cross_entropy_with_integer_labels(logits, problem.train.targets).mean()

  key = jax.random.key(0)
  own = analysis.full_loss(problem, state.model_state, key, block_size=128, losses=analysis.training_losses)
  assert float(loss(flat)) == pytest.approx(float(own(state.params)), rel=1e-5)
  spectra = [np.linalg.eigvalsh(jax.hessian(each)(flat))[-1] for each in (loss, lambda x: loss(x, flat))]
  np.testing.assert_allclose([found['train'], found['population']], spectra, rtol=training.TOLERANCE)
  slopes = [jax.grad(loss)(flat - step * jax.grad(loss)(flat)) for step in (0.0, 0.1, 0.2)]
  changes = [np.linalg.norm(slopes[n] - slopes[0]) / (0.1 * n * np.linalg.norm(slopes[0])) for n in (1, 2)]
  assert float(found['smoothness']) == pytest.approx(max(changes), rel=1e-3)  # differences in float32


def test_every_arm_has_seeds_rates_and_data_of_its_own():
  config = settings('mnist.asked=False')
  arms = training.arms(config)
  assert [*arms] == [*seen.DTYPES, *seen.NORMS]
  first, second = (arms['normed'].data(seed).train.inputs for seed in (0, 1))
  assert (first != second).any()
  assert {*arms['normed'].ids} & {*arms['normed'].tuning} == set()


REFUSED = (
  'few=11', 'few_tuning=5', 'num_train=1400', 'precision.batch_size=1030', 'norm.equal=0.3',
  'squares.targets=(0.1,)', 'mnist.hidden=()', 'num_train=64',
)  # fmt: skip


@pytest.mark.parametrize('change', REFUSED)
def test_what_could_not_be_finished_is_refused_in_one_line(change):
  with pytest.raises(InputError, match=r'^[^\n]+$'):
    settings(change)


def test_the_full_configuration_is_one_that_runs_with_more_seeds():
  full, quick = (
    practice.config.checked(module.get_config().to_dict()) for module in (practice_full, configs)
  )
  assert full.seeds.count > quick.seeds.count
  assert min(full.seeds.first, quick.seeds.first) >= 30_000  # pilots had those below


TINY = """seeds.first=0 seeds.count=2 seeds.tuning=1 some=2 few=2 few_tuning=1 num_train=128 num_validation=64
precision.hidden=(8,) precision.batch_size=8 precision.learning_rates=(0.1,0.5) precision.num_updates=20
norm.hidden=(4,) norm.batch_size=8 norm.learning_rates=(0.1,0.5) norm.num_updates=20 norm.records=2
squares.batch_size=8 squares.updates=100 squares.rounds=2"""
# The full one keeps all its cells: five sizes of least squares, and MNIST where there is one.
SHRUNK = {
  'practice': 'squares.sizes=(4,8) mnist.asked=False',
  'practice_full': 'squares.sizes=(4,6,8,12,16) mnist.hidden=(4,4) mnist.batch_size=64 mnist.num_updates=8 '
  'mnist.records=2 mnist.num_validation=100',
}


@pytest.mark.slow
@pytest.mark.parametrize('name', SHRUNK)
def test_a_tiny_run_of_the_whole(tmp_path, name):
  """Of both configurations, shrunk."""
  flags = [f'--workdir={tmp_path}', *(f'--config.{key}' for key in f'{TINY} {SHRUNK[name]}'.split())]
  command = [sys.executable, '-m', 'experiments.practice', f'--config=configs/{name}.py', *flags]
  subprocess.run(command, check=True, timeout=1200, env=os.environ | {'JAX_NUM_CPU_DEVICES': '1'})
  cells = {file.stem: gdlab.load(file) for file in (tmp_path / 'results').glob('*.nc')}
  config = practice.config.checked(json.loads(cells['counts'].attrs['config']))
  asked = {name: claim for name, claim in practice.claims.items() if name != 'P6' or config.mnist.asked}
  for repeat, name in enumerate(('claims.json', 'claims-1.json')):
    recomputed = grade_all(asked, practice.seen(config, repeat, cells))
    assert repr(recomputed) == repr(read_claims(tmp_path / name))  # NaN differs from itself, hence as text
  assert (tmp_path / 'report.html').read_text().count('<svg') == 3 + config.mnist.asked
