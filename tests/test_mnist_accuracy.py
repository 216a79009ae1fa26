"""The textbook network on MNIST, through the public API: what mini-batches and a schedule reach."""

import os

import optax
import pytest

import gdlab

EPOCHS, BATCH_SIZE, NUM_SEEDS = 8, 128, 10


@pytest.mark.slow
@pytest.mark.skipif('GDLAB_DATA' not in os.environ, reason='needs MNIST: set GDLAB_DATA')
def test_a_784_300_100_10_network_reaches_97_5_percent():
  problem = gdlab.problems.mnist()
  sampler = gdlab.sampling.reshuffle(BATCH_SIZE)
  num_steps = EPOCHS * sampler.updates_per_epoch(problem.num_examples)
  schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, num_steps // 20, num_steps)
  algorithm = gdlab.algorithm(sampler=sampler, optimizer=optax.sgd(schedule, momentum=0.9, nesterov=True))
  result = gdlab.run(
    problem, algorithm, num_steps=num_steps, seeds=NUM_SEEDS, eval_every=num_steps, progress=True
  )
  accuracy = result.test_accuracy.isel(step=-1)
  print(f'test accuracy: mean {float(accuracy.mean()):.4f}, {accuracy.values.round(4).tolist()}')
  assert (result.status.isel(step=-1) == gdlab.RUNNING).all()
  assert accuracy.mean() >= 0.975
