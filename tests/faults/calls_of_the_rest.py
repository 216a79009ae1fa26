"""One valid call of functions of gdlab itself, and of gdlab.claims, report and diagnosis."""

# ruff: noqa: C408 - dict(...) reads as the call whose arguments these are

import jax
import numpy as np
import optax
from flax import linen as nn
from malformed import Call

import gdlab
from gdlab import claims, problems
from gdlab.statistics import Interval

FEATURES = np.eye(6, 2, dtype=np.float32)
PROBLEM = problems.linear_regression(FEATURES, np.arange(6, dtype=np.float32))
MODULE = problems.from_linen(
  nn.Dense(1),
  (FEATURES, np.ones((6, 1), np.float32)),
  lambda outputs, targets: ((outputs - targets) ** 2)[:, 0],
)
INTERVAL = Interval(1.0, 0.5, 1.5, 0.95, 5, 0)
CLAIM = claims.Claim('V1', 'more is more', {'ratio': claims.greater_than(0.2)})
FINDING = claims.grade(CLAIM, {'ratio': INTERVAL}, num_seeds=5, conditions='here')

CALLS = {
  'algorithm': Call(
    lambda: dict(
      sampler=gdlab.sampling.full_batch(),
      optimizer=optax.sgd(0.1),
      estimator=gdlab.estimators.batch_mean(),
      reestimate=False,
    )
  ),
  'check_gradients': Call(
    lambda: dict(
      problem=PROBLEM,
      params=np.ones(2, np.float32),
      model_state=(),
      key=jax.random.key(0),
      num_examples=4,
      directions=2,
      tolerance=1e-3,
    ),
    repr,
  ),
  'evaluate': Call(lambda: dict(problem=PROBLEM, params=np.ones(2, np.float32), model_state=())),
  'streams': Call(lambda: dict(key=jax.random.key(0))),
  'to_flax': Call(lambda: dict(problem=MODULE, params=MODULE.init(jax.random.key(0))[0])),
  'log_uniform': Call(lambda: dict(low=0.1, high=1.0)),
  'uniform': Call(lambda: dict(low=0.1, high=1.0)),
  'claims.exact': Call(lambda: dict(tolerance=0.1)),
  'claims.grade': Call(
    lambda: dict(claim=CLAIM, intervals={'ratio': INTERVAL}, num_seeds=5, conditions='here')
  ),
  'claims.greater_than': Call(lambda: dict(threshold=2.0, none=1.0)),
  'claims.less_than': Call(lambda: dict(threshold=0.5, none=1.0)),
  'claims.outside': Call(lambda: dict(low=0.5, high=1.0)),
  'claims.within': Call(lambda: dict(low=0.5, high=1.0)),
  'claims.premise': Call(lambda: dict(rule=claims.exact(0.1))),
  'claims.together': Call(lambda: dict(verdicts=[claims.Verdict.SUPPORTED])),
  'diagnosis.look_at_data': Call(lambda: dict(problem=PROBLEM), repr),
  'diagnosis.probes': Call(lambda: dict(max_examples=16, max_products=4)),
  'report.fragile': Call(lambda: dict(finding=FINDING, again=[[FINDING]])),
  'report.interval': Call(lambda: dict(part=FINDING)),
  'report.number': Call(lambda: dict(value=1.5)),
  'report.same_verdicts': Call(lambda: dict(finding=FINDING, again=[[FINDING]])),
  'report.slug': Call(lambda: dict(heading='A picture')),
}
