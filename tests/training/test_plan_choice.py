"""What a plan leaves open: rules, the timed trial and its memory, the memory of the machine, compiled programs kept."""

import json
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import jax
import pytest
from tiny_runs import assert_same, problem, sgd, stream_sgd

import gdlab
from gdlab.host import checksums, memory
from gdlab.host.memory import memory_lanes, widest_vmap
from gdlab.training import autotune
from gdlab.training.autotune import Footprint, footprint, lanes_at_once, program_per_device


@pytest.fixture
def plans(tmp_path, monkeypatch):
  """A folder of remembered plans, for one test."""
  monkeypatch.setattr(autotune, '_remembered', {})
  monkeypatch.setattr(autotune, '_folder', [])
  gdlab.remember_plans(tmp_path)
  return tmp_path


def no_trial(width, steps):
  raise AssertionError('timed where a rule is enough')


# In estimated seconds, by hand: (5e-6 + 6 * 850_000 / 1e10) * steps * lanes.
@pytest.mark.parametrize(
  ('lanes', 'steps', 'expected'), [(16, 7000, False), (16, 7500, True), (1, 120_000, True)]
)
def test_devices_have_programs_of_their_own_in_long_runs(lanes, steps, expected):
  assert program_per_device(Footprint(850_000, 1, 'shape'), lanes, steps) == expected
  assert not program_per_device(Footprint(1_000, 1, 'shape'), lanes, 10**9)  # tiny: nothing to gain


@pytest.mark.parametrize(
  ('size', 'lanes', 'steps', 'expected'),
  [
    (2, 1000, 10**6, 64),  # tiny: wide
    (2, 5, 10**6, 8),  # but no wider than there are lanes
    (2, 1, 10**6, 1),
    (30_000, 1000, 10**6, 1),  # large: one after another
    (5_000, 1000, 10, 1),  # between, but too short for a trial
    (5_000, 7, 10**9, 1),  # between, but too few lanes
  ],
)
def test_the_rule(size, lanes, steps, expected, plans):
  assert lanes_at_once(Footprint(size, 1, 'shape'), lanes, steps, no_trial) == expected
  assert not list(plans.glob('*.json'))


def test_in_between_the_faster_wins_and_is_remembered(plans):
  timed = []

  def trial(width, steps):
    timed.append(width)
    return {1: 2e-6, 16: 1e-6}[width]

  found = Footprint(5_000, 1, 'one shape')
  assert lanes_at_once(found, 1000, 10**6, trial) == 16
  assert sorted(timed) == [1, 16]
  [file] = plans.glob('*.json')
  assert json.loads(file.read_text())['lanes_at_once'] == 16
  # Not timed again: neither in this process nor in one that starts in the same folder.
  assert lanes_at_once(found, 1000, 10**6, no_trial) == 16
  gdlab.remember_plans(plans)
  assert lanes_at_once(found, 500, 10**7, no_trial) == 16
  with pytest.raises(AssertionError, match='timed'):
    lanes_at_once(Footprint(5_000, 1, 'another shape'), 1000, 10**6, no_trial)


@pytest.mark.parametrize(
  'content', ['{}', '[]', '{"lanes_at_once": 0}', '{"lanes_at_once": "x"}', '\x00', '{"lanes_at_once": 1}']
)
def test_a_finding_that_is_damaged_is_found_anew(plans, content):
  found = Footprint(5_000, 1, 'one shape')
  assert lanes_at_once(found, 1000, 10**6, lambda width, steps: 1 / width) == 16
  [file] = plans.glob('*.json')
  file.write_text(content)
  gdlab.remember_plans(plans)
  assert lanes_at_once(found, 1000, 10**6, lambda width, steps: 1 / width) == 16
  gdlab.remember_plans(plans)
  assert lanes_at_once(found, 1000, 10**6, no_trial) == 16


def test_the_first_of_two_processes_decides(plans):
  found = Footprint(5_000, 1, 'one shape')

  def slower_process(width, steps):
    # While this one measures, another writes down what it found.
    (plans / f'{autotune._key(found)}.json').write_text('{"lanes_at_once": 1}')
    return {1: 2e-6, 16: 1e-6}[width]

  assert lanes_at_once(found, 1000, 10**6, slower_process) == 1


def test_a_finding_that_cannot_be_written_whole_leaves_nothing(plans, monkeypatch):
  def full(self, *arguments, **options):
    self.touch()
    raise OSError('no space left on device')

  monkeypatch.setattr(pathlib.Path, 'write_text', full)
  assert lanes_at_once(Footprint(5_000, 1, 'one shape'), 1000, 10**6, lambda width, steps: 1 / width) == 16
  assert not list(plans.glob('*.json'))


def test_a_trial_measures_the_real_program_and_its_finding_is_used(plans, monkeypatch):
  monkeypatch.setattr(autotune, 'SMALL', 0)
  monkeypatch.setattr(autotune, 'LONG', 0.0)
  options = {'num_steps': 20, 'seeds': 64, 'eval_every': 20, 'progress': False}
  first = gdlab.run(problem(), sgd(0.1), **options)
  [file] = plans.glob('*.json')
  found = json.loads(file.read_text())['lanes_at_once']
  assert first.attrs['plan_lanes_at_once'] == found
  assert found in (1, 16)
  # Whatever stands there is used, though the clock may say otherwise: so a restart gives the same bits.
  gdlab.remember_plans(plans)
  assert_same(gdlab.run(problem(), sgd(0.1), **options), first)
  other = {1: 16, 16: 1}[found]
  file.unlink()
  with checksums.writing(file) as temporary:
    temporary.write_text(json.dumps({'lanes_at_once': other}))
  gdlab.remember_plans(plans)
  assert gdlab.run(problem(), sgd(0.1), **options).attrs['plan_lanes_at_once'] == other


def test_the_cost_of_an_update_by_hand():
  descent = sgd(0.1)
  found = footprint(descent, (), problem())
  assert found.size == 3 * 4  # two weights and a bias, batches of four
  # Parameters, momenta: 3 floats each. Order of 11 and its step, model state and step: int32. Two keys of 8 bytes.
  assert found.num_bytes == 4 * (3 + 3) + 4 * (11 + 1 + 1 + 1) + 2 * 8


def test_blocks_take_a_quarter_of_the_free_memory():
  [line] = [line for line in pathlib.Path('/proc/meminfo').read_text().splitlines() if 'MemAvailable' in line]
  free = int(line.split()[1]) * 1024
  assert memory_lanes(2**20, 1) == pytest.approx(free / 4 / 2**20, rel=0.1)
  assert memory_lanes(2**60, 1) == 1


def test_a_container_s_limit_counts_where_it_is_less(tmp_path, monkeypatch):
  limit, none = tmp_path / 'memory.max', tmp_path / 'none'
  limit.write_text(f'{2**22}\n')
  none.write_text('max\n')
  monkeypatch.setattr(memory, 'CONTAINER_LIMITS', (str(none), str(limit), str(tmp_path / 'missing')))
  assert memory_lanes(2**16, 1) == 2**22 / 4 / 2**16


class Accelerator(NamedTuple):
  """A device that says how much memory it has."""

  bytes_limit: int
  bytes_in_use: int

  def memory_stats(self):
    return self._asdict()


@pytest.mark.parametrize(('num_bytes', 'expected'), [(1, 1024), (2**20, 64), (2**20 + 1, 32), (2**40, 1)])
def test_no_more_lanes_at_once_than_an_accelerator_holds(num_bytes, expected, monkeypatch):
  # A quarter of 256 MiB is 64 lanes of 1 MiB; what is in use at the moment changes no lane's last bits.
  monkeypatch.setattr(jax, 'local_devices', lambda: [Accelerator(2**28, 2**27)])
  assert widest_vmap(num_bytes, 1024) == expected
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert lanes_at_once(Footprint(10**6, num_bytes, 'shape'), 1000, 10**6, no_trial) == expected


def test_sizes_by_default_are_what_the_rule_says():
  result = gdlab.run(problem(), stream_sgd(0.1), num_steps=2, seeds=5, progress=False)
  devices = jax.local_device_count()
  assert result.attrs['plan_lanes_at_once'] == 2  # five lanes on four devices, two at once
  assert result.attrs['plan_lanes_per_block'] == 2 * devices


def test_compiled_programs_are_kept_and_found_again(tmp_path):
  code = """
import sys, jax, jax.numpy as jnp, optax, gdlab
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith('cache_hits') else None)
folder = gdlab.use_compilation_cache(sys.argv[1])
problem = gdlab.problems.digits(gdlab.problems.MLP((8,)))
descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(32), optimizer=optax.sgd(0.1))
result = gdlab.run(problem, descent, num_steps=5, seeds=2, eval_every=5, progress=False)
print(folder, len(hits), float(result.train_loss.sum()).hex())
"""
  first, second = (
    subprocess.run(
      [sys.executable, '-W', 'error', '-c', code, str(tmp_path / 'kept')],
      capture_output=True,
      text=True,
      check=True,
    ).stdout.split()
    for _ in range(2)
  )
  assert first[0] == second[0] == str(tmp_path / 'kept')
  assert int(first[1]) == 0
  assert int(second[1]) >= 2  # both programs of the run
  assert first[2] == second[2]


def test_a_cache_that_plain_programs_filled_is_added_to(tmp_path):
  """JAX's own setting has no bound, and writes no times of use, without which a bounded cache fails."""
  plain = 'import jax, jax.numpy as jnp; jax.jit(lambda x: jnp.sin(x) + {0})(1.0)'
  ours = 'import gdlab; assert str(gdlab.use_compilation_cache()) == {1!r}; import jax; '
  ours += "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0); " + plain
  settings = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  counts = []
  for number, code in enumerate((plain, ours)):
    command = [sys.executable, '-W', 'error', '-c', code.format(number, str(tmp_path))]
    subprocess.run(command, env=os.environ | settings, check=True)
    counts.append(len(list(tmp_path.glob('*-cache'))))
  assert 0 < counts[0] < counts[1]


def test_the_cache_refuses_a_folder_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(gdlab.InputError, match=r'^folder must be one that can be written, got '):
    gdlab.use_compilation_cache(tmp_path / 'file' / 'below')
