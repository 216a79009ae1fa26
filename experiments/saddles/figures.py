"""The sections of the page: pictures, and tables where numbers are compared."""

import numpy as np
from matplotlib.figure import Figure

from experiments.saddles import effects
from experiments.saddles.effects import View
from experiments.saddles.study import escape
from gdlab import plots, theory
from gdlab.report import Table


@escape.section(
  'How many stationary points are saddles',
  'Random smooth functions of more and more variables, in boxes whose points were all found, and small networks on '
  'real images with more and more hidden units, whose points are those that a search came upon (S1).',
  caption='Left: the share of saddles, the rest being minima and maxima, by median and the middle 80 %; line, what '
  'the theory of Kac and Rice expects in these fields; dotted, if every direction went up or down by the toss of a '
  'coin. Right: every point found on the widest networks, bars at medians: the higher, the more ways down.',
)
def _saddle_shares(view: View) -> tuple[Figure, Table]:
  with plots.panels(2, width=4.4, height=3.5) as (figure, (left, right)):
    for number, (kind, label) in enumerate({'random': 'random fields', 'networks': 'networks'}.items()):
      found = view.searched(kind).values()
      values = np.stack([effects.shares(cell).values for cell in found], axis=1)
      plots.spread(left, [cell.dimension for cell in found], values, label, number)
    fields = view.searched('random')
    theory_of = {size: float((cell.expected_extrema / cell.expected).mean()) for size, cell in fields.items()}
    law = [1 - share for share in theory_of.values()]
    left.plot([*fields], law, color='black', linewidth=1, label='Kac and Rice')
    line = np.arange(1, 22)
    left.plot(line, 1 - 2.0 ** (1 - line), color='black', linestyle=':', label='signs at random')
    left.set(xscale='log', xlabel='dimension (parameters)', ylabel='share of saddles', ylim=(-0.05, 1.05))
    left.legend(fontsize=8)
    widest = view.cell(f'networks_{max(view.config.search.widths)}').transpose('seed', 'point')
    index, loss = np.round(widest.index_share.values * widest.dimension), widest.loss.values
    aside = np.linspace(-0.3, 0.3, len(index))[:, None]  # beside each other within an index, by seed
    right.plot((index + aside).ravel(), loss.ravel(), '.', color=plots.COLOURS[0], alpha=0.5, markersize=5)
    for each in np.unique(index[np.isfinite(index)]):
      right.plot([each - 0.4, each + 0.4], [np.median(loss[index == each])] * 2, color=plots.COLOURS[1])
    right.set(xlabel=f'index: negative eigenvalues, of {widest.dimension}', ylabel='loss')
  rows = []
  for size, cell in fields.items():
    points, expected, missed = (f'{float(cell[name].sum()):.0f}' for name in ('points', 'expected', 'missed'))
    share = float(cell.extrema.sum() / cell.points.sum())
    rows.append((str(size), points, expected, missed, f'{share:.3f}', f'{theory_of[size]:.3f}'))
  titles = ('dimension', 'points found', 'expected', 'missed (Chao)', 'share of extrema', 'Kac and Rice')
  return figure, Table(titles, rows)


@escape.section(
  'All methods at all saddles',
  'Each at its best rate (S2, S3), from exactly at saddles and from beside them. A run has left when its loss is down '
  'by {config.race.drop} of the way to where descent ends. At silent saddles single examples agree on the steepest way '
  'down, so that SGD may only leave by others; at the origin of PCA a symmetry makes them agree on all ways down, so '
  'that SGD stays: a control. Rates are over L, those of B=1 over {config.race.mini_batch} L, and those of Adam plain.',
  printed=True,
)
def _races(view: View) -> Table:
  rows, kinds = [], (*effects.NOISY, 'silent', 'origin')
  for start in [f'at_{name}' for name in kinds] + [f'near_{name}' for name in effects.NOISY]:
    for arm in view.race(start).arm.values.tolist():
      runs, left = view.raced(start, arm), np.median(effects.taken(view.raced(start, arm)))
      method = f'SGD, B={int(runs.batch_size[0])}' if arm in effects.SGD else arm
      stayed = f'{left:,.0f}' if np.isfinite(left) else 'stayed'
      rate = view.best_rate(start, arm)
      rows.append((start.replace('_', ' '), method, rate, f'{float(runs.escaped.mean()):.0%}', stayed))
  return Table(('start', 'method', 'best rate', 'left', 'median updates'), rows)


@escape.section(
  'When momentum helps by 1 - beta',
  'Exits from a quadratic saddle. Where alpha gamma is at most (1 - beta)^2 / 10 momentum divides the time by '
  '1/(1 - beta); at larger rates it has no time to build up (S3).',
  caption='Points: measured, at 1 where the saying holds; shaded, within 0.8 and 1.25; up to the marks on the line '
  'at 1 the saying is graded. Lines: ratio of the exact growth factors, nothing fitted. Above the band momentum '
  'leaves sooner by less than is said; up to 1/(1 - beta) still sooner than without.',
)
def _momentum(view: View) -> Figure:
  runs = view.cell('quadratic_0')
  ratios, strength = effects.momentum_ratios(runs), (runs.learning_rate * runs.curvature).values[:, 0]
  dense = np.geomspace(strength.min(), strength.max(), 60)
  with plots.panels(1, width=4.8, height=3.5) as (figure, (axes,)):
    axes.axhspan(0.8, 1.25, color='grey', alpha=0.15, linewidth=0)
    for number, beta in enumerate(beta for beta in view.config.growth.betas if beta):
      mine = runs.momentum.values[:, 0] == beta
      plots.spread(axes, strength[mine], ratios[mine].T, f'β = {beta:g}', number, line='')
      slow, fast = (np.log(theory.escape_growth(1.0, dense, momentum=each)) for each in (0.0, beta))
      axes.plot(dense, slow / fast / (1 - beta), color=plots.COLOURS[number], linewidth=1)
      axes.plot(effects.SMALL * (1 - beta) ** 2, 1, '|', color=plots.COLOURS[number], markersize=12)
    axes.set(xscale='log', yscale='log', xlabel='rate x curvature', ylabel='time ratio / (1 - β)')
    axes.legend(fontsize=8)
  return figure


@escape.section(
  'A chain of saddles',
  'The octopus of Du et al.: every saddle is left only after those before it (S4). Verdicts are for rates up to '
  '{config.chain.largest_rate}: at 1/(2L) = 0.5 a step lands in the middle of a tube, beyond it descent overshoots '
  'from side to side, keeps away from the ridges, and passes sooner.',
  caption='Updates until so many saddles are behind, medians and the middle 80 %, and how plain descent goes on by '
  'the limit of theory: float64 cannot follow it, as waiting coordinates underflow. A straight line is exponential.',
)
def _chains(view: View) -> Figure:
  arms = {'plain': 'chain_plain', 'perturbed': 'chain_noisy'}
  with plots.panels(1, width=4.8, height=3.5) as (figure, (axes,)):
    for number, (arm, cell) in enumerate(arms.items()):
      rate = view.chain_rate(cell, arm)
      passed = view.passed(cell, arm)[0].sel(learning_rate=rate)
      plots.spread(axes, passed.saddle, passed.values, f'{arm}, rate {rate:g}', number)
      if arm == 'plain':
        middle, ratio = np.nanmedian(passed.values, axis=0), theory.octopus_gap_ratio(rate, 1.0, 1.0)
        ahead = middle[-1] + (middle[-1] - middle[-2]) * np.cumsum([0, ratio, ratio**2, ratio**3])
        axes.plot(
          len(middle) + np.arange(4), ahead, ':', color=plots.COLOURS[0], label=f'gaps times {ratio:.2f}'
        )
    axes.set(yscale='log', xlabel='saddles passed', ylabel='updates')
    axes.legend(fontsize=8)
  return figure


@escape.section(
  'The gradient along training',
  'A network on {config.training.dataset} from the usual start, tuned SGD and Adam, until it fits; and, as a '
  'control, SGD on one of {config.training.control[0]} hidden layers from a start {config.training.control[1]} '
  'times as large, which is next to the saddle at the origin (S6). Near a saddle the gradient is small and there is '
  'certainly a way down. The table has SGD on networks of other depths from starts of other sizes, '
  '{config.training.num_grid_seeds} runs each.',
  caption='Medians and the middle 80 %. Dotted: below it the gradient of the usual network counts as small.',
  printed=True,
)
def _gradients(view: View) -> tuple[Figure, Table]:
  options, rows = view.config.training, []
  arms = {'SGD': 'sgd', 'Adam': 'adam', 'SGD, control': 'control'}
  runs = {label: view.cell(f'training_{arm}') for label, arm in arms.items()}
  small = options.near_gradient * runs['SGD'].usual_gradient
  for case, (depth, scale) in enumerate(options.grid):
    cell, near = view.cell(f'deeper_{case}'), view.time_near(f'deeper_{case}').values
    updates = np.isfinite(cell.full_grad_norm).sum('step').median() * options.record_every
    over, rate = f'{(near > effects.LITTLE).sum()} of {len(near)}', f'{cell.learning_rate:g}'
    rows.append((str(depth), f'{scale:g}', rate, f'{float(updates):,.0f}', f'{near.mean():.3f}', over))
  titles = ('hidden layers', 'start times', 'best rate', 'updates until the fit', 'of them near a saddle')
  figure = plots.curves(runs, 'full_grad_norm', target=small, label='gradient norm, all examples')
  return figure, Table((*titles, 'runs over a tenth'), rows)
