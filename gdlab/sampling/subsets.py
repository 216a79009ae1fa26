"""Random subsets of traced size, without sorting what they are drawn from."""

import jax
import jax.numpy as jnp

from gdlab.core.types import Array, Key


def subset(key: Key, population: Array, size: Array, slots: int) -> Array:
  """`size` different whole numbers in [0, population), int32[slots], -1 in the slots that are left over.

  As a set uniform among all of that size; not in uniform order. Costs O(slots^2) whatever the population is.

  Args:
    key: randomness.
    population: int32[], >= 1.
    size: int32[], in [0, min(population, slots)].
    slots: how many numbers there is room for, >= 1.

  Source: R. W. Floyd, in J. Bentley, "Programming pearls: a sample of brilliance", CACM 30, 1987.
  """
  numbers = jnp.arange(slots, dtype=jnp.int32)
  last = population - size + numbers
  drawn = jax.random.randint(key, (slots,), 0, last + 1, jnp.int32)

  def place(chosen: Array, slot: tuple[Array, Array, Array]) -> tuple[Array, None]:
    number, last, drawn = slot
    # A number that is there already gives way to the newest, which cannot be.
    value = jnp.where(jnp.any(chosen == drawn), last, drawn)
    return chosen.at[number].set(jnp.where(number < size, value, -1)), None

  return jax.lax.scan(place, jnp.full(slots, -1, jnp.int32), (numbers, last, drawn))[0]
