"""The time that this process has spent compiling, from JAX's monitoring events."""

import threading
from typing import Any

import jax.monitoring

EVENTS = (
  '/jax/core/compile/jaxpr_to_mlir_module_duration',
  '/jax/core/compile/backend_compile_duration',
)


class _Total:
  def __init__(self) -> None:
    self.seconds, self._lock = 0.0, threading.Lock()

  def add(self, event: str, duration_secs: float, **about: Any) -> None:
    if event in EVENTS:
      with self._lock:
        self.seconds += duration_secs


_total = _Total()
jax.monitoring.register_event_duration_secs_listener(_total.add)


def compile_seconds() -> float:
  """Seconds of lowering and compiling so far, summed over threads, so possibly more than the time elapsed."""
  return _total.seconds
