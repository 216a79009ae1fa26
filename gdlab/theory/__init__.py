"""Closed forms that simulation is held against: pure functions, no simulation, NumPy in float64 but for one in JAX.

One step and its stability: `descent`, `stability`. A batch: `minibatch`. Noise on a quadratic: `moments`,
`stationary`, `reshuffling`. The noisy quadratic model: `nqm`, `nqm_steps`. Saddles and barriers: `saddles`,
`kramers`. Batch size and rate: `noise_scale`, `scaling`. A schedule: `last_iterate`. Classes of unequal shares:
`heavy_tails`. The edge of stability, in JAX, as it differentiates a loss that is given: `central_flow`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
