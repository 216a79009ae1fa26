"""Checks that start JAX, in a process of their own, which JAX may end or hang: python -m experiments.doctor.inside DIR.

Prints every line as JSON, then `DONE`.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gdlab
from experiments.doctor.lines import FAULT, NOTE, OK, Line, checked, size
from gdlab.core.errors import InputError
from gdlab.host import machine
from gdlab.problems import idx, images, text

DONE = 'done'
READ_SECONDS = 2.0  # for looking into the cache's entries
UPDATES = 50


def devices() -> Iterator[Line]:
  """What JAX computes on, and whether every device does."""
  found, backend = jax.devices(), jax.default_backend()
  words = f'{len(found)} of kind {found[0].device_kind!r}, backend {backend}'
  if backend == 'cpu' and (shutil.which('nvidia-smi') or pathlib.Path('/dev/nvidia0').exists()):
    yield Line(NOTE, 'devices', f'{words}, though there seems to be a GPU', 'pip install "gdlab[cuda]"')
  else:
    yield Line(OK, 'devices', words)
  matrix = np.arange(64.0, dtype=np.float32).reshape(8, 8)
  call = jax.jit(lambda x: jnp.sum(x.T * x) + jnp.max(x))  # of whole numbers below 2**24, so exact
  expected = float(np.sum(matrix.T * matrix) + np.max(matrix))
  wrong = [device for device in found if float(call(jax.device_put(matrix, device))) != expected]
  for device in wrong:
    yield Line(
      FAULT,
      'devices',
      f'{device} computes wrong numbers',
      'take it out by CUDA_VISIBLE_DEVICES, and have it checked',
    )
  if not wrong:
    yield Line(OK, 'devices', f'a compiled call gives the exact number on {len(found)} of {len(found)}')


def cache() -> Iterator[Line]:
  """Whether compiled programs can be kept, how large the folder is, and whether its entries are whole."""
  try:
    folder = machine.use_compilation_cache()
  except InputError as error:
    mend = 'name a folder that can be written by XDG_CACHE_HOME or JAX_COMPILATION_CACHE_DIR'
    yield Line(FAULT, 'compilation cache', f'is off, and every start compiles anew: {error}', mend)
    return
  entries = [path for path in folder.glob('*-cache') if path.is_file()]
  words = f'{len(entries)} programs of {size(sum(path.stat().st_size for path in entries))} in {folder}'
  limit, damaged = time.monotonic() + READ_SECONDS, 0
  for path in sorted(entries, key=lambda path: -path.stat().st_mtime):
    if time.monotonic() > limit:
      break
    damaged += _is_damaged(path)
  if damaged:
    yield Line(
      FAULT,
      'compilation cache',
      f'{words}, and {damaged} of them damaged: JAX warns of them and compiles anew at every start',
      f'remove the folder {folder}, which is made again',
    )
  else:
    yield Line(OK, 'compilation cache', words)


def _is_damaged(path: pathlib.Path) -> bool:
  """Whether an entry that zlib has packed is not whole; what another library has packed has no sum to check."""
  content = path.read_bytes()
  if content[:4] == b'\x28\xb5\x2f\xfd':  # Zstandard's
    return False
  try:
    zlib.decompress(content)
  except zlib.error:
    return True
  return False


def data() -> Iterator[Line]:
  """MNIST and Tiny Shakespeare, by the checksums that their loaders ask for."""
  given = os.environ.get('GDLAB_DATA')
  if given and not pathlib.Path(given).is_dir():
    yield Line(
      FAULT, 'data', f'GDLAB_DATA is {given!r}, which is no folder', 'export GDLAB_DATA=FOLDER, or unset it'
    )
    return
  home = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache', 'gdlab', 'mnist')
  folders = [pathlib.Path(given, 'mnist'), home] if given else [home]
  paths = {name: idx.find(folders, name) for name in images.MNIST_SHA256}
  absent = [name for name, path in paths.items() if path is None]
  sound = True
  for name, path in paths.items():
    if path is not None:
      try:
        idx.read(path, images.MNIST_SHA256[name])
      except InputError as error:
        sound = False
        yield Line(
          FAULT, 'MNIST', str(error), f'remove {path}, and put an intact file there or let it be downloaded'
        )
  if absent:
    words = f'{len(absent)} of {len(paths)} files are not in {" or ".join(map(str, folders))}'
    yield Line(
      NOTE,
      'MNIST',
      words,
      'put the files into a folder mnist and export GDLAB_DATA=FOLDER, or be online at first use',
    )
  elif sound:
    yield Line(OK, 'MNIST', f'{len(paths)} files with the right checksums')
  play = pathlib.Path(given or '', 'tinyshakespeare', 'input.txt')
  if not given or not play.is_file():
    words = 'is not there' if not given else f'{play} is not there'
    yield Line(
      NOTE,
      'Tiny Shakespeare',
      words,
      'put input.txt into a folder tinyshakespeare and export GDLAB_DATA=FOLDER',
    )
  elif (found := hashlib.sha256(play.read_bytes()).hexdigest()) != text.SHAKESPEARE_SHA256:
    yield Line(
      FAULT,
      'Tiny Shakespeare',
      f'{play} has the SHA-256 {found}',
      f'replace it by the file with {text.SHAKESPEARE_SHA256}',
    )
  else:
    yield Line(OK, 'Tiny Shakespeare', 'has the right checksum')


def arithmetic(dtype: type[np.floating]) -> Iterator[Line]:
  """Runs of `gdlab.run` in one precision against a closed form and a loop in NumPy."""
  name, eps = f'self-test {np.dtype(dtype).name}', float(np.finfo(dtype).eps)
  with jax.enable_x64(dtype is np.float64):
    for what, run in (('closed form', _closed_form), ('NumPy loop', _numpy_loop)):
      found, expected = run()
      if found.dtype != dtype:
        yield Line(
          FAULT,
          name,
          f'parameters are {found.dtype}',
          'unset JAX_ENABLE_X64 and whatever else sets precision',
        )
        continue
      # Rounding of an update is some eps of numbers of order 1, and is not amplified: the rates are stable ones.
      error = float(np.max(np.abs(found - expected))) / (8 * UPDATES * eps)
      if not error <= 1:
        words = f'is off its {what} by {error:.2g} times what rounding may do'
        yield Line(
          FAULT, name, words, 'unset XLA_FLAGS; if it stays, install other versions of jax and jaxlib'
        )
        return
  yield Line(OK, name, 'equals its closed form and a loop in NumPy, to rounding')


def _trained(
  problem: gdlab.Problem, optimizer: optax.GradientTransformation, start: list[float]
) -> np.ndarray:
  method = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optimizer)
  result = gdlab.run(
    problem, method, num_steps=UPDATES, seeds=1, params=jnp.array(start), keep='params', progress=False
  )
  params, _ = gdlab.kept_params(problem, result.isel(seed=0))
  return np.asarray(params)


def _closed_form() -> tuple[np.ndarray, np.ndarray]:
  """Descent on a quadratic: (1 - rate * curvature)^updates."""
  curvatures = np.array([1.0, 0.5, 0.25])
  problem = gdlab.problems.quadratic(curvatures.tolist())
  return _trained(problem, optax.sgd(0.1), [1.0] * 3), (1 - 0.1 * curvatures) ** UPDATES


def _numpy_loop() -> tuple[np.ndarray, np.ndarray]:
  """Heavy-ball momentum on least squares, from the same start."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(16, 3)), rng.normal(size=16)
  problem = gdlab.problems.linear_regression(x, y)
  w, velocity = np.zeros(3), np.zeros(3)
  for _ in range(UPDATES):
    velocity = 0.5 * velocity + x.T @ (x @ w - y) / len(y)
    w = w - 0.1 * velocity
  return _trained(problem, optax.sgd(0.1, momentum=0.5), [0.0] * 3), w


def files(workdir: str) -> Iterator[Line]:
  """A stochastic run twice, saved and loaded: the same bits."""
  problem = gdlab.problems.quadratic([1.0, 0.1], noise=0.3, num_examples=16)
  method = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optax.adam(0.1))
  first, second = (gdlab.run(problem, method, num_steps=20, seeds=4, progress=False) for _ in range(2))
  there = pathlib.Path(workdir).is_dir()
  with tempfile.TemporaryDirectory(dir=workdir if there else None, prefix='.gdlab-doctor-') as folder:
    loaded = gdlab.load(gdlab.save(first, pathlib.Path(folder, 'result.nc')))
  for what, other, mend in (
    (
      'the same run again',
      second,
      'call gdlab.host.machine.deterministic() before JAX starts, as --deterministic does',
    ),
    ('what was saved and loaded', loaded, 'check the disk'),
  ):
    if not all(_bits(first[name]) == _bits(other[name]) for name in first.data_vars):
      yield Line(FAULT, 'self-test bits', f'{what} differs from the run', mend)
      return
  yield Line(OK, 'self-test bits', 'a run, the same run again, and what was saved and loaded are equal')


def _bits(variable) -> bytes:
  return np.ascontiguousarray(variable.values).tobytes()


def main(workdir: str) -> None:
  """Runs the checks, and says each line at once."""
  checks: dict[str, Callable[[], Iterator[Line]]] = {
    'devices': devices,
    'compilation cache': cache,
    'data': data,
    'self-test float32': lambda: arithmetic(np.float32),
    'self-test float64': lambda: arithmetic(np.float64),
    'self-test bits': lambda: files(workdir),
  }
  try:
    jax.devices()
  except Exception as error:  # a driver that is missing, a platform that is not there
    given = os.environ.get('JAX_PLATFORMS')
    mend = (
      'unset JAX_PLATFORMS' if given else 'JAX_PLATFORMS=cpu goes on without the device; check its driver'
    )
    words = f'does not start: {error or type(error).__name__}'
    print(json.dumps(Line(FAULT, 'JAX', words, mend)), flush=True)
    checks = {name: checks[name] for name in ('compilation cache', 'data')}
  for name, check in checks.items():
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter('always')
      for line in checked(name, check):
        print(json.dumps(line), flush=True)
    for message in dict.fromkeys(
      str(each.message) for each in caught if issubclass(each.category, UserWarning)
    ):
      print(json.dumps(Line(NOTE, name, f'warns: {message}')), flush=True)
  print(json.dumps(DONE), flush=True)


if __name__ == '__main__':
  main(sys.argv[1])
