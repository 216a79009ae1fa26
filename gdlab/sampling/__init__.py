"""Samplers: which examples each update uses, and with which weights.

| sampler | draws | weights of real slots | epoch |
|---|---|---|---|
| `full_batch()` | all N | 1/N | 1 update |
| `single()` | 1, reshuffled every epoch | 1 | N updates |
| `with_replacement(B)` | B independent | 1/B | ceil(N/B) updates by convention |
| `reshuffle(B)` | B, a fresh permutation every epoch | 1/B | ceil(N/B) updates |
| `shuffle_once(B)` | B, one permutation for all epochs | 1/B | ceil(N/B) updates |
| `sequential(B)` | B, in the data's order | 1/B | ceil(N/B) updates |
| `paired_reversal(B)` | B, a fresh permutation, in the next epoch its reverse | 1/B | ceil(N/B) updates |
| `block_shuffle(B, b)` | B, blocks of b in order, the blocks reshuffled every epoch | 1/B | ceil(N/B) updates |
| `shuffle_buffer(B, M)` | B, through a buffer of M as in tf.data | 1/B | ceil(N/B) updates |
| `batch_size_schedule(M, schedule)` | B_t, a fresh permutation every epoch | 1/B_t | at least ceil(N/M) updates |
| `grab(B, like=params)` | B, in an order that balances gradients, learned | 1/B | ceil(N/B) updates |
| `importance(B, p)` | B independent, i with probability p_i | 1/(N p_i B) | ceil(N/B) updates by convention |
| `adaptive_importance(B, score)` | the same, p learned from a score | 1/(N p_i B) | ceil(N/B) updates by convention |
| `stratified(B, labels)` | b_c of each class c | N_c/(N b_c) | ceil(N/B) updates by convention |
| `poisson(q, M)` | each with probability q | 1/(N q) | ceil(1/q) updates by convention |
| `stream(B)` | B of those that have arrived, A per update | 1/B | ceil(N/A) updates |

Scores for `adaptive_importance`: `last_loss`, `gradient_norm`. A schedule for `batch_size_schedule`:
`piecewise_sizes`. `grab` and `gradient_norm` need an estimator that computes per-example gradients.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
