"""The public names of gdlab: what the reference lists, and what its test compares it with."""

import importlib
import inspect
from types import ModuleType
from typing import Any

MODULES = (
  'gdlab',
  'gdlab.problems',
  'gdlab.problems.landscapes',
  'gdlab.problems.matrices',
  'gdlab.problems.noise',
  'gdlab.problems.adapters',
  'gdlab.sampling',
  'gdlab.estimators',
  'gdlab.transforms',
  'gdlab.schedules',
  'gdlab.comparison',
  'gdlab.analysis',
  'gdlab.diagnosis',
  'gdlab.diagnosis.thresholds',
  'gdlab.theory',
  'gdlab.statistics',
  'gdlab.claims',
  'gdlab.study',
  'gdlab.report',
  'gdlab.plots',
)


def own_names(module: ModuleType) -> list[str]:
  """The public names of a module, in its own order: those of `__all__`, or else those that it defines."""
  listed = getattr(module, '__all__', None)
  if listed is not None:
    return [name for name in listed if not inspect.ismodule(getattr(module, name))]
  return [
    name
    for name, value in vars(module).items()
    if not name.startswith('_')
    and (
      getattr(value, '__module__', None) == module.__name__ or isinstance(value, (int, float, tuple, dict))
    )
  ]


def public_names() -> dict[str, Any]:
  """Every public object by its full name, `gdlab.sampling.reshuffle`."""
  found = {}
  for path in MODULES:
    module = importlib.import_module(path)
    found |= {f'{path}.{name}': getattr(module, name) for name in own_names(module)}
  return found


def homes(names: dict[str, Any]) -> dict[int, str]:
  """Identity of an object -> the name under which it is documented, the shortest of those that it has."""
  found: dict[int, str] = {}
  for name in sorted(names, key=lambda name: (name.count('.'), names_order(name))):
    if callable(names[name]):
      found.setdefault(id(names[name]), name)
  return found


def names_order(name: str) -> int:
  """The place of a name's module on the reference."""
  return MODULES.index(name.rpartition('.')[0])
