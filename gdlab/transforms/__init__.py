r"""Gradient transformations that Optax lacks, for any `optax.chain`, with gdlab's runner or without.

Each returns an `optax.GradientTransformationExtraArgs` whose state is a NamedTuple. Every hyperparameter may be a
tracer (`blocks` and `max_size` are none): built inside a vmapped function, each lane has its own. A transform that
draws random numbers carries a key, and takes another as the extra argument `key` of `update`, which `gdlab.algorithm`
passes, so that each seed of `gdlab.run` has its own noise. Two of the same kind in one chain need different seeds; on
different parts of the parameters (`optax.partition`) their draws are independent anyway.

Two limits. `perturb_at_saddle`, `gradient_statistics` and the estimators `svrg` and `storm` contain a branch that costs
nothing when not taken, also under vmap (`gdlab.core.branching.cond_any`); JAX can differentiate through it in forward
mode (`jax.jvp`), not in reverse mode. And with `optax.MultiSteps` around a transform that draws random numbers, results
are correct, but JAX's debugging switch `jax_debug_key_reuse` reports a false error.

| transform | what it does | place in the chain | read by |
|---|---|---|---|
| `perturb_at_saddle` | a uniform draw from a ball where the gradient is small | last; `grad=` or its rate | |
| `perturbed_gradient_descent` | gradient descent with it, complete; constants: `pgd_constants` | alone | |
| `langevin_noise` | noise at a temperature: Langevin dynamics, SGLD | last | |
| `annealed_gradient_noise` | Gaussian noise of variance eta / (1 + t)^gamma | first | |
| `shampoo` | a matrix for each axis of the gradient, exact roots | first; momentum and rate follow | |
| `average_iterates` | averages; weights: `uniform_weights`, `exponential_weights` | last | `averaged_params` |
| `coordinate_updates` | one block of parameters after another | last | |
| `gradient_statistics` | min, max, mean, std, norm, every k updates | anywhere | `statistics` |
| `noise_scale` | per-example gradients to their mean and noise scale | first | `noise_scale_estimate` |
| `freeze_non_finite` | stops permanently at the first gradient that is not finite | around it | `freeze_status` |

What Optax has is used as it is; each of the following is tested with `gdlab.algorithm`. Evaluations by line searches
and L-BFGS are not counted among the gradient evaluations of a step; `gdlab.algorithm` says what to compare instead.

| method | Optax |
|---|---|
| gradient descent, heavy ball, Nesterov | `optax.sgd(rate, momentum, nesterov)`; the momentum alone: `optax.trace` |
| AdaGrad, RMSProp, AdaDelta | `optax.adagrad`, `optax.rmsprop`, `optax.adadelta` |
| Adam, AMSGrad, NAdam, RAdam, AdaBelief, Yogi | `optax.adam`, `amsgrad`, `nadam`, `radam`, `adabelief`, `yogi` |
| decoupled weight decay, L2 penalty | `optax.adamw`; `optax.add_decayed_weights` after or before the preconditioner |
| Lion, sign descent, Rprop | `optax.lion`, `optax.sign_sgd`, `optax.signum`, `optax.rprop` |
| LARS, LAMB, Fromage, NovoGrad | `optax.lars`, `optax.lamb`, `optax.fromage`, `optax.novograd` |
| factored or quantised state | `optax.adafactor`, `optax.sm3`, `optax.contrib.galore` |
| orthogonalised momentum, related to Shampoo | `optax.contrib.muon` |
| L-BFGS, line searches | `optax.lbfgs`, `optax.scale_by_backtracking_linesearch`, `optax.scale_by_zoom_linesearch` |
| Polyak's step | `optax.polyak_sgd`, `optax.contrib.momo` |
| rates without tuning | `optax.contrib.dog`, `prodigy`, `dadapt_adamw`, `mechanize`, `cocob` |
| clipping | `optax.clip`, `clip_by_global_norm`, `clip_by_block_rms`, `adaptive_grad_clip` |
| sharpness-aware steps | `optax.contrib.sam`, by itself (NaN at a gradient of zero, unlike `gdlab.estimators.sam`) |
| schedule-free averaging, lookahead | `optax.contrib.schedule_free`; `optax.lookahead` around all else |
| moving average of updates | `optax.ema`; of parameters in your own loop: `optax.incremental_update` |
| large batches in parts | `optax.MultiSteps`, `optax.microbatching` |
| differential privacy | `optax.contrib.dpsgd`, with `gdlab.estimators.per_example(stacked=True)` |
| gradient noise with a key bound when built | `optax.add_noise`, `optax.noisy_sgd` |
| parts of the parameters only, or by another rule | `optax.masked`, `optax.partition`, `optax.freeze` |
| skipping bad gradients | `optax.apply_if_finite`, `optax.zero_nans`, `optax.skip_not_finite` |
| any measurement of the updates | `optax.snapshot`; in your own loop, not `gdlab.run`: `optax.monitor` |
| schedules, rates in the state | `optax.schedules`, `inject_hyperparams`, `optax.contrib.reduce_on_plateau` |
"""

from gdlab.transforms.averaging import (
  AverageState,
  average_iterates,
  averaged_params,
  exponential_weights,
  uniform_weights,
)
from gdlab.transforms.batch_noise import (
  NoiseScaleEstimate,
  NoiseScaleState,
  noise_scale,
  noise_scale_estimate,
)
from gdlab.transforms.coordinates import CoordinateState, coordinate_updates
from gdlab.transforms.freezing import FreezeState, FreezeStatus, freeze_non_finite, freeze_status
from gdlab.transforms.measuring import (
  GradientStatistics,
  GradientStatisticsState,
  Statistics,
  gradient_statistics,
  statistics,
)
from gdlab.transforms.noise import NoiseState, annealed_gradient_noise, langevin_noise
from gdlab.transforms.saddles import (
  PerturbState,
  PGDConstants,
  perturb_at_saddle,
  perturbed_gradient_descent,
  pgd_constants,
)
from gdlab.transforms.shampoo import ShampooState, shampoo

__all__ = [
  'AverageState',
  'CoordinateState',
  'FreezeState',
  'FreezeStatus',
  'GradientStatistics',
  'GradientStatisticsState',
  'NoiseScaleEstimate',
  'NoiseScaleState',
  'NoiseState',
  'PGDConstants',
  'PerturbState',
  'ShampooState',
  'Statistics',
  'annealed_gradient_noise',
  'average_iterates',
  'averaged_params',
  'coordinate_updates',
  'exponential_weights',
  'freeze_non_finite',
  'freeze_status',
  'gradient_statistics',
  'langevin_noise',
  'noise_scale',
  'noise_scale_estimate',
  'perturb_at_saddle',
  'perturbed_gradient_descent',
  'pgd_constants',
  'shampoo',
  'statistics',
  'uniform_weights',
]
