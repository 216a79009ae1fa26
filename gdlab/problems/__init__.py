"""Training problems: what is minimised, over which examples, and what is known exactly about it.

`landscapes` and `matrices` hold problems all of whose stationary points are known, `noise` the gradient noise that
`with_noise` puts on any problem.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
