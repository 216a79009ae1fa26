"""Claims with verdict rules that are fixed before the run, their grading, and `claims.json`."""

import enum
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, check_real
from gdlab.host import checksums
from gdlab.statistics import Interval

ROUNDING = 1e-9  # of sums of equal numbers, relative


class Verdict(enum.StrEnum):
  """What an experiment says about a claim."""

  SUPPORTED = 'supported'
  CONTRADICTED = 'contradicted'
  NO_DIFFERENCE = 'no difference'  # the effect is too small to matter, on either side
  MIXED = 'mixed'  # some parts hold and others do not
  INCONCLUSIVE = 'inconclusive'


class Rule(NamedTuple):
  """How an effect's interval becomes a verdict.

  Attributes:
    judge: `(interval) -> Verdict`, for an interval whose numbers are all finite.
    describe: `() -> str`, the rule in one line.
    premise: whether the part is a condition of the claim and not what is claimed; see `premise`.
  """

  judge: Callable[[Interval], Verdict]
  describe: Callable[[], str]
  premise: bool = False


class Claim(NamedTuple):
  """A statement and what would support or contradict it.

  Attributes:
    id: its stable name, such as 'V5'.
    statement: the claim in words.
    rules: rule by effect name, one for each part.
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
  """A graded claim: one object of `claims.json`. The effect is that of the part that decided the verdict.

  Attributes:
    conditions: the problem, model and settings, in words.
    excluded: NaN values left out of the effect's interval.
    parts: every part if the claim has more than one, else empty.
    jointly: the verdict after a correction for all claims of a study together; None if there was none.
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
  jointly: Verdict | None = None


@checked
def greater_than(threshold: float, *, none: float | None = None) -> Rule:
  """Supported if the whole interval is above `threshold`, contradicted if all of it is below.

  With `none`, an interval strictly inside the margin is "no difference": (-|t|, |t|) around 0, or between t and 1/t
  around 1.

  Args:
    threshold: t, the smallest effect that matters.
    none: the effect if nothing differs: 0 for a difference or a slope, 1 for a ratio; None if there is no such value.

  Raises:
    InputError: if the threshold is not a finite number, not above 0 for a ratio, or below `none`: an effect that is
      none at all would support the claim.
  """
  margin = _margin(threshold, none)
  if none is not None and none > threshold:
    raise InputError(
      f'threshold must be at least none, {none}, which would support the claim, got {threshold}'
    )

  def judge(interval: Interval) -> Verdict:
    return _decide(interval.low > threshold, interval.high < threshold, _inside(interval, margin))

  return Rule(
    judge,
    lambda: f'supported if the interval is above {threshold}, contradicted if it is below{_told(margin)}',
  )


@checked
def less_than(threshold: float, *, none: float | None = None) -> Rule:
  """Supported if the whole interval is below `threshold`, contradicted if all of it is above; see `greater_than`."""
  margin = _margin(threshold, none)
  if none is not None and none < threshold:
    raise InputError(
      f'threshold must be at most none, {none}, which would support the claim, got {threshold}'
    )

  def judge(interval: Interval) -> Verdict:
    return _decide(interval.high < threshold, interval.low > threshold, _inside(interval, margin))

  return Rule(
    judge,
    lambda: f'supported if the interval is below {threshold}, contradicted if it is above{_told(margin)}',
  )


def _margin(threshold: float, none: float | None) -> tuple[float, float] | None:
  check_real('threshold', threshold)
  if none not in (None, 0, 1):
    raise InputError(f'none must be 0 (for a difference) or 1 (for a ratio), got {none!r}')
  if none is None or threshold == none:
    return None
  if none == 1 and threshold <= 0:
    raise InputError(f'threshold must be above 0 for a ratio, got {threshold!r}')
  ends = (-threshold, threshold) if none == 0 else (1 / threshold, threshold)
  return min(ends), max(ends)


def _inside(interval: Interval, margin: tuple[float, float] | None) -> bool:
  return margin is not None and margin[0] < interval.low and interval.high < margin[1]


def _told(margin: tuple[float, float] | None) -> str:
  return '' if margin is None else f', no difference if inside ({margin[0]:.4g}, {margin[1]:.4g})'


@checked('low', 'high')
def within(low: float, high: float) -> Rule:
  """Equivalence: supported if the interval lies inside [low, high], contradicted if it lies wholly outside."""
  check_real('low', low)
  check_real('high', high, above=low)
  return Rule(
    lambda interval: _decide(
      low <= interval.low and interval.high <= high, interval.high < low or interval.low > high
    ),
    lambda: f'supported if the interval is inside [{low}, {high}], contradicted if wholly outside',
  )


@checked
def outside(low: float, high: float) -> Rule:
  """The opposite of `within`: supported if the interval lies wholly outside [low, high], contradicted if inside."""
  inside = within(low, high)
  return Rule(
    lambda interval: _decide(
      inside.judge(interval) is Verdict.CONTRADICTED, inside.judge(interval) is Verdict.SUPPORTED
    ),
    lambda: f'supported if the interval is wholly outside [{low}, {high}], contradicted if inside',
  )


@checked
def premise(rule: Rule) -> Rule:
  """A condition without which the other parts mean nothing: a gap to be closed, or a control that must succeed.

  If `rule` supports it, the other parts decide the claim; otherwise the claim is inconclusive. A premise by itself
  neither supports nor contradicts a claim.
  """
  return Rule(
    lambda interval: _decide(rule.judge(interval) is Verdict.SUPPORTED, False),
    lambda: f'a premise: {re.split(r", (?=[a-z])", rule.describe())[0]}, else the claim is inconclusive',
    premise=True,
  )


@checked('tolerance')
def exact(tolerance: float) -> Rule:
  """For the error of an identity: supported if its absolute value is at most `tolerance`, else contradicted.

  Both ends of the interval must satisfy this, so an uncertain error does not pass by its estimate alone.
  """
  if check_real('tolerance', tolerance) < 0:
    raise InputError(f'tolerance must be >= 0, got {tolerance}')

  def judge(interval: Interval) -> Verdict:
    holds = max(abs(interval.low), abs(interval.high)) <= tolerance
    return _decide(holds, not holds)

  return Rule(judge, lambda: f'supported if the error is at most {tolerance} in size, contradicted if not')


def _decide(supported: bool, contradicted: bool, same: bool = False) -> Verdict:
  if supported:
    return Verdict.SUPPORTED
  if same:
    return Verdict.NO_DIFFERENCE
  return Verdict.CONTRADICTED if contradicted else Verdict.INCONCLUSIVE


@checked
def together(verdicts: Sequence[Verdict]) -> Verdict:
  """The verdict of a claim whose parts have these verdicts.

  The verdict that all parts share; else mixed, if a part is mixed, or some hold and others do not (contradicted, or no
  difference); contradicted, if a part does not hold and none does; otherwise inconclusive.
  """
  found = {*verdicts}
  if len(found) == 1:
    return verdicts[0]
  refuted = found & {Verdict.CONTRADICTED, Verdict.NO_DIFFERENCE}
  if Verdict.MIXED in found or (Verdict.SUPPORTED in found and refuted):
    return Verdict.MIXED
  return Verdict.CONTRADICTED if refuted else Verdict.INCONCLUSIVE


@checked('num_seeds')
def grade(claim: Claim, intervals: Mapping[str, Interval], *, num_seeds: int, conditions: str) -> Finding:
  """Applies a claim's rules to measured intervals.

  Whatever its rule, an effect is inconclusive if

  - one of its numbers is not finite: nothing was measured, or its uncertainty is unknown;
  - values were excluded from it: give failed runs a value first;
  - its interval has no width although its confidence is below 1: values that are all equal are no evidence.

  Several parts are combined by `together` and `premise`. The effect of the finding is that of the first part that
  decided the verdict: a premise that failed, else a part with the claim's verdict, else one that does not hold.

  Args:
    claim: with its rules.
    intervals: interval by effect name, one for each rule.
    num_seeds: seeds behind the finding, including those with excluded values.
    conditions: the problem, model and settings, in words.

  Raises:
    InputError: if `intervals` does not match the claim's rules, all of these are premises, or `num_seeds` is not a
      whole number >= 0.
  """
  check_count('num_seeds', num_seeds, minimum=0)
  if not claim.rules or set(intervals) != set(claim.rules):
    raise InputError(f'claim {claim.id} needs intervals for {list(claim.rules)}, got {list(intervals)}')
  parts = tuple(_grade_part(name, rule, intervals[name]) for name, rule in claim.rules.items())
  claimed = [part for part in parts if not claim.rules[part.effect_name].premise]
  failed = [part for part in parts if part not in claimed and part.verdict is not Verdict.SUPPORTED]
  if not claimed:
    raise InputError(f'claim {claim.id} must have a part that is not a premise')
  verdict = Verdict.INCONCLUSIVE if failed else together([part.verdict for part in claimed])
  decider = (failed or _deciding(claimed, verdict))[0]
  several = len(parts) > 1
  all_rules = 'all of: ' + '; '.join(f'{part.effect_name}: {part.rule}' for part in parts)
  return Finding(
    id=claim.id,
    statement=claim.statement,
    verdict=verdict,
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


def _deciding(parts: Sequence[Part], verdict: Verdict) -> list[Part]:
  """The parts that share the claim's verdict, or else those that do not hold."""
  against = (Verdict.CONTRADICTED, Verdict.NO_DIFFERENCE)
  return [part for part in parts if part.verdict is verdict] or [
    part for part in parts if part.verdict in against or part.verdict is Verdict.MIXED
  ]


def _grade_part(name: str, rule: Rule, interval: Interval) -> Part:
  finite = all(math.isfinite(number) for number in interval[:3])
  width = interval.high - interval.low
  told = width > ROUNDING * max(abs(interval.low), abs(interval.high)) or interval.confidence == 1
  verdict = rule.judge(interval) if finite and told and not interval.excluded else Verdict.INCONCLUSIVE
  estimate, low, high, confidence = (float(number) for number in interval[:4])
  return Part(
    name, rule.describe(), verdict, estimate, low, high, confidence, int(interval.num), int(interval.excluded)
  )


def write_claims(path: str | os.PathLike[str], findings: Sequence[Finding]) -> None:
  """Writes `claims.json`, one object per finding, atomically, and its checksum to SHA256SUMS in the same folder.

  Strict JSON: numbers that are not finite are written as null.

  Args:
    path: the file; an existing one is replaced.
    findings: with distinct ids.

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
  with checksums.writing(path) as temporary:
    temporary.write_text(text, encoding='utf-8')


def _plain(record: Part | Finding) -> dict[str, Any]:
  def unless_infinite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

  return {key: unless_infinite(value) for key, value in record._asdict().items()}


def read_claims(path: str | os.PathLike[str]) -> list[Finding]:
  """Reads the findings that `write_claims` wrote; a null effect is NaN, a null bound is infinite.

  In a folder without SHA256SUMS the file is read unverified, with a UserWarning.

  Raises:
    Damaged: an InputError, if the file does not match its checksum, or SHA256SUMS does not name it.
    InputError: if the file is not such a list. The message names it.
    OSError: if the file cannot be read.
  """
  verified = checksums.verify(path)
  try:
    objects = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
    findings = [
      Finding(**_restored(entry) | {'parts': tuple(Part(**_restored(part)) for part in entry['parts'])})
      for entry in objects
    ]
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(f'{os.fspath(path)} is not a list of findings from write_claims: {error}') from error
  if not verified:
    checksums.warn_unverified(path)
  return findings


def _restored(values: dict[str, Any]) -> dict[str, Any]:
  missing = {'effect': math.nan, 'ci_low': -math.inf, 'ci_high': math.inf, 'jointly': None}
  known = {key: missing[key] if value is None else value for key, value in values.items()}
  verdicts = {key: Verdict(values[key]) for key in ('verdict', 'jointly') if values.get(key) is not None}
  return known | verdicts
