"""Under which problems, models and settings each claim was tested, in words made from what was run."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from experiments.saddles import race, training


def _searches(study) -> str:
  fields, search = study.config.fields, study.config.search
  return (
    f'Gaussian random fields in {_listed(fields.dimensions)} dimensions, {fields.num_starts} starts in a box six '
    f'length scales wide; tanh networks of {_listed(search.widths)} hidden units on {search.num_examples} digits, '
    f'{search.num_starts} starts; every point certified in float64, each counted once however often it was found'
  )


def _departures(study) -> str:
  options = study.config.race
  return (
    f'{_places(study, options.generic)}, chosen so that examples differ along the steepest way down; '
    f'{_places(study, options.silent)}, found by the same search, at which they agree on that way but may differ along '
    f'others; exactly at the saddle, float64, {options.folds:g} e-foldings of full batch at rate 1/L; left: down by '
    f'{options.drop:g} of the fall; B = 1, {options.mini_batch} and half of the examples; rate of each arm '
    f'{_tuned(study)}: {_listed(options.multiples)} over L, B = 1 {options.mini_batch} times as many updates at rates '
    'as many times as small'
  )


def _sooner(study) -> str:
  options, growth = study.config.race, study.config.growth
  return (
    f'next to {_places(study, options.generic)} (displaced by {options.displacement:g} per parameter), full batch, '
    f'beta {race.BETA:g}; rate of each arm {_tuned(study)} ({len(options.near_multiples)} for plain, '
    f'{len(options.momentum_multiples)} for momentum, {len(options.adam_rates)} for Adam); laws: quadratic saddles, '
    f'alpha*gamma {_listed(growth.strengths)}, beta {_listed(beta for beta in growth.betas if beta)}; scales of the '
    f'loss {_listed(growth.scales)}, Adam at its default epsilon'
  )


def _chain(study) -> str:
  chain = study.config.chain
  shown = [rate for rate in chain.rates if rate > chain.largest_rate]
  return (
    f'octopus with L = gamma = 1, tau = e, starts uniform on [0, 1]^d, float64; plain to {chain.dimension} saddles at '
    f'rate {study.chain_rate_named("chain_plain", "plain")}, perturbed to {chain.long} at rate '
    f'{study.chain_rate_named("chain_noisy", "perturbed")}, each {_tuned(study)} up to {chain.largest_rate:g}: below '
    f'1/(2L), where descent does not overshoot; shown but not graded: {_listed(shown) or "none"}'
  )


def _formula(study) -> str:
  growth = study.config.growth
  return (
    f'quadratic saddles (dimension, curvature, start) {", ".join(str(tuple(case)) for case in growth.cases)}, '
    f'alpha*gamma {_listed(growth.strengths)}; noise at alpha*gamma {_listed(growth.noisy_strengths)}, B = '
    f'{_listed(growth.batch_sizes)}, {growth.repeats} exits for each seed; PCA of the digits and saddles of the '
    f'network at rates {_listed(growth.curved_multiples)} over L from {growth.curved_scale:g} to '
    f'{growth.curved_distance:g}; exits counted in whole updates'
  )


def _training(study) -> str:
  options = study.config.training
  chosen = {arm: study.results[training.cell_name(arm)].attrs['learning_rate'] for arm in training.OPTIMIZERS}
  return (
    f'{options.dataset}, tanh network with {options.hidden} hidden units, B = {options.batch_size}, usual start, until '
    f'the training loss is {options.target_loss:g}, looked at every {options.record_every} updates; near a saddle: '
    f'gradient norm at most {options.near_gradient:g} of that at the start and an eigenvalue certainly below '
    f'-{options.near_curvature:g} of the largest, which has to find more than half of the stay of '
    f'{options.num_control_seeds} control runs from a start {1 / options.small_scale:g} times as small; rate '
    f'{_tuned(study)} ({len(options.sgd_rates)} for SGD, {len(options.adam_rates)} for Adam): '
    + ', '.join(f'{arm} {rate:g}' for arm, rate in chosen.items())
  )


TELL: Mapping[str, Callable[[Any], str]] = {
  'S1': _searches,
  'S2': _departures,
  'S3': _sooner,
  'S4': _chain,
  'S5': _formula,
  'S6': _training,
}


def _tuned(study) -> str:
  return f'the best of those tried on {study.config.num_tuning_seeds} other seeds'


def _places(study, names: Iterable[str]) -> str:
  """Kinds of saddles that runs start at, as they were measured."""
  told = []
  for name in names:
    told.append(
      {
        'made': 'a strict saddle of {num_parameters} parameters',
        'pca': 'PCA of the digits ({num_parameters} parameters)',
      }.get(
        name, '{num_saddles} saddles of a tanh network ({num_parameters} parameters, {num_examples} digits)'
      ).format(**study.results[f'at_{name}'].attrs)
    )
  return ', '.join(told)


def _listed(numbers: Iterable[float]) -> str:
  return ', '.join(f'{number:g}' for number in numbers)
