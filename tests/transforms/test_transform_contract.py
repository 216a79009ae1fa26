"""What every transform promises: protocol, jit, one trace, vmap over seeds and numbers, scan, dtypes, refusals."""

import functools
import inspect
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from transform_cases import CASES, assert_close, gradients, plain, scan, tree

from gdlab import transforms
from gdlab.core.errors import InputError

STEPS = 5
RANDOM = [name for name, case in CASES.items() if case.random]
READERS = {'averaged_params', 'freeze_status', 'noise_scale_estimate', 'statistics'}
PARTS = {'exponential_weights', 'uniform_weights', 'pgd_constants'}


def test_every_transform_is_listed_here_and_in_the_table():
  public = {name for name in transforms.__all__ if not isinstance(getattr(transforms, name), type)}
  listed = {name.partition(',')[0] for name in CASES}
  assert public == listed | READERS | PARTS
  table = transforms.__doc__.partition('What Optax has')[0]
  assert [name for name in public if f'`{name}`' not in table] == []


def test_the_other_table_names_what_optax_has():
  table = transforms.__doc__.partition('What Optax has')[2]
  names = [
    word for word in table.split('`')[1::2] if word.replace('optax.', '').replace('.', '').isidentifier()
  ]
  assert len(names) > 50
  missing = []
  for name in names:
    path = name.removeprefix('optax.').split('.')
    if path[0] in ('gdlab', 'lax'):
      continue
    homes = [optax, optax.contrib, optax.transforms]
    if not any(_reach(home, path) for home in homes):
      missing.append(name)
  assert missing == []


def _reach(home, path):
  for part in path:
    home = getattr(home, part, None)
  return callable(home) or isinstance(home, types.ModuleType)


@functools.cache
def compiled(name):
  """`numbers -> (path, updates, state)` of one transform, shared by the tests: its numbers are traced."""
  case = CASES[name]
  grads = gradients(case, STEPS)
  return jax.jit(lambda numbers: scan(case.build(**numbers), tree(), grads))


def values(case, **changed):
  return {n: jnp.asarray(changed.get(n, first)) for n, (first, _) in case.numbers.items()}


class ContractTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_protocol(self, name):
    transform = CASES[name].build()
    self.assertIsInstance(transform, optax.GradientTransformationExtraArgs)
    self.assertEqual([*inspect.signature(transform.init).parameters], ['params'])
    parameters = inspect.signature(transform.update).parameters
    self.assertEqual([*parameters][:3], ['updates', 'state', 'params'])
    self.assertIsNone(parameters['params'].default)
    self.assertEqual([*parameters.values()][-1].kind, inspect.Parameter.VAR_KEYWORD)
    nodes = jax.tree.leaves(transform.init(tree()), is_leaf=lambda node: hasattr(node, '_fields'))
    own = [node for node in nodes if hasattr(node, '_fields') and type(node).__module__.startswith('gdlab')]
    self.assertLen(own, 1)

  @parameterized.product(name=[*CASES], dtype=['float32', 'bfloat16', 'float64'])
  def test_shapes_dtypes_and_state_are_kept(self, name, dtype):
    """Also with numbers of JAX's default types, which Python's own never widen."""
    with jax.enable_x64(dtype == 'float64'):
      case, params = CASES[name], tree(dtype)
      grads = jax.tree.map(lambda leaf: leaf[0], gradients(case, 1, dtype))
      strong = {number: jnp.asarray(values[0], type(values[0])) for number, values in case.numbers.items()}

      def update(numbers):
        transform = case.build(**numbers)
        state = transform.init(params)
        return transform.update(grads, state, params), state

      for numbers in ({}, strong):
        (updates, after), before = jax.eval_shape(update, numbers)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, before)

  @parameterized.parameters(*CASES)
  def test_a_loop_compiles_once_and_is_the_scan(self, name):
    case, params = CASES[name], tree()
    transform, grads = case.build(), gradients(case, STEPS)
    path, updates, last = compiled(name)(values(case))
    chex.clear_trace_counter()
    # Its buffers given away: nothing may be in the state twice, or be the caller's.
    step = jax.jit(chex.assert_max_traces(transform.update, n=1), donate_argnums=1)
    state = transform.init(params)
    for number in range(STEPS):
      found, state = step(jax.tree.map(lambda leaf, n=number: leaf[n], grads), state, params)
      assert_close(found, jax.tree.map(lambda leaf, n=number: leaf[n], updates))
      params = optax.apply_updates(params, found)
      assert_close(params, jax.tree.map(lambda leaf, n=number: leaf[n], path))
    assert_close(state, last)

  @parameterized.parameters(*[name for name, case in CASES.items() if case.numbers])
  def test_a_vmap_over_each_number_is_each_value_alone(self, name):
    """Lane 0 has the first value of every number; in each other lane one of them has its second."""
    case, names = CASES[name], [*CASES[name].numbers]
    lanes = [{}] + [{number: case.numbers[number][1]} for number in names]
    columns = {n: jnp.asarray([lane.get(n, case.numbers[n][0]) for lane in lanes]) for n in names}
    swept = jax.jit(jax.vmap(compiled(name)))(columns)
    found = [plain(jax.tree.map(lambda leaf, n=n: leaf[n], swept)) for n in range(len(lanes))]
    for lane, numbers in zip(found, lanes, strict=True):
      assert_close(lane, compiled(name)(values(case, **numbers)), rtol=1e-5, atol=1e-5)
      if numbers:
        differs = [not np.array_equal(a, b) for a, b in zip(lane, found[0], strict=True)]
        self.assertTrue(any(differs), numbers)

  @parameterized.parameters(*RANDOM)
  @pytest.mark.slow
  def test_a_vmap_over_seeds_gives_each_its_own_noise(self, name):
    case, params = CASES[name], tree()
    grads = gradients(case, STEPS)
    updates = lambda seed: scan(case.build(seed=seed), params, grads)[1]
    found = jax.jit(jax.vmap(updates))(jnp.arange(3))
    self.assert_no_two_draws_are_alike(found, grads)
    assert_close(jax.tree.map(lambda leaf: leaf[2], found), jax.jit(lambda: updates(2))())

  @parameterized.parameters(*RANDOM)
  def test_a_key_may_stand_for_a_seed(self, name):
    case, key = CASES[name], jax.random.key(5, impl='threefry2x32')
    assert_close(case.build(seed=key).init(tree()), case.build(seed=5).init(tree()))

  @parameterized.parameters(*RANDOM)
  def test_a_vmap_over_keys_gives_each_run_its_own_noise(self, name):
    """And another seed other noise with the same key: two of a kind may stand in one chain."""
    case, params = CASES[name], tree()
    grads = gradients(case, STEPS)
    keys = jax.random.split(jax.random.key(5), (3, STEPS))[np.array([0, 1, 2, 0])]
    run = lambda keys, seed: scan(case.build(seed=seed), params, grads, keys)[1]
    found = jax.jit(jax.vmap(run))(keys, jnp.array([0, 0, 0, 1]))
    self.assert_no_two_draws_are_alike(found, grads)

  def assert_no_two_draws_are_alike(self, updates, grads):
    """Over lanes, steps and leaves; the first number of each leaf stands for its draw."""
    noise = jax.tree.map(lambda u, g: np.asarray(u) - np.asarray(g), updates, grads)
    values = np.stack([noise['scale'], noise['layer']['w'][..., 0, 0]]).ravel()
    self.assertLen(np.unique(values), values.size)

  def test_different_transforms_with_one_seed_and_key_draw_apart(self):
    params, key = jnp.zeros(4), jax.random.key(0)
    made = (transforms.langevin_noise(0.5, 1.0), transforms.annealed_gradient_noise(1.0, 0.0))
    found = [t.update(params, t.init(params), key=key)[0] for t in made]
    self.assertFalse(np.allclose(*found))

  @parameterized.parameters('perturb_at_saddle', 'langevin_noise', 'annealed_gradient_noise')
  def test_two_of_a_kind_with_one_seed_on_different_parts_of_the_parameters_draw_apart(self, name):
    params, key = {'x': jnp.zeros(4), 'y': jnp.zeros(4)}, jax.random.key(0)
    two = optax.partition({'a': CASES[name].build(), 'b': CASES[name].build()}, {'x': 'a', 'y': 'b'})
    state = two.init(params)
    for extra in ({}, {'key': key}):
      found, _ = two.update(params, state, params, **extra)
      draws = np.stack([found['x'], found['y']])
      self.assertLen(np.unique(draws), draws.size)
      # Not even as long as one another, where the length is a draw of its own.
      self.assertNotAlmostEqual(*np.linalg.norm(draws, axis=1), places=4)

  def test_two_of_a_kind_in_one_chain_need_different_seeds(self):
    params, make = jnp.zeros(4), CASES['langevin_noise'].build
    alike, apart = (
      [t.update(params, t.init(params))[0] for t in (make(seed=0), make(seed=seed))] for seed in (0, 1)
    )
    np.testing.assert_array_equal(*alike)
    self.assertLen(np.unique(apart), 8)

  @parameterized.parameters('gradient_statistics', 'noise_scale', 'langevin_noise')
  def test_numbers_may_be_injected_hyperparameters(self, name):
    """Optax holds them as arrays, whole numbers too."""
    case = CASES[name]
    numbers = {number: values[1] for number, values in case.numbers.items()}
    transform, params = optax.inject_hyperparams(case.make)(**numbers), tree()
    grads = jax.tree.map(lambda leaf: leaf[0], gradients(case, 1))
    state = transform.init(params)
    found, _ = transform.update(grads, state, params)
    self.assertContainsSubset(numbers, state.hyperparams)
    plainly = case.build(**numbers)
    assert_close(found, plainly.update(grads, plainly.init(params), params)[0])

  @parameterized.parameters(*[name for name in CASES if name != 'noise_scale'])
  def test_a_pytree_without_leaves(self, name):
    transform = CASES[name].build()
    updates, state = jax.jit(transform.update)({}, transform.init({}), {})
    self.assertEqual(updates, {})
    chex.assert_trees_all_equal_shapes_and_dtypes(state, transform.init({}))

  @parameterized.parameters(*CASES)
  def test_a_nan_gradient_does_as_documented(self, name):
    """In one entry of one leaf: most pass it on there and nowhere else."""
    case, params = CASES[name], tree()
    transform = case.build()
    grads = jax.tree.map(lambda leaf: leaf[0], gradients(case, 1))
    grads['layer']['w'] = grads['layer']['w'].at[..., 1, 0].set(jnp.nan)
    updates, _ = jax.jit(transform.update)(grads, transform.init(params), params)
    nan = [bool(np.isnan(leaf).any()) for leaf in plain(updates)]
    self.assertEqual(nan, [name != 'freeze_non_finite', False, False])
    if name == 'freeze_non_finite':
      self.assertTrue(all((leaf == 0).all() for leaf in plain(updates)))
    elif name in ('perturb_at_saddle', 'gradient_statistics', 'average_iterates'):
      np.testing.assert_array_equal(updates['scale'], grads['scale'])

  @parameterized.parameters(
    (lambda: transforms.perturb_at_saddle(-1.0, 0.1, 1), 'radius must be a real number >= 0, got -1.0'),
    (lambda: transforms.perturb_at_saddle(1.0, np.nan, 1), 'grad_threshold must be a real number.*got nan'),
    (lambda: transforms.perturb_at_saddle(1.0, 0.1, -2), 'min_interval must be a real number >= 0, got -2'),
    (lambda: transforms.perturb_at_saddle(1.0, 0.1, 1, seed=-1), 'seed must be a whole number >= 0, got -1'),
    (
      lambda: transforms.perturb_at_saddle(1.0, 0.1, 1, seed=0.5),
      'seed must be a whole number >= 0, got 0.5',
    ),
    (
      lambda: transforms.perturb_at_saddle(1.0, 0.1, 1, seed=jnp.zeros(2, jnp.uint32)),
      'seed must be a whole number >= 0 or one key of jax.random.key, got Array',
    ),
    (
      lambda: transforms.perturbed_gradient_descent(-0.1, 1.0, 0.1, 1),
      'learning_rate must be a real number >= 0, got -0.1',
    ),
    (lambda: transforms.langevin_noise(-0.1, 0.1), 'temperature must be a real number >= 0, got -0.1'),
    (lambda: transforms.langevin_noise('hot', 0.1), "temperature must be a real number.*got 'hot'"),
    (lambda: transforms.langevin_noise(0.1, -1), 'learning_rate must be a real number >= 0, got -1'),
    (
      lambda: transforms.langevin_noise(0.1, 0.1, preconditioner=[1.0, np.array([2.0, -1.0])]),
      r'preconditioner must hold finite real numbers >= 0, got array\(\[ 2., -1.\]\)',
    ),
    (
      lambda: transforms.langevin_noise(0.1, 0.1, preconditioner={'other': 1.0}).init(tree()),
      "preconditioner must be a pytree prefix of the parameters, got {'other': 1.0}",
    ),
    (
      lambda: transforms.langevin_noise(0.1, 0.1, preconditioner=np.ones(3)).init(tree()),
      r"preconditioner\['layer'\]\['w'\] must be a scalar or have shape \(2, 3\), got \(3,\)",
    ),
    (lambda: transforms.annealed_gradient_noise(-1.0, 0.5), 'eta must be a real number >= 0, got -1.0'),
    (lambda: transforms.annealed_gradient_noise(1.0, -0.5), 'gamma must be a real number >= 0, got -0.5'),
    (lambda: transforms.uniform_weights(-1), 'start must be a whole number >= 0, got -1'),
    (lambda: transforms.uniform_weights(1.5), 'start must be a whole number >= 0, got 1.5'),
    (lambda: transforms.exponential_weights(1.0), r'decay must be a real number in \[0, 1\), got 1.0'),
    (lambda: transforms.average_iterates(0.9), 'weights must be a function such as.*got 0.9'),
    (lambda: transforms.coordinate_updates([0, 1.5]), 'blocks must be whole numbers >= 0.*got 1.5'),
    (lambda: transforms.coordinate_updates([0, -1]), 'blocks must be whole numbers >= 0.*got -1'),
    (lambda: transforms.coordinate_updates([0, 2]), 'every number from 0 to 2, got none that is 1'),
    (lambda: transforms.coordinate_updates([]), r'blocks must name at least one block, got \[\]'),
    (
      lambda: transforms.coordinate_updates([0, 1]).init(tree()),
      r'blocks must be a pytree prefix of the parameters, got \[0, 1\]',
    ),
    (
      lambda: transforms.coordinate_updates(np.arange(4)).init(jnp.zeros(3)),
      r'blocks must be a scalar or have shape \(3,\), got \(4,\)',
    ),
    (
      lambda: jax.eval_shape(lambda b: transforms.coordinate_updates(b).init(jnp.ones(2)), jnp.arange(2)),
      'blocks must be known whole numbers >= 0, got ',
    ),
    (
      lambda: jax.eval_shape(lambda k: transforms.gradient_statistics(k).init(jnp.ones(2)), 2.0),
      'every must be a whole number >= 1, got ',
    ),
    (lambda: transforms.gradient_statistics(0), 'every must be a whole number >= 1, got 0'),
    (lambda: transforms.shampoo(decay=1.5), r'decay must be a real number in \[0, 1\], got 1.5'),
    (lambda: transforms.shampoo(eps=0.0), r'eps must be a real number in \(0, inf\), got 0.0'),
    (lambda: transforms.shampoo(max_size=0), 'max_size must be a whole number >= 1, got 0'),
    (lambda: transforms.noise_scale(-0.1), r'decay must be a real number in \[0, 1\), got -0.1'),
    (
      lambda: transforms.noise_scale(examples_per_row=0),
      'examples_per_row must be a whole number >= 1, got 0',
    ),
    (lambda: transforms.freeze_non_finite(0.1), 'inner must be an Optax gradient transformation.*got 0.1'),
  )
  def test_refusals(self, build, message):
    with self.assertRaisesRegex(InputError, message):
      build()

  @parameterized.parameters(*sorted(READERS))
  def test_readers_refuse_a_state_without_theirs_or_with_two(self, name):
    reader = getattr(transforms, name)
    with self.assertRaisesRegex(InputError, 'opt_state must hold the state of exactly one .*, got 0'):
      reader(optax.adam(0.1).init(jnp.zeros(2)))
    made = {
      'averaged_params': transforms.average_iterates,
      'freeze_status': lambda: transforms.freeze_non_finite(optax.identity()),
      'noise_scale_estimate': transforms.noise_scale,
      'statistics': transforms.gradient_statistics,
    }[name]
    with self.assertRaisesRegex(InputError, 'exactly one .*, got 2'):
      reader(optax.chain(made(), made()).init(jnp.zeros(2)))
