"""Draws docs/picture.svg, the picture of README, from runs made here: `python docs/picture.py`, a minute on 2 cores."""

import pathlib
import re

import jax.numpy as jnp
import numpy as np
import optax

import gdlab
from gdlab import plots, sampling

# An SVG in an <img> follows the system's colour scheme. Where the page around it does not, the card keeps it legible.
DARK = """<style>@media (prefers-color-scheme: dark) {
.card { fill: #161b22 } text { fill: #d1d7de !important }
[style*="stroke: #000000"] { stroke: #d1d7de !important } [style*="fill: #000000"] { fill: #d1d7de !important }
[style*="stroke: #0072b2"] { stroke: #56b4e9 !important } [style*="fill: #0072b2"] { fill: #56b4e9 !important }
}</style>"""
TEXT = 'Paths of full-batch, single-example and mini-batch descent, and their test losses on digits.'
EPOCHS = 6


def regression() -> tuple[gdlab.Problem, np.ndarray, np.ndarray]:
  """Linear regression with two parameters, and its data."""
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(64, 2)).astype(np.float32) * np.float32([1.0, 0.4])
  targets = inputs @ np.float32([1.0, 1.0]) + 0.5 * rng.normal(size=64).astype(np.float32)

  def loss(params, example):
    features, target = example
    return (features @ params - target) ** 2 / 2

  start = jnp.array([-1.0, 2.5])
  return gdlab.problems.from_function(loss, start, data=(inputs, targets)), inputs, targets


def draw() -> str:
  """Makes the runs, and the picture of them."""
  problem, inputs, targets = regression()
  digits = gdlab.problems.digits()
  where = {'place': lambda problem, state: state.params}
  variants = {
    'full batch': (sampling.full_batch(), sampling.full_batch(), 0.5),
    'one example': (sampling.single(), sampling.single(), 0.01),
    'mini-batch': (sampling.reshuffle(8), sampling.reshuffle(32), 0.1),
  }
  x, y = np.linspace(-1.5, 2.2, 50), np.linspace(-0.3, 2.9, 50)
  places = np.stack(np.meshgrid(x, y), axis=-1)
  with plots.panels(2, width=4.7, height=3.5) as (figure, (left, right)):
    plots.contours(left, x, y, ((places @ inputs.T - targets) ** 2).mean(axis=-1) / 2)
    for number, (name, (few, many, rate)) in enumerate(variants.items()):
      method = gdlab.algorithm(sampler=few, optimizer=optax.sgd(0.1))
      run = gdlab.run(problem, method, num_steps=120, seeds=1, eval_every=1, probes=where)
      left.plot(*run.place.values[0].T, color=plots.COLOURS[number], linewidth=1.6)

      method = gdlab.algorithm(sampler=many, optimizer=optax.sgd(rate))
      epoch = many.updates_per_epoch(digits.num_examples)
      run = gdlab.run(digits, method, num_steps=EPOCHS * epoch, seeds=16, eval_every=max(1, epoch // 5))
      plots.band(right, run.epoch.values, run.test_loss.values, name, number)
    left.plot(-1.0, 2.5, 'o', color='black')
    left.set(title='120 updates, same start and rate', xlabel='first parameter', ylabel='second parameter')
    right.set(title='Digits, 16 seeds', xlabel='passes over the data', ylabel='test loss', yscale='log')
    right.legend()
    figure.patch.set_visible(False)
    for axes in (left, right):
      axes.patch.set_visible(False)
  return standing_alone(plots.to_svg(figure))


def standing_alone(svg: str) -> str:
  """The element as a file for <img>: with a size, a card behind it, and colours for dark pages."""
  width, height = (float(length) for length in re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0])
  card = f'<rect class="card" width="{width:g}" height="{height:g}" rx="8" fill="#ffffff"/>'
  svg = re.sub(r'^<svg style="[^"]*"', f'<svg width="{4 / 3 * width:.0f}" height="{4 / 3 * height:.0f}"', svg)
  return re.sub(r'>', f' role="img" aria-label="{TEXT}">{DARK}{card}', svg, count=1)


if __name__ == '__main__':
  pathlib.Path(__file__).with_name('picture.svg').write_text(draw(), encoding='utf-8')
