"""Every landscape through `gdlab.run`: seeds side by side, in float32."""

import numpy as np
import optax
import pytest
from absl.testing import parameterized
from landscape_cases import FIRST

import gdlab

# One of each kind of loss, start and dimension; each needs its own compilation, of seconds.
QUICK = ('ackley', 'cliff', 'mueller_brown', 'rosenbrock', 'strict_saddle', 'two_valleys')


class RunTest(parameterized.TestCase):
  @parameterized.parameters([case for case in FIRST if case.name in QUICK])
  def test_runs_in_float32_over_seeds(self, case):
    self.check(case)

  @pytest.mark.slow
  @parameterized.parameters([case for case in FIRST if case.name not in QUICK])
  def test_runs_in_float32_over_seeds_too(self, case):
    self.check(case)

  def check(self, case):
    problem = case.build(initial_scale=0.01)
    descent = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.adam(1e-3))
    result = gdlab.run(
      problem,
      descent,
      num_steps=20,
      seeds=3,
      eval_every=10,
      probes={'params': lambda problem, state: state.params},
      plan=gdlab.Plan(lanes_at_once=3, num_devices=1),
      progress=False,
    )
    self.assertEqual(result.train_loss.dtype, np.float32)
    self.assertLen(np.unique(result.params[:, 0, 0]), 3)
    expected = np.apply_along_axis(case.reference, -1, np.asarray(result.params, np.float64))
    # A few roundings of terms below the largest value near the start, each a few ulps.
    scale = np.abs(expected).max() + np.abs(np.asarray(result.params)).max() ** 2
    np.testing.assert_allclose(result.train_loss, expected, rtol=1e-5, atol=1e-5 * scale)
    self.assertTrue((np.diff(expected, axis=1) < 0).all())
