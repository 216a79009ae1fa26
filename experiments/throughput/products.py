"""Square float32 matrix products: what the machine reaches at best."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def build(work: Mapping[str, Any]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
  """One measurable for each size and library, named as by `names`; each makes `work['num_products']` products."""
  product = jax.jit(lambda a, b: a @ b)
  measurables = {}
  for size in work['sizes']:
    a, b = (np.random.default_rng(seed).standard_normal((size, size), np.float32) for seed in (0, 1))
    on_device = jax.device_put(a), jax.device_put(b)
    measurables[f'xla {size}'] = _repeated(
      lambda a, b: jax.block_until_ready(product(a, b)), *on_device, num_products(work, size)
    )
    measurables[f'numpy {size}'] = _repeated(np.matmul, a, b, num_products(work, size))
  return measurables, {}


def names(sizes) -> list[tuple[str, int]]:
  """Every measurable and its size."""
  return [(f'{library} {size}', size) for size in sizes for library in ('xla', 'numpy')]


def num_products(work: Mapping[str, Any], size: int) -> int:
  """Products in one repeat: `work['gflop']` thousand million operations, whatever the size."""
  return max(1, round(work['gflop'] * 1e9 / (2 * size**3)))


def _repeated(product: Callable, a, b, count: int) -> Callable[[], None]:
  def run() -> None:
    for _ in range(count):
      product(a, b)

  return run
