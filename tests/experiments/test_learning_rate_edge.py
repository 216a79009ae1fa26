"""The study of the learning rate at the edge: measurements against what is known, and tiny runs of its cells."""

import ast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from configs import learning_rate as configs
from configs import learning_rate_full
from experiments.learning_rate.edge import figures, measure, warm
from experiments.learning_rate.study import steps
from gdlab.core.errors import InputError
from gdlab.core.types import State
from gdlab.study import View
from tests.experiments.test_learning_rate_edge_can_fail import settings

TINY = """
seeds.count=2; edge.climb.points=8; edge.climb.hidden=4; edge.climb.borders=(4.0, 5.0); edge.climb.updates=40;
edge.climb.every=10; edge.climb.substeps=2; edge.model.updates=1000; edge.batches.num_seeds=2;
edge.batches.num_train=16; edge.batches.hidden=3; edge.batches.sizes=(2, 4); edge.batches.rates=(0.1, 0.2);
edge.batches.updates=20; edge.batches.every=5; edge.batches.draws=4; edge.warm.num_seeds=2; edge.warm.num_train=16;
edge.warm.hidden=3; edge.warm.peaks=(0.01, 0.1, 1.0); edge.warm.adam_peaks=(0.01, 0.1, 1.0); edge.warm.lengths=(0, 5);
edge.warm.updates=10
"""


def quiet(*_, **__):
  return None


def state(params):
  """What probes are given."""
  return State(jnp.int32(0), params, (), (), (), (), jax.random.key(0))


def test_rates_are_at_the_borders():
  edge = settings().edge
  found = [measure.rates(edge, method, [8.0])[0] for method in measure.METHODS]
  beta = edge.climb.momentum
  np.testing.assert_allclose(found, np.array([2, 2 + 2 * beta, (2 + 2 * beta) / (1 + 2 * beta)]) / 8)


@pytest.mark.parametrize('kind', ['tanh', 'relu'])
def test_the_loss_is_that_of_the_network_by_hand(kind):
  activation = {'tanh': np.tanh, 'relu': lambda x: np.maximum(x, 0)}[kind]
  params = measure.drawn(jax.random.key(0), 5, 3, 2, 1.0)
  inputs, targets = np.arange(5.0), np.array([1.0, -1.0])
  hidden = activation(inputs @ np.asarray(params['into']) + np.asarray(params['bias']))
  by_hand = np.sum((hidden @ np.asarray(params['out']) + np.asarray(params['shift']) - targets) ** 2) / 2
  loss = {'tanh': measure.tanh_loss, 'relu': warm.relu_loss}[kind]
  # Eight products of float32.
  np.testing.assert_allclose(loss(params, {'inputs': inputs, 'targets': targets}), by_hand, rtol=1e-5)


def test_what_batches_see_is_the_mean_by_dense_hessians():
  with jax.enable_x64(True):
    start = warm._start(3, 1.0, 1.0)
    problem, params = warm.images(warm.tanh_loss, 16, start, 7), start(jax.random.key(1))
    flat, unravel = ravel_pytree(params)
    found, each = warm.batch_sharpness(3, 4)(problem, state(params)), []
    for key in jax.random.split(jax.random.key(0), 3):
      rows = jax.random.choice(key, 16, (4,), replace=False)
      batch = jax.tree.map(lambda leaf, rows=rows: leaf[rows], problem.train)

      def loss(flat, batch=batch):
        return jnp.mean(jax.vmap(warm.tanh_loss, (None, 0))(unravel(flat), batch))

      slope = jax.grad(loss)(flat)
      each.append(slope @ jax.hessian(loss)(flat) @ slope / (slope @ slope))
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-10)


def test_adam_from_the_first_gradient():
  """Two updates by hand: v_0 = g_0^2, and both means corrected for a start at 0 as usual."""
  optimizer, slopes = (
    warm.from_first_gradient(optax.scale_by_adam(0.9, 0.99, eps=0.0)),
    np.array([[2.0], [3.0]]),
  )
  with jax.enable_x64(True):
    memory, found = optimizer.init(jnp.zeros(1)), []
    for slope in slopes:
      update, memory = optimizer.update(jnp.asarray(slope), memory)
      found.append(float(update[0]))
  first = 2.0 / np.sqrt(4.0 / 0.01)  # v stays 4, which the correction takes for a hundredth of itself
  mean, square = 0.9 * 0.2 + 0.1 * 3, 0.99 * 4 + 0.01 * 9
  second = mean / (1 - 0.9**2) / np.sqrt(square / (1 - 0.99**2))
  np.testing.assert_allclose(found, [first, second], rtol=1e-12)


def test_the_flow_of_a_tiny_network_starts_where_training_does():
  config = settings(TINY)
  climbed = measure.climb(config, 'plain', progress=quiet)
  flow = measure.flow(config, climbed, progress=quiet)
  borders = [*config.edge.climb.borders]
  first = {name: cell.isel(record=0).sel(border=borders) for name, cell in (('run', climbed), ('flow', flow))}
  np.testing.assert_allclose(first['run'].train_loss, first['flow'].loss, rtol=1e-10)
  # Lanczos stops at a residual of 1 %, so that the eigenvalue is off by its square or so.
  np.testing.assert_allclose(first['run'].sharpness, first['flow'].sharpness, rtol=1e-3)
  np.testing.assert_allclose(climbed.loss.isel(step=0), climbed.train_loss.isel(record=0), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize('config', ['quick', 'full'])
def test_every_cell_runs_and_every_part_and_picture_is_made(config):
  """Of both configurations, shrunk."""
  given = {'quick': configs, 'full': learning_rate_full}[config].get_config()
  for entry in TINY.split(';'):
    name, value = entry.strip().split('=')
    given.update_from_flattened_dict({name: ast.literal_eval(value)})
  checked, found = steps.config.checked(given.to_dict()), {}
  for cell in steps.cells(given):
    if cell.name.partition('_')[0] in ('climb', 'flow', 'model', 'batches', 'warm') and '-' not in cell.name:
      if cell.name.startswith('warm_up'):
        continue
      found[cell.name] = cell.measure(*(found[need] for need in cell.needs), progress=quiet)
  view = View(steps, checked, found, {})
  parts = {}
  for claim in ('L2', 'L12', 'L13', 'L15'):
    for effect in steps.claims[claim].effects:
      parts[effect.name] = effect.measure(view)
      assert parts[effect.name].num + parts[effect.name].excluded == 2
  # One of each kind, from what is stored.
  runs = found['climb_Nesterov']
  ratio = (runs.sharpness / runs.border).transpose('record', ...).values
  words = 'Nesterov: sharpness over its border, second half of training'
  assert parts[words].estimate == pytest.approx(ratio[len(ratio) // 2 :].mean(), rel=1e-12)
  runs, rate = found['batches_b4'], checked.edge.batches.rates[1]
  seen = runs.batch_sharpness.transpose('step', ...).values * rate / 2
  words = 'largest batches: g^T H g / |g|^2 over 2/lr, second half of training'
  assert parts[words].estimate == pytest.approx(seen[len(seen) // 2 :].mean(), rel=1e-12)
  runs, noise = found['model'].isel(noise=-1), checked.edge.model.noises[-1]
  rate = checked.edge.model.learning_rate
  left = -2 * rate * runs.gap_square.mean() - rate**2 * runs.gap2_square.mean()
  words = 'model, most noise: -2 lr E[y x^2] - lr^2 E[y^2 x^2] over lr^2 sigma^2'
  assert parts[words].estimate == pytest.approx(float(left) / (rate * noise) ** 2, rel=1e-12)
  for picture in (figures._climb, figures._flow, figures._batches, figures._warm):
    assert picture(view)


REFUSED = (
  'edge.climb.borders=(9.0,)', 'edge.climb.control=5.0', 'edge.climb.every=7', 'edge.climb.momentum=1.0',
  'edge.model.updates=1500', 'edge.model.noises=(3.0, 1.0)', 'edge.batches.control=0.5', 'edge.batches.sizes=(2,)',
  'edge.batches.sizes=(2, 1000)', 'edge.batches.every=7', 'edge.batches.num_train=99_999', 'edge.warm.lengths=(1, 2)',
  'edge.warm.lengths=(0, 100)', 'edge.warm.sharp=(0.0, 1.0)',
)  # fmt: skip


@pytest.mark.parametrize('change', REFUSED)
def test_what_could_not_be_finished_is_refused_in_one_line(change):
  name = change.partition('=')[0].removeprefix('edge.').partition('.')[2]
  with pytest.raises(InputError, match=rf'^[^\n]*{name}[^\n]*$'):
    settings(change)
