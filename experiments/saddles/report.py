"""The study's table and page, from the stored results alone."""

from collections.abc import Sequence

import numpy as np

from experiments.saddles import effects, figures, places, race
from experiments.saddles.study import Study
from experiments.saddles.training import CONTROL
from gdlab import plots
from gdlab.claims import Finding, Verdict
from gdlab.report import Section, Table
from gdlab.statistics import median_time
from gdlab.study.graded import Story

PLACES = {
  'made': 'strict saddle with noise',
  'pca': 'PCA, second component',
  'network': 'network, saddles found',
  'silent': 'network, saddles found (steepest way silent)',
  'origin': 'PCA, origin (symmetry)',
  'twins': 'network, two units alike (symmetry)',
}


def races(study: Study) -> Table:
  """Every method at every saddle: its tuned rate, whether it left, and what that took."""
  heads = ('start', 'method', 'best rate', 'left', 'median updates', 'median examples', 'median seconds')
  return Table(heads, [_row(study, start, arm) for start in race.starts(study.config) for arm in start.arms])


def _row(study: Study, start: race.Start, arm: str) -> list[str]:
  runs, cell = study.raced(start.name, arm), study.results[start.name]
  middle = median_time(study.crossing(start.name, arm)).estimate
  size = int(cell.batch_size.sel(arm=arm))
  timed = start.place in ('network', 'silent', 'twins')  # one network, one time for an update
  return [
    f'{"next to" if start.displaced else "at"}: {PLACES[start.place]}',
    f'SGD, B={size}' if arm in ('B=1', 'mini-batch', 'large batch') else arm,
    f'{float(runs.learning_rate):.3g}' + (' (end)' if study.at_end(start.name, arm) else ''),
    f'{100 * float(runs.escaped.mean()):.0f} %',
    _count(middle),
    _count(middle * size),
    f'{middle * study.seconds(arm):.2g}' if timed and np.isfinite(middle) else '',
  ]


def _chains(study: Study) -> Table:
  """Median updates to the end of each chain, at every rate."""
  arms = [('chain_plain', arm) for arm in ('plain', 'perturbed', 'Langevin')]
  arms += [('chain_noisy', arm) for arm in ('perturbed', 'Langevin')]
  heads = ['rate'] + [f'{arm}, {study.results[cell].sizes["saddle"]} saddles' for cell, arm in arms]
  last = [study.all_passages(cell, arm).isel(saddle=-1).fillna(np.inf).median('seed') for cell, arm in arms]
  rows = [
    [f'{rate:g}', *(_count(float(updates.sel(learning_rate=rate))) for updates in last)]
    for rate in study.config.chain.rates
  ]
  return Table(tuple(heads), rows)


def _count(value: float) -> str:
  return f'{value:,.0f}' if np.isfinite(value) else 'stayed'


def tell(study: Study, findings: Sequence[Finding]) -> Story:
  """What the page tells before the verdicts."""
  config = study.config
  count = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
  lead = (
    'A saddle is a point without slope that goes down in some directions and up in others. Teachers say that networks '
    'are full of them, that plain descent gets stuck at them, and that noise and momentum get it out. '
    f'{len(findings)} such statements were tested with {config.num_seeds} seeds, and again with as many other seeds '
    f'(the same tuning, saddles and data): {count[Verdict.SUPPORTED]} are supported, '
    f'{count[Verdict.CONTRADICTED]} contradicted, {count[Verdict.INCONCLUSIVE]} inconclusive.',
    'How: stationary points are searched for in float64 and certified, with the signs of their eigenvalues. Runs start '
    'exactly at a saddle, or a tiny way off it. A run has left when its loss is down by '
    f'{config.race.drop:.0%} of the way to where descent ends; one that has not by the horizon is counted as censored, '
    f'not dropped. Every method tries several learning rates on {config.num_tuning_seeds} other seeds and is '
    'judged at its best one with the others. Lines and points are medians, bars and bands the middle 80 % of seeds.',
    _in_short(study),
  )
  return Story('Saddle escape: what leaves a saddle, and how long it takes', lead, _sections(study))


def _in_short(study: Study) -> str:
  """What came out, in numbers."""
  race = study.config.race
  free, found, kept = (effects.leaves(study, 'mini-batch', kind).estimate for kind in places.KINDS)
  momentum, adam = (effects.sooner(study, arm).estimate for arm in ('momentum', 'Adam'))
  sgd = float(study.time_near('SGD').mean())
  return (
    f'In short: of the SGD runs with mini-batches {free:.0%} left saddles where examples differ along the steepest way '
    f'down (the least over {len(race.generic)} problems), {found:.0%} those where they agree on it, and {kept:.0%} '
    f'those where a symmetry makes every batch agree. Momentum took {momentum:.2g} times and Adam {adam:.2g} times '
    'the updates of plain descent, each at its best rate, where that was most. Trained from the usual start, SGD spent '
    f'{sgd:.1%} of its updates until the fit near a saddle.'
  )


def _sections(study: Study) -> tuple[Section, ...]:
  config = study.config
  training = config.training
  counts = study.results['saddles'].attrs
  soonest = float(study.cell('noisy').updates.mean('seed').min())
  control, stay = (float(values.mean()) for values in (study.time_near(CONTROL), study.control_found()))
  return (
    Section(
      'How many stationary points are saddles',
      (
        'Random smooth functions of more and more variables, and small networks on real images with more and more '
        'hidden units. All points found by a search from many places count, each once (S1).',
      ),
      plots.to_svg(figures.saddle_shares(study)),
      'Upwards, the share of saddles, the rest being minima and maxima. Dotted: what it would be if every direction '
      'went up or down by the toss of a coin. One dot is the median over fields or networks.',
    ),
    Section(
      'The higher, the more ways down',
      (f'Every stationary point found on the networks with {max(config.search.widths)} hidden units (S1).',),
      plots.to_svg(figures.index_and_loss(study)),
      'A blue dot is one point, an orange bar the median of its column. Minima are at index 0; to the right are '
      'saddles with more and more ways down.',
    ),
    Section(
      'Exactly at a saddle of a network',
      (
        f'{len(race.AT)} methods start at the same certified saddles of a small network on the digits. Full batch has '
        'no slope and no noise; SGD sees batches whose gradients differ along the steepest way down (S2).',
      ),
      plots.to_svg(figures.departures(study, 'network', displaced=False)),
      'The share of runs still at the saddle, against updates. A curve that falls to 0 means that all have left. '
      f'SGD with B=1 makes {config.race.mini_batch} times as many updates at rates as many times as small: as many '
      'examples as the mini-batch. Shaded: 95 % bands.',
    ),
    Section(
      'Where examples agree on the steepest way down',
      (
        f'Such saddles are no exception: of the {counts["num_found"]} saddles with a clear way down that the search '
        f'found, single examples pull along the steepest way down at {counts["num_steepest_heard"]}, and along none at '
        f'all at {counts["num_silent"]}. SGD starts here at some of those where they do not pull along the steepest '
        'way, and may leave by another that is less steep (S2).',
      ),
      plots.to_svg(figures.departures(study, 'silent', displaced=False)),
      'As above. Langevin adds independent normal noise to every parameter. Who stays to the end of the picture may '
      'leave later.',
    ),
    Section(
      'A saddle that no batch sees',
      (
        'The same network where two hidden units are alike. Every batch gives both the same gradient, so they stay '
        'alike, and SGD follows full batch to the saddle and stays: that is an identity and is not graded. Noise that '
        'is not made of batches tells the units apart.',
      ),
      plots.to_svg(figures.departures(study, 'twins', displaced=False)),
      'As above.',
    ),
    Section(
      'Momentum and Adam next to a saddle',
      (
        f'Full batch from a displacement of {config.race.displacement:g} per parameter, each method at its best rate '
        '(S3).',
      ),
      plots.to_svg(figures.departures(study, 'network', displaced=True)),
      'The share of runs still near the saddle, against updates. The table below has the times too.',
    ),
    Section(
      'How much the learning rate matters',
      ('The same methods at every rate that they tried.',),
      plots.to_svg(figures.rates(study, 'network')),
      'Lower is sooner. Dotted: the horizon; a point there means that half of the runs had not left by then.',
    ),
    Section(
      'All methods at all saddles',
      (
        'Each at its best rate. Examples are updates times batch size; seconds are updates times the median time of '
        'one in a compiled loop, measured on the network only. "(end)": the best rate is the least or largest of '
        'those tried.',
      ),
      table=races(study),
    ),
    Section(
      'When momentum helps by 1 - beta',
      (
        'Exits from a quadratic saddle. For tiny rates momentum divides the time by 1/(1 - beta); for larger ones the '
        'momentum has no time to build up (S3).',
      ),
      plots.to_svg(figures.momentum_law(study)),
      'Points: measured, at 1 where the saying holds; shaded, within 0.8 and 1.25. Lines: ratio of the exact growth '
      'factors, nothing fitted. Above the band momentum leaves sooner by less '
      'than is said; up to 1/(1 - beta) still sooner than without.',
    ),
    Section(
      'Adam and the scale of the loss',
      ('The same saddle with the loss multiplied by a number (S3).',),
      plots.to_svg(figures.scales(study)),
      'Flat: does not depend on the scale. Both axes are logarithmic.',
    ),
    Section(
      'A chain of saddles',
      (
        'The octopus: to get to the bottom one has to pass saddle after saddle. While plain descent waits at one, it '
        'creeps closer to the ridge of the next (S4).',
        f'Rates, by other seeds: plain {study.chain_rate_named("chain_plain", "plain")}, perturbed '
        f'{study.chain_rate_named("chain_noisy", "perturbed")}, Langevin '
        f'{study.chain_rate_named("chain_noisy", "Langevin")}. "(end)": the least or largest allowed.',
      ),
      plots.to_svg(figures.chain(study)),
      'Updates until so many saddles are behind. On this axis a straight line is exponential. Dotted: how plain '
      'descent goes on, by the limit of theory; float64 cannot follow it, as waiting coordinates underflow.',
    ),
    Section(
      'The chain at every rate',
      (
        f'Verdicts are for rates up to {config.chain.largest_rate:g}: at 1/(2L) = 0.5 a step lands in the middle of '
        'a tube, beyond it descent overshoots from side to side, keeps away from the ridges, and passes sooner.',
      ),
      table=_chains(study),
    ),
    Section(
      'The formula of the escape time',
      (
        'log(Δ/δ₀) / log(1 + lr·|λ|), with nothing fitted, against what was measured (S5). A run leaves at a whole '
        f'update: {effects.rounded_up(study):.1%} of the plain exits from quadratic saddles took exactly the formula '
        'rounded up, and that is why measured over formula lies above 1 there. From the saddle itself under noise that '
        f'makes half an update of {soonest:,.0f} or more; the rest of what is measured there beyond 1 is chance, or an '
        'error of the formula within the interval told.',
      ),
      plots.to_svg(figures.closed_form(study)),
      'Every point is one run at one rate. On the line the formula is right.',
    ),
    Section(
      'The gradient along training',
      (
        f'On {training.dataset}: a network from the usual start, tuned SGD and Adam, until the training loss is '
        f'{training.target_loss}, looked at every {training.record_every} updates; and, as a control, SGD '
        f'from a start {1 / training.small_scale:g} times as small, which is next to the saddle at the origin (S6).',
      ),
      plots.to_svg(figures.along_training(study, 'gradient')),
      'Dotted: below it the gradient counts as small.',
    ),
    Section(
      'The curvature along training',
      ('The same runs.',),
      plots.to_svg(figures.along_training(study, 'curvature')),
      'Below the dotted line there is a way down of some curvature. Near a saddle means both: below the dotted line '
      'here and in the picture before.',
    ),
    Section(
      'How much the definition matters',
      ('The share of training near a saddle under other definitions, SGD from the usual start.',),
      plots.to_svg(figures.definitions(study, 'SGD')),
      f'The rule (framed) uses gradient {training.near_gradient} and curvature {training.near_curvature}. Upwards: '
      "the gradient norm, at most this share of the start's. To the right: the modulus of the lowest eigenvalue, at "
      f'least this share of the largest. By the rule the control, the small start, is near a saddle for {control:.1%} '
      f'of its updates until it fits; while its loss is still within {config.race.drop:.0%} of the fall, for '
      f'{stay:.0%} of them.',
    ),
    Section(
      'What would change our mind',
      (
        'S1 counts points that a search finds, not all there are; a search that favours another kind would change the '
        'shares. S2 and S3 hold for these saddles and up to this horizon; in much wider networks there are more ways '
        f'down. S6 looks at every {training.record_every} updates: a shorter visit goes unseen. The other seeds share '
        'tuning, rates, saddles and data with the first, and could not show that these are special. Deep networks, '
        'small starts and recurrent networks can have plateaus that this one has not.',
      ),
    ),
  )
