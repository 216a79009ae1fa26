"""Studies: cells that are measured once, comparisons, claims with rules written beforehand, a page, a command line.

Your own study is a single file; see `Study`. Its results go into `--workdir`: `results/*.nc`, `claims.json`,
`claims-1.json`, ... (the same claims for each repeat), `figures/*.svg` and `report.html`. After an interruption the
same command resumes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
