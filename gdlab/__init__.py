"""gdlab: a research library and laboratory for gradient descent on JAX and Optax.

    sampler  ->  estimator  ->  optimizer (any Optax chain)  ->  apply

`gdlab.algorithm` composes one update of these; `gdlab.run` and `gdlab.sweep` run it over many seeds and
hyperparameters side by side and return an `xarray.Dataset`.
"""

import lazy_loader

__version__ = '0.2.0'

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
