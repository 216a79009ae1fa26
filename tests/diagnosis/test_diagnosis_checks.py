"""check_gradients, overfit_small, the probes and the replay, each against something known exactly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.types import Examples
from gdlab.diagnosis import Cause, first_nonfinite, probes
from gdlab.problems import from_linen

RNG = np.random.default_rng(0)
INPUTS, LABELS = RNG.normal(size=(40, 3)), RNG.integers(0, 2, 40)
CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels


@jax.custom_vjp
def doubtful(x):
  return jnp.tanh(x)


doubtful.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (1.01 * g * (1 - jnp.tanh(x) ** 2),))


class Net(nn.Module):
  wrong: bool = False

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4)(x)
    return nn.Dense(2)(doubtful(x) if self.wrong else jnp.tanh(x))


def net(wrong=False):
  return from_linen(Net(wrong), (INPUTS, LABELS), CROSS_ENTROPY)


def test_a_right_gradient_agrees_to_second_order():
  check = gdlab.check_gradients(net(), key=jax.random.key(0))
  assert check.right
  # Rounding 1e-16 over a step of 1e-3 with Richardson's error of 1e-12 there; float32 would give 1e-3.
  assert check.worst.error < 1e-9
  for leaf in check.leaves:
    np.testing.assert_allclose(leaf.order, 2, atol=0.1)
  assert 'agrees' in str(check)


def test_a_gradient_that_is_one_per_cent_off_is_found_with_its_leaves():
  check = gdlab.check_gradients(net(wrong=True), key=jax.random.key(0))
  assert not check.right
  errors = {leaf.leaf: leaf.error for leaf in check.leaves}
  # Only what lies before the faulty activation is wrong, by 1 % of a derivative that is about its own scale.
  wrong = {"['Dense_0']['kernel']", "['Dense_0']['bias']"}
  assert check.worst.leaf in wrong
  assert all(error > 1e-4 if leaf in wrong else error < 1e-8 for leaf, error in errors.items())
  assert 'DOES NOT' in str(check)


def test_overfit_small_tells_a_model_that_learns_from_one_that_cannot():
  verdict = gdlab.overfit_small(gdlab.problems.digits(), num_steps=300)
  assert verdict.fits
  assert verdict.accuracy == 1
  assert verdict.num_examples == 100
  assert verdict.steps <= 300
  blind = gdlab.problems.digits(gdlab.problems.MLP((8,), activation=lambda x: 0 * x))
  verdict = gdlab.overfit_small(blind, num_steps=20)
  # It can only answer one class: ten classes, each of 10 to 15 of a hundred.
  assert not verdict.fits
  assert verdict.accuracy < 0.2
  assert verdict.steps == -1
  assert 'CANNOT' in str(verdict)


def relu_problem():
  """Half of the first layer's units are dead; all is known in closed form."""
  kernel = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
  out = np.array([[1.0], [-2.0], [3.0], [4.0]])
  bias = np.array([0.5, 0.5, -9.0, -9.0])

  class Fixed(nn.Module):
    @nn.compact
    def __call__(self, x):
      hidden = nn.relu(x @ self.param('a', lambda key: jnp.asarray(kernel)) + jnp.asarray(bias[None]))
      return (hidden @ self.param('b', lambda key: jnp.asarray(out)))[:, 0]

  target = RNG.normal(size=40)
  problem = from_linen(Fixed(), (INPUTS, target), lambda y, t: (y - t) ** 2 / 2)
  hidden = np.maximum(INPUTS @ kernel + bias, 0)
  residual = (hidden @ out)[:, 0] - target
  back = residual[:, None] * out[:, 0] * (hidden > 0)
  jacobian = np.concatenate(
    [(INPUTS[:, :, None] * (out[:, 0] * (hidden > 0))[:, None]).reshape(40, -1), hidden], 1
  )
  hessian = jacobian.T @ jacobian / 40
  cross = np.einsum('n,ni,nj->ij', residual, INPUTS, (hidden > 0)) / 40  # d2 / d a_ij d b_j
  for i in range(3):
    for j in range(4):
      hessian[4 * i + j, 12 + j] += cross[i, j]
      hessian[12 + j, 4 * i + j] += cross[i, j]
  return problem, (INPUTS.T @ back / 40, hidden.T @ residual / 40), (kernel, out), hessian


def test_probes_equal_closed_forms(x64):
  problem, gradients, params, hessian = relu_problem()
  descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.0))
  state = descent.init(jax.random.key(0), problem)
  measure = probes()
  found = jax.jit(lambda s: {name: probe(problem, s) for name, probe in measure.items()})(state)
  norms = [np.linalg.norm(g) for g in gradients]
  expected = [[norms[0], np.linalg.norm(params[0]), 0.5], [norms[1], np.linalg.norm(params[1]), 0.0]]
  np.testing.assert_allclose(found['diagnosis_layers'][:, :3], expected, rtol=1e-12)
  np.testing.assert_array_equal(
    found['diagnosis_layers'][:, 4], [0, 0]
  )  # asked of layers without a gradient only
  np.testing.assert_allclose(found['diagnosis_gradient'], np.hypot(*norms), rtol=1e-12)
  # As exact as it stops: an eigenvalue is within the residual, 1 %; the largest one is found from a random start.
  np.testing.assert_allclose(found['diagnosis_curvature'], np.linalg.eigvalsh(hessian)[-1], rtol=1e-2)


def test_runs_on_quadratics_are_told_apart_by_the_border_of_each_method():
  """Below (2 + 2 beta) / L nothing is found, above it the rate is: L = 1, borders 2 and 3.8."""
  problem = gdlab.problems.quadratic([1.0, 0.3])
  for momentum, rates in ((None, [0.5, 2.1]), (0.9, [0.5, 4.5])):
    make = lambda rate, momentum=momentum: gdlab.algorithm(
      sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(rate, momentum)
    )
    result = gdlab.sweep(problem, make, {'rate': rates}, num_steps=400, seeds=2, probes=probes())
    found = gdlab.diagnose(result, problem, rate=result.rate, momentum=momentum or 0.0)
    assert found.causes == (None, None, Cause.RATE_TOO_LARGE, Cause.RATE_TOO_LARGE)
    evidence = found.runs[2].findings[0].evidence
    np.testing.assert_allclose(evidence['rate over stable'], rates[1] / (2 + 2 * (momentum or 0)), rtol=1e-3)


def test_a_run_that_fails_is_traced_to_step_leaf_and_example():
  problem = net()
  inputs, targets = problem.train
  broken = dataclasses.replace(problem, train=Examples(inputs.at[11].set(jnp.nan), targets))
  descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.sgd(0.1))
  found = first_nonfinite(broken, descent, jax.random.key(3), max_steps=10)
  assert found.examples == (11,)
  # The step is the one whose batch holds example 11: the sampler says which.
  state, batches = descent.init(jax.random.key(3), broken).sampler, []
  for _ in range(10):
    batch, state = descent.sampler.sample(state)
    batches.append(np.asarray(batch.indices))
  assert found.step == 1 + next(number for number, batch in enumerate(batches) if 11 in batch)
  assert found.bad_leaves == found.num_leaves == 4

  # Only one leaf is behind the root: its derivative at 0 is infinite while the loss is 0 there.
  class Root(nn.Module):
    @nn.compact
    def __call__(self, x):
      a, b = (self.param(name, nn.initializers.zeros, (3,)) for name in 'ab')
      return jnp.sqrt(jnp.abs(jnp.sum(b))) + x @ a

  root = from_linen(Root(), (INPUTS, RNG.normal(size=40)), lambda y, t: (y - t) ** 2)
  result = gdlab.run(root, descent, num_steps=10, seeds=[5], eval_every=5)
  (run,) = gdlab.diagnose(result, root, algorithm=descent).runs
  assert run.cause is Cause.NOT_FINITE
  assert run.findings[0].evidence['failed at update'] == 1
  assert "['b']" in run.findings[0].words
  assert '1 of 2 leaves' in run.findings[0].words
  assert first_nonfinite(net(), descent, jax.random.key(0), max_steps=3) is None


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: probes(max_examples=0), 'max_examples must be'),
    (lambda: probes(max_products=0), 'max_products must be'),
    (lambda: gdlab.check_gradients(net(), key=jax.random.key(0), tolerance=0.0), 'tolerance must be'),
    (lambda: gdlab.check_gradients(net(), key=jax.random.key(0), directions=0), 'directions must be'),
    (lambda: gdlab.overfit_small(net(), num_steps=5), 'num_steps must be'),
    (lambda: gdlab.overfit_small(net(), tolerance=1.0), 'tolerance must be'),
  ],
)
def test_bad_arguments_are_refused(call, message):
  with pytest.raises(InputError, match=message):
    call()
