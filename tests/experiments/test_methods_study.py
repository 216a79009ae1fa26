"""The study of methods: data of a seed, measurements against known answers, effects where runs fail, a tiny run."""

import itertools
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gdlab
from configs import methods as configs
from configs import methods_full
from experiments.methods import arms, effects, exact, measure
from experiments.methods.study import Settings, methods
from gdlab import problems
from gdlab.claims import read_claims
from gdlab.core.errors import InputError
from gdlab.study.graded import grade_all
from tests.experiments import test_methods_can_fail as synthetic

DIGITS = 'images=digits text=excerpt'
TINY = """seeds.first=0 seeds.count=3 seeds.tuning=2 seeds.repeats=0 race.train=64
race.validation=32 race.test=32 race.batch_size=8 race.updates=12 race.text_train=16 race.text_held_out=8
race.text_batch_size=4 race.text_updates=8 race.evaluations=4 race.hidden=(4,) race.features=(2,) race.width=4
race.context=8 quadratic.conditions=(10.0,30.0,100.0) quadratic.dimension=4 valleys.num_starts=4 valleys.updates=500
overfit.examples=16 overfit.updates=80 overfit.target=1.0 order.draws=200 order.sweeps=4 explosion.width=4
explosion.updates=6 classes.count=4 classes.words=8 classes.pairs=32 classes.updates=10 border.hidden=4
border.updates=60 small.examples=64 small.epochs=1"""


def view(cells):
  return methods.view(methods, synthetic.config(), cells, {})


def config(**changed) -> Settings:
  made = configs.get_config()
  made.update_from_flattened_dict({'images': 'digits', 'text': 'excerpt'} | changed)
  return Settings.checked(made.to_dict())


def test_every_seed_has_examples_of_its_own_and_no_two_sets_share_one():
  sizes = {'race.train': 60, 'race.validation': 30, 'race.test': 20}
  one, two = (arms.data(config(**sizes), 'mlp', seed) for seed in (1, 2))
  assert [len(part.targets) for part in (one.train, one.validation, one.test)] == [60, 30, 20]
  rows = np.concatenate([np.reshape(part.inputs, (-1, 64)) for part in (one.train, one.validation, one.test)])
  assert len(np.unique(rows, axis=0)) == 110
  assert (one.train.inputs != two.train.inputs).any()
  assert (one.train.inputs == arms.data(config(**sizes), 'mlp', 1).train.inputs).all()


@pytest.mark.parametrize('name', arms.ARMS)
def test_every_arm_descends_on_a_bowl(name):
  """From (1, -1), at a rate of its own: the sum of squares falls to a half within 300 updates."""
  arm = arms.ARMS[name]
  bowl = gdlab.problems.from_function(lambda p: jnp.sum(p**2), np.array([[1.0, -1.0]]))
  rate = {'adagrad': 0.1, 'muon': 0.03, 'shampoo': 0.03}.get(name, 0.01)
  grid = {'learning_rate': [rate], **arms.numbers(name)}
  run = gdlab.sweep(bowl, arms.descent(name, 1, 300), grid, num_steps=300, seeds=1, eval_every=300)
  assert float(run.train_loss.values.ravel()[-1]) < 1
  assert set(grid) == {'learning_rate', *arm.numbers}


def test_one_sweep_in_turn_is_gauss_seidel():
  """Its matrix against two moves by hand: x' = x - a(1x + 2y), then y' = y - a(3x' + 4y)."""
  field, rate = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([0.1])
  columns = []
  for x, y in ((1.0, 0.0), (0.0, 1.0)):
    x = x - 0.1 * (x + 2 * y)
    columns.append((x, y - 0.1 * (3 * x + 4 * y)))
  expected = np.abs(np.linalg.eigvals(np.array(columns).T)).max()
  assert exact.radius(field, rate, True) == pytest.approx([expected])
  together = np.abs(np.linalg.eigvals(np.eye(2) - 0.1 * field[0])).max()
  assert exact.radius(field, rate, False) == pytest.approx([together])


def test_a_loss_that_converges_together_converges_in_turn():
  """Each move in turn lowers a quadratic at any rate below 2 over the largest of the own curvatures."""
  found = exact.orders(config(), progress=lambda *done: None).converges
  loss, game = (found.sel(kind=kind).values for kind in ('loss', 'game'))
  assert not (loss[0] & ~loss[1]).any()
  assert (loss[1] & ~loss[0]).any()
  assert (game[0] & ~game[1]).any()


def test_preconditioned_sharpness_of_a_quadratic():
  """Of diag(4, 1), where Adam divides by the size of a constant gradient, 8 and 2: both are 1 / 2."""
  bowl = gdlab.problems.quadratic([4.0, 1.0], start=[2.0, 2.0])
  method = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.adam(0.0, b2=0.9))
  state = method.init(jax.random.key(0), bowl)
  for _ in range(3):
    state, _ = method.step(state, bowl)
  assert float(measure.preconditioned_sharpness(0.9, bowl, state)) == pytest.approx(0.5, rel=1e-5)


def test_word_pairs_number_the_commonest_words():
  pairs = measure.word_pairs('excerpt', 5)
  words = re.sub('[^a-z]', ' ', problems.read_text().lower()).split()
  counts = sorted((-words.count(word), word) for word in set(words))[:5]
  common = {word for _, word in counts}
  assert len(pairs) == sum(
    first in common and second in common for first, second in itertools.pairwise(words)
  )
  assert pairs.min() == 0
  assert pairs.max() == 4


def test_balanced_pairs_have_every_next_word_as_often():
  targets = measure.bigrams('excerpt', 5, 4, 4000, 'linear', True, 0).train.targets.ravel()
  shares = np.bincount(targets, minlength=5) / 4000
  present = shares[shares > 0]
  # Five standard errors of a share of 4000 draws.
  assert np.abs(present - 1 / len(present)).max() < 5 * np.sqrt(0.25 / 4000)


def test_times_to_a_loss_are_interpolated():
  curve = np.array([4.0, 2.0, 1.0, 1.0, 0.5])
  assert effects.time_to(curve, 3.0) == 0.125
  assert effects.time_to(curve, 1.0) == 0.5
  assert (effects.time_to(curve, 5.0), effects.time_to(curve, 0.1)) == (0, 1)


def test_a_run_that_fails_counts_with_the_loss_of_its_start():
  cells = synthetic.races({'heavy_ball': 2.0})
  runs = cells['race_mlp_heavy_ball']
  before = effects.compared(view(cells), 'race_mlp_heavy_ball', 'race_mlp_plain').estimate
  assert before == pytest.approx(np.exp(-1), rel=0.01)
  runs.status[:, 3:9, -1] = gdlab.DIVERGED  # 6 of the 12 graded ones, at all rates: ratio 2 / (2 / e)
  found = effects.compared(view(cells), 'race_mlp_heavy_ball', 'race_mlp_plain')
  assert found.estimate == pytest.approx(1, rel=0.01)
  assert (found.num, found.excluded) == (12, 0)


def test_windows_are_decades_of_good_rates():
  # log-losses 1, 0, 1 half a decade apart: log(1.1) of each half decade next to the best.
  cells = {'cell': synthetic.runs([0.1, 10**-0.5, 1.0], [-1.0, 0.0, -1.0])}
  assert effects.window(view(cells), 'cell') == pytest.approx(np.log(1.1), rel=0.02)


def test_what_the_study_could_not_finish_with_is_refused():
  for key, value, line in (
    ('race.plain', (0.1, 0.2, 0.3), 'race must have as many rates for every arm'),
    ('race.adam', (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), "must hold Adam's default rate 0.001"),
    ('race.train', 1400, 'race.train plus race.validation must be a whole number in [1, 1437], got 1600'),
    ('race.width', 5, 'race.width'),
    ('small.examples', 32, 'small.examples must be a whole number >= 64'),
  ):
    with pytest.raises(InputError, match=re.escape(line)):
      config(**{key: value})


def test_the_full_configuration_asks_for_the_same_cells():
  names = [{cell.name for cell in methods.cells(made.get_config())} for made in (configs, methods_full)]
  assert names[0] == names[1]


def test_half_precision_starts_are_the_same_numbers_rounded():
  problem = measure.digits((4,))
  whole, half = (init(jax.random.key(0))[0] for init in (problem.init, measure.in_half(problem.init)))
  assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype('bfloat16')}
  rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), whole)
  assert all(map(np.array_equal, jax.tree.leaves(half), jax.tree.leaves(rounded)))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['methods', 'methods_full'])
def test_a_tiny_run_of_the_whole(tmp_path, name):
  """Of both configurations, shrunk; the full one with its own data, where there are some."""
  changes = TINY if name == 'methods_full' and 'GDLAB_DATA' in os.environ else f'{DIGITS} {TINY}'
  flags = [f'--workdir={tmp_path}', *(f'--config.{key}' for key in changes.split())]
  command = [sys.executable, '-m', 'experiments.methods', f'--config=configs/{name}.py', *flags]
  subprocess.run(command, check=True, timeout=1800, env=os.environ | {'JAX_NUM_CPU_DEVICES': '1'})
  cells = {file.stem: gdlab.load(file) for file in (tmp_path / 'results').glob('*.nc')}
  given = Settings.checked(json.loads(cells['orders'].attrs['config']))
  recomputed = grade_all(methods.claims, methods.seen(given, 0, cells))
  assert [finding.id for finding in recomputed] == [*methods.claims]
  assert repr(recomputed) == repr(
    read_claims(tmp_path / 'claims.json')
  )  # NaN differs from itself, hence as text
  assert (tmp_path / 'report.html').read_text().count('<svg') == 4


@pytest.mark.slow  # MNIST takes seconds to read
@pytest.mark.skipif('GDLAB_DATA' not in os.environ, reason='needs MNIST and Tiny Shakespeare: set GDLAB_DATA')
def test_the_full_configuration_asks_for_no_more_data_than_there_are():
  full = Settings.checked(methods_full.get_config().to_dict())
  for bench in arms.BENCHES:
    drawn = arms.data(full, bench, full.seeds.first)
    sizes = [jax.tree.leaves(part)[0].shape[0] for part in (drawn.train, drawn.validation, drawn.test)]
    race = full.race
    assert sizes == (
      [race.train, race.validation, race.test]
      if bench in arms.IMAGES
      else [race.text_train, race.text_held_out, race.text_held_out]
    )
  options = full.classes
  assert len(measure.word_pairs(full.text, options.words)) >= options.pairs
  assert len(np.unique(measure.word_pairs(full.text, options.words))) == options.words
