"""Gradient estimators: from a batch to a gradient.

| estimator | gradient | gradient evaluations of an update with B examples |
|---|---|---|
| `batch_mean()` | that of the batch's loss | B |
| `microbatched(size, estimator)` | the same in slices, or another estimate slice by slice | the sum over slices |
| `per_example()` | the same, with per-example gradients kept | B |
| `per_example_clipped(max_norm)` | per-example gradients clipped, then summed | B |
| `svrg(period)` | corrected by a full gradient at a snapshot | 2B, and N every `period` |
| `saga()` | corrected by a table of the last gradients | B |
| `storm(a)` | a moving average, corrected to the current point | 2B; B at the first |
| `sam(rho)` | that at a point uphill | 2B |
| `data_parallel(axis, estimator)` | the mean over devices | the sum over devices |

An estimator does not move the parameters: the optimizer does, and every Optax optimizer works with every estimator.
What Optax has is not rewritten: `optax.clip_by_global_norm` clips the batch's gradient, `optax.contrib.sam` alternates
steps of ascent and descent (without a guard at critical points), `optax.contrib.differentially_private_aggregate` adds
noise to clipped gradients, `optax.MultiSteps` accumulates over updates, `optax.microbatching` over any function.
"""

from gdlab.estimators.parallel import data_parallel
from gdlab.estimators.per_example import per_example, per_example_clipped
from gdlab.estimators.plain import BatchMeanState, batch_mean, microbatched
from gdlab.estimators.saga import SagaState, saga
from gdlab.estimators.sharpness import sam
from gdlab.estimators.storm import StormState, storm
from gdlab.estimators.svrg import SvrgState, svrg

__all__ = [
  'BatchMeanState',
  'SagaState',
  'StormState',
  'SvrgState',
  'batch_mean',
  'data_parallel',
  'microbatched',
  'per_example',
  'per_example_clipped',
  'saga',
  'sam',
  'storm',
  'svrg',
]
