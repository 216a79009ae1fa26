"""Small random Flax models with losses, samplers and dtypes, and the plain loop that each is held against."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx

import gdlab
from gdlab.problems import from_linen, from_nnx

VOCABULARY, LENGTH, HEADS, CLASSES = 5, 3, 2, 3
USUAL = {
  'train': True,
  'training': True,
  'is_training': True,
  'deterministic': False,
  'use_running_average': False,
  'inference': False,
}


@dataclasses.dataclass(frozen=True)
class Draw:
  """One random case; `hazard` is why it has to be refused, '' where it has to be right."""

  seed: int
  api: str
  inputs: str
  layers: tuple[str, ...]
  head: str
  loss: str
  flag: str
  named: bool
  sampler: str
  batch_size: int
  num_examples: int
  dtype: str
  optimizer: str
  estimator: str
  rate: float = 1.0  # of the optimizer's own

  @property
  def has_modes(self) -> bool:
    return any(layer in ('dropout', 'batch', 'attention') for layer in self.layers)

  @property
  def mixes(self) -> bool:
    return 'batch' in self.layers or self.loss == 'contrastive'

  @property
  def padded(self) -> bool:
    """Whether batches can have any number of examples."""
    return self.sampler in ('poisson', 'growing', 'stream')

  @property
  def hazard(self) -> str:
    if self.loss == 'slip':
      return 'sets every example against every other'
    if self.has_modes and self.flag == 'fitting' and not self.named and self.api == 'linen':
      return 'off in training'
    if self.mixes and self.padded:
      return 'sampler must draw batches of known sizes'
    if self.mixes and self.estimator == 'per_example':
      return 'of one example alone'
    return ''


def draw(seed: int) -> Draw:
  """The case of a seed."""
  rng = np.random.default_rng(seed)
  pick = lambda *options: options[rng.integers(len(options))]
  inputs = pick('vector', 'vector', 'image', 'tokens')
  api = pick('linen', 'nnx')
  kinds = {
    'vector': ('dense', 'batch', 'layer', 'dropout', 'stack', 'frozen'),
    'image': ('conv', 'conv', 'batch', 'group', 'dropout', 'pool'),
    'tokens': ('attention', 'dense', 'layer', 'dropout', 'stack'),
  }[inputs]
  layers = tuple(kinds[rng.integers(len(kinds))] for _ in range(rng.integers(0, 4)))
  loss = pick('labels', 'labels', 'squares', 'scalar', 'slip', 'contrastive', 'cosine')
  head = 'tied' if inputs == 'tokens' and loss == 'labels' and rng.random() < 0.5 else 'dense'
  flag = pick(*USUAL, 'fitting')
  sampler = pick(
    'reshuffle',
    'reshuffle',
    'dropping',
    'once',
    'sequential',
    'full',
    'replaced',
    'importance',
    'poisson',
    'growing',
    'stream',
  )
  return Draw(
    seed,
    api,
    inputs,
    layers,
    head,
    loss,
    flag,
    bool(rng.random() < 0.6),
    sampler,
    int(pick(4, 5)),
    int(pick(13, 16)),
    pick('float32', 'float32', 'bfloat16', 'float64'),
    pick('sgd', 'momentum', 'adam'),
    pick('mean', 'mean', 'mean', 'per_example')
    if 'dropout' not in layers and 'attention' not in layers
    else 'mean',
  )


# The models. Widths are even, so that attention has heads and GroupNorm groups.

WIDTH = 4


class Block(nn.Module):
  """What is stacked by nn.scan."""

  dtype: Any

  @nn.compact
  def __call__(self, x, _):
    return jnp.tanh(nn.Dense(WIDTH, param_dtype=self.dtype, dtype=self.dtype)(x)), None


class LinenBody(nn.Module):
  case: Draw

  @nn.compact
  def __call__(self, x, training):
    case, dtype = self.case, jnp.dtype(self.case.dtype)
    own = {'param_dtype': dtype, 'dtype': dtype}
    embed = None
    if case.inputs == 'tokens':
      embed = nn.Embed(VOCABULARY, WIDTH, **own)
      x = embed(x)
    for layer in case.layers:
      if layer == 'dense':
        x = jnp.tanh(nn.Dense(WIDTH, **own)(x))
      elif layer == 'frozen':
        x = jax.lax.stop_gradient(jnp.tanh(nn.Dense(WIDTH, **own)(x)))
      elif layer == 'conv':
        x = jnp.tanh(nn.Conv(WIDTH, (2, 2), **own)(x))
      elif layer == 'pool':
        x = nn.avg_pool(x, (2, 2), (2, 2), 'SAME')
      elif layer == 'batch':
        x = nn.BatchNorm(use_running_average=not training, momentum=0.9, **own)(x)
      elif layer == 'layer':
        x = nn.LayerNorm(**own)(x)
      elif layer == 'group':
        x = nn.GroupNorm(num_groups=2, **own)(x)
      elif layer == 'dropout':
        x = nn.Dropout(0.3, deterministic=not training)(x)
      elif layer == 'attention':
        x = x + nn.MultiHeadDotProductAttention(HEADS, dropout_rate=0.2, deterministic=not training, **own)(x)
      elif layer == 'stack':
        x = nn.Dense(WIDTH, **own)(x)
        scanned = nn.scan(Block, variable_axes={'params': 0}, split_rngs={'params': True}, length=2)
        x, _ = scanned(dtype)(x, None)
    if case.inputs == 'tokens':
      x = x.mean(1)
    if case.head == 'tied':
      return embed.attend(x)
    x = x.reshape(len(x), -1)
    return shaped(case, nn.Dense(outputs(case), **own)(x))


class NnxBody(nnx.Module):
  def __init__(self, case, rngs):
    dtype = jnp.dtype(case.dtype)
    own = {'param_dtype': dtype, 'dtype': dtype, 'rngs': rngs}
    self.case = case
    width, size = {'vector': (6, 1), 'image': (2, 4), 'tokens': (WIDTH, 1)}[case.inputs]
    if case.inputs == 'tokens':
      self.embed = nnx.Embed(VOCABULARY, WIDTH, **own)
    for number, layer in enumerate(case.layers):
      part = None
      if layer in ('dense', 'frozen'):
        part, width = nnx.Linear(width, WIDTH, **own), WIDTH
      elif layer == 'conv':
        part, width = nnx.Conv(width, WIDTH, (2, 2), **own), WIDTH
      elif layer == 'pool':
        size = -(-size // 2)
      elif layer == 'batch':
        part = nnx.BatchNorm(width, momentum=0.9, **own)
      elif layer == 'layer':
        part = nnx.LayerNorm(width, **own)
      elif layer == 'group':
        part = nnx.GroupNorm(width, num_groups=2, **own)
      elif layer == 'dropout':
        part = nnx.Dropout(0.3, rngs=rngs)
      elif layer == 'attention':
        part = nnx.MultiHeadAttention(HEADS, WIDTH, dropout_rate=0.2, decode=False, **own)
      elif layer == 'stack':
        setattr(self, f'into{number}', nnx.Linear(width, WIDTH, **own))
        make = lambda rngs: nnx.Linear(WIDTH, WIDTH, param_dtype=dtype, dtype=dtype, rngs=rngs)
        part, width = nnx.split_rngs(splits=2)(nnx.vmap(make, in_axes=(0,)))(rngs), WIDTH
      if part is not None:
        setattr(self, f'part{number}', part)
    if case.head != 'tied':
      self.last = nnx.Linear(width * size**2, outputs(case), **own)

  def __call__(self, x):
    case = self.case
    if case.inputs == 'tokens':
      x = self.embed(x)
    for number, layer in enumerate(case.layers):
      part = getattr(self, f'part{number}', None)
      if layer == 'pool':
        x = nn.avg_pool(x, (2, 2), (2, 2), 'SAME')
      elif layer == 'stack':
        x = getattr(self, f'into{number}')(x)
        x = nnx.scan(lambda x, part: jnp.tanh(part(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, part)
      elif layer == 'attention':
        x = x + part(x)
      elif layer in ('dense', 'conv', 'frozen'):
        x = jnp.tanh(part(x))
        x = jax.lax.stop_gradient(x) if layer == 'frozen' else x
      else:
        x = part(x)
    if case.inputs == 'tokens':
      x = x.mean(1)
    return self.embed.attend(x) if case.head == 'tied' else shaped(case, self.last(x.reshape(len(x), -1)))


def outputs(case: Draw) -> int:
  return {'labels': CLASSES, 'squares': 2, 'scalar': 1, 'slip': 1, 'contrastive': 4, 'cosine': 2}[case.loss]


def shaped(case: Draw, x: Any) -> Any:
  return x[:, 0] if case.loss == 'scalar' else x


@functools.cache
def linen_class(flag: str, on: bool) -> type[nn.Module]:
  """A module whose call names its mode as given, by default that of evaluation."""
  names: dict[str, Any] = {'LinenBody': LinenBody}
  exec(f'def call(self, x, {flag}={not on}):\n  return LinenBody(self.case)(x, {flag} is {on})\n', names)
  return type(
    'Named', (nn.Module,), {'__call__': nn.compact(names['call']), '__annotations__': {'case': Draw}}
  )


# The losses, data and samplers.


def losses(case: Draw) -> Any:
  """Per-example loss `(outputs, targets)`."""
  if case.loss == 'labels':
    return optax.softmax_cross_entropy_with_integer_labels
  if case.loss == 'contrastive':
    return lambda o, t: optax.softmax_cross_entropy_with_integer_labels(
      o[:, :2] @ o[:, 2:].T, jnp.arange(len(o))
    )
  if case.loss == 'cosine':
    return lambda o, t: (
      1 - (o * t).sum(-1) / (jnp.linalg.norm(o, axis=-1) + 1) / (jnp.linalg.norm(t, axis=-1) + 1)
    )
  if case.loss == 'scalar':
    return lambda o, t: (o - t) ** 2
  return lambda o, t: ((o - t) ** 2).mean(-1)


def data(case: Draw) -> tuple[Any, Any]:
  rng = np.random.default_rng(case.seed + 1)
  count = case.num_examples
  x = {
    'vector': lambda: rng.normal(size=(count, 6)),
    'image': lambda: rng.normal(size=(count, 4, 4, 2)),
    'tokens': lambda: rng.integers(0, VOCABULARY, (count, LENGTH)),
  }[case.inputs]()
  if case.loss == 'labels':
    return x, rng.integers(0, VOCABULARY if case.head == 'tied' else CLASSES, count)
  shape = {'scalar': (count,), 'slip': (count,)}.get(case.loss, (count, 2))
  return x, rng.normal(size=shape)


def sampler(case: Draw) -> gdlab.Sampler:
  return made_sampler(case.sampler, case.batch_size, case.num_examples)


@functools.cache  # one object, so that its own program is compiled once for many draws
def made_sampler(name: str, size: int, num_examples: int) -> gdlab.Sampler:
  S = gdlab.sampling
  return {
    'reshuffle': lambda: S.reshuffle(size),
    'dropping': lambda: S.reshuffle(size, drop_remainder=True),
    'once': lambda: S.shuffle_once(size),
    'sequential': lambda: S.sequential(size),
    'full': S.full_batch,
    'replaced': lambda: S.with_replacement(size),
    'importance': lambda: S.importance(size, np.arange(1, num_examples + 1)),
    'poisson': lambda: S.poisson(0.3, num_examples),
    'growing': lambda: S.batch_size_schedule(size, lambda step: 1 + step // 4),
    'stream': lambda: S.stream(size, arrivals_per_step=2),
  }[name]()


def optimizer(case: Draw) -> Any:
  return {
    'sgd': lambda: optax.sgd(0.05 * case.rate),
    'momentum': lambda: optax.sgd(0.02 * case.rate, momentum=0.9),
    'adam': lambda: optax.adam(
      0.01 * case.rate, eps=1e-3
    ),  # a quotient of tiny gradients would magnify their rounding
  }[case.optimizer]()


def estimator(case: Draw) -> gdlab.Estimator:
  return {'mean': gdlab.estimators.batch_mean, 'per_example': gdlab.estimators.per_example}[case.estimator]()


def problem(case: Draw) -> gdlab.Problem:
  if case.api == 'nnx':
    return from_nnx(functools.partial(NnxBody, case), data(case), losses(case))
  on = USUAL.get(case.flag, True)
  flags = {case.flag: on} if case.named else None
  return from_linen(linen_class(case.flag, on)(case), data(case), losses(case), flags=flags)


# The plain loop: Flax's own calls and Optax's own update, on batches cut to their real examples where these are mixed.


def forward(case: Draw) -> Any:
  """`(params, state, x, key) -> (outputs, state)` in training mode, as Flax's documentation has it."""
  if case.api == 'linen':
    on = USUAL.get(case.flag, True)
    module = linen_class(case.flag, on)(case)

    def linen(params, state, x, key):
      rngs = {'params': jax.random.fold_in(jax.random.fold_in(key, 0), 0)}
      return module.apply({'params': params, **state}, x, rngs=rngs, mutable=list(state), **{case.flag: on})

    return linen
  graphdef, _, streams, _ = nnx.split(NnxBody(case, nnx.Rngs(0)), nnx.Param, nnx.RngState, ...)

  def nnx_forward(params, state, x, key):
    restarted, position = [], 0
    for leaf in jax.tree.leaves(streams):
      if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        fresh = jax.random.fold_in(key, position)
        restarted.append(jax.random.split(fresh, leaf.shape) if leaf.shape else fresh)
        position += 1
      else:
        restarted.append(jnp.zeros_like(leaf))
    module = nnx.merge(
      graphdef, params, jax.tree.unflatten(jax.tree.structure(streams), restarted), state, copy=True
    )
    module.train()
    return module(x), nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.RngState))))

  return nnx_forward


def plain_step(case: Draw, train: Any) -> Any:
  """`(params, state, opt_state, indices, weights, key) -> (params, state, opt_state, loss)`, compiled."""
  call, loss, method = forward(case), losses(case), optimizer(case)

  def step(params, state, opt_state, indices, weights, key):
    x, y = (leaf[indices] for leaf in train)

    def total(params):
      outputs, updated = call(params, state, x, key)
      return jnp.sum(weights * loss(outputs, y)), updated

    (value, updated), gradient = jax.value_and_grad(total, has_aux=True)(params)
    updates, opt_state = method.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), updated, opt_state, value

  return jax.jit(step)
