"""Measurements at a point of a problem: pure, jittable functions of (problem, params, model_state).

A gradient-equivalent is the cost of one gradient over the training set; N is the number of its examples.

Gradient noise and generalisation:

(Costs count examples. On a CPU, gradients of single examples take about ten times as long as that of their mean.)

| function | what it measures | cost in gradient-equivalents |
|---|---|---|
| `per_example_gradients` | the gradient of each example's loss | k / N for k examples |
| `gradient_covariance_trace` | mean gradient and tr Sigma over the training set | 2 |
| `gradient_moments` | mean and variance of every parameter's gradient | 1 |
| `signal_to_noise` | signal-to-noise ratio of every parameter, from `gradient_moments` | 0 |
| `sampled_noise_scale` | B_simple from n examples, with interval | 2 n / N |
| `two_batch_squares` | squared gradient norms of K pairs of batches | K (B_s + B_b) / N |
| `two_batch_noise_scale` | B_simple from `two_batch_squares`, with interval | 0 |
| `noise_scales` | B_simple and B_noise over the training set | 4 + 3 per probe |
| `hill_index`, `stable_index` | tail index of a sample | 0 |
| `noise_tails` | both, of gradient noise: n batches of B | 1 + n B / N |
| `gradient_predictiveness` | loss and gradient at S steps along the gradient | S + 1 |
| `generalisation_gap` | test minus train of every metric, with standard error | 1/3 |
| `keskar_sharpness` | highest loss in a box; on the host, not for probes | 10 to 20 |
| `sam_sharpness` | rise of the loss in a ball, by S steps | S + 1/3 |
| `adaptive_sharpness` | the same, invariant to rescaling of ReLU layers | S + 1/3 |
| `flatness` | mean rise under P pairs of Gaussian perturbations | (2 P + 1) / 3 |
| `distance_from_init` | Euclidean distance from the start, by layer | 0 |
| `output_margins` | classification margin of every example, from outputs | 0 |
| `margins` | quantiles of the margin, plain and over the product of the layers' norms | 0 |

Stationary points (d parameters, S starts) and landscapes (an evaluation of all data is 1/3; these are host functions):

| function | what it measures | cost in gradient-equivalents |
|---|---|---|
| `classify_stationary` | whether a point is stationary, and its index, certified; dense | 12 (d + 1) |
| `count_signs` | how many eigenvalues have a certain sign, from values and residuals | 0 |
| `seek_stationary` | the stationary point reached from one start | (d + 1) per step; 400 to 600 for d > 64 |
| `find_stationary_points` | the distinct points reached from many starts; on the host | S times that |
| `box_starts` | evenly distributed starts; on the host | 0 |
| `saddle_visits`, `escape_times` | when a run enters and leaves the neighbourhood of a saddle, from records | 0 |
| `filter_direction` | a random direction, scaled filter by filter | 0 |
| `loss_line`, `loss_plane` | all metrics along one or two directions, M points | M / 3 |
| `principal_plane` | the principal plane of a run's path, and its share of the variance | 0 |
| `trajectory_plane` | that plane with all metrics over it, M points | M / 3 |
| `interpolate`, `barrier` | all metrics between two solutions, M points, and the barrier | M / 3 |
| `dense_stack`, `permute_units` | the hidden units of a network, and the same network with them permuted | 0 |
| `match_weights`, `match_activations` | which hidden units of two networks correspond | 0 |
| `align` | a network with its hidden units in the order of another's | 32 / 3N |

Curvature over the whole training set (a Hessian product P costs 2 to 3; d parameters; a residual's allowance for
rounding R costs 8 P min(512, N) / N):

| function | what it measures | cost in gradient-equivalents |
|---|---|---|
| `full_loss`, `full_gradient` | mean loss and its gradient as functions of the parameters | 1/3, 1 |
| `training_losses`, `evaluation_losses` | which loss, for the argument `losses` | 0 |
| `hessian` | the Hessian as an operator; one product | 2 to 3 |
| `gauss_newton` | the Gauss-Newton matrix as an operator; one product | 1.5 to 2 |
| `layers` | an operator's diagonal blocks, one per layer | 0 |
| `dense` | an operator's matrix, for small d | d P |
| `sharpness` | largest Hessian eigenvalue, with residual | 10 to 20 P + R |
| `eigenpairs` | extreme eigenpairs, with residuals and certified signs | at most 100 P or, for d <= 256, d P; + R |
| `trace` | trace with standard error | 32 P |
| `diagonal` | diagonal with standard errors | 32 P |
| `spectral_density` | smoothed density of the eigenvalues, with interval | 384 P |
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
