"""The showcase of instruments: the user's side fits gdlab's; the whole of it on a tiny network (slow)."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.flatten_util import ravel_pytree

from configs import instruments
from experiments.instruments import measure, model

TINY = (
  '--config.width=4',
  '--config.num_steps=20',
  '--config.eval_every=5',
  '--config.num_seeds=1',
  '--config.num_eigenvalues=2',
  '--config.num_probes=2',
  '--config.num_points=4',
)


@pytest.fixture(scope='module')
def config():
  found = instruments.get_config()
  found.width = 4
  return found


@pytest.fixture(scope='module')
def problem(config):
  return measure.make_problem(config)


def test_the_users_loop_trains_parameters_of_the_same_model(config, problem):
  train = problem.train
  params = model.train(
    lambda rngs: model.Classifier(config.width, rngs),
    train.inputs[:200],
    train.targets[:200],
    learning_rate=0.3,
    batch_size=20,
    num_steps=250,
    seed=0,
  )
  start, _ = problem.init(jax.random.key(0))
  assert jax.tree.structure(params) == jax.tree.structure(start)
  before, after = (float(jnp.mean(problem.metrics(each, (), train)['loss'])) for each in (start, params))
  assert after < 0.7 * before


def test_the_subject_is_the_recorded_run_and_its_logits_are_the_problems(config, problem):
  start, end = (problem.init(jax.random.key(seed))[0] for seed in (1, 2))
  rows = np.stack(
    [ravel_pytree(start)[0], np.full(ravel_pytree(start)[0].size, np.nan), ravel_pytree(end)[0]]
  )
  result = xr.Dataset({'params': (('seed', 'step', 'params_0'), rows[None])}, {'step': [0, 5, 10]})
  subject = measure.subject(config, problem, result)
  for found, expected in ((subject.start, start), (subject.end, end)):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
  labels = jnp.argmax(subject.logits(end, problem.test.inputs), axis=1)
  hits = problem.metrics(end, (), problem.test)['accuracy']
  np.testing.assert_array_equal(labels == problem.test.targets, hits == 1)


@pytest.mark.slow
def test_the_page_shows_every_instrument(tmp_path):
  command = [sys.executable, '-m', 'experiments.instruments', f'--workdir={tmp_path}', *TINY]
  done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
  assert done.returncode == 0, done.stderr
  assert 'Warning' not in done.stderr
  text = (tmp_path / 'report.html').read_text(encoding='utf-8')
  assert text.count('<svg') == 9
  assert len(list((tmp_path / 'figures').glob('*.svg'))) == 9
  # Each pair lies within its residual of an eigenvalue of the dense matrix.
  within = re.search(r'one is within ([\d.e-]+) residuals of each pair', text)
  assert float(within[1]) <= 1
  assert 'learning rate too large' in text
  assert 'the gradient agrees' in text
