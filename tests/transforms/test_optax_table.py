"""Every method of Optax's that the docstring of `gdlab.transforms` names, through `gdlab.algorithm`.

With a swept rate it moves as in a plain Optax loop, or is refused in one line; in whole runs and sweeps in `make slow`.
"""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdlab
from gdlab import transforms
from gdlab.core.errors import InputError
from gdlab.core.types import Problem
from gdlab.training.programs import weak

N, STEPS, RATE = 6, 4, 0.05
contrib = optax.contrib
MASK = {'w': True, 'b': False}


def before(transformation):
  return lambda rate: optax.chain(transformation, optax.sgd(rate))


def after(transformation):
  return lambda rate: optax.chain(optax.sgd(rate), transformation)


def wrapped(wrapper, *args, **options):
  return lambda rate: wrapper(optax.sgd(rate), *args, **options)


def private(rate):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)  # Optax calls its own noise by an old name
    return contrib.dpsgd(rate, l2_norm_clip=0.5, noise_multiplier=0.1, seed=0)


ASCENT = optax.chain(contrib.normalize(), optax.sgd(0.1))
# name in the table -> (rate) -> optimizer.
USED = {
  'sgd': lambda rate: optax.sgd(rate, momentum=0.5, nesterov=True),
  'trace': before(optax.trace(0.5)),
  'adagrad': optax.adagrad,
  'rmsprop': optax.rmsprop,
  'adadelta': optax.adadelta,
  'adam': optax.adam,
  'amsgrad': optax.amsgrad,
  'nadam': optax.nadam,
  'radam': optax.radam,
  'adabelief': optax.adabelief,
  'yogi': optax.yogi,
  'adamw': optax.adamw,
  'add_decayed_weights': before(optax.add_decayed_weights(0.1)),
  'lion': optax.lion,
  'sign_sgd': optax.sign_sgd,
  'signum': optax.signum,
  'rprop': optax.rprop,
  'lars': optax.lars,
  'lamb': optax.lamb,
  'fromage': optax.fromage,
  'novograd': optax.novograd,
  'adafactor': optax.adafactor,
  'sm3': optax.sm3,
  'contrib.galore': lambda rate: contrib.galore(rate, rank=1),
  'contrib.muon': contrib.muon,
  'lbfgs': lambda rate: optax.lbfgs(rate, memory_size=2, linesearch=None),
  'scale_by_backtracking_linesearch': after(optax.scale_by_backtracking_linesearch(5)),
  'scale_by_zoom_linesearch': after(optax.scale_by_zoom_linesearch(3)),
  'polyak_sgd': optax.polyak_sgd,
  'contrib.momo': contrib.momo,
  'contrib.dog': lambda rate: contrib.dog(20 * rate),
  'contrib.prodigy': lambda rate: contrib.prodigy(rate, estim_lr0=0.1),
  'contrib.dadapt_adamw': lambda rate: contrib.dadapt_adamw(rate, estim_lr0=0.1),
  'contrib.mechanize': wrapped(contrib.mechanize, s_init=0.1),
  'contrib.cocob': contrib.cocob,
  'clip': before(optax.clip(0.2)),
  'clip_by_global_norm': before(optax.clip_by_global_norm(0.2)),
  'clip_by_block_rms': before(optax.clip_by_block_rms(0.2)),
  'adaptive_grad_clip': before(optax.adaptive_grad_clip(0.2)),
  'contrib.sam': wrapped(contrib.sam, ASCENT, sync_period=2),
  'contrib.sam, opaque': wrapped(contrib.sam, ASCENT, sync_period=2, opaque_mode=True),
  'contrib.schedule_free': lambda rate: contrib.schedule_free(optax.sgd(rate), rate),
  'lookahead': wrapped(optax.lookahead, sync_period=2, slow_step_size=0.5),
  'ema': after(optax.ema(0.5)),
  'MultiSteps': wrapped(optax.MultiSteps, 2),
  'contrib.dpsgd': private,
  'add_noise': before(optax.add_noise(0.1, 0.5, 0)),
  'noisy_sgd': lambda rate: optax.noisy_sgd(rate, key=0),
  'masked': wrapped(optax.masked, MASK),
  'partition': lambda rate: optax.partition(
    {'one': optax.sgd(rate), 'other': optax.adam(rate)}, {'w': 'one', 'b': 'other'}
  ),
  'freeze': before(optax.freeze(MASK)),
  'apply_if_finite': wrapped(optax.apply_if_finite, 3),
  'zero_nans': before(optax.zero_nans()),
  'skip_not_finite': wrapped(optax.MultiSteps, 1, should_skip_update_fn=optax.skip_not_finite),
  'snapshot': before(optax.snapshot('size', optax.tree.norm)),
  'monitor': before(optax.monitor({'size': optax.measure_with_ema(optax.tree.norm, decay=0.5)})),
  'schedules': lambda rate: optax.sgd(optax.schedules.cosine_decay_schedule(rate, 8)),
  'inject_hyperparams': optax.inject_hyperparams(optax.sgd),
  'contrib.reduce_on_plateau': after(contrib.reduce_on_plateau(patience=1)),
}
# Refused in a run, by what they do: in words of the refusal.
REFUSED = {'monitor': 'an update must keep the (structure|shapes and types) of the state'}
# Named in the table, and no gradient transformations: for a loop of one's own, or around the loss.
OTHER = {'incremental_update', 'microbatching'}


def named():
  """The names of the table, as attributes of optax; those that follow one of a module are of the same."""
  table = transforms.__doc__.split('| method | Optax |')[1]
  found = []
  for row in table.splitlines()[2:]:
    module = ''
    for name in re.findall(r'`([\w.]+)', row.split('|')[2] if '|' in row else ''):
      if name.startswith('optax.'):
        module = 'contrib.' if name.startswith('optax.contrib.') else ''
        found.append(name.removeprefix('optax.'))
      elif '.' not in name:
        found.append(module + name if hasattr(optax.contrib if module else optax, name) else name)
  return found


def test_the_table_is_here_row_by_row():
  assert len(named()) > 50
  assert {*named()} == {name.split(',')[0] for name in USED} | OTHER


def data():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(N, 3))), jnp.asarray(rng.normal(size=(N, 2)))


def loss(params, inputs, targets):
  return jnp.sum((inputs @ params['w'] + params['b'] - targets) ** 2, axis=-1) / 2


def regression():
  return Problem(
    init=lambda key: (start(), ()),
    loss=lambda params, state, examples, mask, key: (loss(params, *examples), state),
    metrics=lambda params, state, examples: {'loss': loss(params, *examples)},
    name='regression',
    train=data(),
  )


def start():
  rng = np.random.default_rng(1)
  return {'w': jnp.asarray(rng.normal(size=(3, 2))), 'b': jnp.asarray(rng.normal(size=2))}


def plain_loop(name, rate):
  """The parameters after every update of a loop with Optax alone, on the whole data."""
  optimizer, (inputs, targets) = USED[name](rate), data()
  value_fn = lambda params: jnp.mean(loss(params, inputs, targets))
  pair = name == 'lookahead'
  params = optax.LookaheadParams.init_synced(start()) if pair else start()
  extra = optax.with_extra_args_support(optimizer) if 'sam' not in name else None

  @jax.jit
  def step(params, state):
    at = params.fast if pair else params
    value, gradient = jax.value_and_grad(value_fn)(at)
    if name == 'contrib.dpsgd':
      one = lambda x, y: jax.grad(lambda params: loss(params, x[None], y[None])[0])(params)
      updates, state = optimizer.update(jax.vmap(one)(inputs, targets), state, params)
    elif name == 'contrib.sam, opaque':
      grad_fn = jax.grad(lambda params, number: value_fn(params))
      updates, state = optimizer.update(gradient, state, params, grad_fn=grad_fn)
    elif extra is None:
      updates, state = optimizer.update(gradient, state, params)
    else:
      updates, state = extra.update(gradient, state, params, value=value, grad=gradient, value_fn=value_fn)
    return optax.apply_updates(params, updates), state

  state, path = optimizer.init(params), []
  for _ in range(STEPS):
    params, state = step(params, state)
    path.append(
      jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params.fast if pair else params)])
    )
  return np.array(path)


def make(rate, name):
  # Optax's own clipped mean needs the gradient of every example.
  estimator = gdlab.estimators.per_example(stacked=True) if name == 'contrib.dpsgd' else None
  return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=USED[name](rate), estimator=estimator)


def flat(problem, state):
  return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(state.params)])


OPTIONS = {'num_steps': STEPS, 'seeds': 1, 'eval_every': 1, 'progress': False, 'probes': {'path': flat}}


@pytest.fixture(autouse=True)
def exact():
  """float64, so that a wrong rule stands out from rounding; Optax's noise looks like a key used twice."""
  with jax.enable_x64(True), jax.debug_key_reuse(False), jax.numpy_rank_promotion('allow'):
    yield


NAMES = [name for name in USED if name not in REFUSED]


def close(found, name):
  expected = plain_loop(name, RATE)
  # float64: 4 updates of numbers near 1, and rules that divide by small numbers amplify roundings by up to 1e4.
  np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
  assert np.abs(expected[-1] - expected[0]).max() > 1e-6


@pytest.mark.parametrize('name', NAMES)
def test_it_moves_as_in_a_plain_loop(name):
  problem = regression()

  def lane(rate):
    descent = make(weak({'rate': rate})['rate'], name)

    def step(state, _):
      state, _ = descent.step(state, problem)
      return state, flat(problem, state)

    return jax.lax.scan(step, descent.init(jax.random.key(0), problem), length=STEPS)[1]

  close(jax.jit(jax.vmap(lane))(jnp.array([RATE, 2 * RATE]))[0], name)


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_runs_and_sweeps_move_so_too(name):
  rates = {'rate': [RATE, 2 * RATE], 'name': [name]}
  swept = gdlab.sweep(regression(), make, rates, plan=gdlab.Plan(2, 1), **OPTIONS)
  close(swept.path.isel(seed=0, name=0).sel(rate=RATE)[1:], name)
  close(gdlab.run(regression(), make(RATE, name), plan=gdlab.Plan(1, 1), **OPTIONS).path[0, 1:], name)


@pytest.mark.parametrize('name', REFUSED)
def test_it_is_refused(name):
  for refused in (
    lambda: gdlab.sweep(regression(), make, {'rate': [RATE], 'name': [name]}, **OPTIONS),
    lambda: gdlab.run(regression(), make(RATE, name), **OPTIONS),
  ):
    with pytest.raises(InputError, match=f'^{REFUSED[name]}') as caught:
      refused()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', sorted(OTHER))
def test_what_is_no_transformation_is_refused(name):
  with pytest.raises(InputError, match=r'^optimizer must be an Optax gradient transformation'):
    gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=getattr(optax, name))


def test_sam_inside_a_chain_is_refused():
  chained = optax.chain(optax.clip(1.0), USED['contrib.sam'](RATE))
  descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=chained)
  with pytest.raises(InputError, match=r'^optimizer must consist of .* sam.* use that one alone') as caught:
    gdlab.run(regression(), descent, **OPTIONS)
  assert '\n' not in str(caught.value)
