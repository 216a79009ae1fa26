"""What the tests of samplers share: batches drawn in one compiled call, and tests of their law."""

import jax
import numpy as np
from scipy import stats

# The probability that a test of a law fails although the law holds. Keys are fixed: it fails always or never.
LEVEL = 1e-4


def draw(sampler, key, num_examples, num_steps):
  """Indices and weights [num_steps, B] of the first batches for one key, or [K, num_steps, B] for K keys."""

  def from_key(key):
    def step(state, _):
      batch, state = sampler.sample(state)
      return state, batch

    return jax.lax.scan(step, sampler.init(key, num_examples), length=num_steps)[1]

  one_key = key.ndim == (0 if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else 1)
  batches = jax.jit(from_key if one_key else jax.vmap(from_key))(key)
  return np.asarray(batches.indices), np.asarray(batches.weights)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def by_epoch(indices, updates_per_epoch):
  """Indices [..., T, B] of full batches as [..., T / updates_per_epoch, examples of an epoch]."""
  *lead, num_steps, batch_size = indices.shape
  return indices.reshape(*lead, num_steps // updates_per_epoch, updates_per_epoch * batch_size)


def numbered(rows, base):
  """Rows of digits below `base` as one whole number each: equal numbers are equal rows."""
  return rows @ base ** np.arange(rows.shape[-1])


def assert_uniform(outcomes, num_outcomes):
  """Chi-square test at LEVEL: every one of `num_outcomes` possible outcomes is equally frequent."""
  seen, counts = np.unique(np.ravel(outcomes), return_counts=True)
  assert len(seen) <= num_outcomes, f'{len(seen)} different outcomes where {num_outcomes} are possible'
  counts = np.append(counts, np.zeros(num_outcomes - len(seen), int))
  assert counts.sum() >= 5 * num_outcomes, 'too few draws for the chi-square approximation'
  assert stats.chisquare(counts).pvalue > LEVEL, counts


def assert_independent(first, second):
  """Chi-square test of independence at LEVEL of two paired sequences of outcomes."""
  table = stats.contingency.crosstab(np.ravel(first), np.ravel(second)).count
  assert stats.chi2_contingency(table).pvalue > LEVEL, table


def estimates(indices, weights, values):
  """The batches' weighted sums of `values` [N, d], float64[..., d], for indices and weights [..., B]."""
  return np.einsum('...b,...bd->...d', np.asarray(weights, np.float64), np.asarray(values)[indices])


def assert_mean(samples, expected, rounding=1e-6):
  """The mean of independent `samples` [K] is within 3 standard errors of `expected`, and a relative rounding.

  The rounding is that of float32 weights: a few times 2^-24.
  """
  samples = np.asarray(samples, np.float64)
  error = samples.std(ddof=1) / np.sqrt(len(samples))
  assert abs(samples.mean() - expected) <= 3 * error + rounding * abs(expected), (samples.mean(), error)


def assert_law(outcomes, probabilities):
  """Chi-square test at LEVEL: outcome i has probability probabilities[i]."""
  counts = np.bincount(np.ravel(outcomes), minlength=len(probabilities))
  expected = counts.sum() * np.asarray(probabilities) / np.sum(probabilities)
  assert len(counts) == len(expected), 'an outcome that cannot be'
  assert expected.min() >= 5, 'too few draws for the chi-square approximation'
  assert stats.chisquare(counts, expected).pvalue > LEVEL, (counts, expected)
