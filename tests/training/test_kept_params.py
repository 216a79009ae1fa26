"""Parameters that a run keeps, as trees: against a plain loop, through a file, and on into the next run."""

import pathlib
import tempfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from flax import linen as nn
from tiny_runs import PLAN, plain_loop, problem, sgd

import gdlab
from gdlab import problems
from gdlab.core.errors import InputError

FULL = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.1))


def run(problem, method, num_steps, **options):
  options = {'seeds': 2, 'keep': 'params', 'eval_every': num_steps, 'plan': PLAN, **options}
  return gdlab.run(problem, method, num_steps=num_steps, **options)


def halves(params):
  return jnp.sum((params['w'].astype(float) - 1) ** 2) + params['b'] ** 2


HALF = problems.from_function(halves, {'w': jnp.ones(3, jnp.bfloat16) * 2, 'b': 1.0})


class KeptTest(parameterized.TestCase):
  def test_they_are_those_of_a_plain_loop(self):
    result = run(problem(), sgd(0.1), 7)
    for seed in range(2):
      params, state = gdlab.kept_params(problem(), result.isel(seed=seed))
      expected = plain_loop(seed, 7)[0][-1]
      # The same operations compiled otherwise: float32 rounding, over 7 contracting steps.
      chex.assert_trees_all_close(params, expected.params, rtol=1e-5, atol=1e-5)
      chex.assert_trees_all_equal(state, expected.model_state)
      chex.assert_trees_all_equal_shapes_and_dtypes((params, state), problem().init(jax.random.key(0)))

  def test_metrics_there_are_the_last_ones(self):
    result = run(problem(), sgd(0.1), 7).isel(seed=1)
    found = gdlab.evaluate(problem(), *gdlab.kept_params(problem(), result))
    for name, value in found.items():
      np.testing.assert_allclose(value, result[name].isel(step=-1), rtol=1e-6)

  def test_a_run_goes_on_from_there(self):
    task = problems.linear_regression(np.eye(3), np.ones(3))
    first = run(task, FULL, 4, seeds=1)
    params, _ = gdlab.kept_params(task, first.isel(seed=0))
    second = run(task, FULL, 4, seeds=1, params=params)
    whole = run(task, FULL, 8, seeds=1)
    np.testing.assert_allclose(second.train_loss[0, 0], first.train_loss[0, -1], rtol=1e-6)
    chex.assert_trees_all_close(
      *(gdlab.kept_params(task, result.isel(seed=0))[0] for result in (second, whole)), rtol=1e-6
    )

  def test_into_the_users_module_through_a_file(self):
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(8, 2)).astype(np.float32), rng.normal(size=(8, 1))
    module = nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(1)])
    task = problems.from_linen(module, (inputs, targets), lambda out, y: ((out - y) ** 2).sum(-1))
    with tempfile.TemporaryDirectory() as folder:
      path = gdlab.save(run(task, FULL, 5), pathlib.Path(folder) / 'run.nc')
      result = gdlab.load(path)
    variables = gdlab.to_flax(task, *gdlab.kept_params(task, result.isel(seed=1)))
    loss = np.mean((np.asarray(module.apply(variables, inputs)) - targets) ** 2)
    np.testing.assert_allclose(loss, result.train_loss.isel(seed=1, step=-1), rtol=1e-5)

  def test_half_precision_comes_back(self):
    result = run(HALF, FULL, 3)
    self.assertEqual(result['params.w'].dtype, np.float32)
    params, _ = gdlab.kept_params(HALF, result.isel(seed=0))
    self.assertEqual((params['w'].dtype, params['b'].dtype), (jnp.bfloat16, jnp.float32))
    np.testing.assert_array_equal(np.asarray(params['w'], np.float32), result['params.w'][0])

  def test_points_of_a_sweep_and_turned_dims(self):
    task = problems.from_function(lambda p: jnp.sum(p**2), jnp.arange(6.0).reshape(2, 3))
    make = lambda rate: gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(rate))
    result = gdlab.sweep(task, make, {'rate': [0.1, 0.25]}, num_steps=1, seeds=2, keep='params', plan=PLAN)
    one = result.sel(rate=0.25).isel(seed=0).transpose()
    self.assertEqual(one.params.dims, ('params_1', 'params_0'))
    # x - 0.25 * 2 x.
    np.testing.assert_allclose(gdlab.kept_params(task, one)[0], np.arange(6.0).reshape(2, 3) / 2, rtol=1e-6)

  @parameterized.parameters(
    (
      lambda r: r,
      r"result must be of one run, got one with the dims \['seed'\]: choose by result.isel\(seed=0\)",
    ),
    (
      lambda r: r.expand_dims(rate=[0.1]),
      r"dims \['rate', 'seed'\]: choose by result.isel\(rate=0, seed=0\)",
    ),
    (
      lambda r: r.isel(seed=0).drop_vars('params.b'),
      r"must hold the arrays of problem 'line', .*, and lacks 'params.b'",
    ),
    (lambda r: r.isel(seed=0).rename({'params.b': 'params.c'}), "lacks 'params.b'"),
    (lambda r: r.isel(seed=0).assign({'params.x': 1.0}), "has besides 'params.x'"),
    (
      lambda r: r.isel(seed=0, **{'params.w_0': 0}),
      r"params.w must have its own dims .* without \['params.w_0'\]",
    ),
    (
      lambda r: r.isel(seed=0, **{'params.w_0': [0]}),
      r"params\['w'\] must be like float32\[2\], got float32\[1\]",
    ),
    (
      lambda r: r[['train_loss']].isel(seed=0),
      "result must be of run.*keep='params'.* got one without params",
    ),
    (lambda r: None, 'result must be of gdlab.run or gdlab.sweep, got None'),
  )
  def test_refusals(self, change, message):
    result = run(problem(), sgd(0.1), 7)
    with self.assertRaisesRegex(InputError, message) as caught:
      gdlab.kept_params(problem(), change(result))
    self.assertNotIn('\n', str(caught.exception))

  def test_two_arrays_of_one_name_are_refused(self):
    """One would be written over by the other."""
    task = problems.from_function(lambda p: p['a.b'] ** 2 + p['a']['b'] ** 2, {'a.b': 1.0, 'a': {'b': 2.0}})
    with self.assertRaisesRegex(InputError, "arrays must have distinct names, got two at 'params.a.b'"):
      run(task, FULL, 1)
