"""What changes when a layer of a Flax ReLU network is rescaled, and its function is not."""

import jax
import numpy as np
import pytest
from relu_cases import network, rescaled

from gdlab import analysis

FACTOR = 100.0


@pytest.mark.usefixtures('x64')
def test_keskar_and_sam_change_and_the_adaptive_measures_do_not():
  problem, params, model_state = network()

  @jax.jit
  def measure(params, key):
    keys = jax.random.split(key, 3)
    at = (problem, params, model_state)
    return {
      'losses': problem.metrics(params, model_state, problem.train)['loss'],
      'sam': analysis.sam_sharpness(*at, keys[0]).sharpness,
      'adaptive': analysis.adaptive_sharpness(*at, keys[1]).sharpness,
      'relative': analysis.flatness(*at, keys[2], sigma=0.1, relative=True, num_pairs=4).rise,
    }

  before, after = (measure(p, jax.random.key(0)) for p in (params, rescaled(params, FACTOR)))
  np.testing.assert_allclose(after['losses'], before['losses'], rtol=1e-11)
  # Rounding of losses near 1, relative to differences of about 0.1.
  for name in ('adaptive', 'relative'):
    assert abs(before[name]) > 1e-3
    np.testing.assert_allclose(after[name], before[name], rtol=1e-10)
  assert after['sam'] > 3 * before['sam']

  keskar = [
    analysis.keskar_sharpness(problem, p, model_state, jax.random.key(1)).sharpness
    for p in (params, rescaled(params, FACTOR))
  ]
  assert keskar[0] > 0
  assert keskar[1] > 3 * keskar[0]
