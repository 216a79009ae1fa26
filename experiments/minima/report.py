"""The study's page, from the stored results alone."""

from collections.abc import Sequence

from experiments.minima import figures, networks, tables, width_figures
from experiments.minima.conditions import Graded as Study
from gdlab import plots
from gdlab.claims import Finding, Verdict
from gdlab.report import Section
from gdlab.study.graded import Story


def tell(study: Study, findings: Sequence[Finding]) -> Story:
  """What the page tells before the verdicts."""
  config = study.config
  options, trap = config.valleys, config.trap
  count = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
  rate = networks.trap_rate(study.results['trap_tuning'])
  ends = study.end_rates()
  lead = (
    'Is gradient descent caught by the first valley it falls into? Textbooks say that full batch is, that '
    'the noise of small batches shakes it out of shallow valleys, that too much of it does harm, and that '
    'in wide networks all this matters little because their minima are much alike. Seven such statements '
    f'were tested: {count[Verdict.SUPPORTED]} are supported, {count[Verdict.CONTRADICTED]} contradicted, '
    f'{count[Verdict.INCONCLUSIVE]} inconclusive.',
    'How: escape is measured where the ridge between two valleys is known exactly, with a finite set of '
    'examples whose batches make the noise. Added noise is tried on a rugged landscape and on a network '
    f'with few images. How much minima differ is seen on {config.dataset}: {config.num_seeds} networks at '
    f'each of {len(study.widths)} widths that differ in their initial parameters alone. Rates and noise '
    'levels are chosen with seeds of their own, with as many trials for every arm; a run that diverged or '
    'never arrived counts as a failure and is never left out.',
    *((f'Best rates at an end of those tried: {"; ".join(ends)}.',) if ends else ()),
  )
  return Story(
    'Local minima: getting in, getting out, and how much they differ',
    lead,
    (*_valleys(study, options, trap, rate), *_widths(study)),
  )


def _valleys(study: Study, options, trap, rate: float) -> tuple[Section, ...]:
  config = study.config
  mini = options.mini_batch
  return (
    Section(
      'Two landscapes with a known ridge',
      (
        f'Each of {options.num_examples} examples pulls x to the left or to the right, always as hard; the '
        'pulls cancel, so the mean loss is the curve drawn and full batch feels no noise. On the left the '
        'two valleys are about as wide and differ in depth. On the right the good valley is sharp and the '
        'poor one flat.',
      ),
      plots.to_svg(figures.landscapes(study)),
      'The mean loss. Marks: the minima, with the height of the ridge above them.',
    ),
    Section(
      'Out of the shallow valley',
      (
        'All runs start in the poor, shallow valley of the double well, at one rate, '
        f'{options.learning_rate:g} (N1). The table has the share that had reached the bottom of the other '
        'valley when all arms had made the same number of updates; when they had seen as many examples as '
        f'the mini-batch of {mini}; and when they had run for as long as the single examples took. In '
        'brackets the updates that this came to, at most those that were run. (Full batch costs next to '
        'nothing here: its pulls are always the same, and the compiler adds them up once.)',
      ),
      plots.to_svg(figures.leaving(study)),
      'A line that falls: runs leave. Bands: 95 % for each curve. Ticks: runs that had not left by the end.',
      tables.clocks(study),
    ),
    Section(
      'It is rate over batch size that counts',
      (
        'The same at every rate and batch size tried. Which of them N1 is asked of was not chosen by their '
        "outcome: Kramers' formula says how many mean escape times a run lasts. The noise is such that it is "
        f'{options.escapes:g} for B={mini} at rate {options.learning_rate:g}, and the verdict takes the worst of all '
        'lines where it is as many or more and T is at most the ridge. Large batches and small rates are not '
        'expected to leave, and the table shows that they do not: small batches get out at a temperature that '
        'suffices, not at any. (Earlier runs had set the temperature by a look at who left.) Draws are with '
        'replacement, as the formula wants; of reshuffled examples, whose noise cancels in every epoch, fewer '
        'leave where T is low. At the far right single examples are so noisy that runs diverge.',
      ),
      plots.to_svg(figures.doses_of_noise(study)),
      'Each point: the share of runs that left at one rate and batch size.',
      tables.leavers(study),
    ),
    Section(
      'Thrown into a poor valley, and back',
      (
        'Runs that start in the good valley (N2): how long until single examples are in the poor one, and '
        f'how long until they are back, judged {options.patience:g} times the median time in after their arrival, '
        f'or {options.return_updates:,} updates if that is less. A valley that cannot be left would keep its '
        'dashed line at 1.',
        'The table has every rate tried (T is the temperature that it makes; the median is of the updates '
        'until thrown in, among those that were). Where the ridge is about T or below, nothing could stay, so '
        f'the claim is asked at rate {options.lower_rate:g} too. The lines called replaced are '
        'the second landscape with examples drawn with replacement: '
        'the noise of reshuffled batches sums to zero over every epoch, so it has little slow motion in '
        'it, and slow motion is what it takes to leave a flat valley.',
      ),
      plots.to_svg(figures.stays(study)),
      'Share of runs still waiting; dashed: of those that were thrown in.',
      tables.returns(study),
    ),
    Section(
      'A network thrown into a poor place',
      (
        f'On {config.dataset}: one hidden layer of {config.hidden_of_trap} units, rate {rate:g}, the best for '
        f'batches of {trap.batch_size}; single examples use the same. Poor is a training loss above half of '
        'that of guessing. Is it a valley that holds the network, or noise that keeps it up? Other runs '
        f'changed from single examples to batches of {trap.batch_size} at the same rate: '
        f'{tables.rescued(study)} after {trap.return_epochs} more epochs.',
      ),
      plots.to_svg(figures.trap(study)),
      'Medians and the middle 80 % of runs. Vertical line: when it is counted who is in a poor place. Table: '
      'median losses of the tuning runs by then, and how many were in a poor place; at the smallest rate '
      'mini-batches have hardly left their start by then.',
      tables.trapped(study),
    ),
    Section(
      "Kramers' law",
      (
        'How fast runs escape from one well of a symmetric double well at several temperatures T (N3). '
        'Noise of variance s²/B at rate a makes T = a s² / 2B. Three references: the classical formula, '
        'good where the ridge is many T high; the exact mean time in continuous time, an integral; and the '
        'exact mean number of updates of descent itself, a linear equation solved numerically. From the last: '
        f'{study.conditions("N3").split("; ")[-1]}.',
      ),
      plots.to_svg(figures.kramers(study)),
      'Left: escapes per unit of time (rate times updates). Right: measured rate over the exact one, bars '
      '95 %; 1 is perfect.',
      tables.rates(study),
    ),
    Section(
      'Noise added on purpose',
      (
        'Full batch with Gaussian noise of a temperature added to every update (N4), held constant or '
        'falling on a line to zero. Left, the Rastrigin function, whose ripples are 20 high, from starts '
        'three to four ripples out. Right, the test error of a network trained on '
        f'{config.dose_network.num_examples} images; its levels and rates were chosen with training images '
        'that were left over in place of test images. Each level, no noise included, has the rate of the best '
        'mean over the tuning seeds, so that a rate at which single runs fail counts against every level '
        'alike; where the worst run is far above the median in the table, that rate was still unstable, '
        'which is a matter of the rate and no benefit of noise.',
      ),
      plots.to_svg(figures.dose_response(study)),
      'Means with 95 % intervals, each level at its own best rate. Circled: the level that the tuning runs '
      'chose.',
      tables.doses(study),
    ),
  )


def _widths(study: Study) -> tuple[Section, ...]:
  config = study.config
  return (
    Section(
      'How much minima differ',
      (
        'Every point is a network that differs from its neighbours in the draw of its initial parameters '
        'alone (N5). Barriers (N6) are how far the training loss rises on the straight line between two '
        'networks above the chord between their losses, as they are and after the hidden units of one were '
        'put in the order of those of the other they resemble most.',
      ),
      plots.to_svg(width_figures.spread(study)),
      'Dots: networks; dashes: medians.',
      tables.summary(study),
    ),
    Section(
      'Rates tried',
      (f'Every width at every rate, with {config.widths.num_tuning_seeds} seeds of their own.',),
      plots.to_svg(width_figures.rates(study)),
      'Medians and the middle 80 % of runs; the study uses the lowest mean.',
    ),
    Section(
      'On the line between two networks',
      ('Networks in one basin would have a flat line. Right: the same pairs, units aligned.',),
      plots.to_svg(width_figures.lines(study)),
      'Training loss, medians and the middle 80 % of pairs.',
    ),
    Section(
      'Barriers against width',
      (
        'A barrier far above the loss of the ends separates two minima; one below it hardly does. The table has '
        'spreads (N5) and barriers by both yardsticks, in their own unit and over the mean loss or error: where '
        'the loss falls faster than they do, they shrink by one and grow by the other. Slopes are averages '
        'over the widths; a last column well above 1 says that there is no power law.',
      ),
      plots.to_svg(width_figures.barriers(study)),
      'Means with 95 % intervals.',
      tables.trends(study),
    ),
    Section(
      'Ensembles',
      (
        'Networks of one width that average their probabilities (N7). An ensemble costs as many times more '
        'as it has members: compare its line with that of networks as many times wider at 1, which have '
        'about as many parameters. That the negative log-likelihood falls is no surprise: by convexity it '
        'can never be above that of the average member; how far it falls is what is measured.',
      ),
      plots.to_svg(width_figures.ensembles(study)),
      'Means over ensembles that share no network.',
    ),
    Section(
      'What would change our mind',
      (
        'On the landscapes single examples at the main rate have a temperature near or above the ridge over '
        'the poor valley, so that they could not stay there whatever happened; the lower rate is the fairer '
        'test, but fewer fall in within the run, and a ridge of many T takes longer than we can wait to fall '
        'in at all. The two sets of seeds share tuning runs, rates, landscapes and data: they are other '
        'seeds, the same tuning and data. The noise of these landscapes is the same everywhere; '
        'that of a network is larger where its loss '
        'is, which favours good valleys, so escapes from poor ones there may be faster than here. The '
        'valleys have one dimension; in many there are more ways out. The networks have one hidden layer '
        'and a small data set: others find that barriers between deeper ones are harder to align away, and '
        'larger data would make the differences between minima show in test error too. A trap at a rate '
        'that mini-batches stand and single examples do not says nothing of single examples at a rate of '
        'their own: at smaller rates, in the table, they train well.',
      ),
    ),
  )
