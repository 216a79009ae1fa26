"""Runs of `tiny_runs` that are ended in their midst, for the tests of checkpoints."""

import pytest
from tiny_runs import run

ALWAYS = 1e-9  # seconds: a checkpoint after every call


class Killed(Exception):
  """In place of the end of a process."""


def ended_after(updates):
  """A progress that ends all once so many updates are made, of all runs."""

  def show(done, total):
    if done >= updates:
      raise Killed

  return show


def in_pieces(do, folder, total, pieces=3, **options):
  """What `do` returns when it was ended so many times before."""
  for piece in range(1, pieces):
    with pytest.raises(Killed):
      do(checkpoint=folder, checkpoint_every=ALWAYS, progress=ended_after(piece * total // pieces), **options)
  return do(checkpoint=folder, checkpoint_every=ALWAYS, **options)


def begun(folder, **options):
  with pytest.raises(Killed):
    run(3, checkpoint=folder, checkpoint_every=ALWAYS, progress=ended_after(36), **options)
