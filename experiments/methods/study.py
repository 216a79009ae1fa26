"""The study: the view of its results, and the claims M1-M14 with their rules.

Rules were written before the runs; docs/studies/methods.md says why they are what they are. The smallest effects that
matter: 10 % on a loss, a speed-up or a sharpness (5 % on the loss of a text, whose entropy no method takes away); half
a point of accuracy; a tenth of a share; a quarter of a decade of rates, half a step of the grid; 0.05 on the slopes of
laws (momentum's 1/2 has a correction of .5 / ln(1 / tolerance) = .027 at 1e-8); 1 % for a result that changes.
"""

import itertools
from collections.abc import Callable, Collection

import numpy as np
import xarray as xr

from experiments.methods import effects
from experiments.methods.arms import BENCHES, IMAGES, TEXTS
from experiments.methods.settings import Settings
from gdlab import study
from gdlab.claims import exact, greater_than, less_than, premise, within
from gdlab.statistics import Interval

Choose = Callable[[np.ndarray], float]
BETAS = 0.0, 0.5, 0.9  # Adam's beta_1 whose borders are measured


class Seen(study.View):
  """What one set of seeds has measured: cells of runs at several rates, of tuning seeds and graded ones."""

  config: Settings

  def graded(self, cell: str, rate: float | None = None) -> xr.Dataset:
    """The graded runs of a cell, at one rate or at all."""
    runs = self.cell(cell).sel(seed=self.config.seeds.ids)
    return runs if rate is None else runs.sel(learning_rate=rate, drop=True)

  def chooser(
    self, cell: str, by: str = 'validation_loss', *, without: float | None = None, least: bool = False
  ) -> Choose:
    """The rate of the least loss at the end, or the least on the way, as a function of the tuning runs' numbers."""
    runs = self.cell(cell).sel(seed=self.config.seeds.for_tuning)
    loss = study.unless_failed(runs, by, np.inf).min('step') if least else effects.ended(runs, by)
    return study.chooser(loss.sel(learning_rate=loss.learning_rate != without), 'learning_rate')

  def chosen(self, cell: str) -> float:
    """The rate that tuning chose."""
    return self.chooser(cell)(np.arange(self.config.seeds.tuning))

  def used(self, cell: str, by: str = 'validation_loss', *, least: bool = False) -> str:
    """The rate of the least loss in words, with a remark where it is an end of those tried."""
    rate = self.chooser(cell, by, least=least)(np.arange(self.config.seeds.tuning))
    return study.at_an_end(rate, self.cell(cell).learning_rate.values)

  def after_choice(self, effect: Callable, choose: Collection[Choose], ratio: bool = True) -> Interval:
    """An effect that allows for the chance of its choices."""
    scale = 'log' if ratio else 'plain'
    return study.after_choice(effect, [*choose], self.config.seeds.tuning, scale=scale)


methods = study.Study(
  Settings,
  title='Momentum and adaptive moments',
  question='What momentum, adaptive step sizes, signs and matrix preconditioners do for gradient descent: held against '
  'closed forms where there are some, and elsewhere compared at equal numbers of trials. Every arm tries the same '
  'number of rates on {config.seeds.tuning} seeds of its own and is graded on {config.seeds.count} others; every seed '
  'has examples of its own.',
  module='experiments.methods',
  view=Seen,
)
ON_IMAGES = (
  '{config.images}, {config.race.train} training images drawn for every seed, B={config.race.batch_size}, '
  '{config.race.updates} updates'
)
ON_TEXT = (
  '{config.text}, {config.race.text_train} windows of {config.race.context} characters drawn for every seed, '
  'B={config.race.text_batch_size}, {config.race.text_updates} updates, width {config.race.width}'
)
BOTH = f'{ON_IMAGES}; {ON_TEXT}'


def asked(*names: str) -> Callable[[Settings], bool]:
  """For cells, claims and sections that some claims need."""
  return lambda config: bool({*names} & {*config.claims})


def tuned(words: str, *cells: str, by: str = 'validation_loss', least: bool = False) -> Callable[[Seen], str]:
  """Conditions of a claim about arms at their best rates, by a loss at the end or the least on the way."""
  named = {cell: cell.removeprefix('race_').replace('_', ' ') for cell in cells}

  def told(view: Seen) -> str:
    rates = (f'{name} {view.used(cell, by, least=least)}' for cell, name in named.items())
    return f'{words}; rates chosen: {", ".join(rates)}'

  return told


def races(*arms: str, benches: Collection[str] = tuple(BENCHES)) -> list[str]:
  """The cells of arms on benches."""
  return [f'race_{bench}_{arm}' for bench in benches for arm in arms]


M1 = methods.claim(
  'M1',
  'Momentum speeds up ill-conditioned descent from kappa to sqrt(kappa) steps and damps the zig-zag.',
  under='quadratics of {config.quadratic.dimension} eigenvalues, logarithmically spaced, condition numbers '
  '{config.quadratic.conditions}, to {config.quadratic.tolerance} of the distance at the start; float64',
  when=asked('M1'),
)
M1('runs against the closed form', exact(0))(effects.missed)
M1('log-log slope in kappa, plain descent', within(0.95, 1.05), method='plain')(effects.slope)
M1('log-log slope in kappa, heavy ball', within(0.45, 0.55), method='heavy_ball')(effects.slope)
M1('log-log slope in kappa, Nesterov', within(0.45, 0.55), method='nesterov')(effects.slope)
for method, words in {
  'heavy_ball': 'heavy ball at its best',
  'nesterov': 'Nesterov at its best',
  'plain_rate': "heavy ball .9 at plain descent's rate",
}.items():
  words = f'way along the steepest direction, {words} over plain descent'
  M1(words, less_than(0.9, none=1), method=method)(effects.path)

M2 = methods.claim(
  'M2',
  'Momentum-based methods clearly beat vanilla SGD on non-convex networks.',
  under=tuned(BOTH, *races('heavy_ball', 'plain')),
  when=asked('M2'),
)
for bench, words in BENCHES.items():
  rule = less_than(0.95 if bench in TEXTS else 0.9, none=1)
  pair = {'first': f'race_{bench}_heavy_ball', 'second': f'race_{bench}_plain'}
  M2(f'test loss, heavy ball over plain: {words}', rule, **pair)(effects.compared)

M3 = methods.claim(
  'M3',
  'beta = 0.99 leaves minima that beta = 0.9 cannot.',
  under='double well of tilt {config.valleys.tilt}, {config.valleys.num_starts} starts on the outer slope of the '
  'shallower well, {config.valleys.updates} updates; beta .9 at rate {config.valleys.rate}',
  when=asked('M3'),
)
for trial, words in {'equal': 'equal rates', 'effective': 'equal rates over 1 - beta'}.items():
  words = f'share of runs that end in the deeper well, .99 minus .9, {words}'
  M3(words, greater_than(0.1, none=0), trial=trial)(effects.leaving)

M4 = methods.claim(
  'M4',
  'Adam at its defaults (1e-3, .9, .999) is near its best without tuning; SGD needs tuning.',
  under=tuned(BOTH, *races('adam', 'heavy_ball')),
  when=asked('M4'),
)
for bench, words in BENCHES.items():
  adam, ball = (f'race_{bench}_{arm}' for arm in ('adam', 'heavy_ball'))
  told = f"Adam's test loss at 1e-3 over that at its best other rate: {words}"
  M4(told, less_than(1.1), first=adam, second=adam, default=1e-3)(effects.compared)
  told = f"decades of rates within 10 % of the best, Adam's minus heavy ball's: {words}"
  M4(told, greater_than(0.25, none=0), first=adam, second=ball)(effects.window_gain)

M5 = methods.claim(
  'M5',
  'Tuned SGD with momentum and a schedule ends at or above tuned Adam on image classification.',
  under=tuned(ON_IMAGES, *races('heavy_ball_cosine', 'adam', 'adam_cosine', benches=IMAGES)),
  when=asked('M5'),
)
for bench in IMAGES:
  for other, words in {'adam': 'at a constant rate', 'adam_cosine': 'with the same schedule'}.items():
    words = f'test accuracy, heavy ball with a cosine minus Adam {words}: {BENCHES[bench]}'
    pair = {'first': f'race_{bench}_heavy_ball_cosine', 'second': f'race_{bench}_{other}'}
    M5(words, greater_than(-0.005), **pair, variable='test_accuracy')(effects.compared)

M6 = methods.claim(
  'M6',
  "Adam's advantage is larger on language-like data with a heavy-tailed class distribution than on images.",
  under=tuned(
    f'{BOTH}; speed-ups over heavy ball, both at the rates of least training loss',
    *races('adam', 'heavy_ball'),
    by='train_loss',
  ),
  when=asked('M6'),
)
for text in TEXTS:
  for image in IMAGES:
    cells = [f'race_{bench}_{arm}' for bench in (text, image) for arm in ('adam', 'heavy_ball')]
    told = f"Adam's speed-up, {BENCHES[text]} over {BENCHES[image]}"
    M6(told, greater_than(1.1, none=1))(lambda view, cells=cells: effects.advantage(view, *cells))

M7 = methods.claim(
  'M7',
  'Adam gives parameters with consistently large gradients smaller effective steps.',
  under=f'{ON_IMAGES}; perceptron, second half of a run, Adam at 1e-3',
  when=asked('M7'),
)
words = 'log-log slope of update over gradient in the gradient, over parameters'
M7(f'control: {words}, plain descent', premise(exact(1e-3)), method='plain')(effects.size_slope)
M7(f'{words}, Adam', less_than(-0.25, none=0), method='adam')(effects.size_slope)

M8 = methods.claim(
  'M8',
  'Adaptive methods hide overfitting: training loss falls while validation loss rises.',
  under=tuned(
    '{config.images}, perceptron, {config.overfit.examples} training images, {config.overfit.updates} updates, '
    'at the rates of the least validation loss on the way; "the same" is the first training loss of at most '
    '{config.overfit.target}, or the last of a run that has none',
    *(f'overfit_{arm}' for arm in ('adam', 'rmsprop', 'heavy_ball')),
    least=True,
  ),
  when=asked('M8'),
)
for arm, words in {'adam': 'Adam', 'rmsprop': 'RMSProp'}.items():
  cell = f'overfit_{arm}'
  told = f'training loss at the end over that at the least validation loss, {words}'
  M8(told, premise(less_than(0.9, none=1)), cell=cell, variable='train_loss')(effects.overfitting)
  told = f'validation loss at the end over its least, {words}'
  M8(told, greater_than(1.1, none=1), cell=cell, variable='validation_loss')(effects.overfitting)
  told = f'validation loss at the same training loss, {words} over heavy ball'
  M8(told, greater_than(1.1, none=1), first=cell, second='overfit_heavy_ball')(effects.at_equal_fit)

M9 = methods.claim(
  'M9',
  'Updating parameters one after another instead of together changes the result and can break convergence.',
  under='gradients anew for every block; {config.order.draws} random systems of two parameters; perceptron by layers, '
  'full batch, {config.order.sweeps} sweeps at rates {config.order.rates}, of which losses are compared at the least',
  when=asked('M9'),
)
M9('relative difference of training losses, perceptron', greater_than(0.01))(effects.apart)
words = 'share that converges together and not one after another'
M9(f'{words}: one quadratic loss', greater_than(0.01), kind='loss')(effects.broken)
M9(f'{words}: perceptrons', greater_than(0.5))(effects.broken_networks)
M9(f'{words}: games of two losses', greater_than(0.01), kind='game')(effects.broken)

M10 = methods.claim(
  'M10',
  'RMSProp suits recurrent networks.',
  under=tuned(ON_TEXT, *races('rmsprop', 'heavy_ball', 'adam', benches=('gru',))),
  when=asked('M10'),
)
for other, words, rule in (
  ('heavy_ball', 'heavy ball', less_than(0.95, none=1)),
  ('adam', 'Adam', less_than(1.05)),
):
  pair = {'first': 'race_gru_rmsprop', 'second': f'race_gru_{other}'}
  M10(f'test loss of a GRU, RMSProp over {words}', rule, **pair)(effects.compared)

M11 = methods.claim(
  'M11',
  'Gradient clipping rescues training that explodes.',
  under=tuned(
    'recurrent ReLU network, recurrent weights {config.explosion.gain} times orthogonal, {config.text}, plain '
    'descent at rates {config.explosion.rates}, {config.explosion.updates} updates; norms clipped at 1, values at 0.1, '
    'norms of units at 0.1 of their weights; a run learns that at the largest rate ends below half its first loss',
    'explosion_norm',
    'explosion_none',
  ),
  when=asked('M11'),
)
words = 'share of runs that fail without clipping'
M11(words, premise(greater_than(0.5)), clip='none', fails=True)(effects.learns)
for clip, words in {'norm': 'by norm', 'value': 'by value', 'adaptive': 'adaptively'}.items():
  M11(f'share of runs that learn, clipped {words}', greater_than(0.5), clip=clip)(effects.learns)
words = 'test loss, clipped by norm over not at all, each at its own rate'
pair = {'first': 'explosion_norm', 'second': 'explosion_none'}
M11(words, less_than(0.95, none=1), **pair)(effects.compared)

KINDS = [*itertools.product(('linear', 'transformer'), ('natural', 'balanced'), ('plain', 'adam'))]
M12 = methods.claim(
  'M12',
  'With heavy-tailed classes gradient descent learns class k in a time proportional to 1/pi_k, sign descent and Adam '
  'in a time that does not depend on pi_k.',
  under=tuned(
    '{config.classes.count} one-hot classes of shares 1/k, to loss {config.classes.loss}, float64; '
    '{config.classes.pairs} pairs of the {config.classes.words} commonest words of {config.text}, full batch, '
    '{config.classes.updates} updates, at the rates of least training loss',
    *('_'.join(('pairs', *kind)) for kind in KINDS),
    by='train_loss',
  ),
  when=asked('M12'),
)
for method, words in {'plain': 'gradient descent against gradient flow', 'sign': 'sign descent'}.items():
  M12(f'{words}: error of times over their bound', exact(1), method=method)(effects.law_error)
for method, centre, width in (('plain', -1, 0.05), ('sign', 0, 0.05), ('adam', 0, 0.25)):
  rule = within(centre - width, centre + width)
  M12(f'log-log slope of the time in the share, {method}', rule, method=method)(effects.class_slope)
for model in ('linear', 'transformer'):
  cells = [f'pairs_{model}_{kind}_{arm}' for kind in ('natural', 'balanced') for arm in ('adam', 'plain')]
  told = f"Adam's speed-up on bigrams as they occur over that on balanced ones, {model} model"
  M12(told, greater_than(1.1, none=1))(lambda view, cells=cells: effects.advantage(view, *cells))

M13 = methods.claim(
  'M13',
  'Adam has a border of stability too: preconditioned sharpness rises to (2+2 beta_1)/((1-beta_1) rate), 38/rate at '
  'beta_1 = .9, and stays there.',
  under='tanh network of {config.border.hidden} units, 20 points of a Chebyshev polynomial, full batch, rate '
  '{config.border.rate}, beta_2 {config.border.b2}, {config.border.updates} updates',
  when=asked('M13'),
)
for b1 in BETAS:
  words = f'sharpness over the border, beta_1 {b1}: '
  if b1:  # without momentum it is there at once
    M13(words + 'least in the first third', less_than(0.9), b1=b1, late=False)(effects.sharpness_at)
  M13(words + 'mean of the last third', within(0.9, 1.1), b1=b1, late=True)(effects.sharpness_at)

M14 = methods.claim(
  'M14',
  'Small batches train as well as large ones with Adam, down to B = 1, if beta_2 is set so that its half-life in '
  'examples stays the same.',
  under=tuned(
    'digits, perceptron of {config.race.hidden} units, {config.small.examples} training images, '
    '{config.small.epochs} epochs, B = {config.small.batch_sizes}, beta_2 {config.small.b2} at the largest',
    *(
      f'small_{name}'
      for name in (
        'float32_small',
        'float32_middle',
        'float32_large',
        'float32_fixed',
        'bfloat16_small',
        'bfloat16_large',
      )
    ),
  ),
  when=asked('M14'),
)
for words, first, second, rule in (
  ('B = 1 over the largest B', 'float32_small', 'float32_large', less_than(1.1)),
  ('middle B over the largest', 'float32_middle', 'float32_large', less_than(1.1)),
  ('B = 1, beta_2 left as it is over set', 'float32_fixed', 'float32_small', greater_than(1.1, none=1)),
  ('B = 1 over the largest B, bfloat16', 'bfloat16_small', 'bfloat16_large', less_than(1.1)),
):
  M14(f'test loss, {words}', rule, first=f'small_{first}', second=f'small_{second}')(effects.compared)
