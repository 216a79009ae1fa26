"""Mistakes that leave all shapes right are named from the runs of a user who makes them, and sound runs are not."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import gdlab
from gdlab.core.types import Examples, Problem
from gdlab.diagnosis import Cause, Severity, probes
from gdlab.diagnosis.nonfinite import first_alignment
from gdlab.problems import from_linen

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(3, 6))
LABELS = RNG.integers(0, 3, 300)
INPUTS = CENTRES[LABELS] * 2 + RNG.normal(size=(300, 6))
SHUFFLED = np.random.default_rng(1).permutation(LABELS)
CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels


class Net(nn.Module):
  last: str = ''
  stopped: bool = False

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Dense(16)(x))
    x = jax.lax.stop_gradient(x) if self.stopped else x
    x = nn.Dense(3)(x)
    return {'': lambda x: x, 'softmax': nn.softmax, 'log_softmax': nn.log_softmax}[self.last](x)


def problem(labels=LABELS, **options):
  data = (INPUTS[:200], labels[:200])
  return from_linen(Net(**options), data, CROSS_ENTROPY, test=(INPUTS[200:], labels[200:]))


def first_layer_left_out(rate):
  frozen = lambda params: {name: name if name == 'Dense_0' else 'rest' for name in params}
  return optax.partition({'Dense_0': optax.set_to_zero(), 'rest': optax.sgd(rate)}, frozen)


def run(problem, optimizer, num_steps=300):
  # Without the curvature, which takes most of the time to compile: none of these rules needs it.
  measured = {name: probe for name, probe in probes().items() if name != 'diagnosis_curvature'}
  descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(20), optimizer=optimizer)
  return gdlab.run(problem, descent, num_steps=num_steps, seeds=1, eval_every=20, probes=measured)


def findings(problem, optimizer, **options):
  (found,) = gdlab.diagnose(run(problem, optimizer), problem, **options).runs
  return found.findings


@pytest.mark.parametrize(
  ('problem', 'optimizer', 'cause', 'words'),
  [
    (problem(last='softmax'), optax.sgd(0.1), Cause.SOFTMAX_TWICE, 'expects logits'),
    (problem(stopped=True), optax.sgd(0.1), Cause.FROZEN_LAYER, 'exactly zero although the loss depends on it'),
    (problem(), optax.chain(optax.sgd(0.01), optax.scale(-1)), Cause.ASCENT, 'The updates climb'),
    (problem(SHUFFLED), optax.sgd(3e-3), Cause.RANDOM_LABELS, 'as labels drawn at random would'),
  ],
  ids=['softmax', 'stopped', 'ascent', 'shuffled'],
)  # fmt: skip
def test_a_mistake_is_named(problem, optimizer, cause, words):
  found = findings(problem, optimizer)
  assert found[0].cause is cause
  assert words in found[0].words
  assert found[0].evidence
  assert found[0].advice


def test_a_softmax_of_a_log_softmax_is_sound():
  assert findings(problem(last='log_softmax'), optax.sgd(0.1)) == ()


def test_a_layer_that_the_optimizer_leaves_out_is_mild_where_the_run_learned():
  (found,) = findings(problem(), first_layer_left_out(0.1))
  assert found.cause is Cause.FROZEN_LAYER
  assert "['Dense_0']['kernel'] is the same" in found.words
  assert found.severity is Severity.MILD
  assert 'on purpose' in found.advice
  # Of two kernels; a bias is no layer.
  assert found.evidence['layers that never changed'] == 1
  assert found.evidence['layers'] == 2


def test_ascent_that_fails_before_a_second_look_is_told_by_making_its_first_update_again():
  start = problem()
  climbing = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(-30.0))
  result = gdlab.run(start, climbing, num_steps=200, seeds=1, eval_every=200, probes={})
  (found,) = gdlab.diagnose(result, start, algorithm=climbing).runs
  assert found.cause is Cause.ASCENT
  # A multiple of the gradient, up to the rounding of a sum of 163 float32 products.
  np.testing.assert_allclose(found.findings[0].evidence['cosine of path and gradient'], 1, rtol=1e-5)
  (found,) = gdlab.diagnose(result, start).runs
  assert found.cause is Cause.NOT_FINITE  # nothing is known of the way
  assert 'give `algorithm`' in found.findings[0].advice


class Logits(nn.Module):
  """Outputs that are a softmax of the inputs times one parameter."""

  @nn.compact
  def __call__(self, x):
    return nn.softmax(x * self.param('scale', nn.initializers.constant(0.07), (1, 1)))


def test_sketch_and_saturation_equal_closed_forms(x64):
  logits = RNG.normal(size=(30, 3))
  labels = np.arange(30) % 3
  data = from_linen(Logits(), (logits, labels), CROSS_ENTROPY)
  descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.0))
  measure = probes()
  wide = lambda state: state._replace(params=jax.tree.map(lambda leaf: leaf.astype(float), state.params))
  state = wide(descent.init(jax.random.key(0), data))
  found = measure['diagnosis_saturated'](data, state)
  shares = []
  for factor in (10, 100):
    p = np.exp(0.07 * factor * logits)
    p /= p.sum(1, keepdims=True)
    losses = np.log(np.exp(p).sum(1)) - p[np.arange(30), labels]
    # Of p = (1, 0, 0): log(e + 2) minus 1 or 0.
    shares.append(np.mean(np.abs(losses[:, None] - np.log(np.e + 2) + [[1, 0]]).min(1) < 0.01))
  assert shares[0] < 0.1 < shares[1]
  np.testing.assert_allclose(found, [0, shares[1]], atol=1e-12)

  # Five parameters have a set of the sketch each: it is them and their gradient, up to signs that both share.
  inputs = RNG.normal(size=(40, 5))
  target = RNG.normal(size=40)
  line = from_linen(
    nn.Dense(1, use_bias=False), (inputs, target[:, None]), lambda y, t: (y - t)[:, 0] ** 2 / 2
  )
  state = wide(descent.init(jax.random.key(1), line))
  kernel = np.asarray(state.params['kernel'])[:, 0]
  gradient = inputs.T @ (inputs @ kernel - target) / 40
  sketch = np.asarray(measure['diagnosis_sketch'](line, state))
  np.testing.assert_allclose(np.abs(sketch[:, :5]), np.abs([kernel, gradient]), rtol=1e-12)
  np.testing.assert_allclose(sketch[0] @ sketch[1], kernel @ gradient, rtol=1e-10)


def test_a_checksum_changes_with_the_last_bit_of_any_parameter_and_with_nothing_else():
  line = from_linen(
    nn.Dense(2, use_bias=False), (INPUTS, INPUTS[:, :2]), lambda y, t: jnp.sum((y - t) ** 2, -1)
  )
  state = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.0)).init(
    jax.random.key(1), line
  )
  kernel = np.asarray(state.params['kernel'])
  measure = probes()['diagnosis_layers']
  compiled = jax.jit(lambda kernel: measure(line, state._replace(params={'kernel': kernel}))[0, 3])
  # Each change of one entry to the next float: 12 of 2^24 checksums, which are equal to the first by chance once in
  # a million such tests.
  changed = [
    np.where(np.arange(12).reshape(6, 2) == n, np.nextafter(kernel, np.float32(9)), kernel) for n in range(12)
  ]
  marks = [float(compiled(jnp.asarray(value))) for value in (kernel, *changed)]
  assert marks[0] not in marks[1:]
  # Another program, operation by operation: the same number.
  assert marks[0] == float(measure(line, state)[0, 3])
  assert 0 <= marks[0] < 2**24


def test_complex_parameters_count_as_two_real_ones(x64):
  z = np.array([[1 + 2j, -0.5j]])
  init = lambda key: ({'z': jnp.asarray(z)}, ())
  losses = lambda p, examples: jnp.abs(p['z'][0, 0] - examples) ** 2 + 3 * jnp.abs(p['z'][0, 1]) ** 2
  line = Problem(
    init=init,
    loss=lambda params, state, examples, mask, key: (losses(params, examples), state),
    metrics=lambda params, state, examples: {'loss': losses(params, examples)},
    name='complex',
    train=jnp.array([0.5, 1.5]),
  )
  climbing = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(-0.1))
  state = climbing.init(jax.random.key(0), line)
  # Mean over targets 0.5 and 1.5, as a function of real and imaginary parts: 2 (z1 - 1) and 6 z2.
  gradient = np.array([2 * (z[0, 0] - 1), 6 * z[0, 1]])
  found = probes()['diagnosis_layers'](line, state)
  np.testing.assert_allclose(found[0, :3], [np.linalg.norm(gradient), np.linalg.norm(z), 0], rtol=1e-12)
  sketch = probes()['diagnosis_sketch'](line, state)
  np.testing.assert_allclose(sketch[0] @ sketch[1], np.vdot(z, gradient).real, rtol=1e-12)
  np.testing.assert_allclose(first_alignment(line, climbing, jax.random.key(0)), 1, rtol=1e-12)


def test_the_answer_of_layers_without_a_gradient_tells_stopped_from_dead(x64):
  class Stopped(nn.Module):
    dead: bool

    @nn.compact
    def __call__(self, x):
      a = self.param('a', nn.initializers.constant(-3.0 if self.dead else 3.0), (1, 1))
      b = self.param('b', nn.initializers.constant(2.0), (1, 1))
      hidden = nn.relu(x @ a)
      return (hidden if self.dead else jax.lax.stop_gradient(hidden)) @ b

  inputs, target = np.abs(RNG.normal(size=(20, 1))), RNG.normal(size=(20, 1))
  descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.0))
  for dead in (True, False):
    chain = from_linen(Stopped(dead), (inputs, target), lambda y, t: (y - t)[:, 0] ** 2)
    found = probes()['diagnosis_layers'](chain, descent.init(jax.random.key(0), chain))
    loss = lambda a: np.mean((np.maximum(inputs * a, 0) * 2 - target) ** 2)
    changes = [abs(loss(3 * (1 + h)) - loss(3)) / loss(3) / 0.01 for h in (0.01, -0.01)]  # of either sign
    assert found[0, 2] == 1
    if dead:  # and so is what stands behind it
      np.testing.assert_array_equal(found[:, 4], [0, 0])
    else:
      assert min(abs(found[0, 4] / change - 1) for change in changes) < 1e-10
      assert found[1, 4] == 0


def test_examples_are_picked_without_overflow_from_three_million():
  indices = np.asarray(gdlab.analysis.blocks.evenly_spaced(3_000_000, 1024).indices)
  exact = [number * 3_000_000 // 1024 for number in range(1024)]  # Python's integers, of any length
  np.testing.assert_array_equal(indices, exact)
  assert all(a < b for a, b in itertools.pairwise(indices))


def test_overfit_small_names_the_shapes_that_broadcast():
  model = nn.Sequential((nn.Dense(1), lambda x: x[:, 0]))
  thin = Examples(jnp.asarray(INPUTS[:40]), jnp.asarray(RNG.normal(size=(40, 1))))
  # [1, B] minus [B, 1], which is what broadcasting makes of outputs [B] and targets [B, 1].
  wrong = lambda y, t: jnp.mean((y[None] - t) ** 2, -1)
  right = lambda y, t: (y - t[:, 0]) ** 2
  fitting = from_linen(model, thin, right)
  # The adapters refuse it; a problem of one's own need not.
  alone = dataclasses.replace(
    fitting,
    loss=dataclasses.replace(fitting.loss, loss=wrong),
    metrics=dataclasses.replace(fitting.metrics, metrics=(('loss', wrong),)),
  )
  for one, broadcasts in ((alone, True), (fitting, False)):
    verdict = gdlab.overfit_small(one, num_steps=20)
    assert not verdict.fits
    for part in ('inputs float32[40, 6]', 'targets float32[40, 1]', 'losses float32[40]'):
      assert part in verdict.words
    assert ('broadcasting' in verdict.words) == broadcasts
    assert ('[40, 40]' in verdict.words) == broadcasts
