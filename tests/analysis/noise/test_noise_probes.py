"""The instruments as probes of a run, over lanes, and what they cost, counted in passes over the training set."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdlab
from gdlab import analysis
from gdlab.core.types import Examples, Problem

N, D, NUM_TEST = 60, 3, 20


def values(params, examples):
  """Least squares through a function that nothing else here uses, so that its evaluations can be counted."""
  return jax.lax.lgamma(3 + jnp.tanh(examples.inputs @ params['w'] - examples.targets)) ** 2


def make_problem():
  rng = np.random.default_rng(0)
  train, test = (
    Examples(jnp.asarray(rng.normal(size=(n, D)), float), jnp.asarray(rng.normal(size=n), float))
    for n in (N, NUM_TEST)
  )
  return Problem(
    init=lambda key: ({'w': jax.random.normal(key, (D,))}, ()),
    loss=lambda params, model_state, examples, mask, key: (values(params, examples), model_state),
    metrics=lambda params, model_state, examples: {'loss': values(params, examples)},
    name='counted',
    train=train,
    test=test,
  )


def measure(instrument, **options):
  return lambda problem, params, key: instrument(problem, params, (), key, **options)


# Each with what the table of `gdlab.analysis` says, in passes: a gradient and a loss are one pass each, and so is a
# Hessian-vector product, which is taken as two gradient-equivalents.
INSTRUMENTS = {
  'trace': (measure(analysis.gradient_covariance_trace, block_size=20), 2),
  'moments': (measure(analysis.gradient_moments, block_size=20), 1),
  'sampled': (measure(analysis.sampled_noise_scale, num_examples=30, block_size=10), 2 * 30 / N),
  'two_batch': (measure(analysis.two_batch_squares, small_size=4, large_size=16, num_pairs=3), 3 * 20 / N),
  'both_scales': (measure(analysis.noise_scales, num_probes=5, block_size=20), 2 + 1 + 2 * 5),
  'tails': (
    measure(analysis.noise_tails, num_groups=4, group_size=15, batch_size=2, block_size=20),
    1 + 120 / N,
  ),
  'along': (
    lambda problem, params, key: analysis.gradient_predictiveness(
      problem, params, (), key, jnp.array([0.1, 0.2, 0.4]), block_size=20
    ),
    4,
  ),
  'gap': (
    lambda problem, params, key: analysis.generalisation_gap(problem, params, block_size=20),
    (N + NUM_TEST) / N,
  ),
  'sam': (measure(analysis.sam_sharpness, block_size=20), 2),
  'adaptive': (measure(analysis.adaptive_sharpness, num_steps=4, block_size=20), 5),
  'flatness': (measure(analysis.flatness, num_pairs=3, block_size=20), 7),
}


def count_passes(jaxpr):
  """Evaluations of `lgamma` in a traced function, those in loops as often as they run."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'lgamma':
      total += equation.outvars[0].aval.size
    assert equation.primitive.name != 'while'
    inner = [leaf for leaf in jax.tree.leaves(list(equation.params.values())) if hasattr(leaf, 'jaxpr')]
    total += equation.params.get('length', 1) * sum(count_passes(closed.jaxpr) for closed in inner)
  return total


@pytest.mark.parametrize('name', INSTRUMENTS)
def test_cost(name):
  instrument, passes = INSTRUMENTS[name]
  problem = make_problem()
  traced = jax.make_jaxpr(instrument)(problem, {'w': jnp.ones(D)}, jax.random.key(0))
  assert count_passes(traced.jaxpr) == passes * N


NUMBERS = {
  'trace': lambda found: found.covariance_trace,
  'moments': lambda found: found.variance['w'],
  'sampled': lambda found: jnp.stack([found.low, found.scale, found.high]),
  'along': lambda found: found.losses,
  'tails': lambda found: found.stable.alpha,
  'both_scales': lambda found: found.curved_trace,
  'gap': lambda found: found['loss'].gap,
  'sam': lambda found: found.sharpness,
  'adaptive': lambda found: found.sharpness,
  'flatness': lambda found: found.rise,
}


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('names', [('moments',), pytest.param(tuple(NUMBERS), marks=pytest.mark.slow)])
def test_probes_of_a_run_are_the_instruments_at_its_parameters(names):
  problem = make_problem()

  def probe(name):
    return lambda problem, state: NUMBERS[name](INSTRUMENTS[name][0](problem, state.params, state.key))

  probes = {name: probe(name) for name in names}
  probes |= {
    'w': lambda problem, state: state.params['w'],
    'noise_key': lambda problem, state: jax.random.key_data(state.key),
  }
  algorithm = gdlab.algorithm(sampler=gdlab.sampling.sequential(4), optimizer=optax.sgd(0.1))
  plan = gdlab.Plan(lanes_at_once=3, num_devices=1, steps_per_call=4)
  result = gdlab.run(problem, algorithm, num_steps=4, seeds=3, eval_every=4, probes=probes, plan=plan)
  assert result.attrs['plan_lanes_at_once'] == 3

  @jax.jit
  def alone(params, data):
    key = jax.random.wrap_key_data(data)
    return {name: NUMBERS[name](INSTRUMENTS[name][0](problem, params, key)) for name in names}

  with jax.debug_key_reuse(False):  # every instrument gets the same key
    for seed in range(3):
      for step in (0, 4):
        at = result.sel(seed=seed, step=step)
        expected = alone({'w': jnp.asarray(at.w.values)}, jnp.asarray(at.noise_key.values))
        for name, value in expected.items():
          # A vmapped lane and one alone differ by rounding, which differences of near-equal losses enlarge.
          np.testing.assert_allclose(at[name].values, value, rtol=1e-9, atol=1e-15, err_msg=name)
          assert np.isfinite(at[name].values.reshape(-1)[0])
