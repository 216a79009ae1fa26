"""Verdicts from intervals on every side of a rule, claims of several parts, and claims.json."""

import json
import math
import pathlib
import tempfile
from unittest import mock

from absl.testing import parameterized

from gdlab import claims
from gdlab.claims import Verdict
from gdlab.core.errors import InputError
from gdlab.host.checksums import LOCK, SUMS, Damaged
from gdlab.statistics import Interval, exactly

S, C, I = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.INCONCLUSIVE  # noqa: E741
N, M = Verdict.NO_DIFFERENCE, Verdict.MIXED
KEYS = {
  'id',
  'statement',
  'verdict',
  'effect',
  'effect_name',
  'ci_low',
  'ci_high',
  'confidence',
  'num_seeds',
  'conditions',
  'rule',
  'parts',
}


def interval(low, high):
  return Interval((low + high) / 2, low, high, 1.0 if low == high else 0.95, 16, 0)  # without width: exact


def graded(rules, intervals, claim_id='V0'):
  return claims.grade(claims.Claim(claim_id, 'A claim.', rules), intervals, num_seeds=16, conditions='a test')


class RuleTest(parameterized.TestCase):
  @parameterized.parameters(
    (claims.greater_than(1), (1.1, 3), S),
    (claims.greater_than(1), (-1, 0.9), C),
    (claims.greater_than(1), (0.9, 3), I),
    (claims.greater_than(1), (1, 3), I),
    (claims.greater_than(1), (0, 1), I),
    (claims.greater_than(0.1, none=0), (0.2, 0.3), S),
    (claims.greater_than(0.1, none=0), (-0.09, 0.09), N),
    (claims.greater_than(0.1, none=0), (-0.3, 0.09), C),
    (claims.greater_than(0.1, none=0), (-0.3, -0.2), C),
    (claims.greater_than(0.1, none=0), (0, 0.2), I),
    (claims.greater_than(2, none=1), (0.51, 1.99), N),
    (claims.greater_than(2, none=1), (0.49, 1.99), C),
    (claims.less_than(0.5, none=1), (0.51, 1.99), N),
    (claims.less_than(0.5, none=1), (0.3, 0.4), S),
    (claims.less_than(0.5, none=1), (0.51, 2.01), C),
    (claims.less_than(-0.1, none=0), (-0.05, 0.05), N),
    (claims.greater_than(0, none=0), (-0.1, 0.1), I),
    (claims.less_than(1), (0, 0.9), S),
    (claims.less_than(1), (1.1, 3), C),
    (claims.less_than(1), (0, 1), I),
    (claims.within(-1, 2), (-1, 2), S),
    (claims.within(-1, 2), (0, 1), S),
    (claims.within(-1, 2), (2.1, 3), C),
    (claims.within(-1, 2), (-3, -1.1), C),
    (claims.within(-1, 2), (1, 3), I),
    (claims.within(-1, 2), (-3, 3), I),
    (claims.outside(-1, 2), (2.1, 3), S),
    (claims.outside(-1, 2), (0, 1), C),
    (claims.outside(-1, 2), (1, 3), I),
    (claims.exact(0.5), (0.5, 0.5), S),
    (claims.exact(0.5), (-0.6, -0.6), C),
    (claims.exact(0), (0, 0), S),
    (claims.exact(0.5), (-4, 4), C),
  )
  def test_verdict(self, rule, ends, expected):
    self.assertEqual(graded({'effect': rule}, {'effect': interval(*ends)}).verdict, expected)

  @parameterized.product(
    rule=(claims.greater_than(0), claims.less_than(0), claims.within(-1, 1), claims.exact(1)),
    ends=((math.nan, -math.inf, math.inf), (5.0, -math.inf, math.inf), (5.0, 1.0, math.inf), (math.inf,) * 3),
  )
  def test_what_is_not_finite_settles_nothing(self, rule, ends):
    measured = Interval(*ends, 0.95, 1, 0)
    self.assertEqual(graded({'effect': rule}, {'effect': measured}).verdict, I)

  @parameterized.parameters(
    (claims.greater_than, (1.00000001,)),
    (claims.less_than, (1.00000001,)),
    (claims.within, (0.5, 1.00000001)),
    (claims.exact, (1.00000001,)),
  )
  def test_description_is_one_line_with_every_digit(self, make, arguments):
    text = make(*arguments).describe()
    self.assertNotIn('\n', text)
    self.assertIn('1.00000001', text)

  @parameterized.parameters(
    (
      lambda: claims.greater_than(1, none=2),
      (),
      r'none must be 0 \(for a difference\) or 1 \(for a ratio\), got 2',
    ),
    (lambda: claims.less_than(0, none=1), (), 'threshold must be above 0 for a ratio'),
    (
      lambda: claims.greater_than(0.97, none=1),
      (),
      'threshold must be at least none, 1, which would support',
    ),
    (lambda: claims.greater_than(-0.1, none=0), (), 'threshold must be at least none, 0, .* got -0.1'),
    (lambda: claims.less_than(0.97, none=0), (), 'threshold must be at most none, 0, which would support'),
    (lambda: claims.less_than(1.1, none=1), (), 'threshold must be at most none, 1, .* got 1.1'),
    (claims.greater_than, (math.nan,), 'threshold'),
    (claims.less_than, (math.inf,), 'threshold'),
    (claims.within, (2, 1), 'high'),
    (claims.exact, (-1e-9,), 'tolerance must be >= 0'),
  )
  def test_refuses(self, make, arguments, message):
    with self.assertRaisesRegex(InputError, message):
      make(*arguments)


class GradeTest(parameterized.TestCase):
  @parameterized.parameters(
    (((2, 3), (4, 5)), S, 'first'),
    (((2, 3), (0, 3)), I, 'second'),
    (((0, 3), (-2, 0)), C, 'second'),
    (((-2, 0), (4, 5)), M, 'first'),
    (((-2, 0), (-4, 0)), C, 'first'),
    (((0, 3), (0, 4)), I, 'first'),
  )
  def test_all_parts_must_hold(self, ends, verdict, decider):
    rules = {'first': claims.greater_than(1), 'second': claims.greater_than(1)}
    measured = dict(zip(rules, (interval(*pair) for pair in ends), strict=True))
    finding = graded(rules, measured)
    self.assertEqual((finding.verdict, finding.effect_name), (verdict, decider))
    self.assertEqual((finding.effect, finding.ci_low, finding.ci_high), measured[decider][:3])
    self.assertEqual([part.effect_name for part in finding.parts], ['first', 'second'])
    for part in finding.parts:
      self.assertEqual((part.effect, part.ci_low, part.ci_high), measured[part.effect_name][:3])
      self.assertIn(f'{part.effect_name}: {part.rule}', finding.rule)

  @parameterized.parameters(
    ((2, 3), (2, 3), S, 'said'),
    ((2, 3), (-3, -2), C, 'said'),
    ((-3, -2), (2, 3), I, 'given'),
    ((0, 2), (2, 3), I, 'given'),
    ((0, 2), (-3, -2), I, 'given'),
    ((2, 3), (0, 2), I, 'said'),
  )
  def test_a_premise_decides_nothing_but_whether_the_rest_counts(self, given, said, verdict, decider):
    rules = {'given': claims.premise(claims.greater_than(1)), 'said': claims.greater_than(1)}
    finding = graded(rules, {'given': interval(*given), 'said': interval(*said)})
    self.assertEqual((finding.verdict, finding.effect_name), (verdict, decider))
    self.assertIn(
      'a premise: supported if the interval is above 1, else the claim is inconclusive', finding.rule
    )

  def test_a_premise_names_the_whole_range(self):
    told = claims.premise(claims.within(0.8, 1.2)).describe()
    self.assertEqual(
      told, 'a premise: supported if the interval is inside [0.8, 1.2], else the claim is inconclusive'
    )

  def test_a_claim_of_premises_alone_is_refused(self):
    with self.assertRaisesRegex(InputError, 'claim V0 must have a part that is not a premise'):
      graded({'given': claims.premise(claims.exact(0))}, {'given': interval(0, 0)})

  def test_an_effect_that_leaves_values_out_is_inconclusive(self):
    interval = exactly(79)._replace(excluded=2)
    for rule in (claims.within(78, 80), claims.less_than(1), claims.exact(100)):
      finding = graded({'updates': rule}, {'updates': interval})
      self.assertEqual((finding.verdict, finding.excluded), (claims.Verdict.INCONCLUSIVE, 2))

  def test_single_effect(self):
    rule = claims.within(78, 80)
    finding = graded({'updates': rule}, {'updates': exactly(79)})
    self.assertEqual(
      finding, ('V0', 'A claim.', S, 79, 'updates', 79, 79, 1.0, 16, 'a test', rule.describe(), 0, (), None)
    )

  @parameterized.parameters(
    ({'effect': claims.exact(0)}, {}, 16, r"V0 needs intervals for \['effect'\], got \[\]"),
    ({'effect': claims.exact(0)}, {'effect': exactly(0), 'other': exactly(0)}, 16, 'other'),
    ({}, {}, 16, 'V0 needs'),
    ({'effect': claims.exact(0)}, {'effect': exactly(0)}, -1, 'num_seeds'),
  )
  def test_refuses(self, rules, intervals, num_seeds, message):
    with self.assertRaisesRegex(InputError, message):
      claims.grade(claims.Claim('V0', '', rules), intervals, num_seeds=num_seeds, conditions='')


class TogetherTest(parameterized.TestCase):
  @parameterized.parameters(
    ((S, S), S),
    ((C, C), C),
    ((N, N), N),
    ((I, I), I),
    ((S, C), M),
    ((S, N, I), M),
    ((S, I), I),
    ((C, I), C),
    ((C, N), C),
    ((N, I), C),
    ((M,), M),
  )
  def test_of_parts(self, verdicts, expected):
    self.assertEqual(claims.together(verdicts), expected)
    self.assertEqual(claims.together(verdicts[::-1]), expected)


class FileTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self.path = pathlib.Path(directory.name) / 'claims.json'
    unknown = Interval(math.nan, -math.inf, math.inf, 0.95, 0, 16)
    self.findings = [
      graded({'a': claims.exact(0)}, {'a': exactly(0)}, 'V1'),
      graded(
        {'σ²': claims.less_than(2), 'b': claims.greater_than(2)}, {'σ²': unknown, 'b': interval(3, 4)}, 'V2'
      ),
    ]

  def test_round_trip_through_strict_json(self):
    claims.write_claims(self.path, self.findings)

    def refuse(constant):
      raise AssertionError(f'{constant} is not JSON')

    objects = json.loads(self.path.read_text(encoding='utf-8'), parse_constant=refuse)
    self.assertContainsSubset(KEYS, set(objects[0]))
    self.assertEqual([entry['verdict'] for entry in objects], ['supported', 'inconclusive'])
    self.assertIsNone(objects[1]['effect'])
    self.assertIsNone(objects[1]['parts'][0]['ci_low'])
    # repr, since NaN equals nothing.
    self.assertEqual(repr(claims.read_claims(self.path)), repr(self.findings))

  def test_failed_write_leaves_the_old_file_and_nothing_else(self):
    claims.write_claims(self.path, self.findings[:1])
    before = self.path.read_bytes()
    with (
      mock.patch('os.fsync', side_effect=OSError('disk full')),
      self.assertRaisesRegex(OSError, 'disk full'),
    ):
      claims.write_claims(self.path, self.findings)
    self.assertEqual(self.path.read_bytes(), before)
    self.assertCountEqual([path.name for path in self.path.parent.iterdir()], ['claims.json', SUMS, LOCK])
    claims.write_claims(self.path, self.findings)
    self.assertLen(claims.read_claims(self.path), 2)

  def test_repeated_ids_are_refused(self):
    with self.assertRaisesRegex(InputError, r"\['V1'\]"):
      claims.write_claims(self.path, [self.findings[0], *self.findings])
    self.assertFalse(self.path.exists())

  @parameterized.parameters('{', '3', '{"id": 1}', '["V1"]', '[{"id": "V1"}]')
  def test_other_files_are_refused_by_name(self, text):
    self.path.write_text(text)
    with self.assertRaisesRegex(InputError, 'claims.json is not a list of findings'):
      claims.read_claims(self.path)

  def test_unknown_verdict_is_refused(self):
    claims.write_claims(self.path, self.findings)
    self.path.write_text(
      self.path.read_text(encoding='utf-8').replace('supported', 'proven'), encoding='utf-8'
    )
    with self.assertRaisesRegex(Damaged, 'claims.json is damaged: its SHA-256'):
      claims.read_claims(self.path)
    (self.path.parent / SUMS).unlink()
    with self.assertRaisesRegex(InputError, 'proven'):
      claims.read_claims(self.path)

  def test_a_file_moved_by_itself_is_read_with_a_warning(self):
    claims.write_claims(self.path, self.findings)
    (self.path.parent / SUMS).unlink()
    with self.assertWarnsRegex(UserWarning, 'claims.json is not verified'):
      self.assertEqual(repr(claims.read_claims(self.path)), repr(self.findings))
