"""python -m experiments.instruments --config=configs/instruments.py --workdir=DIR."""

import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax

import gdlab
from experiments.instruments import figures, measure, page
from gdlab import plots
from gdlab.host.progress import say
from gdlab.study import app
from gdlab.study.graded import command


def study(given, workdir: pathlib.Path) -> None:
  """Trains, measures, draws. Nothing is resumed: a second start replaces what is there."""
  config = measure.Settings.checked(given.to_dict())
  problem = measure.make_problem(config)
  found: dict[str, Any] = {'seconds': {}}

  def part(name: str, make: Callable[[], Any]) -> None:
    started = time.perf_counter()
    found[name] = make()
    found['seconds'][name] = time.perf_counter() - started
    say(f'{name}: {found["seconds"][name]:.1f} s')

  part('gradients', lambda: gdlab.check_gradients(problem, key=jax.random.key(0)))
  part('overfit', lambda: gdlab.overfit_small(problem))
  with gdlab.progress_bar('training') as progress:
    part('run', lambda: measure.run(config, problem, progress))
  with gdlab.progress_bar('faulty run') as progress:
    part('faulty', lambda: measure.faulty(config, problem, progress))
  part('diagnosis', lambda: gdlab.diagnose(found['run'], problem))
  part('faulty_diagnosis', lambda: gdlab.diagnose(found['faulty'], problem))
  part('subject', lambda: measure.subject(config, problem, found['run']))
  part('spectrum', lambda: measure.spectrum(found['subject']))
  part('generalisation', lambda: measure.generalisation(config, found['subject']))
  part('plane', lambda: measure.trajectory(config, found['subject'], found['run']))
  part('lines', lambda: measure.interpolation(config, found['subject']))
  _write(config, found, workdir)


def _write(config, found: dict[str, Any], workdir: pathlib.Path) -> None:
  for name in ('run', 'faulty', 'spectrum', 'generalisation', 'plane'):
    with app.replacing(workdir / 'results' / f'{name}.nc') as path:
      gdlab.save(found[name], path)
  spectrum = found['spectrum']
  pictures = {
    'losses': figures.losses(found['run']),
    'eigenvalues': figures.eigenvalues(config, found['run']),
    'spectrum': plots.spectrum(
      spectrum.points,
      spectrum.density,
      lower=spectrum.lower,
      upper=spectrum.upper,
      eigenvalues=spectrum.found,
    ),
    'histogram': plots.eigenvalue_histogram(spectrum.eigenvalues, rounding=spectrum.attrs['rounding']),
    'noise': figures.noise(config, found['run']),
    'sharpness': figures.sharpness(config, found['run']),
    'margins': figures.margins(found['generalisation']),
    'plane': plots.plane(found['plane']),
    'interpolation': plots.interpolation(found['lines']),
  }
  drawn = {name: plots.to_svg(figure) for name, figure in pictures.items()}
  for name, svg in drawn.items():
    with app.replacing(workdir / 'figures' / f'{name}.svg') as path:
      path.write_text(svg, encoding='utf-8')
  with app.replacing(workdir / 'report.html') as path:
    path.write_text(page.render(config, found, drawn, command('experiments.instruments')), encoding='utf-8')
  print(f'Page: {workdir / "report.html"}')


if __name__ == '__main__':
  app.start(study, 'configs/instruments.py')
