"""The parts of the benchmark: which processes race for what, and what comes of it."""

import json
from typing import Any

import numpy as np

from experiments.throughput import pool, products, ratios, tasks
from experiments.throughput.entries import Entry, Outcome, per_core, row, skipped, us_of, variants_of
from experiments.throughput.pool import Spec
from gdlab.host.progress import Progress

EVAL_EVERY = 100  # updates, in the runs that are evaluated


def mlp(
  config,
  batch_size: int,
  num_steps: int,
  vmap_steps: int,
  loop_steps: int,
  torch_steps: int,
  progress: Progress,
) -> Outcome:
  """All contenders on the digits at one batch size; those slow at a step make fewer in a repeat."""
  seeds, names = int(config.num_seeds), products.names(config.peak.sizes)
  work, variant = _on_digits(config, batch_size), variants_of(seeds, num_steps)
  variants = [
    variant('gdlab'),
    variant('gdlab recorded', sampler='reshuffle', record_every=10, eval_every=EVAL_EVERY),
    variant('gdlab recorded, not evaluated', sampler='reshuffle', record_every=10),
    variant('bare loop', bare=True),
    variant('bare loop, evaluated', bare=True, eval_every=EVAL_EVERY),
  ]
  peak = {'sizes': list(config.peak.sizes), 'gflop': config.peak.gflop}
  specs = {
    'gdlab': Spec('runs', [work | {'variants': variants}], all_cores=True),
    'python loop': per_core('loops', work | {'kind': 'loop', 'num_steps': loop_steps}, seeds),
    'jit(vmap)': Spec('loops', [work | {'kind': 'vmap', 'num_steps': vmap_steps, 'seeds': [*range(seeds)]}]),
    'peak': Spec('products', [peak] * len(pool.cores()), pinned=True),
  }
  entries = {
    'python loop': Entry('python loop', 'loop', seeds, loop_steps),
    'python loop, fused': Entry('python loop', 'fused loop', seeds, loop_steps),
    'jit(vmap)': Entry('jit(vmap)', 'vmap', seeds, vmap_steps),
  }
  users = work | {'model': 'nnx mlp', 'num_steps': vmap_steps, 'seeds': [*range(seeds)]}
  specs['gdlab, NNX'] = Spec('runs', [users | {'variants': [variant('gdlab, NNX')]}], all_cores=True)
  specs['jit(vmap), NNX'] = Spec('loops', [users | {'kind': 'vmap'}])
  entries['gdlab, NNX'] = Entry('gdlab, NNX', 'gdlab, NNX', seeds, num_steps)
  entries['jit(vmap), NNX'] = Entry('jit(vmap), NNX', 'vmap', seeds, vmap_steps)
  if not skipped():
    specs['PyTorch eager'] = per_core('torch_loop', work | {'num_steps': torch_steps}, seeds)
    entries['PyTorch eager'] = Entry('PyTorch eager', 'torch', seeds, torch_steps)
  entries |= {each['name']: Entry('gdlab', each['name'], seeds, num_steps) for each in variants}
  order = [(entry.group, entry.measurable) for entry in entries.values()]
  timed = pool.race(specs, order + [('peak', name) for name, _ in names], config.num_rounds, progress)

  rows = [row('mlp', name, batch_size, entry, specs, timed) for name, entry in entries.items()]
  widths = (64, *config.hidden, 10)
  flops, rates = tasks.flops_per_example(widths), {}
  for name, size in names:
    total = 2 * size**3 * products.num_products(peak, size) * len(pool.cores())
    rates[name] = total / np.asarray(timed['peak', name].seconds)
  peak_of = max(rates, key=lambda name: float(np.median(rates[name])))
  facts = {
    'batch_size': batch_size,
    'flops_per_example': flops,
    'peak_gflops': float(np.median(rates[peak_of])) / 1e9,
    'peak_of': peak_of,
    'peak_seconds': {name: timed['peak', name].seconds for name, _ in names},
  }
  found = ratios.of_batch_size(batch_size, us_of(rows), flops, rates[peak_of])
  return Outcome(rows, found, facts)


def samplers(config, batch_size: int, num_steps: int, progress: Progress) -> Outcome:
  """The price of reshuffling against drawing with replacement, in both layouts of the lanes on a device."""
  seeds = int(config.num_seeds)
  variant = variants_of(seeds, num_steps)
  variants = [
    variant(f'{sampler}, {plan}', sampler=sampler, lanes_at_once=at_once)
    for plan, at_once in (('lane after lane', 1), ('all lanes at once', -(-seeds // len(pool.cores()))))
    for sampler in ('reshuffle', 'with replacement')
  ]
  specs = {'gdlab': Spec('runs', [_on_digits(config, batch_size) | {'variants': variants}], all_cores=True)}
  entries = {each['name']: Entry('gdlab', each['name'], seeds, num_steps) for each in variants}
  order = [(entry.group, entry.measurable) for entry in entries.values()]
  timed = pool.race(specs, order, config.num_rounds, progress)
  rows = [row('samplers', name, batch_size, entry, specs, timed) for name, entry in entries.items()]
  return Outcome(rows, ratios.of_samplers(batch_size, us_of(rows)), {})


def cnn(config, progress: Progress) -> Outcome:
  """A small CNN: gdlab's own against PyTorch, and a user's own in NNX against what the user would write."""
  settings = config.cnn
  seeds, images, size = int(settings.num_seeds), tasks.images_at_hand(), settings.batch_size
  work = {
    'model': 'cnn',
    'images': images,
    'num_images': settings.num_images,
    'batch_size': size,
    'learning_rate': config.learning_rate,
  }
  variants = [variants_of(seeds, settings.num_steps)('gdlab')]
  specs = {'gdlab': Spec('runs', [work | {'variants': variants}], all_cores=True)}
  entries = {'gdlab': Entry('gdlab', 'gdlab', seeds, settings.num_steps)}
  if not skipped():
    specs['PyTorch eager'] = per_core('torch_loop', work | {'num_steps': settings.torch_steps}, seeds)
    entries['PyTorch eager'] = Entry('PyTorch eager', 'torch', seeds, settings.torch_steps)
  order = [(entry.group, entry.measurable) for entry in entries.values()]
  timed = pool.race(specs, order, config.num_rounds, progress)
  rows = [row('cnn', name, size, entry, specs, timed) for name, entry in entries.items()]
  found, us = [], us_of(rows)
  if 'PyTorch eager' in us:
    target, theirs = ratios.CNN_AT_LEAST, us['PyTorch eager']
    found = [ratios.quotient('CNN, PyTorch eager', size, theirs, us['gdlab'], at_least=target, us=theirs)]
  return Outcome(rows, found, {'images': images, 'num_images': settings.num_images})


def users_cnn(config, batch_size: int, num_steps: int, progress: Progress) -> Outcome:
  """A user's own CNN in NNX, 8 seeds, against the better of two ways to step it from Python."""
  seeds, images = int(config.users_cnn.num_seeds), tasks.images_at_hand()
  work = {
    'model': 'nnx cnn',
    'images': images,
    'num_images': config.cnn.num_images,
    'batch_size': batch_size,
    'learning_rate': config.learning_rate,
    'num_steps': num_steps,
  }
  variants = [variants_of(seeds, num_steps)('gdlab, NNX')]
  specs = {
    'gdlab, NNX': Spec('runs', [work | {'variants': variants}], all_cores=True),
    'python loop': per_core('loops', work | {'kind': 'loop'}, seeds),
    'stepped jit(vmap)': Spec('loops', [work | {'kind': 'stepped vmap', 'seeds': [*range(seeds)]}]),
  }
  measurables = {'gdlab, NNX': 'gdlab, NNX', 'python loop': 'fused loop', 'stepped jit(vmap)': 'stepped vmap'}
  entries = {name: Entry(name, measurable, seeds, num_steps) for name, measurable in measurables.items()}
  order = [(entry.group, entry.measurable) for entry in entries.values()]
  timed = pool.race(specs, order, config.num_rounds, progress)
  rows = [row('users_cnn', name, batch_size, entry, specs, timed) for name, entry in entries.items()]
  us = us_of(rows)
  better = np.minimum(us['python loop'], us['stepped jit(vmap)'])
  target, name = ratios.USERS_CNN_AT_LEAST, "user's CNN, the better Python loop"
  found = [ratios.quotient(name, batch_size, better, us['gdlab, NNX'], at_least=target, us=better)]
  return Outcome(rows, found, {'images': images, 'num_images': config.cnn.num_images})


def lanes(config, progress: Progress) -> Outcome:
  """The cost of a lane when there are few and many."""
  settings = config.lanes
  entries = {
    f'{count} lanes': Entry('gdlab', f'{count} lanes', count, settings.num_steps) for count in settings.counts
  }
  variants = [variants_of(entry.num_lanes, settings.num_steps)(name) for name, entry in entries.items()]
  specs = {
    'gdlab': Spec('runs', [_on_digits(config, settings.batch_size) | {'variants': variants}], all_cores=True)
  }
  order = [(entry.group, entry.measurable) for entry in entries.values()]
  timed = pool.race(specs, order, settings.num_rounds, progress)
  rows = [row('lanes', name, settings.batch_size, entry, specs, timed) for name, entry in entries.items()]
  found = ratios.of_lanes(settings.counts, [row['us_per_update'] for row in rows])
  return Outcome(rows, found, {'counts': list(settings.counts), 'num_steps': settings.num_steps})


def memory(config, progress: Progress) -> Outcome:
  """What one more lane adds to the peak of a fresh process, against what has to be held for it."""
  settings = config.memory
  few, many = settings.counts
  answers = []
  for number, count in enumerate((few, many)):
    variant = variants_of(count, settings.num_steps)('run', sampler='reshuffle', record_every=1)
    spec = Spec(
      'memory', [_on_digits(config, config.lanes.batch_size) | {'variants': [variant]}], all_cores=True
    )
    answers.append({name: int(value) for name, value in pool.ask_fresh('memory', spec).items()})
    progress(number + 1, 2)
  facts = {
    'lanes': [few, many],
    'peak_bytes': [answer['peak_bytes'] for answer in answers],
    'bytes_per_lane': (answers[1]['peak_bytes'] - answers[0]['peak_bytes']) / (many - few),
    'held_bytes_per_lane': answers[1]['held_bytes'],
    'recorded_bytes_per_lane': answers[1]['recorded_bytes'],
  }
  return Outcome([], ratios.of_memory(facts), facts)


def saves(config, progress: Progress) -> Outcome:
  """What checkpoints as by default cost a sweep of many lanes, and how soon it goes on."""
  settings = config.saves
  work = _on_digits(config, config.lanes.batch_size) | settings.model_dump()
  told = pool.ask_fresh('saves', Spec('saves', [work], all_cores=True))
  facts = work | {name: json.loads(values) for name, values in told.items()}
  progress(1, 1)
  return Outcome([], ratios.of_saves(facts), facts)


def _on_digits(config, batch_size: int) -> dict[str, Any]:
  return {
    'model': 'mlp',
    'hidden': list(config.hidden),
    'batch_size': batch_size,
    'learning_rate': config.learning_rate,
  }
