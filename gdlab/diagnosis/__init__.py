"""What is wrong with a run: findings with their evidence, and checks of a problem before it is run.

| function | what it tells | cost |
| --- | --- | --- |
| `diagnose` | what is wrong with each run of a result, and what to try | next to nothing |
| `probes` | what `diagnose` reads beside the losses | at most 40 gradients of up to 1024 examples per evaluation |
| `check_gradients` | whether the gradient is the derivative of the loss | 22 losses per leaf and direction |
| `overfit_small` | whether the model can fit 100 examples | 2,000 updates on them |
| `first_nonfinite` | at which update, leaf and example a run stopped being finite | the run up to there |
| `look_at_data` | what is wrong with a training set | one pass over it |
"""

from gdlab.diagnosis import thresholds
from gdlab.diagnosis.data import look_at_data
from gdlab.diagnosis.diagnose import diagnose
from gdlab.diagnosis.findings import Cause, Diagnosis, Finding, RunDiagnosis, Severity
from gdlab.diagnosis.gradient_check import GradientCheck, LeafCheck, check_gradients
from gdlab.diagnosis.nonfinite import NonFinite, first_nonfinite
from gdlab.diagnosis.overfit import OverfitSmall, overfit_small
from gdlab.diagnosis.probes import probes

__all__ = [
  'Cause',
  'Diagnosis',
  'Finding',
  'GradientCheck',
  'LeafCheck',
  'NonFinite',
  'OverfitSmall',
  'RunDiagnosis',
  'Severity',
  'check_gradients',
  'diagnose',
  'first_nonfinite',
  'look_at_data',
  'overfit_small',
  'probes',
  'thresholds',
]
