"""Does momentum need fewer updates? A study as a user writes it: python own_study.py --workdir=DIR."""

import numpy as np
import optax

import gdlab
from gdlab import plots, statistics, study
from gdlab.claims import greater_than, less_than
from gdlab.report import Table, number


class Settings(study.Config):
  rates: study.Rising = (0.03, 0.1, 0.3)
  updates: study.Count = 120
  target: study.Positive = 1.5
  seeds: study.Seeds = study.Seeds(count=4, tuning=2)


momentum = study.Study(
  Settings,
  title='Momentum on the digits',
  question='Does momentum need fewer updates than plain descent to the same loss?',
  conditions='digits, 8 hidden units, batches of 32, {config.updates} updates',
)
DECAYS = {'plain': 0.0, 'heavy': 0.9}


def arm(decay, rates):
  def make(learning_rate):
    optimizer = optax.sgd(learning_rate, decay)
    return gdlab.algorithm(sampler=gdlab.sampling.reshuffle(32), optimizer=optimizer)

  return gdlab.Arm(make, {'learning_rate': rates})


@momentum.comparison
def methods(config):
  digits = gdlab.problems.digits(gdlab.problems.MLP((8,)))
  arms = {name: arm(decay, config.rates) for name, decay in DECAYS.items()}
  options = {'baseline': 'plain', 'budgets': {'updates': config.updates}, 'margin': 0.01}
  return {'problem': gdlab.problems.split(digits, validation=0.2), 'arms': arms} | options


@momentum.cell()
def noisy(config, progress):
  valley = gdlab.problems.quadratic([1.0, 0.1], noise=0.1)
  method = arm(0.0, ()).make(0.1)
  return gdlab.run(valley, method, num_steps=20, seeds=config.seeds.ids, progress=progress)


M1 = momentum.claim('M1', 'Momentum reaches the target in fewer updates.', 'methods')
M2 = momentum.claim('M2', 'The loss of a quadratic shrinks.')


@M1('updates to the target, plain over heavy', greater_than(1.0))
def speed(view):
  arms = view.comparison('methods').arms
  found = [arms[name].steps_to(view.config.target, 'updates') for name in DECAYS]
  times = (np.where(each.censored, np.inf, each.time) for each in found)
  return statistics.paired_log_ratio(*times, confidence=view.confidence)


@M2('last loss over the first', less_than(1.0))
def shrink(view):
  losses = view.cell('noisy').train_loss
  return statistics.paired_log_ratio(losses.isel(step=-1), losses.isel(step=0), confidence=view.confidence)


@momentum.section('Both arms', 'Means over {config.seeds.count} seeds.')
def summary(view):
  arms = view.comparison('methods').arms.values()
  return Table(('arm', 'test loss'), [(own.name, number(float(own.final('updates').mean()))) for own in arms])


@momentum.section('Loss along the runs', caption='Medians and the middle 80 %.')
def losses(view):
  arms = view.comparison('methods').arms.values()
  return plots.curves({own.name: own.curve('updates') for own in arms}, 'test_loss')


if __name__ == '__main__':
  momentum.main()
