"""Studies: cells that are measured once, comparisons, claims with their rules written first, a page, a command line.

A study of one's own is a file; see `Study`. What it measures goes into `--workdir`: `results/*.nc`, `claims.json`,
`claims-1.json`, ... (the same claims of each repeat), `figures/*.svg` and `report.html`. Stopped, it goes on where it
was.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
