"""Training problems: the loss, its examples, and what is known exactly about it.

`landscapes` and `matrices` have problems whose stationary points are known, `noise` has the gradient noise that
`with_noise` adds to any problem.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
