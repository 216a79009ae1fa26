"""Samplers: which examples each update sees, and with what weights.

| sampler | draws | epoch |
|---|---|---|
| `full_batch()` | all N | 1 update |
| `single()` | 1, reshuffled every epoch | N updates |
| `with_replacement(B)` | B independent | ceil(N/B) updates by convention |
| `reshuffle(B)` | B, a fresh permutation every epoch | ceil(N/B) updates |
| `shuffle_once(B)` | B, one permutation for all epochs | ceil(N/B) updates |
| `sequential(B)` | B, in the data's order | ceil(N/B) updates |
"""

from gdlab.sampling.epochs import EpochState, reshuffle, sequential, shuffle_once, single
from gdlab.sampling.independent import FullBatchState, WithReplacementState, full_batch, with_replacement

__all__ = [
  'EpochState',
  'FullBatchState',
  'WithReplacementState',
  'full_batch',
  'reshuffle',
  'sequential',
  'shuffle_once',
  'single',
  'with_replacement',
]
