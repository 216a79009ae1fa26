"""Seeds: ids, the three streams, and that a seed's run does not depend on the seeds beside it."""

import jax
import numpy as np
from absl.testing import parameterized
from tiny_runs import assert_same, run, same, standard_run, sweep

import gdlab
from gdlab.core.errors import InputError
from gdlab.core.seeds import seed_ids, stream_keys


class SeedIdsTest(parameterized.TestCase):
  @parameterized.parameters(
    (3, [[0] * 3, [1] * 3, [2] * 3]),
    (np.int64(1), [[0] * 3]),
    ([7, 2], [[7] * 3, [2] * 3]),
    (range(4, 6), [[4] * 3, [5] * 3]),
    ((2**31 - 1,), [[2**31 - 1] * 3]),
    (np.array([5, 0]), [[5] * 3, [0] * 3]),
    ([np.int32(5), 0], [[5] * 3, [0] * 3]),
    ({'order': [4, 9]}, [[0, 4, 0], [1, 9, 1]]),
    ({'init': 7, 'order': range(3), 'noise': 8}, [[7, 0, 8], [7, 1, 8], [7, 2, 8]]),
    ({'init': 7}, [[7, 0, 0]]),
    ({'noise': [3, 3]}, [[0, 0, 3], [1, 1, 3]]),
  )
  def test_ids_per_stream(self, seeds, expected):
    ids = seed_ids(seeds)
    self.assertEqual(ids.dtype, np.int32)
    np.testing.assert_array_equal(ids, expected)

  def test_the_streams_of_an_id_are_those_of_its_folded_key(self):
    with jax.debug_key_reuse(False):
      for seed in (0, 1, 2**31 - 1):
        found = stream_keys(np.array([seed] * 3, np.int32))
        expected = gdlab.streams(jax.random.fold_in(jax.random.key(0), seed))
        self.assertEqual(found._fields, ('init', 'order', 'noise'))
        for one, other in zip(found, expected, strict=True):
          np.testing.assert_array_equal(jax.random.key_data(one), jax.random.key_data(other))

  def test_streams_differ_from_one_another_and_between_ids(self):
    keys = [tuple(np.asarray(jax.random.key_data(k))) for s in range(5) for k in stream_keys(np.full(3, s))]
    self.assertLen(set(keys), 15)

  @parameterized.parameters(
    (0, 'seeds must be a whole number >= 1, got 0'),
    (-1, 'seeds must be a whole number >= 1, got -1'),
    (2.0, 'seeds must be a whole number >= 1, got 2.0 of type float'),
    (True, 'seeds must be a whole number >= 1, got True of type bool'),
    (None, 'seeds must be a whole number >= 1, got None of type NoneType'),
    ('12', "seeds must be a whole number >= 1, got '12' of type str"),
    (([],), 'seeds must hold at least one seed id, got none'),
    ((np.array([], int),), 'seeds must hold at least one seed id, got none'),
    (([3, 3],), r'seeds must be distinct, got \[3, 3\]'),
    (([0, -1],), r'seeds\[1\] must be a whole number in \[0, 2147483647\], got -1'),
    (([2**31],), r'seeds\[0\] must be a whole number in \[0, 2147483647\], got 2147483648'),
    (([0, 1.0],), r'seeds\[1\] must be a whole number in \[0, 2147483647\], got 1.0 of type float'),
    ((np.array(3.5),), r'seeds must be a whole number >= 1, got array\(3.5\) of type ndarray'),
    ({'ordr': [0, 1]}, "unknown random stream 'ordr'; did you mean 'order'[?] Known: init, noise, order"),
    ({'init': []}, r"seeds\['init'\] must hold at least one seed id, got none"),
    ({'init': -1}, r"seeds\['init'\] must be a whole number in \[0, 2147483647\], got -1"),
    ({'init': [0, -2]}, r"seeds\['init'\]\[1\] must be a whole number in \[0, 2147483647\], got -2"),
    ({'init': [0, 1], 'noise': [1, 2, 3]}, 'seeds must have one length for all streams, got .*'),
    ({'noise': 2**31}, r"seeds\['noise'\] must be a whole number in \[0, 2147483647\], got 2147483648"),
  )
  def test_refusals(self, seeds, message):
    seeds = seeds[0] if isinstance(seeds, tuple) else seeds
    with self.assertRaisesRegex(InputError, f'^{message}$'):
      seed_ids(seeds)


class RunsOfSeedsTest(parameterized.TestCase):
  def test_adding_seeds_leaves_the_earlier_runs_unchanged(self):
    fewer, more = run(2), standard_run()
    assert_same(fewer, more.isel(seed=slice(2)))

  def test_a_run_depends_on_its_id_alone_not_on_its_place(self):
    result = run([5, 0, 2])
    np.testing.assert_array_equal(result.seed, [5, 0, 2])
    assert_same(result.isel(seed=[1, 2]), standard_run().isel(seed=[0, 2]))
    self.assertFalse(same(result.isel(seed=[0]), standard_run().isel(seed=[1])))

  def test_held_streams_hold_what_they_rule(self):
    held = {'init': 5, 'order': 6, 'noise': 7}
    base = run(held | {'noise': [7, 7, 7]})
    # Everything held: three identical runs.
    for place in (1, 2):
      assert_same(base.isel(seed=place), base.isel(seed=0))
    for free in ('init', 'order', 'noise'):
      result = run(held | {free: range(3)})
      start = result.train_loss.isel(step=0).values
      end = result.train_loss.isel(step=-1).values
      self.assertLen(set(start), 3 if free == 'init' else 1, free)
      self.assertLen(set(end), 3, free)
      np.testing.assert_array_equal(result.seed, range(3))
      for stream in held:
        expected = range(3) if stream == free else [held[stream]] * 3
        np.testing.assert_array_equal(result[f'{stream}_seed'], expected)

  def test_a_mapping_of_equal_ids_is_the_plain_sequence(self):
    ids = [4, 1, 9]
    assert_same(run({'init': ids, 'order': ids, 'noise': ids}), run(ids))

  def test_all_points_of_a_sweep_get_the_same_seeds(self):
    start = sweep().train_loss.isel(step=0)
    np.testing.assert_array_equal(start, np.broadcast_to(start.isel(learning_rate=0), (3, 2)))
