"""The noisy quadratic model's page: its numbers are the theory's, by another way of finding them."""

import subprocess
import sys

import numpy as np

from gdlab import load, theory

TINY = (
  '--config.dimension=50',
  '--config.exponents=(2, 6)',
  '--config.num_rates=12',
  '--config.powers=(0.5,)',
)


def test_the_page_holds_the_least_steps_of_the_whole_table(tmp_path):
  command = [sys.executable, '-m', 'experiments.noisy_quadratic', f'--workdir={tmp_path}', *TINY]
  done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stderr
  assert 'Warning' not in done.stderr
  text = (tmp_path / 'report.html').read_text(encoding='utf-8')
  model, sizes = theory.noisy_quadratic(1 / np.arange(1, 51)), 2 ** np.arange(2, 7)
  curves = {
    'plain': (model, {}),
    'preconditioned_50': (theory.preconditioned(model, 0.5), {}),
    'momentum': (model, {'momentum': 0.9}),
    'averaged': (model, {'averaging': 0.99}),
  }
  for name, (seen, options) in curves.items():
    (file,) = (tmp_path / 'results').glob(f'{name}*.nc')
    table = theory.steps_to_target(seen, sizes, np.logspace(-5, 0.5, 12), target=0.01, **options)
    np.testing.assert_array_equal(load(file).steps, table.min(axis=1))
    assert f'{table.min(axis=1)[0]:,.0f}' in text
