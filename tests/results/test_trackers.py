"""Trackers: what a stored result's runs are in one that keeps all it gets, in TensorBoard, wandb and trackio."""

import functools
import importlib.util
import json
import math
import os
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import optax
import pytest
import xarray as xr

import gdlab
from gdlab.core.errors import InputError

STEPS = [0, 5, 10, 15, 20, 25, 30]
EVALUATED = [0, 10, 20, 30]


class Notebook:
  """A tracker that keeps everything: `runs` are (project, name, config, records, finished)."""

  def __init__(self, fails_at=math.inf):
    self.runs, self.logged, self.fails_at = [], 0, fails_at

  def init(self, *, project, name, config):
    self.runs.append(types.SimpleNamespace(project=project, name=name, config=config, records={}, finished=0))

  def log(self, values, *, step):
    self.logged += 1
    if self.logged == self.fails_at:
      raise ConnectionError('no network')
    assert step not in self.runs[-1].records
    self.runs[-1].records[step] = values

  def finish(self):
    self.runs[-1].finished += 1


def sgd(rate):
  return gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(rate))


@functools.cache
def swept():
  """One rate that trains, one that overflows after a while, one that does at once; metrics at every second record."""
  problem = gdlab.problems.quadratic([1.0, 0.1])
  probes = {'place': lambda problem, state: state.params}
  options = {'num_steps': 30, 'seeds': 2, 'eval_every': 10, 'record_every': 5, 'probes': probes}
  return gdlab.sweep(problem, sgd, {'rate': [0.1, 50.0, 1e20]}, progress=False, **options)


@pytest.fixture
def path(tmp_path):
  return gdlab.save(swept(), tmp_path / 'result.nc')


def saved(tmp_path, status, updates, **variables):
  """A made-up result of one lane, recorded after 0, 2, 4 and 6 updates."""
  given = {'status': np.int8(status), 'updates': updates, **variables}
  columns = {name: (('seed', 'step'), np.array([values])) for name, values in given.items()}
  dataset = xr.Dataset(columns, {'seed': [7], 'step': [0, 2, 4, 6]})
  return gdlab.save(dataset, tmp_path / 'made.nc')


def test_each_lane_is_a_run_with_its_coordinates(path):
  notebook = Notebook()
  names = gdlab.track(path, notebook, project='bowl')
  assert names == [run.name for run in notebook.runs]
  assert names[:3] == ['rate=0.1,seed=0', 'rate=0.1,seed=1', 'rate=50.0,seed=0,diverged']
  assert all(run.project == 'bowl' and run.finished == 1 for run in notebook.runs)
  first = notebook.runs[1].config
  assert first == {
    'rate': 0.1, 'seed': 1, 'init_seed': 1, 'order_seed': 1, 'noise_seed': 1, 'status': 'completed',
  }  # fmt: skip
  assert {type(value) for value in first.values()} == {float, int, str}
  assert notebook.runs[4].config['status'] == 'diverged'


def test_the_numbers_are_those_of_the_result_where_they_were_measured(path):
  notebook = Notebook()
  gdlab.track(str(path), notebook, project='bowl')
  lane, records = swept().isel(rate=0, seed=1), notebook.runs[1].records
  assert list(records) == STEPS
  for name, steps in (('train_loss', EVALUATED), ('grad_norm', STEPS[1:]), ('examples', STEPS)):
    found = {step: values[name] for step, values in records.items() if name in values}
    assert list(found) == steps
    np.testing.assert_array_equal(list(found.values()), lane[name].sel(step=steps))
  places = [[records[step]['place/0'], records[step]['place/1']] for step in EVALUATED]
  np.testing.assert_array_equal(places, lane.place.sel(step=EVALUATED))
  assert all(isinstance(value, int | float) for values in records.values() for value in values.values())
  assert not any(math.isnan(value) for values in records.values() for value in values.values())


def test_a_run_that_diverged_ends_in_nan(path):
  notebook = Notebook()
  gdlab.track(path, notebook, project='bowl')
  later, at_once = notebook.runs[2].records, notebook.runs[4].records
  assert list(later) == [0, 5, 10, 15]
  assert list(at_once) == [0, 5]
  for last in (later[15], at_once[5]):
    assert last['status'] == gdlab.DIVERGED
    assert all(math.isnan(last[name]) for name in ('train_loss', 'place/0', 'place/1'))
  assert later[15]['batch_loss'] == math.inf  # as recorded
  assert later[10]['train_loss'] == swept().train_loss.sel(rate=50.0, seed=0, step=10)


def test_a_run_ends_where_it_was_stopped_or_was_over(tmp_path):
  notebook = Notebook()
  stopped = saved(tmp_path, [0, 0, 2, 2], [0, 2, 2, 2], train_loss=[4.0, 3.0, 3.0, 3.0])
  assert gdlab.track(stopped, notebook, project='p') == ['seed=7,stopped']
  assert notebook.runs[0].records[4]['status'] == gdlab.STOPPED
  assert list(notebook.runs[0].records) == [0, 2, 4]
  stopped.unlink()
  over = saved(tmp_path, [0, 0, 0, 0], [0, 0, 4, 4], train_loss=[4.0, np.nan, 3.0, 3.0])
  assert gdlab.track(over, notebook, project='p') == ['seed=7']
  assert list(notebook.runs[1].records) == [0, 4]


def test_nan_of_a_probe_is_logged_where_it_was_evaluated(tmp_path):
  missing = [4.0, np.nan, 2.0, 1.0]
  path = saved(
    tmp_path, [0] * 4, [0, 2, 4, 6], train_loss=missing, probe=[0.0, np.nan, np.nan, 1.0], count=[1, 0, 3, 4]
  )
  notebook = Notebook()
  gdlab.track(path, notebook, project='p', variables=['probe', 'count'])
  records = notebook.runs[0].records
  assert records[2] == {}
  assert math.isnan(records[4]['probe'])
  assert [records[step] for step in (0, 6)] == [{'probe': 0.0, 'count': 1}, {'probe': 1.0, 'count': 4}]


def test_a_tracker_that_fails_loses_nothing(path):
  notebook = Notebook(fails_at=9)
  with pytest.raises(ConnectionError):
    gdlab.track(path, notebook, project='bowl')
  assert [run.finished for run in notebook.runs] == [1, 1]
  xr.testing.assert_identical(gdlab.load(path), swept())


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'tracker': object()}, r'tracker must have a function init, got <object object at'),
    ({'project': ''}, r"project must be a name, got ''"),
    ({'project': 3}, r'project must be a str, got 3 of type int'),
    ({'variables': ['train_los']}, r"unknown variable 'train_los'; did you mean 'train_loss'\? Known: batch_loss, "),
    ({'variables': 'train_loss'}, r'variables must be .*train_loss'),
    ({'path': 'nothing.nc'}, r'no result file nothing\.nc'),
    ({'path': 3}, r'path must be .*got 3'),
  ],
)  # fmt: skip
def test_bad_input_is_one_line(path, changed, message):
  arguments = {'path': path, 'tracker': Notebook(), 'project': 'bowl'} | changed
  with pytest.raises(InputError, match=f'^{message}[^\n]*$'):
    gdlab.track(**arguments)


def test_files_that_are_no_such_results_are_refused(tmp_path):
  path = gdlab.save(xr.Dataset({'train_loss': ('step', [1.0])}), tmp_path / 'other.nc')
  with pytest.raises(
    InputError, match=r'^path must be a result of gdlab\.run or gdlab\.sweep \(parts: .*other\.nc$'
  ):
    gdlab.track(path, Notebook(), project='p')
  path = saved(tmp_path, [0] * 4, [0, 2, 4, 6], train_loss=[1.0] * 4, spectrum=[1j] * 4)
  with pytest.raises(InputError, match=r'^variables must be real, and spectrum is complex'):
    gdlab.track(path, Notebook(), project='p')
  assert gdlab.track(path, Notebook(), project='p', variables=['train_loss']) == ['seed=7']


# Read back by other means than those that wrote: of each run its name, its config and its records.
FIRST, DIVERGED = 'rate=0.1,seed=0', 'rate=50.0,seed=0,diverged'


def check_runs(runs):
  """Whether these are the runs of `swept`: name -> (config, step -> name -> number)."""
  notebook = Notebook()
  notebook_names = gdlab.track(runs.pop('path'), notebook, project='bowl')
  assert set(runs) == set(notebook_names)
  for expected in notebook.runs:
    config, records = runs[expected.name]
    assert {name: config[name] for name in expected.config} == expected.config
    assert list(records) == list(expected.records)
    for step, values in expected.records.items():
      np.testing.assert_equal({name: records[step][name] for name in values}, values)  # NaN equals NaN
  assert math.isnan(runs[DIVERGED][1][15]['train_loss'])
  assert runs[DIVERGED][1][15]['status'] == gdlab.DIVERGED


def run_in(folder, code, *arguments, **environment):
  """Runs code in a process of its own: trackers keep threads, and warn of things of their own."""
  environment['PYTHONPATH'] = str(Path(gdlab.__file__).parents[1])
  done = subprocess.run(
    [sys.executable, '-c', code, *map(str, arguments)],
    cwd=folder, env=os.environ | environment, check=False, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return done.stdout


def tfrecords(content):
  """The records of a file of events: length, its checksum, data, its checksum."""
  place = 0
  while place < len(content):
    (length,) = struct.unpack_from('<Q', content, place)
    yield content[place + 12 : place + 12 + length]
    place += length + 16


def test_event_files_for_tensorboard(path, tmp_path):
  pytest.importorskip('tensorboardX')
  from tensorboardX.proto import event_pb2, plugin_hparams_pb2

  names = gdlab.track(path, gdlab.TensorBoard(tmp_path / 'events'), project='bowl')
  runs = {'path': path}
  for name in names:
    (file,) = (tmp_path / 'events' / 'bowl' / name).iterdir()
    config, records = {}, {}
    for content in tfrecords(file.read_bytes()):
      event = event_pb2.Event.FromString(content)
      for value in event.summary.value:
        if value.metadata.plugin_data.plugin_name == 'hparams':
          data = plugin_hparams_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
          for key, entry in data.session_start_info.hparams.items():
            config[key] = getattr(entry, entry.WhichOneof('kind'))
        else:
          records.setdefault(event.step, {})[value.tag] = value.simple_value
    runs[name] = config, records
  check_runs(runs)


def test_tensorboard_itself_reads_them(path, tmp_path):
  pytest.importorskip('tensorboardX')
  if not importlib.util.find_spec('tensorboard'):
    pytest.skip('needs the package tensorboard')
  gdlab.track(path, gdlab.TensorBoard(tmp_path), project='bowl')
  code = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
tags = events.Tags()['scalars']
print(json.dumps({tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}))
"""
  found = json.loads(run_in(tmp_path, code, tmp_path / 'bowl' / FIRST))
  assert [step for step, _ in found['train_loss']] == EVALUATED
  np.testing.assert_array_equal(
    [value for _, value in found['train_loss']], swept().train_loss.sel(rate=0.1, seed=0, step=EVALUATED)
  )


def test_every_run_has_a_folder_of_its_own(tmp_path, caplog):
  """Names that differ in unsafe characters alone, and a second call, whose runs are new ones."""
  pytest.importorskip('tensorboardX')

  def make(how):
    return gdlab.algorithm(
      sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(1e30 if how == 'c' else 0.1)
    )

  result = gdlab.sweep(
    gdlab.problems.quadratic([1.0, 0.1]), make, {'how': ['a/b', 'a b', 'c']}, num_steps=20, seeds=1
  )
  path = gdlab.save(result, tmp_path / 'result.nc')
  for _ in range(2):
    gdlab.track(path, gdlab.TensorBoard(tmp_path / 'events'), project='two')
  folders = sorted((tmp_path / 'events' / 'two').iterdir())
  name, diverged = 'how=a_b,seed=0', 'how=c,seed=0,diverged'
  assert [folder.name for folder in folders] == [
    name, f'{name}-2', f'{name}-3', f'{name}-4', diverged, f'{diverged}-2'
  ]  # fmt: skip
  assert [len([*folder.iterdir()]) for folder in folders] == [1] * 6
  assert 'NaN' not in caplog.text


def test_names_do_not_leave_the_folder(tmp_path):
  pytest.importorskip('tensorboardX')
  path = saved(tmp_path, [0] * 4, [0, 2, 4, 6], train_loss=[1.0] * 4)
  gdlab.track(path, gdlab.TensorBoard(tmp_path / 'events'), project='../a b/..')
  assert [folder.name for folder in (tmp_path / 'events').iterdir()] == ['_._a_b_..']


def test_tensorboard_without_its_package_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)
  with pytest.raises(InputError, match=r'^TensorBoard needs tensorboardX: pip install "gdlab\[trackers\]"$'):
    gdlab.TensorBoard(tmp_path)


def wandb_records(content):
  """The records of a file of wandb: blocks of 32 kB, in them parts with checksum, length and kind (LevelDB's log)."""
  place, whole = 7, b''
  while place + 7 <= len(content):
    if 32768 - place % 32768 < 7:
      place += 32768 - place % 32768
      continue
    length, kind = struct.unpack_from('<HB', content, place + 4)
    whole += content[place + 7 : place + 7 + length]
    place += 7 + length
    if kind in (1, 4):  # the whole of a record, or its last part
      yield whole
      whole = b''


def test_wandb_offline(path, tmp_path):
  pytest.importorskip('wandb', reason='needs the package wandb')
  from wandb.proto import wandb_internal_pb2

  code = "import sys, gdlab, wandb; gdlab.track(sys.argv[1], wandb, project='bowl')"
  run_in(tmp_path, code, path, WANDB_MODE='offline', WANDB_DIR=str(tmp_path), WANDB_SILENT='true')
  runs = {'path': path}
  for file in tmp_path.glob('wandb/offline-run-*/*.wandb'):
    name, config, records = '', {}, {}
    for content in wandb_records(file.read_bytes()):
      record = wandb_internal_pb2.Record.FromString(content)
      kind = record.WhichOneof('record_type')
      if kind == 'run':
        name = record.run.display_name
        config |= {entry.key: json.loads(entry.value_json) for entry in record.run.config.update}
        assert record.run.project == 'bowl'
      elif kind == 'history':
        items = {
          item.key or '/'.join(item.nested_key): json.loads(item.value_json) for item in record.history.item
        }
        records[record.history.step.num] = items
    runs[name] = config, records
  check_runs(runs)


def test_trackio(path, tmp_path):
  pytest.importorskip('trackio', reason='needs the package trackio')
  code = """
import contextlib, json, sys, gdlab, trackio
from trackio.sqlite_storage import SQLiteStorage
with contextlib.redirect_stdout(sys.stderr):
  names = gdlab.track(sys.argv[1], trackio, project='bowl')
configs = {run.name: run.config for run in trackio.Api().runs('bowl')}
print(json.dumps({name: (configs[name], SQLiteStorage.get_logs('bowl', name)) for name in names}))
"""
  said = json.loads(run_in(tmp_path, code, path, TRACKIO_DIR=str(tmp_path / 'trackio')))
  runs = {name: (config, {row['step']: row for row in rows}) for name, (config, rows) in said.items()}
  check_runs(runs | {'path': path})
