"""The study's page in words, pictures and tables."""

from collections.abc import Sequence

from experiments.batch_size import chapters, claims, effects, figures, growth, tables
from experiments.batch_size.study import Study
from gdlab import plots
from gdlab.claims import Finding, Verdict
from gdlab.report import Section
from gdlab.study.graded import Story


def tell(study: Study, findings: Sequence[Finding]) -> Story:
  """What the page tells before the verdicts."""
  return Story(
    f'Batch size, sharpness and generalisation: {study.config.dataset}',
    _lead(study, findings),
    (
      *_accuracy(study),
      *chapters.steps(study),
      *chapters.sharpness(study),
      _norm(study),
      _growth(study),
      _stopping(study),
      _minds(study),
    ),
  )


def _lead(study: Study, findings: Sequence[Finding]) -> tuple[str, ...]:
  config, clean = study.config, study.benches['clean']
  count = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
  return (
    'Do small batches find better models, and if so, is it the batch or the number of updates? Are the '
    'minima of large batches sharp, and does that matter? How large may a batch be before it wastes '
    f'examples? Eight such statements were tested with {config.num_seeds} seeds: {count[Verdict.SUPPORTED]} '
    f'are supported, {count[Verdict.CONTRADICTED]} contradicted, {count[Verdict.INCONCLUSIVE]} inconclusive; some '
    'rest on fewer seeds, as the table of verdicts says. It also shows what as many other seeds say, with the same '
    'tuning, data, wrong labels and test images.',
    f'How: {clean.num_examples:,} images of {config.dataset} train a small network, {config.num_validation} '
    f'validate, the test images only grade. Gradient descent with reshuffled batches of '
    f'{", ".join(map(str, config.batch_sizes))} '
    f'and of all images ("full batch", the large batch of the claims; B={config.mini_batch} is the small one). '
    f'Within a bench every batch size tries the same settings ({_searches(study)}) on {config.num_tuning_seeds} '
    "tuning seeds and runs at the one of best validation accuracy with the study's seeds. Arms are paired by seed "
    f'(same initial parameters). Where labels are wrong, {config.label_noise:.0%} of those of training and '
    'validation are; test labels are right. Points are medians over seeds, bars and bands hold the middle 80 % '
    'of them.',
  )


def _searches(study: Study) -> str:
  made = []
  for name, words in (('clean', 'perceptron'), ('cnn', 'CNN'), ('norm', 'with BatchNorm')):
    bench = study.benches[name]
    momenta = ' and '.join(f'{momentum:g}' for momentum in bench.momenta)
    made.append(f'{words} {len(bench.settings)}: {len(bench.rates)} rates with momentum {momenta}')
  return '; '.join(made)


def _accuracy(study: Study) -> tuple[Section, ...]:
  config, clean = study.config, study.benches['clean']
  text = (
    f'Three budgets, since the answer depends on what is counted: equal examples ({config.epochs} passes '
    f'over the data, in which full batch makes {config.epochs} updates), equal updates ({clean.updates} for '
    f'all, which is {clean.updates} passes for full batch), and equal time (what B={config.mini_batch} takes for its '
    f'{config.epochs} passes in a compiled loop on this machine). Each is tuned by itself.'
  )
  return (
    Section(
      'Test accuracy against batch size: right labels',
      (text,),
      plots.to_svg(figures.accuracy(study, 'clean')),
      'Shaded: the batch sizes that the claims call small. Where the lines part at the right end, large '
      f'batches lack updates; where they meet, more updates made up for it. G1 and G2 compare B={config.mini_batch} '
      'with full batch, one searched arm on either side; the others are shown.',
      tables.summary(study, 'clean'),
    ),
    Section(
      'Test accuracy against batch size: wrong labels among them',
      (
        f'The same with {config.label_noise:.0%} of the labels wrong, which a network that trains for long '
        'learns by heart: accuracy on the right test labels then falls, and there is a gap to speak of.',
      ),
      plots.to_svg(figures.accuracy(study, 'noisy')),
      'Loss gap, in the tables: test minus training loss, on test labels of which as many are wrong. '
      'Accuracy is that on right ones.',
      tables.summary(study, 'noisy'),
    ),
    Section(
      'A CNN',
      (
        f'Two convolutions ({" and ".join(map(str, config.cnn.features))} channels), right labels, '
        f'{config.cnn.epochs} epochs or {config.cnn.updates} updates. {_fitted(study)}',
      ),
      table=tables.summary(study, 'cnn'),
    ),
    Section(
      'How much rate and momentum matter',
      ('Every setting at every batch size after equal examples, with the tuning seeds; right labels.',),
      plots.to_svg(figures.settings(study, 'clean', 'epochs')),
      'Rows: rate, momentum. Dark is good; framed, the best of all. A column whose best cell is in its first '
      'or last rows of a momentum has its best rate at an end of those tried ("end" in the tables). Settings '
      'with which the network dies (validation error 0.9) are bright.',
    ),
  )


def _fitted(study: Study) -> str:
  """What the arms of the CNN had learnt, so that a network that is not trained is not taken for one that overfits."""
  bench = study.benches['cnn']
  said = []
  for kind in ('epochs', 'updates'):
    shares = {
      arm.label: float(study.at(bench, arm, kind, 'train_accuracy', 0.0).mean())
      for arm in (study.small(bench), study.large(bench))
    }
    words = ' and '.join(f'{label} {share:.1%}' for label, share in shares.items())
    apart = max(shares.values()) - min(shares.values()) > 0.02
    said.append(
      f'After {figures.KINDS[kind]} {words} of the training images are right'
      + (': a difference in test accuracy is then one of training first.' if apart else '.')
    )
  return ' '.join(said)


def _norm(study: Study) -> Section:
  return Section(
    'Batch normalisation and ghosts',
    (
      'BatchNorm computes its statistics from the batch; ghosts are slices of a large batch, '
      f'{study.config.norm.ghost} examples each, that are normalised by themselves (G6).',
      'A trap: the running averages with which such a model is usually tested keep 99 % of themselves at an '
      'update, so after the few updates of a large batch they still remember the start, while ghosts update '
      'them once per slice. By running averages ghosts win for that alone. The claim is graded with the '
      'statistics of all training images at the final parameters; the picture shows both.',
      _gap(study),
    ),
    plots.to_svg(figures.norm(study)),
    'After equal examples. The gap to close is that between the first two blue points.',
    tables.norm(study),
  )


def _gap(study: Study) -> str:
  gap = effects.norm_gap(study)
  points = f'{100 * gap.estimate:.2f} points ({100 * gap.low:.2f} to {100 * gap.high:.2f})'
  if gap.low > claims.POINTS:
    return f'The gap between mini-batch and full batch is {points}.'
  return (
    f'The gap between mini-batch and full batch is {points}: it was not established to exceed half a point, so the '
    'share of it that ghosts close is not graded.'
  )


def _growth(study: Study) -> Section:
  options = study.config.growth
  stages = growth.batch_sizes(study.config)
  made = [int(study.results[name].made[-1]) for name in ('growth', 'decay')]
  return Section(
    'Growing the batch instead of decaying the rate',
    (
      f'B = {", ".join(map(str, stages))} at one rate, against B = {stages[0]} at that rate over 1, {options.factor}, '
      f'{options.factor**2}; changed after epochs {", ".join(map(str, options.epochs[:-1]))}. Each way tries the same '
      f'{len(options.learning_rates)} rates: best for growing {study.growth_words("growth")}, for decaying '
      f'{study.growth_words("decay")}, for neither {study.growth_words("kept")}. Curves are compared at the one that '
      f'is best for decaying, accuracy also at the own best of each. {made[0]:,} updates against {made[1]:,} (G7).',
      _anything_to_decay_for(study),
    ),
    plots.to_svg(figures.growth(study)),
    'Left, the same curve would mean that lines lie on one another; right, the growing batch ends sooner. '
    '"Neither" shows whether there was anything to decay for.',
    tables.growing(study),
  )


def _anything_to_decay_for(study: Study) -> str:
  loss, accuracy = effects.neither_loss_ratio(study), effects.neither_accuracy(study)
  gained = loss.low > 1 or accuracy.high < 0
  points = f'{100 * accuracy.estimate:+.2f} points ({100 * accuracy.low:+.2f} to {100 * accuracy.high:+.2f})'
  return (
    f'A constant rate ends at {tables.within(loss)} times the training loss of the decaying one and {points} of test '
    'accuracy. '
    + (
      'So decay did help, and the growing batch stands in for something.'
      if gained
      else 'So nothing to decay for was seen here: that both ways agree says that the growing batch slows descent as '
      'the smaller rate does, not that either is worth having.'
    )
  )


def _stopping(study: Study) -> Section:
  return Section(
    'Where to stop',
    (
      f'B={study.config.mini_batch}: the model is the one at the record of the least validation or the least training '
      'loss (G8). At two settings: the best by validation, and that of the least training loss, which is what someone '
      'takes who looks at nothing else. On right and on wrong labels: all four are graded, on right test labels.',
    ),
    plots.to_svg(figures.stopping(study, 'noisy')),
    'Wrong labels, setting of the least training loss. Vertical: where either loss is least, median over seeds. The '
    'loss of validation is on labels of which as many are wrong as in training.',
    tables.stopping(study),
  )


def _minds(study: Study) -> Section:
  return Section(
    'What would change our mind',
    (
      'Harder data and larger models: here both kinds of batch can fit everything, the best test accuracies '
      f'lie close together, and {study.config.num_validation} validation images choose the '
      'settings. A finer search could favour either side where the best rate lies at an end of those tried. '
      f'"Large" means all {study.benches["clean"].num_examples:,} images: full batch has no noise at all, which '
      'batches of 1,024 out of a million have. Equal time is that of one machine. '
      'configs/batch_size_full.py asks the same of MNIST.',
    ),
  )


summary = tables.summary
