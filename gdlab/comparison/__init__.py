"""Comparisons of methods: `compare` tunes all arms alike, runs them on other seeds, and judges the differences."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
