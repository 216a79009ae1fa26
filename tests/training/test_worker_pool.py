"""Sweeps in other processes: a pool of ours and a Dask cluster give what one process gives, bit for bit."""

import concurrent.futures
import multiprocessing
import os
import time

import distributed
import jax
import pytest
import sent_runs

import gdlab
from gdlab.core.errors import InputError
from gdlab.host import machine
from gdlab.host.workers import cores_of, end_workers


def assert_same(ours, theirs):
  assert ours.drop_attrs().identical(theirs.drop_attrs())
  for name in ours.variables:  # identical() takes NaNs of any kind for equal
    assert ours[name].values.tobytes() == theirs[name].values.tobytes(), name


def test_a_sweep_in_a_pool_is_that_of_one_process():
  with gdlab.worker_pool(2) as pool:
    assert_same(sent_runs.runs(sent_runs.quadratic, pool), sent_runs.runs(sent_runs.quadratic))
    with pytest.raises(concurrent.futures.BrokenExecutor):
      pool.submit(os._exit, 1).result()
    with pytest.raises(InputError, match=r'^a worker process of the executor ended before its task was done'):
      sent_runs.runs(sent_runs.quadratic, pool)


def test_workers_share_the_cores_and_take_over_settings():
  with jax.enable_x64(True), gdlab.worker_pool(2) as made:
    first, second = [task.result() for task in [made.submit(sent_runs.seen) for _ in range(2)]]
  assert first['id'] != second['id']
  for found in (first, second):
    assert found['leaves Ctrl-C']
    # On one thread where this process has more, 60 updates of a network by its full batch came out with other bits.
    assert found['threads'] == str(max(len(machine.own_cores()), jax.config.jax_num_cpu_devices))
    assert found['dtype'] == 'float64'
    assert found['cache'] == jax.config.jax_compilation_cache_dir
  if hasattr(os, 'sched_getaffinity'):
    cores = machine.own_cores()
    for found in (first, second):
      assert found['devices'] == len(found['cores']) == max(1, len(cores) // 2)
    assert {*first['cores']} | {*second['cores']} == {*cores}


@pytest.mark.parametrize(
  ('cores', 'num_workers', 'shares'),
  [
    ([0, 1, 2, 3], 2, [[0, 1], [2, 3]]),
    ([0, 1, 2, 3, 5], 2, [[0, 1], [2, 3, 5]]),
    ([4, 7], 5, [[4], [7], [4], [7], [7]]),
    ([3], 2, [[3], [3]]),
  ],
)
def test_the_share_of_a_worker(cores, num_workers, shares):
  assert [cores_of(cores, number, num_workers) for number in range(num_workers)] == shares


@pytest.mark.parametrize('number', [0, -1, 1.5, True, None, '2'])
def test_a_number_of_workers_that_is_none_is_refused(number):
  with pytest.raises(InputError, match=r'^num_workers must be a whole number >= 1, got'):
    gdlab.worker_pool(number)


def test_a_sweep_on_a_dask_cluster_is_that_of_one_process():
  with (
    distributed.LocalCluster(
      n_workers=2, threads_per_worker=1, processes=True, host='127.0.0.1', dashboard_address=None
    ) as cluster,
    distributed.Client(cluster, set_as_default=False) as client,
  ):
    here = sent_runs.runs(sent_runs.quadratic)
    assert_same(sent_runs.runs(sent_runs.quadratic, client.get_executor()), here)


def test_a_pool_that_forks_is_refused():
  context = multiprocessing.get_context('fork')
  with (
    concurrent.futures.ProcessPoolExecutor(2, context) as forking,
    pytest.raises(
      InputError, match=r'^executor must not fork, because JAX hangs in forked processes'
    ) as caught,
  ):
    sent_runs.runs(sent_runs.quadratic, forking)
  assert '\n' not in str(caught.value)


def test_what_cannot_be_sent_is_refused():
  with gdlab.worker_pool(1) as made, pytest.raises(InputError, match=r'^executor cannot send') as caught:
    gdlab.sweep(
      sent_runs.quadratic,
      lambda learning_rate: sent_runs.descent(learning_rate),
      {'learning_rate': [0.1]},
      num_steps=1,
      seeds=1,
      executor=made,
    )
  assert '\n' not in str(caught.value)


def test_workers_that_are_told_to_end_save_first(tmp_path):
  pool = gdlab.worker_pool(1)
  task = pool.submit(sent_runs.long_run, tmp_path)
  limit = time.monotonic() + 120
  while not (tmp_path / 'seen').exists():
    assert not task.done(), task.exception()
    assert time.monotonic() < limit
    time.sleep(0.1)
  assert not [*tmp_path.glob('*.npz')]  # the first would be due in an hour
  end_workers(pool)
  assert [*tmp_path.glob('*.npz')]
