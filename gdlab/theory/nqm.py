r"""The noisy quadratic model: its expected loss after any number of steps of a linear method.

The model is diagonal: loss $\frac12 \sum_i h_i E[x_i^2]$, per-example gradient noise of variance $c_i$ in direction
i, $E[x_{0,i}^2] = e_i$. After T steps at a constant rate with batches of B

$$L(T, B) = P(T) + V(T) / B:$$

the loss that remains of the start, and the loss that noise has added, both sums of closed forms over the directions.

Source: Zhang et al. 2019, Which algorithmic choices matter at which batch sizes?, arXiv 1907.04164.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError, check_count, shown
from gdlab.theory.descent import largest_stable_rate
from gdlab.theory.inputs import (
  momentum_factor,
  nonnegative,
  nonnegative_number,
  per_direction,
  positive,
  positive_number,
  spectrum,
  together,
)
from gdlab.theory.linear import (
  Floats,
  System,
  average_system,
  momentum_system,
  power,
  powers,
  stationary,
)

# Of an eigenvalue's growth: its square, times model and noise, is then still a float64.
_LARGEST_LOG = 340.0


class NoisyQuadratic(NamedTuple):
  """A noisy quadratic model, one number for each of d directions; see `noisy_quadratic`."""

  weights: Floats  # float[d], h in the loss
  curvatures: Floats  # float[d], h as descent sees it; the weights unless preconditioned
  noise: Floats  # float[d], variance of the gradient noise of one example, as descent sees it
  initial: Floats  # float[d], E[x_0^2]


def is_model(name: str, value: Any, arguments: Mapping[str, Any]) -> None:
  """Raises InputError unless `value` is a NoisyQuadratic whose fields have one number for each direction."""
  if not isinstance(value, NoisyQuadratic):
    raise InputError(f'{name} must be a NoisyQuadratic, as noisy_quadratic makes it, got {shown(value)}')
  shapes = {field: np.shape(part) for field, part in zip(value._fields, value, strict=True)}
  if len({*shapes.values()}) > 1 or len(np.shape(value.weights)) != 1 or not np.size(value.weights):
    raise InputError(f'{name} must have fields of one shape [d], got {shapes}')


class Phase(NamedTuple):
  """A stretch of steps at one learning rate and batch size."""

  learning_rate: float
  num_steps: int
  batch_size: float


@checked('eigenvalues', 'noise', 'initial')
def noisy_quadratic(eigenvalues: Any, *, noise: Any = None, initial: Any = 1.0) -> NoisyQuadratic:
  """A noisy quadratic model; by default with the noise of Zhang et al., of covariance H.

  Example:
    >>> model = noisy_quadratic(1 / np.arange(1, 10_001))
    >>> float(expected_loss(model, 0, learning_rate=0.1, batch_size=1))
    4.8938

  Args:
    eigenvalues: h, float[d] > 0. Zhang et al.: 1/i for i = 1 ... 10,000.
    noise: variance >= 0 of one example's gradient, for all directions or each, float[d]; None is h.
    initial: E[x_0^2] >= 0, for all directions or each, float[d].

  Raises:
    InputError: an argument out of range or of the wrong shape.
  """
  h = spectrum('eigenvalues', eigenvalues)
  variance = h if noise is None else per_direction('noise', noise, h.size)
  return NoisyQuadratic(h, h, variance, per_direction('initial', initial, h.size))


@checked('power', model=is_model)
def preconditioned(model: NoisyQuadratic, power: float) -> NoisyQuadratic:
  r"""The model as descent preconditioned by $H^{-p}$ sees it.

  $x \leftarrow x - \alpha H^{-p} g$: curvatures $h^{1-p}$, noise of variance $c\,h^{-2p}$, the same loss.

  Args:
    model: the model.
    power: p >= 0; 0 changes nothing, 1 is Newton's method.

  Raises:
    InputError: if p is not a real number >= 0.

  Source: Zhang et al. 2019, section 3.
  """
  scale = model.weights ** -nonnegative_number('power', power)
  return model._replace(curvatures=model.curvatures * scale, noise=model.noise * scale**2)


class Method(NamedTuple):
  """A linear method: its momentum, or the decay of the average whose loss is computed."""

  momentum: float
  nesterov: bool
  averaging: float

  def system(self, model: NoisyQuadratic, learning_rate: float) -> System:
    """The recursion along every direction."""
    if self.averaging > 0:
      return average_system(model.curvatures, learning_rate, self.averaging)
    return momentum_system(model.curvatures, learning_rate, momentum=self.momentum, nesterov=self.nesterov)

  @property
  def start(self) -> Floats:
    """The state at the start for x = 1: (x, momentum) = (1, 0), or (x, average) = (1, 1)."""
    return np.array([1.0, 1.0 if self.averaging > 0 else 0.0])

  def moment(self, model: NoisyQuadratic) -> Floats:
    """The second moments of the state at the start, float[d, 2, 2]."""
    return model.initial[:, None, None] * np.outer(self.start, self.start)

  @property
  def output(self) -> int:
    """The index of the state whose loss is computed: the iterate, or its average."""
    return 1 if self.averaging > 0 else 0

  def stable(self, model: NoisyQuadratic, learning_rate: float) -> bool:
    """Whether the loss stays bounded."""
    largest = float(model.curvatures.max())
    return learning_rate < largest_stable_rate(largest, momentum=self.momentum, nesterov=self.nesterov)


def method(momentum: float, nesterov: bool, averaging: float) -> Method:
  """The method of these settings; raises InputError if they are out of range."""
  beta, rho = momentum_factor(momentum), momentum_factor(averaging, 'averaging')
  if beta > 0 and rho > 0:
    raise InputError(
      f'averaging must be 0 with momentum={beta} (the closed forms hold one of them), got {rho}'
    )
  return Method(beta, nesterov, rho)


class Curve:
  """P(T) and V(T) of one method at one rate; the values for each T are cached."""

  def __init__(self, model: NoisyQuadratic, learning_rate: float, descent: Method):
    """Prepares the closed forms."""
    system = descent.system(model, learning_rate)
    self._powers = powers(system)
    self._start, self._output = descent.start, descent.output
    self._stationary = _stationary(system, learning_rate)
    self._bias = model.weights / 2 * model.initial
    self._noise = model.weights / 2 * model.noise
    self._steady = self._falls_steadily()
    self._growth = np.where(np.isfinite(self._powers.log_modulus), self._powers.log_modulus, 0.0)
    self._known: dict[int, tuple[float, float, float]] = {}

  def __call__(self, steps: int) -> tuple[float, float, float]:
    """(P, the part of P that never rises with T, V) after `steps` steps; inf where they overflow float64."""
    if steps not in self._known:
      # From here on squares are beyond float64, and what is left of them would be differences of infinities.
      blown = steps * self._growth > _LARGEST_LOG
      first, second = power(self._powers, steps, self._output)
      first, second = np.where(blown, 0.0, first), np.where(blown, 0.0, second)
      moment, out = self._stationary, self._output
      with np.errstate(over='ignore'):
        left = (first * self._start[0] + second * self._start[1]) ** 2 * self._bias
        forgotten = (
          first**2 * moment[:, 0, 0] + 2 * first * second * moment[:, 0, 1] + second**2 * moment[:, 1, 1]
        )
        added = self._noise * (moment[:, out, out] - forgotten)
        if blown.any():
          left[blown & (self._bias > 0)] = np.inf
          added[blown & (self._noise > 0)] = np.inf
        self._known[steps] = (float(left.sum()), float(left[self._steady].sum()), float(added.sum()))
    return self._known[steps]

  def _falls_steadily(self) -> Floats:
    """The directions whose part of P falls at every step, bool[d].

    With real roots >= 0 the falls d_T of the output obey the same recursion; once d_1 >= z_2 d_0 >= 0 with z_2 the
    smaller root, d_{T+1}/d_T stays >= z_2.
    """
    found, weights = self._powers, []
    for steps in range(3):
      first, second = power(found, steps, self._output)
      weights.append(first * self._start[0] + second * self._start[1])
    falls = weights[0] - weights[1], weights[1] - weights[2]
    real = (found.angle == 0) & ~found.negative & ~found.opposite
    return real & (falls[0] >= 0) & (falls[1] >= found.smaller * falls[0])


@checked('steps', 'learning_rate', 'batch_size', model=is_model)
def expected_loss(
  model: NoisyQuadratic,
  steps: Any,
  *,
  learning_rate: float,
  batch_size: Any,
  momentum: float = 0.0,
  nesterov: bool = False,
  averaging: float = 0.0,
) -> Floats:
  r"""The expected loss after T steps at a constant rate, in closed form.

  An unstable rate gives inf where the loss overflows float64. V is a difference of two terms, which cancels where a
  direction has hardly moved: for plain descent its relative error is about $10^{-16}/(\alpha h T)$.

  Args:
    model: see `noisy_quadratic`.
    steps: T >= 0, a whole number or an array of them.
    learning_rate: alpha > 0.
    batch_size: B > 0, a number or an array that broadcasts against `steps`.
    momentum: beta in [0, 1), Optax's convention.
    nesterov: Nesterov's momentum instead of heavy ball.
    averaging: rho in [0, 1); above 0 the loss is that of the exponential moving average
      $y' = \rho y + (1 - \rho) x'$, $y_0 = x_0$; not together with momentum.

  Returns:
    float[...], the shape of `steps` and `batch_size` broadcast together.

  Raises:
    InputError: an argument out of range.
  """
  curve = Curve(model, positive_number('learning_rate', learning_rate), method(momentum, nesterov, averaging))
  nonnegative('steps', steps)
  if np.asarray(steps).dtype.kind not in 'iu':
    raise InputError(f'steps must be whole numbers >= 0, got {shown(steps)}')
  counts, sizes = together(steps=np.asarray(steps), batch_size=positive('batch_size', batch_size))
  parts = np.array([curve(int(count)) for count in counts.ravel()]).reshape(*counts.shape, 3)
  return parts[..., 0] + parts[..., 2] / sizes


@checked('phases', model=is_model)
def phased_loss(
  model: NoisyQuadratic,
  phases: Sequence[Phase],
  *,
  momentum: float = 0.0,
  nesterov: bool = False,
  averaging: float = 0.0,
) -> Floats:
  r"""The expected loss at the end of every phase of a schedule of rates and batch sizes, in closed form.

  Within a phase $S_T = S + A^T (S_0 - S) A^{T\top}$, S the phase's stationary moment; so the cost of a phase does not
  depend on its length, and phases of one step can form any schedule.

  Args:
    model: see `noisy_quadratic`.
    phases: the phases in order.
    momentum: as for `expected_loss`; it is carried over from phase to phase.
    nesterov: as for `expected_loss`.
    averaging: as for `expected_loss`; carried over too.

  Returns:
    float[len(phases)]; inf from the phase on in which the loss overflows float64.

  Raises:
    InputError: an argument out of range.
  """
  descent = method(momentum, nesterov, averaging)
  moment, losses = descent.moment(model), []
  for phase in checked_phases(phases):
    stretch = Stretch(model, phase, descent, moment)
    moment = stretch.moment(phase.num_steps)
    losses.append(sum(stretch.parts(phase.num_steps)))
  return np.array(losses)


class Stretch:
  """P(T) and V(T)/B of one phase, from any second moments of the state at its start."""

  def __init__(self, model: NoisyQuadratic, phase: Phase, descent: Method, start: Floats):
    """Prepares the closed forms; infinite moments of `start` stay infinite."""
    system = descent.system(model, phase.learning_rate)
    self._powers, self._output, self._weights = powers(system), descent.output, model.weights / 2
    self._start, self._blown = np.where(np.isfinite(start), start, 0.0), ~np.isfinite(start).all(axis=(1, 2))
    self._limit = _stationary(system, phase.learning_rate) * (model.noise / phase.batch_size)[:, None, None]
    self._noisy = model.noise > 0
    # One eigenvalue, of modulus at most 1: what is left of the start falls at every step.
    self._steady = (self._powers.det == 0) & (self._powers.log_modulus <= 0) & (descent.averaging == 0)

  def __call__(self, steps: int) -> tuple[float, float, float]:
    """(P, a part of P that never rises with T, V/B) after `steps` steps of the phase."""
    kept, added = self._moments(steps)
    left = self._loss(kept)
    return float(left.sum()), float(left[self._steady].sum()), float(self._loss(added).sum())

  def parts(self, steps: int) -> tuple[float, float]:
    """P and V/B."""
    left, _, added = self(steps)
    return left, added

  def moment(self, steps: int) -> Floats:
    """The second moments of the state, float[d, 2, 2]; inf where they overflow float64."""
    kept, added = self._moments(steps)
    return kept + added

  def _moments(self, steps: int) -> tuple[Floats, Floats]:
    matrix = np.stack([np.stack(power(self._powers, steps, row), axis=-1) for row in range(2)], axis=-2)
    across = np.swapaxes(matrix, -1, -2)
    with np.errstate(over='ignore', invalid='ignore'):
      kept, added = matrix @ self._start @ across, self._limit - matrix @ self._limit @ across
    moves = np.asarray(self._start.any(axis=(1, 2)))
    return _past(kept, moves, self._blown), _past(added, self._noisy, np.zeros_like(self._blown))

  def _loss(self, moment: Floats) -> Floats:
    return self._weights * moment[:, self._output, self._output]


def _past(moment: Floats, moves: Floats, blown: Floats) -> Floats:
  """Infinite moments where float64 has overflowed, and 0 where nothing ever moved."""
  gone = blown | (moves & ~np.isfinite(moment).all(axis=(1, 2)))
  return np.where(gone[:, None, None], np.inf, np.where((moves | blown)[:, None, None], moment, 0.0))


def checked_phases(phases: Sequence[Phase]) -> list[Phase]:
  """The phases, checked; a phase may be any triple."""
  if not isinstance(phases, Sequence):
    raise InputError(
      f'phases must be a sequence of Phase, got {shown(phases)} of type {type(phases).__name__}'
    )
  found = []
  for phase in phases:
    try:
      rate, num_steps, size = phase
    except (TypeError, ValueError):
      raise InputError(
        f'a phase must be (learning_rate, num_steps, batch_size), got {shown(phase)} among phases'
      ) from None
    rate, size = positive_number('learning_rate', rate), positive_number('batch_size', size)
    found.append(Phase(rate, check_count('num_steps', num_steps, minimum=0), size))
  return found


def _stationary(system: System, learning_rate: float) -> Floats:
  found = stationary(system)
  if not np.isfinite(found).all():
    raise InputError(f'learning_rate must not lie on the very border of stability, got {learning_rate}')
  return found
