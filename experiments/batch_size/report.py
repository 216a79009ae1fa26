"""The study's page in words, pictures and tables."""

from collections.abc import Sequence

from experiments.batch_size import effects, figures, growth, tables
from experiments.batch_size.study import Study
from experiments.graded import Story
from gdlab import plots
from gdlab.claims import Finding, Verdict
from gdlab.report import Section, number


def tell(study: Study, findings: Sequence[Finding]) -> Story:
  """What the page tells before the verdicts."""
  return Story(
    f'Batch size, sharpness and generalisation: {study.config.dataset}',
    _lead(study, findings),
    (
      *_accuracy(study),
      *_steps(study),
      *_sharpness(study),
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
    f'are supported, {count[Verdict.CONTRADICTED]} contradicted, {count[Verdict.INCONCLUSIVE]} inconclusive. '
    f'The table of verdicts below also shows what {config.num_seeds} other seeds say.',
    f'How: {clean.num_examples:,} images of {config.dataset} train a small network, {config.num_validation} '
    f'validate, the test images only grade. Gradient descent with reshuffled batches of '
    f'{", ".join(map(str, config.batch_sizes))} '
    f'and of all images ("full batch", the large batch of the claims). Every batch size tries the same '
    f'{len(clean.settings)} settings ({len(clean.rates)} rates, each with momentum '
    f'{" and ".join(f"{momentum:g}" for momentum in clean.momenta)}) on {config.num_tuning_seeds} seeds of its own and '
    "runs at the one of best validation accuracy with the study's seeds. Arms are paired by seed (same initial "
    f'parameters). Where labels are wrong, {config.label_noise:.0%} of those of training and validation are; '
    'test labels are right. Points are medians over seeds, bars and bands hold the middle 80 % of them.',
  )


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
      'batches lack updates; where they meet, more updates made up for it (G1, G2).',
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
        f'{config.cnn.epochs} epochs or {config.cnn.updates} updates.',
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


def _steps(study: Study) -> tuple[Section, ...]:
  options = study.config.steps
  fitted, scale, curved = (
    effects.critical_batch_size(study),
    effects.scale_on_way(study),
    effects.scale_on_way(study, 'noise'),
  )
  base = study.scale('simple', options.base).mean()
  return (
    Section(
      'Updates to a target against batch size',
      (
        f'Plain descent until the training loss is {options.target_loss:g}, every batch size at its own best '
        f'of {len(options.learning_rates)} rates. While twice the batch halves the updates, batches cost no '
        'examples (dotted: perfect scaling); on the plateau they buy nothing.',
        f'The fit S = S_min (1 + B_crit / B) puts the bend at B_crit = {number(fitted.estimate)} '
        f'({number(fitted.low)} to {number(fitted.high)}). The gradient noise scale tr(Sigma)/|G|^2, which '
        f'is measured without any batch and any search, is {number(scale.estimate)} '
        f'({number(scale.low)} to {number(scale.high)}) on average on the way '
        f'of full batch to the target, {number(float(base))} on that of B={options.base}; '
        f'with curvature, tr(H Sigma)/(G H G), {number(curved.estimate)}.',
      ),
      plots.to_svg(figures.steps_to_target(study)),
      'Green: the noise scale, with its interval. '
      'It predicts the bend if it lies where the points leave the dotted line.',
      tables.to_target(study),
    ),
    Section(
      'Every rate at every batch size',
      ('Median updates to the target with the tuning seeds. The best rate rises with B, and then stays.',),
      plots.to_svg(figures.searched(study)),
      'Dark is fast. Grey and crossed: no run came to the target in the updates that it had; a number with a '
      'cross: so many runs did not.',
    ),
    Section(
      'When runs get there',
      ('The share of runs that are still above the target, at the best rate of four batch sizes.',),
      plots.to_svg(figures.survival(study)),
      'A curve that falls to 0 means that all seeds got there; ticks would mark runs that ended before.',
    ),
    Section(
      'The noise scale on the way',
      ('Full batch from the start to the target: as the gradient shrinks, noise is more of it.',),
      plots.to_svg(figures.scale(study)),
      'The prediction is the mean of the simple scale over this way.',
    ),
    Section(
      'Do the rules find the rate?',
      (
        f'The best rate of B={options.base}, taken to every other batch size by the linear rule (times the factor), by '
        "the square-root rule, and as it was; with the study's seeds. A triangle: half of the runs never came to the "
        'target.',
      ),
      plots.to_svg(figures.rules(study)),
      'A rule holds as far as its points lie on those of the best rate.',
    ),
    Section(
      'The same for Adam',
      (
        f'To the same target, from the best rate of B={study.config.adam.base}. The square-root rule for '
        f'Adam scales both betas (here {study.config.adam.b1:g} and {study.config.adam.b2:g} at the base) '
        'and epsilon with the rate; beside it, what happens when only the rate is scaled. '
        'Rates are the nearest of those tried.',
      ),
      table=tables.adam(study),
    ),
  )


def _sharpness(study: Study) -> tuple[Section, ...]:
  made = []
  targets = study.config.sharpness.target
  for name in targets:
    title = study.benches[name].title
    made.append(
      Section(
        f'Sharpness of end points: {title}',
        (
          f'Each batch size at its best setting, taken where its training loss first comes to {targets[name]:g}, so '
          f'that what is compared is equally trained, and cooled by {study.config.sharpness.cooling_updates} updates '
          f'of full batch at rate {study.config.sharpness.cooling_rate:g}: a small batch is still jumping about, and '
          'its gradient would pass for sharpness.',
          "Keskar's measure, the largest eigenvalue and the trace change when a layer is multiplied and the next one "
          'divided by the same number, though the function does not; the adaptive measure does not change.',
        ),
        plots.to_svg(figures.sharpness(study, name)),
        f'Ratios to the median of B={study.config.mini_batch}. Above the dotted line: sharper (G3).',
      )
    )
    made.append(
      Section(
        f'Sharpness and the gap: {title}',
        (
          f'One point for a run: every batch size with {len(study.config.sharpness.settings)} settings, at '
          'the same training loss (G4).',
        ),
        plots.to_svg(figures.gaps(study, name)),
        'If sharpness predicts the gap, points rise from left to right, those of one colour as well as all of them.',
      )
    )
  return (
    *made,
    Section('End points in numbers', ('Medians over seeds.',), table=tables.ends(study)),
  )


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
    ),
    plots.to_svg(figures.norm(study)),
    'After equal examples. The gap to close is that between the first two blue points.',
    tables.norm(study),
  )


def _growth(study: Study) -> Section:
  options = study.config.growth
  stages = growth.batch_sizes(study.config)
  made = [int(study.results[name].made[-1]) for name in ('growth', 'decay')]
  return Section(
    'Growing the batch instead of decaying the rate',
    (
      f'B = {", ".join(map(str, stages))} at one rate, against B = {stages[0]} at that rate over 1, {options.factor}, '
      f'{options.factor**2}; changed after epochs {", ".join(map(str, options.epochs[:-1]))}. The rate is '
      f'the best for the decaying arm. {made[0]:,} updates against {made[1]:,} (G7).',
    ),
    plots.to_svg(figures.growth(study)),
    'Left, the same curve would mean that lines lie on one another; right, the growing batch ends sooner. '
    '"Neither" shows whether there was anything to decay for.',
  )


def _stopping(study: Study) -> Section:
  return Section(
    'Where to stop',
    (
      f'B={study.config.mini_batch} at the setting of the least training loss, which is what someone takes '
      'who looks at nothing else. The model is the one at the record of '
      'the least validation or the least training loss (G8).',
    ),
    plots.to_svg(figures.stopping(study)),
    'Wrong labels. Vertical: where either loss is least, median over seeds. The losses of validation and of test are '
    'those on labels of which as many are wrong as in training; accuracy is that on right ones.',
    tables.stopping(study),
  )


def _minds(study: Study) -> Section:
  return Section(
    'What would change our mind',
    (
      'Harder data and larger models: here both kinds of batch can fit everything, the best test accuracies '
      f'lie within a point of each other, and {study.config.num_validation} validation images choose the '
      'settings. A finer search could favour either side where the best rate lies at an end of those tried. '
      f'"Large" means all {study.benches["clean"].num_examples:,} images: full batch has no noise at all, which '
      'batches of 1,024 out of a million have. Equal time is that of one machine. '
      'configs/batch_size_full.py asks the same of MNIST.',
    ),
  )


summary = tables.summary
