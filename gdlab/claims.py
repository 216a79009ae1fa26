"""Claims whose verdict rule is written down before the run, their grading, and `claims.json`."""

import enum
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gdlab.core.errors import InputError, check_count, check_real
from gdlab.host import files
from gdlab.statistics import Interval


class Verdict(enum.StrEnum):
  """What an experiment says about a claim."""

  SUPPORTED = 'supported'
  CONTRADICTED = 'contradicted'
  INCONCLUSIVE = 'inconclusive'


class Rule(NamedTuple):
  """How an effect's interval becomes a verdict.

  Attributes:
    judge: `(interval) -> Verdict`, for an interval whose numbers are all finite.
    describe: `() -> str`, the rule in one line.
  """

  judge: Callable[[Interval], Verdict]
  describe: Callable[[], str]


class Claim(NamedTuple):
  """A statement and what would support or contradict it.

  Attributes:
    id: its stable name, such as 'V5'.
    statement: the claim in words.
    rules: rule by effect name, one for each part. With several the claim is an intersection-union test.
  """

  id: str
  statement: str
  rules: Mapping[str, Rule]


class Part(NamedTuple):
  """One graded effect of a claim; the numbers are those of its Interval, `num` the values behind it."""

  effect_name: str
  rule: str
  verdict: Verdict
  effect: float
  ci_low: float
  ci_high: float
  confidence: float
  num: int
  excluded: int


class Finding(NamedTuple):
  """A graded claim: one object of `claims.json`. The effect is that of the part which decided the verdict.

  Attributes:
    conditions: under which problem, model and settings it was found, in words.
    excluded: NaN values left out of the effect's interval.
    parts: every part where the claim has more than one, else empty.
  """

  id: str
  statement: str
  verdict: Verdict
  effect: float
  effect_name: str
  ci_low: float
  ci_high: float
  confidence: float
  num_seeds: int
  conditions: str
  rule: str
  excluded: int
  parts: tuple[Part, ...] = ()


def greater_than(threshold: float) -> Rule:
  """Supported if the whole interval is above `threshold`, contradicted if all of it is below."""
  check_real('threshold', threshold)
  return Rule(
    lambda interval: _decide(interval.low > threshold, interval.high < threshold),
    lambda: f'supported if the interval is above {threshold}, contradicted if it is below',
  )


def less_than(threshold: float) -> Rule:
  """Supported if the whole interval is below `threshold`, contradicted if all of it is above."""
  check_real('threshold', threshold)
  return Rule(
    lambda interval: _decide(interval.high < threshold, interval.low > threshold),
    lambda: f'supported if the interval is below {threshold}, contradicted if it is above',
  )


def within(low: float, high: float) -> Rule:
  """Equivalence: supported if the interval lies inside [low, high], contradicted if wholly outside."""
  check_real('low', low)
  check_real('high', high, above=low)
  return Rule(
    lambda interval: _decide(
      low <= interval.low and interval.high <= high, interval.high < low or interval.low > high
    ),
    lambda: f'supported if the interval is inside [{low}, {high}], contradicted if wholly outside',
  )


def exact(tolerance: float) -> Rule:
  """For an identity's error: supported if it is at most `tolerance` in size, else contradicted.

  Both ends of the interval are held to it, so an error that is itself uncertain cannot pass by its estimate.
  """
  if check_real('tolerance', tolerance) < 0:
    raise InputError(f'tolerance must be >= 0, got {tolerance}')

  def judge(interval: Interval) -> Verdict:
    holds = max(abs(interval.low), abs(interval.high)) <= tolerance
    return _decide(holds, not holds)

  return Rule(judge, lambda: f'supported if the error is at most {tolerance} in size, contradicted if not')


def _decide(supported: bool, contradicted: bool) -> Verdict:
  if supported:
    return Verdict.SUPPORTED
  return Verdict.CONTRADICTED if contradicted else Verdict.INCONCLUSIVE


def grade(claim: Claim, intervals: Mapping[str, Interval], *, num_seeds: int, conditions: str) -> Finding:
  """Applies a claim's rules to what was measured.

  An effect with a number that is not finite is inconclusive whatever the rule: nothing was measured (NaN, an
  identity that could not be evaluated included), or its spread is unknown. So is one from which values were left
  out: runs that failed are not silence, and an effect without a value for them must give them one first.

  With several parts the claim is supported only if every part is, contradicted if any part is, and inconclusive
  otherwise. Requiring all parts keeps the error rate of 'supported' at that of one part (Berger 1982,
  Technometrics 24); that of 'contradicted' can grow to the sum over the parts. The headline effect is the one of
  the part with the worst verdict, the first listed among equals, since effects on different scales have no common
  order.

  Args:
    claim: with its rules.
    intervals: interval by effect name, one for each rule.
    num_seeds: seeds behind the finding, those with excluded values included.
    conditions: under which problem, model and settings, in words.

  Raises:
    InputError: if the intervals are not those that the claim's rules name, or `num_seeds` is no count.
  """
  check_count('num_seeds', num_seeds, minimum=0)
  if not claim.rules or set(intervals) != set(claim.rules):
    raise InputError(f'claim {claim.id} needs intervals for {list(claim.rules)}, got {list(intervals)}')
  parts = tuple(_grade_part(name, rule, intervals[name]) for name, rule in claim.rules.items())
  worst_first = (Verdict.CONTRADICTED, Verdict.INCONCLUSIVE, Verdict.SUPPORTED)
  decider = min(parts, key=lambda part: worst_first.index(part.verdict))
  several = len(parts) > 1
  all_rules = 'all of: ' + '; '.join(f'{part.effect_name}: {part.rule}' for part in parts)
  return Finding(
    id=claim.id,
    statement=claim.statement,
    verdict=decider.verdict,
    effect=decider.effect,
    effect_name=decider.effect_name,
    ci_low=decider.ci_low,
    ci_high=decider.ci_high,
    confidence=decider.confidence,
    num_seeds=num_seeds,
    conditions=conditions,
    rule=all_rules if several else decider.rule,
    excluded=decider.excluded,
    parts=parts if several else (),
  )


def _grade_part(name: str, rule: Rule, interval: Interval) -> Part:
  finite = all(math.isfinite(number) for number in interval[:3])
  verdict = rule.judge(interval) if finite and not interval.excluded else Verdict.INCONCLUSIVE
  estimate, low, high, confidence = (float(number) for number in interval[:4])
  return Part(
    name, rule.describe(), verdict, estimate, low, high, confidence, int(interval.num), int(interval.excluded)
  )


def write_claims(path: str | os.PathLike[str], findings: Sequence[Finding]) -> None:
  """Writes `claims.json`, a list of one object per finding, whole or not at all.

  Strict JSON: numbers that are not finite are written as null.

  Args:
    path: the file; one that exists is replaced.
    findings: with ids that differ.

  Raises:
    InputError: if two findings have the same id.
    OSError: if the file cannot be written.
  """
  ids = [finding.id for finding in findings]
  repeated = sorted({name for name in ids if ids.count(name) > 1})
  if repeated:
    raise InputError(f'the ids of findings must differ, got more than one of {repeated}')
  objects = [_plain(finding) | {'parts': [_plain(part) for part in finding.parts]} for finding in findings]
  text = json.dumps(objects, indent=2, ensure_ascii=False, allow_nan=False) + '\n'
  with files.replacing(path) as temporary:
    temporary.write_text(text, encoding='utf-8')


def _plain(record: Part | Finding) -> dict[str, Any]:
  def unless_infinite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

  return {key: unless_infinite(value) for key, value in record._asdict().items()}


def read_claims(path: str | os.PathLike[str]) -> list[Finding]:
  """Reads the findings that `write_claims` wrote; a null effect is NaN, a null bound is infinite.

  Raises:
    InputError: if the file is not such a list. The message names it.
    OSError: if the file cannot be read.
  """
  try:
    objects = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
    return [
      Finding(**_restored(entry) | {'parts': tuple(Part(**_restored(part)) for part in entry['parts'])})
      for entry in objects
    ]
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(f'{os.fspath(path)} is not a list of findings from write_claims: {error}') from error


def _restored(values: dict[str, Any]) -> dict[str, Any]:
  missing = {'effect': math.nan, 'ci_low': -math.inf, 'ci_high': math.inf}
  known = {key: missing[key] if value is None else value for key, value in values.items()}
  return known | {'verdict': Verdict(values['verdict'])}
