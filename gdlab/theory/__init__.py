"""Closed forms to compare simulations with: pure functions in NumPy and float64, except `central_flow`, in JAX.

One step and its stability: `descent`, `stability`. A batch: `minibatch`. Noise on a quadratic: `moments`,
`stationary`, `reshuffling`. The noisy quadratic model: `nqm`, `nqm_steps`. Saddles and barriers: `saddles`,
`kramers`. Batch size and rate: `noise_scales`, `scaling`. A schedule: `last_iterate`. Classes of unequal shares:
`heavy_tails`. The edge of stability: `central_flow`, which differentiates a given loss.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
