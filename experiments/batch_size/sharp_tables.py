"""The page's tables of sharpness."""

import functools
from collections.abc import Callable

from experiments.batch_size import arms, claims, sharp_effects
from experiments.batch_size.sharpness import MEASURES
from experiments.batch_size.study import Study
from experiments.batch_size.tables import setting_used, within
from gdlab.report import Table, number
from gdlab.statistics import Interval


def ends(study: Study) -> Table:
  """The end points of every batch size at the setting that was best there: measures by median, and the gap."""
  rows = []
  for name in study.config.sharpness.target:
    bench = study.benches[name]
    for arm in bench.arms:
      found = study.sharpness(bench, arm).sel(setting=study.setting(bench, arm, 'matched'))
      rows.append(
        [
          bench.title,
          arm.label,
          setting_used(study, bench, arm, 'matched'),
          f'{float(found["update"].median()):,.0f}',
          f'{float(found.cooling.median()):,.0f}',
          number(float(found.cooled_loss.median())),
          number(float(found.gradient_norm.median())),
          f'{int((~found.reached).sum())} of {found.sizes["seed"]}',
          *(
            number(float(found[measure].median()))
            for measure in ('keskar', 'eigenvalue', 'trace', 'adaptive')
          ),
          number(float(found.loss_gap.median())),
        ]
      )
  heads = (
    'bench',
    'arm',
    'rate, momentum',
    'updates',
    'of cooling',
    'training loss',
    'gradient norm',
    'never came to it',
    "Keskar's, %",
    'largest eigenvalue',
    'trace',
    'adaptive',
    'loss gap',
  )
  return Table(heads, rows)


def curvature(study: Study) -> Table:
  """Full batch over mini-batch, each at its own best setting and at every equal one, with intervals."""
  rows = []
  for name, condition in claims.CONDITIONS.items():
    bench = study.benches[name]
    small, large = study.small(bench), study.large(bench)
    own = ' / '.join(setting_used(study, bench, arm, 'matched') for arm in (large, small))
    kinds: list[tuple[str, Callable[..., Interval]]] = [
      (f'own: {own}', sharp_effects.sharpness_ratio),
      ('equal: mean', sharp_effects.sharpness_ratio_alike),
    ]
    for number_of in arms.sharpness_settings(study.config, bench):
      rate, momentum = bench.settings[number_of]
      kinds.append(
        (f'equal: {rate:g}, {momentum:g}', functools.partial(sharp_effects.ratio_at, setting=number_of))
      )
    for words, ratio in kinds:
      rows.append([condition, words, *(within(ratio(study, name, measure)) for measure in MEASURES)])
  return Table(('labels', 'rate, momentum', *MEASURES.values()), rows)
