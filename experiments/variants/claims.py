"""V1-V13: statements and verdict rules, written before the runs, and the effects they are applied to.

Thresholds are the smallest effects that matter: 5 % on a variance, 10 % on a loss or a roughness, 2 % on a time per
example, half a point of accuracy, 0.25 on a slope. Identities are held to 1e-10 in float64: 20 steps of sums of N
terms, each rounded at 2e-16.

Pilot runs had seeds below 200, which the study does not use. They changed four things. V5 first counted the updates
at which the loss rose, which was 0 for full batch and for mini-batches alike and so could not tell them apart. The
best rate of V13 lay at the end of the rates tried, to which larger ones were added. The smallest rate of V8 had not
come down to its floor by the end of the run, and was left out. V9 first asked for any gain at all, where one test image
is 0.3 points; a pilot had passed that rule.

A review, also before the study's seeds were run, changed how effects are measured: V2 at every batch size and not on
their mean; failed runs as infinite loss or time in V6, V7, V12 and V13 (accuracy 0 in V9) and not left out; times
over whole epochs; budgets that end on a record.
"""

from collections.abc import Callable

from experiments.variants import effects
from experiments.variants.study import Study
from gdlab import claims
from gdlab.claims import Claim, Finding, Rule, exact, greater_than, less_than, within
from gdlab.statistics import Interval

Effect = tuple[str, Rule, Callable[[Study], Interval]]
ROUNDING = 1e-10

CLAIMS: dict[str, tuple[str, tuple[Effect, ...]]] = {
  'V1': (
    'The three variants are one update rule; only how many examples feed it differs.',
    (
      (
        'distance of N examples in order from full batch',
        exact(0),
        lambda s: effects.identity(s, 'one_rule_in_order'),
      ),
      (
        'relative distance of N shuffled examples from full batch',
        exact(ROUNDING),
        lambda s: effects.identity(s, 'one_rule_shuffled'),
      ),
    ),
  ),
  'V2': (
    'The variance of the gradient estimate falls as 1/B with replacement, and as (1-B/N)*N/(N-1)/B without; '
    'full batch has none.',
    (
      (
        'variance over law at every B, with replacement',
        within(0.95, 1.05),
        lambda s: effects.variance_ratio(s, 'with'),
      ),
      (
        'variance over law at every B, without',
        within(0.95, 1.05),
        lambda s: effects.variance_ratio(s, 'without'),
      ),
      ('variance of full batch over that of one example', exact(1e-6), effects.full_batch_variance),
    ),
  ),
  'V3': (
    'A batch gradient equals the mean of its per-example gradients, and the reduction, mean or sum, rescales '
    'the learning rate.',
    (
      (
        'relative distance of mean per-example gradient from batch gradient',
        exact(ROUNDING),
        lambda s: effects.identity(s, 'mean_of_gradients'),
      ),
      (
        'relative distance of gradient of the summed loss over B from batch gradient',
        exact(ROUNDING),
        lambda s: effects.identity(s, 'sum_of_losses'),
      ),
    ),
  ),
  'V4': (
    'One epoch takes ceil(N/B) updates: 1 for full batch, N for single-example, 79 for N=10,000 B=128, 1,000 '
    'for N=32,000 B=32.',
    (('miscounted epochs', exact(0), effects.miscounted),),
  ),
  'V5': (
    'Per update, full batch is the slowest and smoothest, single-example the fastest and noisiest; mini-batch '
    'lies between on both.',
    (
      ('time per update, full over mini', greater_than(1), lambda s: effects.time_ratio(s, s.full, s.mini)),
      ('time per update, mini over single', greater_than(1), lambda s: effects.time_ratio(s, s.mini, 1)),
      (
        'roughness of the loss curve, mini over full',
        greater_than(1.1),
        lambda s: effects.roughness_ratio(s, s.mini, s.full),
      ),
      (
        'roughness of the loss curve, single over mini',
        greater_than(1.1),
        lambda s: effects.roughness_ratio(s, 1, s.mini),
      ),
    ),
  ),
  'V6': (
    'Per example seen, small batches reach a given loss sooner than full batch; many small steps beat few large ones.',
    (
      ('examples to target, full over mini', greater_than(1), lambda s: effects.examples_ratio(s, s.mini)),
      ('examples to target, full over single', greater_than(1), lambda s: effects.examples_ratio(s, 1)),
    ),
  ),
  'V7': (
    'Full batch with a much larger learning rate makes up for its fewer updates.',
    (
      (
        'training loss after equal examples, full over mini, each at its best rate',
        less_than(1.1),
        lambda s: effects.loss_ratio(s, 'examples'),
      ),
    ),
  ),
  'V8': (
    'Single-example descent hardly ever converges smoothly at a fixed learning rate: its loss floor grows with '
    'the learning rate.',
    (
      ('log-log slope of the loss floor in the rate', greater_than(0.25), effects.floor_slope),
      ('share of late evaluations at which the loss had risen', greater_than(0.1), effects.late_rises),
    ),
  ),
  'V9': (
    'Batches of 32-256 are the best trade of wall-clock time against final quality.',
    (
      (
        'test accuracy at equal time, best in 32-256 minus best outside',
        greater_than(0.005),
        effects.middle_gain,
      ),
    ),
  ),
  'V10': (
    'Batch sizes that are powers of two run faster than their neighbours (64 against 60).',
    (('time per example, neighbours over powers', greater_than(1.02), effects.power_gain),),
  ),
  'V11': (
    'On a convex problem full batch always converges to the global minimum for lr < 2/L, at rate no worse than '
    '(1-mu/L) per step with lr 1/L.',
    (
      *(
        (
          f'{kind} regression: worst factor per step over 1-mu/L, at lr 1/L',
          less_than(1 + 1e-6),
          lambda s, kind=kind: effects.worst_contraction(s, kind),
        )
        for kind in ('linear', 'logistic')
      ),
      *(
        (
          f'{kind} regression: gap left at lr 1.9/L',
          less_than(1e-6),
          lambda s, kind=kind: effects.remaining_gap(s, kind, 1.9),
        )
        for kind in ('linear', 'logistic')
      ),
      (
        'linear regression: gap left at lr 2.1/L',
        greater_than(1),
        lambda s: effects.remaining_gap(s, 'linear', 2.1),
      ),
    ),
  ),
  'V12': (
    'A whole MNIST fits one device, so full batch is feasible there; it is still slower to a given accuracy.',
    (('seconds to target accuracy, full over mini', greater_than(1), effects.accuracy_time_ratio),),
  ),
  'V13': (
    "Single-example updates suit data that arrives as a stream; full batch can't follow a drifting source.",
    (
      (
        'squared error on a drifting stream, full over single',
        greater_than(1),
        effects.tracking_ratio,
      ),
    ),
  ),
}


def grade_all(study: Study) -> list[Finding]:
  """Applies every claim's rule to the stored results."""
  return [
    claims.grade(
      Claim(name, statement, {effect: rule for effect, rule, _ in parts}),
      {effect: measure(study) for effect, _, measure in parts},
      num_seeds=study.num_seeds(name),
      conditions=study.conditions(name),
    )
    for name, (statement, parts) in CLAIMS.items()
  ]
