"""`gdlab.study`: a user's study from its file, on an installed gdlab alone, in workers, and its refusals."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import optax
import pytest
import scipy.stats
import xarray as xr

import gdlab
from gdlab import claims, statistics, study
from gdlab.comparison.comparing import TUNING
from gdlab.statistics import Interval
from gdlab.study.graded import Asked, Effect, grade_all

OWN = pathlib.Path(__file__).with_name('own_study.py')
ROOT = pathlib.Path(__file__).resolve().parents[2]


def started(*arguments, path=ROOT, cwd=None, script=OWN):
  environment = os.environ | {'PYTHONPATH': str(path), 'JAX_NUM_CPU_DEVICES': '2'}
  done = subprocess.run(
    [sys.executable, str(script), '--nocompilation_cache', *map(str, arguments)],
    capture_output=True,
    text=True,
    env=environment,
    cwd=cwd,
    timeout=300,
  )
  return done


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The study, measured once."""
  workdir = tmp_path_factory.mktemp('own')
  done = started(f'--workdir={workdir}')
  assert done.returncode == 0, done.stderr
  return workdir, done


def graded(workdir, file='claims.json'):
  return {finding['id']: finding for finding in json.loads((workdir / file).read_text())}


def test_verdicts_are_those_of_the_stored_runs(finished):
  workdir, done = finished
  assert 'Report:' in done.stdout
  for file, first in (('claims.json', 0), ('claims-1.json', 100_000)):
    repeat = '-1' if first else ''
    found = graded(workdir, file)
    assert found['M1']['num_seeds'] == found['M2']['num_seeds'] == 4
    losses = gdlab.load(workdir / 'results' / f'noisy{repeat}.nc').train_loss
    assert losses.seed.values.tolist() == [first + k for k in range(4)]
    logs = np.log(losses.isel(step=-1).values.astype(float) / losses.isel(step=0).values.astype(float))
    assert found['M2']['effect'] == pytest.approx(np.exp(logs.mean()), rel=1e-6)
    assert found['M2']['verdict'] == 'supported'
    times = []
    for name in ('plain', 'heavy'):
      label = f'methods{repeat}'
      runs = gdlab.load(workdir / 'results' / f'{label}_graded_digits_{name}_{first}-{first + 3}.nc')
      assert runs.seed.values.tolist() == [first + k for k in range(4)]
      tuned = gdlab.load(workdir / 'results' / f'{label}_tuning_digits_{name}.nc')
      assert tuned.seed.values.tolist() == [TUNING + first, TUNING + first + 1]
      assert not any(str(variable).startswith('test_') for variable in tuned.data_vars)
      best = float(tuned.learning_rate[np.argmin(tuned.validation_loss.isel(step=-1).mean('seed').values)])
      assert float(runs.learning_rate[0]) == pytest.approx(best)
      assert f'learning_rate {gdlab.report.number(best)}' in found['M1']['conditions']
      curve = runs.test_loss.isel(trial=0).values
      reached = [np.flatnonzero(row <= 1.5) for row in curve]
      times.append([float(runs.step[hit[0]]) if hit.size else np.inf for hit in reached])
    expected = np.exp(np.mean(np.log(times[0]) - np.log(times[1])))
    assert 1 < expected < np.inf
    assert found['M1']['effect'] == pytest.approx(expected, rel=1e-6)


def test_the_page_opens_with_statements(finished):
  page = (finished[0] / 'report.html').read_text()
  first = page.index('Momentum reaches the target in fewer updates.')
  assert first < page.index('Both arms') < page.index('Loss along the runs')
  assert 'Means over 4 seeds.' in page
  assert 'digits, 8 hidden units, batches of 32, 120 updates' in page
  assert 'the same in 1 of 1 repeats' in page
  assert page.count('role="img" aria-label="Loss along the runs: Medians') == 1
  assert f'python {OWN}' in page


def test_goes_on_where_it_was_stopped(finished):
  workdir, first = finished
  lost = workdir / 'results' / 'methods-1_graded_digits_heavy_100000-100003.nc'
  before, old = graded(workdir), gdlab.load(lost)
  lost.unlink()
  again = started(f'--workdir={workdir}')
  assert again.returncode == 0, again.stderr
  assert again.stderr.count(': found') == first.stderr.count(' s\n') - 1
  assert graded(workdir) == before
  # The attributes say when and how long; the numbers are the same to the last bit.
  assert gdlab.load(lost).equals(old)


def test_repeats_are_added_later(finished):
  workdir, _ = finished
  before = graded(workdir)
  again = started(f'--workdir={workdir}', '--repeat=2')
  assert again.returncode == 0, again.stderr
  assert graded(workdir) == before
  assert {*graded(workdir, 'claims-2.json')} == {'M1', 'M2'}
  assert 'of 2 repeats' in (workdir / 'report.html').read_text()


def test_in_workers_the_same(finished, tmp_path):
  done = started(f'--workdir={tmp_path / "work"}', '--workers=2')
  assert done.returncode == 0, done.stderr
  assert graded(tmp_path / 'work') == graded(finished[0])


def test_runs_on_an_installed_gdlab_alone(finished, tmp_path):
  command = [
    sys.executable,
    '-m',
    'pip',
    'install',
    '--quiet',
    '--no-deps',
    '--no-build-isolation',
    '--target',
  ]
  subprocess.run([*command, str(tmp_path / 'site'), str(ROOT)], check=True, capture_output=True, timeout=200)
  script = tmp_path / 'study.py'
  where = "import sys; assert 'experiments' not in sys.modules; print(gdlab.__file__)\n"
  script.write_text(OWN.read_text().replace('  momentum.main()', f'  {where}  momentum.main()'))
  done = started('--workdir=work', path=tmp_path / 'site', cwd=tmp_path, script=script)
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith(str(tmp_path / 'site'))
  assert graded(tmp_path / 'work') == graded(finished[0])


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--config.rats=3', "error: unknown configuration key 'rats'; did you mean 'rates'?"),
    ('--config.updates=0', 'error: updates should be greater than or equal to 1, got 0'),
    ('--config.rates=(0.3,0.1)', 'error: rates should ascend, got (0.3, 0.1)'),
    ('--config.seeds.repeats=10', 'error: seeds.repeats should be less than or equal to 9, got 10'),
    ('--config=other.py', 'error: --config=FILE is not taken here, got other.py'),
  ],
)
def test_refuses_in_one_line(argument, message, tmp_path):
  done = started(f'--workdir={tmp_path}', argument)
  assert done.returncode == 2
  assert done.stderr.startswith(message)
  assert done.stderr.count('\n') == 1


def test_needs_seeds():
  class Without(study.Config):
    updates: study.Count = 3

  with pytest.raises(gdlab.InputError, match='config must have a field `seeds: Seeds`'):
    study.Study(Without, title='', question='', conditions='')


def test_names_are_given_once_and_claims_have_parts():
  class Settings(study.Config):
    seeds: study.Seeds = study.Seeds()

  own = study.Study(Settings, title='', question='', conditions='')
  own.claim('A', 'A statement.')
  with pytest.raises(gdlab.InputError, match="claim must have a name of its own, got 'A' twice"):
    own.claim('A', 'Another one.')
  with pytest.raises(gdlab.InputError, match="claim 'A' must have at least one part"):
    own.finish(Settings.defaults(), {}, pathlib.Path())


def many_cells():
  class Settings(study.Config):
    sizes: study.Counts = (1, 2)
    seeds: study.Seeds = study.Seeds(first=5, count=2, repeats=2)

  own = study.Study(Settings, title='', question='')

  @own.cell(once=True, alone=True)
  def clock(config, progress):
    return xr.Dataset({'seconds': 1.0})

  @own.cell('clock', over=lambda config: config.sizes)
  def tuning(config, size, clock, progress):
    return xr.Dataset({'ids': ('seed', config.seeds.for_tuning), 'size': size * clock.seconds})

  @own.cell('tuning_{}', over=lambda config: config.sizes)
  def arm(config, size, tuned, progress):
    return xr.Dataset({'ids': ('seed', config.seeds.ids), 'sum': size + tuned['size']})

  return own


def test_every_set_of_seeds_has_cells_of_its_own():
  own = many_cells()
  cells = own.cells(own.config.defaults())
  assert [cell.name for cell in cells] == [
    'clock',
    *('tuning_1', 'tuning_2', 'arm_1', 'arm_2'),
    *('tuning_1-1', 'tuning_2-1', 'arm_1-1', 'arm_2-1'),
    *('tuning_1-2', 'tuning_2-2', 'arm_1-2', 'arm_2-2'),
  ]
  assert {cell.name for cell in cells if cell.alone} == {'clock'}
  found = {}
  for cell in cells:
    found[cell.name] = cell.measure(*(found[need] for need in cell.needs), progress=lambda done, total: None)
  config = own.config()
  for number in range(3):
    view = own.seen(config, number, found)
    first = 5 + 100_000 * number
    assert view.config.seeds.ids == [first, first + 1]
    assert view.cell('arm_2').ids.values.tolist() == [first, first + 1]
    assert view.cell('tuning_2').ids.values.tolist() == [TUNING + first + place for place in range(3)]
    assert float(view.cell('arm_2')['sum']) == 4
    assert view.cell('clock') is found['clock']


def test_what_is_measured_once_needs_nothing_that_is_not():
  own = many_cells()

  @own.cell('arm_1', once=True)
  def late(config, arm, progress):
    return arm

  with pytest.raises(gdlab.InputError, match="cell 'late' is measured once and must not need 'arm_1'"):
    own.cells(own.config.defaults())


def test_settings_of_other_kinds_are_refused():
  class Settings(study.Config):
    size: study.Count
    rates: study.Tried = (0.1, 0.2)
    flag: bool = False

  assert Settings.checked({'size': 3, 'rates': [1, 2]}).rates == (1.0, 2.0)
  for given, message in {
    (): 'size is missing in the configuration',
    (('size', True),): 'size should be a valid integer, got True',
    (('size', '3'),): "size should be a valid integer, got '3'",
    (('size', 2**31),): 'size should be less than or equal to 2147483647, got 2147483648',
    (('size', 1), ('rates', (0.1, 0.1))): 'rates should be all different, got (0.1, 0.1)',
    (('size', 1), ('rates', (0.1, float('nan')))): 'rates.1 should be a finite number, got nan',
    (('size', 1), ('flag', 'no')): "flag should be a valid boolean, got 'no'",
  }.items():
    with pytest.raises(gdlab.InputError) as caught:
      Settings.checked(dict(given))
    assert str(caught.value) == message


def test_the_tuned_choice_counts_failed_runs_and_breaks_ties():
  losses = xr.DataArray([[1.0, 2.0], [1.5, 1.5], [0.0, np.inf]], dims=('rate', 'seed'))
  losses = losses.assign_coords(rate=[0.1, 0.3, 1.0])
  assert study.best(losses, 'rate') == 0.1
  tie = xr.DataArray([[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]], dims=('rate', 'seed'))
  assert study.best(losses, 'rate', tie) == 0.3
  assert study.at_an_end(0.1, (0.3, 0.1, 1)) == '0.1 (an end of those tried)'
  assert study.at_an_end(0.3, (0.3, 0.1, 1)) == '0.3'
  runs = xr.Dataset({'loss': ('seed', [1.0, np.nan, 2.0]), 'status': ('seed', [0, 0, 1])})
  assert study.unless_failed(runs, 'loss', np.inf).values.tolist() == [1.0, np.inf, np.inf]


def test_updates_are_timed_in_turn():
  problem = gdlab.problems.digits(gdlab.problems.MLP((8,)))
  arms = {
    size: gdlab.algorithm(sampler=gdlab.sampling.reshuffle(size), optimizer=optax.sgd(0.1))
    for size in (1, 1000)
  }
  seconds = study.time_updates(arms, problem, 'batch_size', precision=0.2)
  assert seconds.dims == ('round', 'batch_size')
  assert seconds.sizes['round'] >= 5
  assert seconds.batch_size.values.tolist() == [1, 1000]
  # A thousand examples take longer than one, by far more than clocks differ.
  assert float(seconds.sel(batch_size=1000).min()) > float(seconds.sel(batch_size=1).max())


class Parts:
  """Stored results of a study whose parts have intervals of known widths."""

  def __init__(self, confidence=0.95):
    self.confidence = confidence

  def with_confidence(self, confidence):
    return Parts(confidence)

  def conditions(self, claim):
    return 'a test'

  def part(self, standard_errors):
    """An effect so many standard errors above 0, with a normal interval."""
    half = scipy.stats.norm.ppf((1 + self.confidence) / 2)
    return Interval(standard_errors, standard_errors - half, standard_errors + half, self.confidence, 9, 0)


def effect(standard_errors):
  return Effect(f'{standard_errors}', claims.greater_than(0), lambda view: view.part(standard_errors))


@pytest.mark.parametrize(
  ('sizes', 'levels', 'verdict'),
  [
    # Quantiles of the normal distribution at 1 - 0.05/m, two-sided: 1.96, 2.24 and 2.39 for m = 1, 2, 3.
    ((2.0,), (1,), 'supported'),
    ((2.5, 2.3, 2.0), (3, 2, 1), 'supported'),  # each decided at the next level of Holm's
    ((2.3, 2.3, 2.3), (3, 3, 3), 'inconclusive'),  # of three alike none passes the first level
    ((3.0, 2.1, 2.1), (3, 2, 2), 'inconclusive'),
    ((3.0, -3.0), (2, 2), 'mixed'),
  ],
)
def test_parts_are_judged_at_once_by_holms_method(sizes, levels, verdict):
  asked = {'A': Asked('A claim.', tuple(effect(size + 1e-6 * place) for place, size in enumerate(sizes)))}
  [finding] = grade_all(asked, Parts())
  assert finding.verdict == verdict
  parts = finding.parts or [finding]
  assert [part.confidence for part in parts] == pytest.approx([1 - 0.05 / level for level in levels])


def test_a_verdict_is_also_told_for_all_claims_together():
  asked = {name: Asked('A claim.', (effect(size),)) for name, size in {'A': 2.1, 'B': 3.0}.items()}
  findings = grade_all(asked, Parts())
  assert [finding.verdict for finding in findings] == ['supported', 'supported']
  assert [finding.jointly for finding in findings] == ['inconclusive', 'supported']  # 2.24 is asked of each


def test_seeds_are_counted_where_there_is_chance():
  known = Effect('known', claims.exact(0), lambda view: statistics.exactly(0, num=2))
  by_chance = grade_all({'A': Asked('A claim.', (known, effect(3.0)))}, Parts())
  exact = grade_all({'A': Asked('A claim.', (known,))}, Parts())
  assert [finding.num_seeds for finding in by_chance + exact] == [9, 2]


def test_an_effect_must_have_the_confidence_it_is_asked_for():
  stubborn = Effect('stubborn', claims.greater_than(0), lambda view: Interval(1, 0.5, 1.5, 0.95, 9, 0))
  with pytest.raises(gdlab.InputError, match="'stubborn' must have an interval of the confidence"):
    grade_all({'A': Asked('A claim.', (stubborn, effect(3.0)))}, Parts())


def test_a_configuration_may_leave_out_cells_claims_and_sections(tmp_path):
  class Settings(study.Config):
    seeds: study.Seeds = study.Seeds(first=0, count=3, tuning=1, repeats=0)
    deep: bool = False

  own = study.Study(Settings, title='', question='')

  def cell(name):
    def values(config, progress=None):
      return xr.Dataset({'x': ('seed', np.arange(1.0, 4))})

    values.__name__ = name
    return values

  deep = lambda config: config.deep
  mean = lambda view, name: gdlab.statistics.bootstrap(view.cell(name).x.values, confidence=view.confidence)
  for name, when in {'always': None, 'rarely': deep}.items():
    own.cell(when=when)(cell(name))
    own.claim(f'{name[0]}1'.upper(), 'It is so.', when=when)('x', claims.greater_than(-9), name=name)(mean)
    own.section(name, when=when)(
      lambda view, name=name: gdlab.report.Table(('x',), [[str(view.cell(name).x.size)]])
    )
  for asked, names in ((False, ['always']), (True, ['always', 'rarely'])):
    given = Settings.defaults()
    given.deep = asked
    cells = own.cells(given)
    assert [cell.name for cell in cells] == names
    folder = tmp_path / str(asked)
    folder.mkdir()
    own.finish(given, {name: cell(name)(None) for name in names}, folder)
    assert [finding.id for finding in claims.read_claims(folder / 'claims.json')] == [
      f'{name[0]}1'.upper() for name in names
    ]
    page = (folder / 'report.html').read_text()
    assert ('rarely' in page) is asked
