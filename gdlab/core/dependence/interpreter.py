"""Follows labels through a traced program, without running it: which outputs depend on which inputs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from gdlab.core.dependence.labels import BITS, Value, either, everything, full, over, short, uniform
from gdlab.core.dependence.products import mixed
from gdlab.core.dependence.rules import RULES
from gdlab.core.types import PyTree

LONGEST_UNROLLED = 64  # steps of a scan that are followed one by one
LARGEST_KNOWN = 2**16  # entries of an array that is computed on the way, such as a mask


class Followed(NamedTuple):
  """The result of following labels.

  Attributes:
    labels: a pytree like the function's outputs, of labels at full length.
    doubt: primitives without a rule that labels reached; these are only assumed to mix all inputs.
  """

  labels: PyTree
  doubt: frozenset[str]


class Traced(NamedTuple):
  """A traced program, through which labels can be followed more than once (tracing is most of the work).

  Attributes:
    program: a ClosedJaxpr.
    structure: the tree structure of its outputs.
  """

  program: Any
  structure: Any


def trace(function: Callable[..., PyTree], args: Sequence[PyTree]) -> Traced:
  """The program of a function, traced for arrays or for shapes and dtypes."""
  program, outputs = jax.make_jaxpr(function, return_shape=True)(*args)
  return Traced(program, jax.tree.structure(outputs))


def follow(traced: Traced, args: Sequence[PyTree], labels: Sequence[int | np.ndarray]) -> Followed:
  """Labels of a program's outputs, given those of its arguments.

  An entry of an output has at least the labels of every entry of an argument that it depends on. It may have more if
  the dependence is unknown before the program runs (an unknown index may be any index).

  Args:
    traced: see `trace`.
    args: arguments of the same shapes; values of leaves that are NumPy arrays count as known.
    labels: for every argument a bit field for all entries of its leaves, or uint32[B], one for each index of their
      leading axis.
  """
  placed = [(leaf, mark) for arg, mark in zip(args, labels, strict=True) for leaf in jax.tree.leaves(arg)]
  values = [
    Value(np.shape(leaf), _marked(mark, np.shape(leaf)), functools.partial(_given, leaf))
    for leaf, mark in placed
  ]
  doubt: set[str] = set()
  found = [full(value.labels, value.shape) for value in _run_closed(traced.program, values, doubt)]
  return Followed(jax.tree.unflatten(traced.structure, found), frozenset(doubt))


def _marked(mark: int | np.ndarray, shape: tuple[int, ...]) -> Any:
  if isinstance(mark, int):
    return uniform(mark, shape)
  return mark.astype(BITS).reshape(-1, *(1,) * (len(shape) - 1))


def _given(leaf: Any) -> Any:
  return leaf if isinstance(leaf, np.ndarray) else None


def _run_closed(closed: Any, inputs: Sequence[Value], doubt: set[str]) -> list[Value]:
  return _run(closed.jaxpr, closed.consts, inputs, doubt)


def _run(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value], doubt: set[str]) -> list[Value]:
  env: dict[Any, Value] = {}

  def read(atom: Any) -> Value:
    if isinstance(atom, core.Literal):
      return Value(np.shape(atom.val), None, lambda: np.asarray(atom.val))
    return env[atom]

  for var, const in zip(jaxpr.constvars, consts, strict=True):
    # A constant of the program is known unless it is itself a tracer of an outer one.
    known = (
      (lambda: None) if isinstance(const, jax.core.Tracer) else functools.partial(lambda value: value, const)
    )
    env[var] = Value(np.shape(const), None, known)
  env.update(zip(jaxpr.invars, inputs, strict=True))
  for eqn in jaxpr.eqns:
    outputs = _equation(eqn, [read(atom) for atom in eqn.invars], doubt)
    env.update(zip(eqn.outvars, outputs, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: Any, inputs: list[Value], doubt: set[str]) -> list[Value]:
  name = eqn.primitive.name
  if name in _CONTROL:
    return _CONTROL[name](eqn, inputs, doubt)
  inner = _inner(eqn)
  if inner is not None:
    return _run_closed(inner, inputs, doubt)
  shapes = [tuple(getattr(var.aval, 'shape', ())) for var in eqn.outvars]
  known = _known(eqn, inputs, shapes)
  if all(value.labels is None for value in inputs) or not shapes:
    labels = [None] * len(shapes)
  else:
    labels = _ruled(name, inputs, eqn.params, shapes, doubt)
  pieces: tuple[Value, ...] = ()
  if name == 'concatenate' and eqn.params['dimension'] == len(shapes[0]) - 1:
    pieces = tuple(inputs)
  return [Value(shape, own, value, pieces) for shape, own, value in zip(shapes, labels, known, strict=True)]


def _ruled(
  name: str, inputs: list[Value], params: Any, shapes: list[tuple[int, ...]], doubt: set[str]
) -> list[Any]:
  if name in RULES:
    try:
      return RULES[name](inputs, params, shapes)
    except Exception:  # another version of JAX gives the primitive other parameters
      pass
  doubt.add(name)
  return mixed(inputs, params, shapes)


def _inner(eqn: Any) -> Any:
  """The program inside a call with the same inputs (jit, checkpoint, custom derivatives)."""
  for param in ('jaxpr', 'call_jaxpr', 'fun_jaxpr', 'call'):
    program = eqn.params.get(param)
    if isinstance(program, core.Jaxpr):
      program = core.ClosedJaxpr(program, ()) if not program.constvars else None
    if isinstance(program, core.ClosedJaxpr) and len(program.jaxpr.invars) == len(eqn.invars):
      return program
  return None


def _known(eqn: Any, inputs: list[Value], shapes: list[tuple[int, ...]]) -> list[Callable[[], Any]]:
  """Functions that return the outputs if all inputs are known; computed at the first call."""
  if (
    any(value.labels is not None for value in inputs) or max(map(np.prod, shapes), default=0) > LARGEST_KNOWN
  ):
    return [lambda: None] * len(shapes)

  @functools.cache
  def compute() -> Any:
    values = [value.known() for value in inputs]
    if any(value is None for value in values) or eqn.effects:
      return None
    try:
      with jax.ensure_compile_time_eval():
        found = eqn.primitive.bind(*values, **eqn.params)
    except Exception:  # what cannot be computed alone is not known
      return None
    return found if eqn.primitive.multiple_results else [found]

  def output(number: int) -> Any:
    found = compute()
    return None if found is None else found[number]

  return [functools.partial(output, number) for number in range(len(shapes))]


def _cond(eqn: Any, inputs: list[Value], doubt: set[str]) -> list[Value]:
  which, *operands = inputs
  branches = eqn.params['branches']
  index = which.known() if which.labels is None else None
  if index is not None:
    return _run_closed(branches[int(np.clip(int(index), 0, len(branches) - 1))], operands, doubt)
  outputs = [_run_closed(branch, operands, doubt) for branch in branches]
  return [_joined(values, everything([which.labels])) for values in zip(*outputs, strict=True)]


def _scan(eqn: Any, inputs: list[Value], doubt: set[str]) -> list[Value]:
  params, body_jaxpr = eqn.params, eqn.params['jaxpr'].jaxpr
  # By shapes, for releases of JAX store the counts in different ways: what is gone over has one axis more outside.
  num_carry = sum(
    _rank(out) == _rank(inner) for out, inner in zip(eqn.outvars, body_jaxpr.outvars, strict=True)
  )
  last = sum(_rank(value) == _rank(inner) for value, inner in zip(eqn.invars, body_jaxpr.invars, strict=True))
  first = last - num_carry
  consts, carry, xs = inputs[:first], inputs[first:last], inputs[last:]
  length = params['length']
  varying = any(x.labels is not None and x.labels.shape[0] > 1 for x in xs)
  counting = any(
    value.labels is None and value.known() is not None for value in carry
  )  # of a loop over examples
  if (varying or counting) and length <= LONGEST_UNROLLED:
    steps = []
    order = range(length)[::-1] if params['reverse'] else range(length)
    for step in order:
      outputs = _run_closed(params['jaxpr'], [*consts, *carry, *(_item(x, step) for x in xs)], doubt)
      carry = outputs[: len(carry)]
      steps.append(outputs[len(carry) :])
    if params['reverse']:
      steps.reverse()
    return [*carry, *(_stacked(column) for column in zip(*steps, strict=True))]

  items = [Value(x.shape[1:], _dropped(over(x.labels, [0]) if x.shape[0] else None)) for x in xs]

  def body(carry):
    outputs = _run_closed(params['jaxpr'], [*consts, *carry, *items], doubt)
    return outputs[: len(carry)], outputs[len(carry) :]

  carry, ys = _settled(body, carry)
  stacked = [Value((length, *y.shape), None if y.labels is None else y.labels[None]) for y in ys]
  return [*carry, *stacked]


def _rank(atom: Any) -> int:
  return len(atom.aval.shape)


def _while(eqn: Any, inputs: list[Value], doubt: set[str]) -> list[Value]:
  params = eqn.params
  first, last = params['cond_nconsts'], params['cond_nconsts'] + params['body_nconsts']
  cond_consts, body_consts, carry = inputs[:first], inputs[first:last], inputs[last:]

  def body(carry):
    [goes_on] = _run_closed(params['cond_jaxpr'], [*cond_consts, *carry], doubt)
    outputs = _run_closed(params['body_jaxpr'], [*body_consts, *carry], doubt)
    return [_joined([value], everything([goes_on.labels])) for value in outputs], []

  return _settled(body, carry)[0]


def _settled(
  body: Callable[[list[Value]], tuple[list[Value], list[Value]]], carry: list[Value]
) -> tuple[Any, Any]:
  """The carry of a loop with all labels that any number of iterations can add, and an iteration's other outputs."""
  carry = [Value(value.shape, value.labels) for value in carry]
  while True:
    after, beside = body(carry)
    joint = [_joined([old, new]) for old, new in zip(carry, after, strict=True)]
    if all(_same(old, new) for old, new in zip(carry, joint, strict=True)):
      return joint, beside
    carry = joint


def _joined(values: Sequence[Value], bits: int = 0) -> Value:
  """A value that may be any of several; only its labels are known."""
  labels = either(*(value.labels for value in values), uniform(bits, values[0].shape))
  return Value(values[0].shape, labels)


def _same(old: Value, new: Value) -> bool:
  return bool((full(old.labels, old.shape) == full(new.labels, new.shape)).all())


def _item(value: Value, step: int) -> Value:
  """One item of the values that a scan iterates over."""
  labels = value.labels
  if labels is not None:
    labels = labels[step if labels.shape[0] > 1 else 0]
  whole = value.known

  def known() -> Any:
    found = whole()
    return None if found is None else np.asarray(found)[step]

  return Value(value.shape[1:], labels, known)


def _dropped(labels: Any) -> Any:
  return None if labels is None else labels[0]


def _stacked(values: Sequence[Value]) -> Value:
  shape = (len(values), *values[0].shape)
  return Value(shape, short(np.stack([full(value.labels, value.shape) for value in values])))


_CONTROL = {'cond': _cond, 'scan': _scan, 'while': _while}
