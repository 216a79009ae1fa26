"""The page's two longest chapters: steps to a target, and sharpness."""

from experiments.batch_size import claims, effects, figures, sharp_tables, tables
from experiments.batch_size.study import Study
from gdlab import plots
from gdlab.report import Section, number


def steps(study: Study) -> tuple[Section, ...]:
  """G5, and the rules for the rate."""
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
        f'The fit S = S_min (1 + B_crit / B) puts the bend at B_crit = {tables.within(fitted)}. The gradient noise '
        f'scale tr(Sigma)/|G|^2, which is measured without any batch and any search, is {tables.within(scale)} '
        f'on average on the way of full batch to the target, {number(float(base))} on that of B={options.base}; '
        f'with curvature, tr(H Sigma)/(G H G), {tables.within(curved)}, a ratio of two small numbers that differs '
        'much between runs.',
        'The interval of B_crit is that over seeds: rates were chosen once, on '
        f'{study.config.num_tuning_seeds} tuning seeds from a grid, and another choice would move the points, which '
        'the interval leaves out. The target is a training loss, since the noise scale speaks of how fast a batch '
        'descends; a validation loss, as in Shallue et al., would mix in how well each batch size generalises.',
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


def sharpness(study: Study) -> tuple[Section, ...]:
  """G3 and G4."""
  made = []
  targets = study.config.sharpness.target
  for name in targets:
    title = study.benches[name].title
    made.append(
      Section(
        f'Sharpness of end points: {title}',
        (
          f'Each batch size at its best setting. End points are cooled by full batch at rate '
          f'{study.config.sharpness.cooling_rate:g}, for a small batch is still jumping about, and its gradient would '
          f'pass for sharpness: from a record above the target for at least {study.config.sharpness.cooling_updates} '
          f'updates, until the training loss is {targets[name]:g}. So all that came to it are equally trained; the '
          'table of end points counts those that did not.',
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
          'the same training loss after cooling (G4). As the training loss is the same, the gap is the test loss '
          'less a constant.',
        ),
        plots.to_svg(figures.gaps(study, name)),
        'If sharpness predicts the gap, points rise from left to right, those of one colour as well as all of them.',
      )
    )
  return (
    *made,
    Section(
      'Is it the batch or the rate?',
      (
        f'Full batch over B={study.config.mini_batch}, above {claims.SHARPER:g} being sharper (G3). At its own best '
        'setting each has a rate of its own, and curvature where a run ends lies under the border of stability of '
        'that rate, 2 / rate for plain descent: a large tuned rate keeps minima flat whatever the batch. At equal '
        'rate and momentum only the batch differs. Both are graded, as two parts of the claim.',
      ),
      table=sharp_tables.curvature(study),
    ),
    Section('End points in numbers', ('Medians over seeds.',), table=sharp_tables.ends(study)),
  )
