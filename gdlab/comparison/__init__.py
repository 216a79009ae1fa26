"""From a question about methods to an answer: `compare` tunes arms alike, runs them on other seeds, and judges."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
