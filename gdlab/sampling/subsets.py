"""Random subsets of traced size, without sorting the population."""

import jax
import jax.numpy as jnp

from gdlab.core.types import Array, Key


def subset(key: Key, population: Array, size: Array, slots: int) -> Array:
  """`size` distinct whole numbers in [0, population), int32[slots], with -1 in the other slots.

  The set is uniform among all of its size; its order is not uniform. Costs O(slots^2) for any population.

  Args:
    key: randomness.
    population: int32[], >= 1.
    size: int32[], in [0, min(population, slots)].
    slots: the length of the result, >= 1.

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
