"""Under which problems, models and settings the claims were tested, in words."""

from experiments.minima import dose, effects, networks, valleys
from experiments.minima.study import Study


class Graded(Study):
  """Stored results that say under which conditions a claim was tested."""

  def conditions(self, claim: str) -> str:
    """Under which problem, model and settings a claim was tested, in words."""
    return {'N1': _leaving, 'N2': _thrown, 'N3': _escape, 'N4': _dose}.get(claim, _widths)(self, claim)


def _wells(study: Study) -> str:
  config, options = study.config, study.config.valleys
  _, _, ridge = valleys.landscape('tilted')
  return (
    f'plain descent on a tilted double well whose ridge is {ridge.barrier(True):.2f} above its poor and '
    f'{ridge.barrier(False):.2f} above its good minimum; {options.num_examples} examples, with replacement, whose '
    f"noise is set by Kramers' formula: B={options.mini_batch} at rate {options.learning_rate:g} expects "
    f'{options.escapes:g} escapes from the shallow valley in {options.updates} updates, a temperature of '
    f'{valleys.temperature(config):.3g}; others in proportion to rate / B'
  )


def _leaving(study: Study, claim: str) -> str:
  del claim
  cells = ', '.join(f'B={size} at {rate:g}' for size, rate in valleys.graded(study.config))
  return (
    f'{_wells(study)}; asked of the batches and rates where the formula expects as many escapes or more and the '
    f'temperature is at most the ridge: {cells}. Larger batches or smaller rates are not expected to leave'
  )


def _thrown(study: Study, claim: str) -> str:
  del claim
  config, options = study.config, study.config.valleys
  heights = {cell: valleys.landscape(name)[2].barrier(True) for cell, name in CELLS.items()}
  parts = []
  for rate in (options.learning_rate, options.lower_rate):
    ratios = ' and '.join(
      f'{height / valleys.temperature(config, 1, rate):.2g}' for height in heights.values()
    )
    waits = ' and '.join(f'{study.patience(cell, 1, rate)}' for cell in heights)
    parts.append(f'at rate {rate:g} {ratios} times T, judged {waits} updates after the fall')
  rate = networks.trap_rate(study.results['trap_tuning'])
  return (
    f'{_wells(study)}; reshuffled examples on a sharp good valley (curvature 25) beside a flat poor one (1), '
    f'ridge 1.25 and 1 above them. The ridges above the two poor valleys: {"; ".join(parts)}. '
    "Where a ridge is below T, 'cannot leave' is excluded by construction. Then a network on "
    f'{config.dataset}, one hidden layer of {config.hidden_of_trap} units, rate {rate:g} (the best for '
    f'B={config.trap.batch_size}), {config.trap.epochs} epochs and {config.trap.return_epochs} more'
  )


CELLS = {'leave_good': 'tilted', 'leave_sharp': 'sharp'}


def _escape(study: Study, claim: str) -> str:
  del claim
  options = study.config.escape
  num = len(options.barriers) * len(options.batch_sizes)
  return (
    f'symmetric double well, {options.num_examples} examples drawn with replacement, ridge over temperature '
    f'{", ".join(f"{each:g}" for each in options.barriers)}, B={list(options.batch_sizes)} with rates in '
    f'proportion; the largest of {num} deviations is one draw of a random number, for exact agreement '
    f'{effects.largest_of(num, 0.5):.2f} in the median and at most {effects.largest_of(num, 0.95):.2f} in 95 %'
  )


def _dose(study: Study, claim: str) -> str:
  del claim
  config = study.config
  levels = '; '.join(
    f'{name}: '
    + ', '.join(f'{schedule} {study.best_level(section, schedule):g}' for schedule in dose.SCHEDULES)
    for section, name in (('dose', 'landscape'), ('dose_network', 'network'))
  )
  counts = ' and '.join(
    f'{len(config[section].learning_rates)} rates ({name})'
    for section, name in (('dose', 'landscape'), ('dose_network', 'network'))
  )
  return (
    f'full batch with Langevin noise: Rastrigin function in {config.dose.dim} dimensions; {config.dataset}, '
    f'one hidden layer of {config.dose_network.hidden} units, {config.dose_network.num_examples} training images; '
    f'each level, no noise included, at that of {counts} with the best mean over tuning seeds, a run that ended '
    f'badly counted; levels chosen likewise ({levels})'
  )


def _widths(study: Study, claim: str) -> str:
  config = study.config
  common = (
    f'{config.dataset}, multilayer perceptron with one hidden layer of '
    f'{", ".join(str(width) for width in study.widths)} units; momentum {networks.MOMENTUM}, '
    f'B={config.widths.batch_size}, {config.widths.epochs} epochs, rate falling to 0 from the best of '
    f'{len(config.widths.learning_rates)} on {config.widths.num_tuning_seeds} other seeds; one data '
    'order, only initial parameters differ'
  )
  pairs = study.config.widths.pairs
  return {
    'N5': f'{common}; slopes are those of the straight line through all widths, which need not be a power law',
    'N6': f'{common}; {pairs} pairs that share no network, {config.widths.points} points on each line; '
    'slopes are those of the straight line through all widths, which need not be a power law',
    'N7': f'{common}; ensembles of {config.members} of width {config.ensemble_width} average their '
    f'probabilities; {config.num_seeds // config.members} ensembles that share no network',
  }[claim]
