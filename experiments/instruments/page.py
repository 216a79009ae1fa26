"""The page, from what was measured."""

import numpy as np
import xarray as xr

import gdlab
from gdlab.diagnosis import Diagnosis
from gdlab.report import Section, Table, number, page


def render(config, found: dict, drawn: dict[str, str], command: str) -> str:
  """The page with every instrument."""
  result, subject = found['run'], found['subject']
  size = result.sizes['params_0']
  lead = (
    f'A Flax NNX network of {size:,} parameters, defined without gdlab, on the {subject.problem.num_examples:,} '
    f'embedded digits: plain descent with batches of {config.batch_size} at rate {config.learning_rate:g} for '
    f'{config.num_steps:,} updates. What the instruments of gdlab.analysis and gdlab.diagnose say of it, along the '
    'run as probes of gdlab.run, and at its end by themselves.',
  )
  sections = [
    Section('Before training', _checks(found)),
    Section('Loss', (), drawn['losses'], 'Median of the runs and the middle 80 %.'),
    Section('Largest eigenvalues of the Hessian', _eigenvalues(config, result), drawn['eigenvalues']),
    Section(
      'Spectrum at the end', _spectrum(found['spectrum']), drawn['spectrum'], '', _pairs(found['spectrum'])
    ),
    Section('All eigenvalues at the end', _dense(found['spectrum']), drawn['histogram']),
    Section('Gradient noise scale', _noise(config, result), drawn['noise']),
    Section('Sharpness along the run', (), drawn['sharpness'], 'Rise of the loss to its highest in a ball.'),
    Section(
      'Start and end',
      (
        'Of the first run. Sharpness in three ways: the highest loss in a box (Keskar), in a ball (SAM), and in a ball '
        'that is stretched by the size of each parameter (adaptive); noise is Gaussian on every parameter. The margin '
        'over spectral norms is a median.',
      ),
      '',
      '',
      _numbers(found['generalisation']),
    ),
    Section('Margins', (), drawn['margins']),
    Section(
      'The plane of the run',
      (
        "The training loss over the run's two principal components, with equal areas between contours. The run is "
        'beside this plane by what they leave out.',
      ),
      drawn['plane'],
    ),
    Section('On the way to another solution', _barriers(found['lines']), drawn['interpolation']),
    _diagnosed('Diagnosis of the run', found['diagnosis']),
    _diagnosed(f'Diagnosis of a run at rate {config.faulty_rate:g}', found['faulty_diagnosis']),
  ]
  return page(
    "The instruments on a Flax model of one's own",
    lead=lead,
    sections=sections,
    findings=(),
    facts=_facts(found['seconds']),
    command=command,
  )


def _checks(found: dict) -> list[str]:
  check = found['gradients']
  verdict = 'agrees' if check.right else 'does not agree'
  return [
    f'check_gradients: the gradient {verdict} with finite differences; the worst leaf is {check.worst.leaf} with a '
    f'relative error of {check.worst.error:.1e}.',
    f'overfit_small: {found["overfit"]}',
  ]


def _eigenvalues(config, result: xr.Dataset) -> list[str]:
  values = result.eigenvalues.isel(seed=0).dropna('step')[:, 0]
  return [
    f'The largest goes from {number(float(values[0]))} to {number(float(values[-1]))}, at most '
    f'{number(float(values.max()))}; plain descent on all examples would be unstable above 2 / rate = '
    f'{2 / config.learning_rate:g}.'
  ]


def _spectrum(found: xr.Dataset) -> list[str]:
  exact = np.sort(found.eigenvalues.values)
  worst = max(
    np.abs(exact - value).min() / residual
    for value, residual in zip(found.found.values, found.residual.values)
  )
  return [
    f'Extreme pairs from {found.attrs["products"]} Hessian-vector products, the density by stochastic Lanczos '
    f'quadrature, smoothed by a normal kernel of width {found.attrs["width"]:.2g}. Of the eigenvalues of the dense '
    f'matrix one is within {worst:.2g} residuals of each pair.'
  ]


def _pairs(found: xr.Dataset) -> Table:
  exact = found.eigenvalues.values
  rows = [
    [
      f'{value:.6g}',
      f'{residual:.1e}',
      {-1: 'negative', 0: 'not certain', 1: 'positive'}[int(sign)],
      f'{nearest:.6g}',
    ]
    for value, residual, sign, nearest in zip(
      found.found.values,
      found.residual.values,
      found.sign.values,
      [exact[np.abs(exact - value).argmin()] for value in found.found.values],
    )
  ]
  return Table(('eigenvalue', 'residual', 'sign', 'nearest of the dense matrix'), rows)


def _dense(found: xr.Dataset) -> list[str]:
  values = found.eigenvalues.values
  edge, rounding = 1e-3 * values.max(), found.attrs['rounding']
  return [
    f'{(values > edge).sum():,} of {values.size:,} are above a thousandth of the largest, {(values < -edge).sum():,} '
    f'below minus that; the ten largest hold {100 * values[-10:].sum() / values.sum():.0f} % of the trace. The '
    f'{(np.abs(values) <= rounding).sum():,} within {rounding:.1e} of zero, the rounding of the products, are drawn as '
    'zero.'
  ]


def _noise(config, result: xr.Dataset) -> list[str]:
  scales = result.noise_scales.dropna('step', how='all').median('seed')
  first, last = scales[0].values, scales[-1].values
  return [
    f'tr Σ / |G|² goes from {number(float(first[0]))} to {number(float(last[0]))} examples, '
    f'tr HΣ / GᵀHG from {number(float(first[1]))} to {number(float(last[1]))}; the batch has {config.batch_size}.'
  ]


def _numbers(found: xr.Dataset) -> Table:
  rows = [
    [name, *(number(float(value)) for value in found.value.sel(number=name))] for name in found.number.values
  ]
  return Table(('', 'start', 'end'), rows)


def _barriers(lines: dict[str, xr.Dataset]) -> list[str]:
  found = ', '.join(
    f'{label} {number(float(line.train_barrier))} in training and {number(float(line.test_barrier))} in test loss'
    for label, line in lines.items()
  )
  return [
    f'The other solution is from a plain Optax loop without gdlab, another start and order. Barriers: {found}.'
  ]


def _diagnosed(heading: str, diagnosis: Diagnosis) -> Section:
  """Every finding, the likeliest first."""
  sound = sum(not run.findings for run in diagnosis.runs)
  text = [f'{sound} of {len(diagnosis.runs)} runs without a finding.']
  for run in diagnosis.runs:
    for place, finding in enumerate(run.findings, 1):
      evidence = ', '.join(f'{name} = {value:.3g}' for name, value in finding.evidence.items())
      text.append(
        f'{place}. {finding.cause.value} ({finding.severity.name.lower()}). {finding.words} Evidence: {evidence}. '
        f'Try: {finding.advice}'
      )
  return Section(heading, text)


def _facts(seconds: dict[str, float]) -> Table:
  rows = [[name.replace('_', ' '), str(value)] for name, value in gdlab.provenance().items()]
  return Table(
    ('fact', 'value'), rows + [[f'seconds for {name}', f'{value:.1f}'] for name, value in seconds.items()]
  )
