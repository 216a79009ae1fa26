"""The matrix product of a layer, against the plain one."""

import functools

import jax
import jax.numpy as jnp

from gdlab._cpu.products import BLOCK_ROWS, MOST_BLOCKS, product, transposed


def test_the_weight_gradient_of_a_product_is_that_of_the_plain_one():
  """First and second derivatives, in both modes and under vmap, for shapes on both sides of the rule."""
  for rows, inner, outer in ((16, 5, 3), (8, 40, 3), (3, 4, 4), (70, 6, 5)):
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (rows, inner)), jax.random.normal(keys[1], (inner, outer))

    def loss(dot, x, w):
      return jnp.sum(jnp.tanh(dot(x, w)) ** 2)

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(dot, x, w):
      gradient = jax.grad(loss, (1, 2))
      return (
        gradient(dot, x, w),
        jax.jvp(lambda w: gradient(dot, x, w), (w,), (w,))[1],
        jax.grad(lambda w: jnp.sum(gradient(dot, x, w)[1] ** 2))(w),
        jax.vmap(lambda scale: gradient(dot, scale * x, w)[1])(jnp.arange(3.0)),
      )

    ours, plain = derivatives(product, x, w), derivatives(jnp.matmul, x, w)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain)):
      # Sums of at most 16 x 40 or 70 x 6 terms of order one in float32.
      assert jnp.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_transposed_in_blocks():
  """Exactly, for one block, several, an unfilled one, and more rows than the usual blocks hold."""
  for rows in (1, BLOCK_ROWS, 2 * BLOCK_ROWS + 7, BLOCK_ROWS * MOST_BLOCKS + 1):
    matrix = jnp.arange(rows * 3.0).reshape(rows, 3)
    assert jnp.array_equal(jax.jit(transposed)(matrix), matrix.T)
    cotangent = jnp.arange(3.0 * rows).reshape(3, rows)
    [gradient] = jax.vjp(transposed, matrix)[1](cotangent)
    assert jnp.array_equal(gradient, cotangent.T)
