"""Diagnosis of training runs: findings with their evidence, and checks of a problem before it is run.

| function | what it shows | cost |
| --- | --- | --- |
| `diagnose` | what is wrong with each run of a result, and what to try | negligible |
| `probes` | further measurements for `diagnose` | at most 40 gradients of up to 1024 examples per evaluation |
| `check_gradients` | whether the gradient is the derivative of the loss | 22 losses per leaf and direction |
| `overfit_small` | whether the model can fit 100 examples | 2,000 updates on them |
| `first_nonfinite` | at which update, leaf and example a run stopped being finite | the run up to there |
| `look_at_data` | what is wrong with a training set | one pass over it |
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
