"""The study's table and page, from the stored results alone."""

from collections.abc import Sequence

import numpy as np

from experiments.variants import figures
from experiments.variants.study import Study
from gdlab import plots
from gdlab.claims import Finding, Verdict
from gdlab.report import Section, Table, number
from gdlab.study.graded import Story
from gdlab.theory import mean_variance, updates_per_epoch


def summary(study: Study) -> Table:
  """Every arm: its updates, its time, its noise, and where it is after equal examples and after equal time."""
  ends = [f'{what} at equal {kind}' for kind in ('examples', 'time') for what in ('rate', 'loss', 'accuracy')]
  heads = ['variant', 'updates per epoch', 'µs per update', 'gradient variance', *ends]
  return Table(heads, [_row(study, size) for size in study.sizes])


def _row(study: Study, size: int) -> list[str]:
  trace = float(study.results['noise'].covariance_trace.mean('seed'))
  cells = [
    figures.name(study, size),
    f'{updates_per_epoch(study.num_examples, size):,}',
    f'{1e6 * study.seconds(size):,.1f}',
    number(float(mean_variance(trace, size, study.num_examples))),
  ]
  for kind in ('examples', 'time'):
    loss = study.at(kind, size, 'train_loss', failed=np.inf)
    diverged = int(np.isinf(loss).sum())
    accuracy = study.at(kind, size, 'test_accuracy', failed=0.0).mean('seed')
    cells += [
      f'{study.rate(kind, size):g}',
      f'{diverged} diverged' if diverged else number(float(loss.mean('seed'))),
      f'{100 * float(accuracy):.1f} %',
    ]
  return cells


def tell(study: Study, findings: Sequence[Finding]) -> Story:
  """What the page tells before the verdicts."""
  config = study.config
  count = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
  problem = study.clock.attrs['problem']
  lead = (
    'Textbooks tell batch, stochastic and mini-batch gradient descent apart by how many examples feed one update, and '
    f'say a good deal about what follows from that. Thirteen such statements were tested on {problem} '
    f'({study.num_examples:,} training images) with {config.num_seeds} seeds: {count[Verdict.SUPPORTED]} are '
    f'supported, {count[Verdict.CONTRADICTED]} contradicted, {count[Verdict.INCONCLUSIVE]} inconclusive.',
    f'How: one update rule, samplers that differ; every arm tries the same {len(config.learning_rates)} learning rates '
    f'on {config.num_tuning_seeds} seeds of its own and runs at the best with {config.num_seeds} others; arms are '
    'paired by seed (same initial parameters); equal examples '
    f'means {config.epochs} passes over the data, equal time the {study.time_budget:.3g} s that the mini-batch '
    'takes for them in a compiled loop. Lines and points are medians, bands and bars the middle 80 % of seeds.',
  )
  floor, mini = study.config.floor, study.mini
  sections = (
    Section(
      'The arms at a glance',
      (
        'Means over seeds; training loss and test accuracy, each at the rate that tuning chose for that budget. The '
        'variance is that of the gradient estimate at the initial parameters, drawn without replacement, by the law '
        'of V2.',
      ),
      table=summary(study),
    ),
    Section(
      'Loss against updates, examples and seconds',
      ('The same runs on three clocks. Which variant is ahead depends on what is counted.',),
      plots.to_svg(figures.losses(study)),
      'Training loss at the rate tuned for equal examples. Dotted: the budgets of equal examples and of equal time.',
    ),
    Section(
      'The path of each variant',
      (
        'Logistic regression, "is it a 3 or an 8?", on the first two principal components of the images: two '
        f'weights, one start, one learning rate ({study.results["paths"].attrs["learning_rate"]:.3g}, which is '
        f'1/L), {config.paths.num_updates} updates each.',
      ),
      plots.to_svg(figures.paths(study)),
      'Grey: contours of the training loss, even in the logarithm of its excess over the minimum.',
    ),
    Section(
      'Gradient noise against batch size',
      (
        'Mini-batch gradients are means of B draws. With replacement their variance is trace(Sigma)/B; without, the '
        'finite population takes it to zero at B = N (V2).',
      ),
      plots.to_svg(figures.noise(study)),
      'No line is fitted: the law uses the exact trace of the per-example gradient covariance.',
    ),
    Section(
      'How much the learning rate matters',
      ('Every arm at every rate it tried, with the tuning seeds (V6, V7).',),
      plots.to_svg(figures.rates(study)),
      'Where a curve turns up steeply, the rate has passed what is stable; runs that diverged have no point.',
    ),
    Section(
      'Speed and quality against batch size',
      (
        'Left, the cost of one example falls as batches fill the vector units. Right, test accuracy when every arm has '
        'had the same time; shaded, the range of V9.',
      ),
      plots.to_svg(figures.speed(study)),
    ),
    Section(
      'The floor of single-example descent',
      (
        f'Multinomial logistic regression with l2 = {floor.l2}, whose minimum is known, so that what is left above it '
        'can be measured (V8).',
      ),
      plots.to_svg(figures.floor(study)),
    ),
    Section(
      'Full batch on convex problems',
      ('The gap to the known minimum in float64, at rates relative to 1/L (V11).',),
      plots.to_svg(figures.convex(study)),
      'Dashed: the guaranteed factor 1 - mu/L per step at rate 1/L. At 2.1/L the quadratic diverges; the logistic '
      'problem need not, since its L is an upper bound.',
    ),
    Section(
      'A stream whose source drifts',
      (
        'Images arrive one by one with targets from a linear rule. Every example is predicted before it is used. Full '
        'batch is given the exact least-squares solution over all it has seen (V13).',
      ),
      plots.to_svg(figures.stream(study)),
    ),
    Section(
      'What would change our mind',
      (
        'Other data, models and machines: verdicts hold under the conditions written beside them. Speeds (V5, V9, V10, '
        f'V12) are those of one machine. The network is small and fits its data, so noise at B={mini} costs little in '
        'the end; on problems it cannot fit, floors matter more.',
      ),
    ),
  )
  return Story(f'Full batch, single example, mini-batch: {problem}', lead, sections)
