"""cond_any against a loop over lanes in NumPy, and that nothing runs where no lane asks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab.core.branching import cond_any


def function(operand, scale, shift):
  """Mixed dtypes and shapes: float32[3], int32[], bool[2]."""
  return {'a': operand['a'] * scale + shift['b'], 'n': operand['n'] + 1, 'flag': ~operand['flag']}


def reference(predicate, operand, scale, shift):
  if not predicate:
    return operand
  changed = function(operand, scale, shift)
  return {name: np.asarray(value, operand[name].dtype) for name, value in changed.items()}


def arguments(predicate_axes, operand_axes, scale_axes, shift_axes):
  """Values with the given leading axes from one fixed generator, multiples of 1/4 so that sums are exact."""
  rng = np.random.default_rng(0)
  quarters = lambda *shape: (rng.integers(-8, 8, shape) / 4).astype(np.float32)
  return (
    rng.integers(0, 2, predicate_axes).astype(bool),
    {
      'a': quarters(*operand_axes, 3),
      'n': rng.integers(0, 9, operand_axes).astype(np.int32),
      'flag': rng.integers(0, 2, (*operand_axes, 2)).astype(bool),
    },
    quarters(*scale_axes),
    {'b': quarters(*shift_axes, 3)},
  )


def assert_same(found, expected):
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert found[name].dtype == value.dtype


def at(tree, place):
  return jax.tree.map(lambda leaf: leaf[place], tree)


call = lambda predicate, operand, scale, shift: cond_any(predicate, function, operand, scale, shift)


class CondAnyTest(parameterized.TestCase):
  @parameterized.product(predicate=(True, False), compiled=(True, False))
  def test_without_vmap_it_is_a_conditional(self, predicate, compiled):
    _, operand, scale, shift = arguments((), (), (), ())
    found = (jax.jit(call) if compiled else call)(jnp.bool_(predicate), operand, scale, shift)
    assert_same(found, reference(predicate, operand, scale, shift))

  @parameterized.parameters(*(c for c in itertools.product((True, False), repeat=4) if any(c)))
  def test_any_of_its_arguments_may_be_mapped(self, *mapped):
    # 6 lanes; an argument that is not mapped is shared by all of them.
    values = arguments(*((6,) if batched else () for batched in mapped))
    in_axes = tuple(0 if batched else None for batched in mapped)
    found = jax.vmap(call, in_axes)(*values)
    for lane in range(6):
      own = [at(value, lane) if batched else value for value, batched in zip(values, mapped, strict=True)]
      assert_same(at(found, lane), reference(*own))

  @parameterized.parameters((False, True), (True, False))
  def test_other_axes_than_the_first(self, *mapped_last):
    predicate, operand, scale, shift = arguments((5,), (5,), (5,), (5,))
    last = jax.tree.map(lambda leaf: np.moveaxis(leaf, 0, -1), (operand, shift))
    if mapped_last[0]:
      found = jax.vmap(call, (0, -1, 0, 0), -1)(predicate, last[0], scale, shift)
      found = jax.tree.map(lambda leaf: np.moveaxis(leaf, -1, 0), found)
    else:
      found = jax.vmap(call, (0, 0, 0, -1))(predicate, operand, scale, last[1])
    for lane in range(5):
      assert_same(at(found, lane), reference(*at((predicate, operand, scale, shift), lane)))

  @parameterized.parameters(
    # Which of (predicate, operand, scale, shift) the outer and the inner vmap map.
    ((True, True, True, True), (True, True, True, True)),
    ((True, False, False, True), (False, True, False, False)),
    ((False, True, False, False), (True, False, True, False)),
    ((False, False, True, False), (False, True, False, True)),
  )
  def test_vmaps_nest(self, outer, inner):
    axes = [(3,) * out + (4,) * within for out, within in zip(outer, inner, strict=True)]
    values = arguments(*axes)
    nested = jax.vmap(call, tuple(0 if m else None for m in inner))
    nested = jax.jit(jax.vmap(nested, tuple(0 if m else None for m in outer)))
    found = nested(*values)
    for i, j in itertools.product(range(3), range(4)):
      own = [at(value, (i,) * o + (j,) * n) for value, o, n in zip(values, outer, inner, strict=True)]
      assert_same(at(found, (i, j)), reference(*own))

  def test_keys_as_operand_and_as_argument(self):
    keys = jax.random.split(jax.random.key(0), 4)
    draw = lambda operand, key: {'key': jax.random.fold_in(key, 1), 'x': jax.random.uniform(key, (2,))}
    operand = {'key': keys, 'x': jnp.zeros((4, 2))}
    with jax.debug_key_reuse(False):  # each lane uses its key once; the checker sees both branches
      found = jax.vmap(lambda p, o, k: cond_any(p, draw, o, k))(jnp.arange(4) % 2 == 0, operand, keys)
    for lane in range(4):
      expected = draw(None, keys[lane]) if lane % 2 == 0 else at(operand, lane)
      np.testing.assert_array_equal(found['x'][lane], expected['x'])
      self.assertEqual(found['key'][lane], expected['key'])

  def test_inside_scan_with_lanes_out_of_step(self):
    # Lane p counts every (p + 2)-nd step.
    periods = jnp.arange(3) + 2

    def lane(period):
      def step(count, number):
        return cond_any(number % period == 0, lambda count: count + 1, count), None

      return jax.lax.scan(step, jnp.int32(0), jnp.arange(1, 13))[0]

    np.testing.assert_array_equal(jax.jit(jax.vmap(lane))(periods), [12 // 2, 12 // 3, 12 // 4])

  def test_nothing_runs_where_no_lane_asks(self):
    executions = []

    def counted(operand):
      jax.debug.callback(lambda value: executions.append(int(value)), operand)
      return operand + 1

    def lane(number):
      def step(value, t):
        # Only lane 1 asks, at steps 4 and 9.
        return cond_any((t % 5 == 4) & (number == 1), counted, value), None

      return jax.lax.scan(step, number, jnp.arange(10))[0]

    found = jax.block_until_ready(jax.jit(jax.vmap(lane))(jnp.arange(3)))
    jax.effects_barrier()
    np.testing.assert_array_equal(found, [0, 3, 2])
    # Twice, for all three lanes each time; a select would have run it 30 times.
    self.assertCountEqual(executions, [0, 1, 2, 0, 2, 2])

  def test_what_the_lanes_share_is_not_copied(self):
    shared = jnp.arange(12.0).reshape(4, 3)
    total = lambda operand, data, scale: operand + scale * jnp.sum(data)

    def lane(number, operand, scale):
      return cond_any(number == 1, total, operand, shared, scale)

    mapped = jax.vmap(jax.vmap(lane, (0, 0, None)), (None, 0, 0))
    arguments = jnp.arange(5), jnp.zeros((2, 5)), jnp.array([1.0, 2.0])
    expected = np.zeros((2, 5))
    expected[:, 1] = [66, 132]
    np.testing.assert_array_equal(mapped(*arguments), expected)
    # No array of the shared one's shape with lanes in front of it, anywhere in the program.
    self.assertNotRegex(str(jax.make_jaxpr(mapped)(*arguments)), r'\[(\d+,)+4,3\]')
