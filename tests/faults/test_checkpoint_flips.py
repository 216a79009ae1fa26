"""One bit flipped in a checkpoint: never believed. An older one, or a fresh start, gives the same bits."""

import random
import shutil

import numpy as np
import optax
import pytest

import gdlab
from gdlab.host import checksums

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
FLIPS = 140
PLAN = gdlab.Plan(1, 2, 4)


class Killed(Exception):
  """In place of the end of a process."""


def descent(learning_rate):
  optimizer = optax.sgd(learning_rate, momentum=0.5)
  return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optimizer)


PROBLEM = gdlab.problems.quadratic([1.0, 0.1], noise=0.3, num_examples=16)


def sweep(**options):
  grid = {'learning_rate': [0.05, 0.1]}
  return gdlab.sweep(
    PROBLEM, descent, grid, num_steps=12, seeds=3, eval_every=2, plan=PLAN, **({'progress': False} | options)
  )


def test_flipped_bits_are_never_believed(tmp_path, capfd):
  whole = sweep()

  def show(done, total):
    if done >= 60:  # of 72
      raise Killed

  with pytest.raises(Killed):
    sweep(checkpoint=tmp_path / 'begun', checkpoint_every=1e-9, progress=show)
  files = sorted(path for path in (tmp_path / 'begun').iterdir() if path.suffix == '.npz')
  assert len(files) >= 4
  chance, noticed = random.Random(0), 0
  for number in range(FLIPS):
    folder = tmp_path / str(number)
    shutil.copytree(tmp_path / 'begun', folder)
    # All in turn, one in eight times the list of sums.
    name = checksums.SUMS if number % 8 == 7 else files[number % len(files)].name
    content = bytearray((folder / name).read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (folder / name).write_bytes(content)
    found = sweep(checkpoint=folder)
    for variable in whole.data_vars:
      assert np.array_equal(found[variable], whole[variable], equal_nan=True), (number, name, variable)
    said = capfd.readouterr().err
    assert 'Traceback' not in said
    noticed += name in said or 'passed over' in said
    shutil.rmtree(folder)
  # Of a name in the list's last, unread line, or of an older file that is not needed, nothing is noticed.
  assert noticed >= FLIPS // 3
  print(f'flips caught: {FLIPS} in checkpoints, {noticed} of them spoken of')
