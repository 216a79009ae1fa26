"""The checks that refuse bad input: what passes, what does not, and what the one line says."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from gdlab.core.errors import InputError, check_count, check_real, unknown_name


class CheckCountTest(parameterized.TestCase):
  @parameterized.parameters(1, 7, np.int64(7), np.int8(3), np.uint32(5))
  def test_whole_numbers_come_back_as_python_ints(self, value):
    found = check_count('x', value)
    self.assertIs(type(found), int)
    self.assertEqual(found, value)

  def test_both_bounds_are_allowed_and_what_is_beyond_them_is_not(self):
    self.assertEqual([check_count('x', value, minimum=-1, maximum=2) for value in (-1, 0, 2)], [-1, 0, 2])
    for value in (-2, 3):
      with self.assertRaisesRegex(InputError, rf'^x must be a whole number in \[-1, 2\], got {value}$'):
        check_count('x', value, minimum=-1, maximum=2)

  @parameterized.parameters(True, 1.0, np.float64(2), '1', None, 1j, ([1],), (np.array([1, 2]),), ((1,),))
  def test_other_kinds_are_refused_with_their_type(self, value):
    message = rf'^x must be a whole number >= 1, got {re.escape(repr(value))} of type {type(value).__name__}$'
    with self.assertRaisesRegex(InputError, message):
      check_count('x', value)

  def test_traced_ones_may_be_arrays_of_one_whole_number_and_tracers_of_such(self):
    for value in (3, np.int64(3), np.array(3), jnp.int32(3), jnp.uint8(3)):
      self.assertEqual(check_count('x', value, traced=True), 3)
    self.assertEqual(jax.jit(lambda value: check_count('x', value, traced=True))(0), 0)
    for value in (jnp.int32(0), np.array(0), 0):
      with self.assertRaisesRegex(InputError, '^x must be a whole number >= 1, got 0$'):
        check_count('x', value, traced=True)
    for value in (jnp.float32(3), np.array(True), jnp.array([3]), 3.0, True, jax.random.key(0)):
      with self.assertRaisesRegex(InputError, '^x must be a whole number >= 1, got .* of type '):
        check_count('x', value, traced=True)
    for wrong in (3.0, jnp.arange(2)):
      with self.assertRaisesRegex(InputError, '^x must be a whole number >= 1, got '):
        jax.eval_shape(lambda value: check_count('x', value, traced=True), wrong)
    with self.assertRaises(InputError):  # where its value is needed
      check_count('x', jnp.int32(3))

  def test_is_a_value_error_for_those_who_catch_that(self):
    with self.assertRaises(ValueError):
      check_count('x', 0)

  @parameterized.parameters(check_count, check_real)
  def test_a_value_that_prints_on_many_lines_is_shown_on_one(self, check):
    with self.assertRaises(InputError) as caught:
      check('x', np.zeros((3, 3)))
    self.assertNotIn('\n', str(caught.exception))


class CheckRealTest(parameterized.TestCase):
  @parameterized.parameters(
    0.5,
    1,
    np.float32(0.5),
    np.int64(1),
    (np.array(0.25),),
    (jnp.float32(0.5),),
    (jnp.array(1),),
    (jnp.bfloat16(0.5),),
  )
  def test_real_numbers_inside_the_open_interval_come_back_as_they_are(self, value):
    self.assertIs(check_real('x', value, above=0, below=2), value)

  @parameterized.parameters(0.0, 2, -1.0, float('nan'), float('inf'), -float('inf'), np.float32('nan'))
  def test_the_ends_nan_and_infinities_are_refused(self, value):
    message = rf'^x must be a real number in \(0, 2\), got {re.escape(repr(value))}$'
    with self.assertRaisesRegex(InputError, message):
      check_real('x', value, above=0, below=2)

  def test_nan_and_infinities_are_refused_without_bounds_too(self):
    for value in (float('nan'), float('inf'), -float('inf')):
      with self.assertRaises(InputError):
        check_real('x', value)

  @parameterized.parameters(
    True,
    '0.5',
    None,
    1j,
    ([0.5],),
    (np.array([0.5]),),
    np.True_,
    np.complex64(1),
    (jnp.complex64(1),),
    (np.array('a'),),
    (np.array(None),),
    (jax.random.key(0),),
  )
  def test_other_kinds_are_refused(self, value):
    with self.assertRaisesRegex(InputError, r'^x must be a real number in '):
      check_real('x', value)

  def test_a_tracer_passes_so_that_hyperparameters_can_be_swept(self):
    found = jax.jit(lambda value: check_real('x', value, above=0, below=1))(5.0)
    self.assertEqual(found, 5.0)


class UnknownNameTest(parameterized.TestCase):
  def test_names_the_nearest_and_all_known(self):
    error = unknown_name('colour', 'gren', ['red', 'green', 'blue'])
    self.assertIsInstance(error, InputError)
    self.assertEqual(str(error), "unknown colour 'gren'; did you mean 'green'? Known: blue, green, red")

  def test_without_a_near_one_only_lists_what_is_known(self):
    error = unknown_name('colour', 'xyz', {'red', 'blue'})
    self.assertEqual(str(error), "unknown colour 'xyz'. Known: blue, red")


class BoundsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'minimum': 0}, (0, 0.0, 5.5), (-1e-9, math.inf, math.nan), '>= 0'),
    ({'minimum': 0, 'maximum': 1}, (0, 1), (-0.1, 1.1), r'in \[0, 1\]'),
    ({'minimum': 0, 'below': 1}, (0, 0.999), (1, -0.1), r'in \[0, 1\)'),
    ({'above': 0, 'maximum': 2}, (1e-9, 2), (0, 2.1), r'in \(0, 2\]'),
  )
  def test_closed_and_half_open_intervals(self, bounds, good, bad, allowed):
    for value in good:
      self.assertEqual(check_real('x', value, **bounds), value)
    for value in bad:
      with self.assertRaisesRegex(InputError, f'^x must be a real number {allowed}, got {value}$'):
        check_real('x', value, **bounds)
