"""Files, names and servers that mean harm: nothing in them is run, rendered, unpacked without bound, or kept."""

import ast
import contextlib
import gzip
import hashlib
import http.server
import io
import pathlib
import pickle
import socket
import threading
import tracemalloc
import zipfile

import numpy as np
import optax
import pytest

import gdlab
from gdlab import problems
from gdlab.core.errors import InputError
from gdlab.problems import idx, images
from gdlab.study import sharing, workdir
from gdlab.training import autotune

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Payload:
  """What makes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def contents(canary: pathlib.Path) -> dict[str, bytes]:
  """Files with a payload, by what they pretend to be."""
  array = np.empty(1, object)
  array[0] = Payload(canary)
  npy, npz, joblib = io.BytesIO(), io.BytesIO(), io.BytesIO()
  np.save(npy, array, allow_pickle=True)
  np.savez(npz, allow_pickle=True, data=array)
  with zipfile.ZipFile(joblib, 'w') as archive:
    archive.writestr('../../escaped', 'x')
    archive.writestr('data.pkl', pickle.dumps(Payload(canary)))
  text = f'__import__("pathlib").Path({str(canary)!r}).touch()'
  return {
    'pickle': pickle.dumps(Payload(canary)),
    'pickle as text': pickle.dumps(Payload(canary), protocol=0),
    'npy': npy.getvalue(),
    'npz': npz.getvalue(),
    'zip that climbs': joblib.getvalue(),
    'Python': text.encode(),
    'YAML': f'!!python/object/apply:pathlib.Path.touch [{str(canary)!r}]'.encode(),
  }


def _in_a_workdir(path):
  (path.parent / 'results').mkdir(exist_ok=True)
  (path.parent / 'results' / 'cell.nc').write_bytes(path.read_bytes())
  return workdir.Results(path.parent, gdlab_config()).all()


def gdlab_config():
  return sharing.Config({'seeds': 1})


def _as_plans(path):
  """Every plan that is asked for is this file."""
  plans = path.parent / 'plans'
  plans.mkdir(exist_ok=True)
  found = autotune.Footprint(10_000, 100, 'f32')
  (plans / f'{autotune._key(found)}.json').write_bytes(path.read_bytes())
  autotune.remember_plans(plans)
  try:
    return autotune.lanes_at_once(found, 64, 10**9, lambda lanes, steps: 1.0)
  finally:
    autotune._folder.clear()
    autotune._remembered.clear()


def _as_shakespeare(path):
  (path.parent / 'input.txt').write_bytes(path.read_bytes())
  return problems.shakespeare(data_dir=path.parent)


def _as_mnist(path):
  for name in images.MNIST_SHA256:
    (path.parent / name).write_bytes(path.read_bytes())
  return problems.mnist(data_dir=path.parent)


READERS = {
  'gdlab.load': gdlab.load,
  'problems.read_text': problems.read_text,
  'problems.character_lm': lambda path: problems.character_lm(path=path, context=2, test_fraction=0.5),
  'problems.shakespeare': _as_shakespeare,
  'problems.mnist': _as_mnist,
  'idx.read, packed': lambda path: idx.read(path.rename(path.with_suffix('.gz')), 'unused'),
  'a workdir': _in_a_workdir,
  'plans': _as_plans,
  '--dask': lambda path: sharing._address(str(path)),
}


@pytest.mark.parametrize('reader', READERS)
def test_nothing_is_unpickled_or_evaluated(tmp_path, reader):
  canary = tmp_path / 'canary'
  count = 0
  for number, content in enumerate(contents(canary).values()):
    folder = tmp_path / f'{number}'
    folder.mkdir()
    (folder / 'file.npy').write_bytes(content)
    with contextlib.suppress(InputError):
      READERS[reader](folder / 'file.npy')
    count += 1
    assert not canary.exists()
    assert not (tmp_path / 'escaped').exists()
  print(f'payloads that were not run, {reader}: {count}')


def test_the_payloads_would_be_run(tmp_path):
  """By those who unpickle and evaluate: else the test above could not fail."""
  canary = tmp_path / 'canary'
  files = contents(canary)
  for run in (
    lambda: pickle.loads(files['pickle']),
    lambda: pickle.loads(files['pickle as text']),
    lambda: np.load(io.BytesIO(files['npy']), allow_pickle=True),
    lambda: np.load(io.BytesIO(files['npz']), allow_pickle=True)['data'],
    lambda: exec(files['Python']),
  ):
    run()
    assert canary.exists()
    canary.unlink()


# What runs or unpacks what it is given; and the one place where gdlab does, with what it has packed itself: a study's
# configuration, on its way from a study's process to its workers.
RUNS = {'eval', 'exec', 'compile', '__import__', 'literal_eval'}
LOADS = {
  ('pickle', 'load'),
  ('pickle', 'loads'),
  ('np', 'load'),
  ('numpy', 'load'),
  ('marshal', 'loads'),
  ('yaml', 'load'),
}
PACKED = {'tarfile', 'zipfile', 'shelve', 'dill', 'joblib', 'cloudpickle', 'marshal', 'yaml'}
# NumPy's archives of checkpoints are verified, and read with allow_pickle=False; `zipfile` is there for its exception.
CHECKPOINTS = [('gdlab/host/checkpoints.py', kind) for kind in ('allow_pickle', 'import', 'np.load')]
OWN = [*CHECKPOINTS, ('gdlab/study/sharing.py', 'pickle.loads')]


def test_the_sources_unpickle_and_unpack_nothing_but_their_own():
  found, seen = [], 0
  for path in sorted([*(ROOT / 'gdlab').rglob('*.py'), *(ROOT / 'experiments').rglob('*.py')]):
    name = str(path.relative_to(ROOT))
    seen += 1
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.Call):
        call = node.func
        if isinstance(call, ast.Name) and call.id in RUNS:
          found.append((name, call.id))
        called = getattr(getattr(call, 'value', None), 'id', ''), getattr(call, 'attr', '')
        if called in LOADS or called[1] == 'unpack_archive':
          found.append((name, '.'.join(called)))
        if any(keyword.arg == 'allow_pickle' for keyword in node.keywords):
          found.append((name, 'allow_pickle'))
      if isinstance(node, ast.Import) and {alias.name for alias in node.names} & PACKED:
        found.append((name, 'import'))
      if isinstance(node, ast.ImportFrom) and node.module in PACKED:
        found.append((name, 'import'))
  assert seen > 100
  assert sorted(found) == OWN
  print(f'sources searched: {seen}')


@pytest.mark.parametrize('packed', ['file', 'file.gz'])
def test_a_file_that_is_or_unpacks_to_far_more_than_its_head_says_is_refused(tmp_path, packed):
  """A gigabyte of zeros behind the head of ten bytes of data: as a hole on the disk, and in one megabyte of gzip."""
  head = b'\0\0\x08\x01\0\0\0\x0a'
  path = tmp_path / packed
  if packed == 'file':
    with path.open('wb') as file:
      file.write(head)
      file.truncate(2**30)
  else:
    with gzip.open(path, 'wb', compresslevel=1) as file:
      file.write(head)
      for _ in range(2**6):
        file.write(bytes(2**24))
    assert path.stat().st_size < 2**23
  before = sorted(tmp_path.iterdir())
  tracemalloc.start()
  try:
    with pytest.raises(InputError, match=rf'^{path}: expected at most {idx.LIMIT} bytes, found more$'):
      idx.read(path, 'unused')
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 4 * idx.LIMIT
  assert sorted(tmp_path.iterdir()) == before


def test_mnist_itself_is_below_the_limit():
  assert idx.LIMIT > 16 + 60_000 * 28 * 28


class Server(http.server.BaseHTTPRequestHandler):
  """Serves MNIST's names as its class says."""

  mode, asked = 'right', []

  def do_GET(self):
    self.asked.append(self.path)
    if self.mode == 'elsewhere':
      self.send_response(302)
      self.send_header('Location', pathlib.Path(__file__).as_uri())
      self.end_headers()
      return
    self.send_response(200)
    if self.mode == 'short':
      self.send_header('Content-Length', '1000')
    self.end_headers()
    with contextlib.suppress(OSError):  # who has enough hangs up
      if self.mode == 'endless':
        while True:
          self.wfile.write(bytes(2**20))
      self.wfile.write(self.content)

  @property
  def content(self):
    right = gzip.compress(file_of(self.path.removeprefix('/').removesuffix('.gz')))
    if self.mode == 'bomb':
      return gzip.compress(bytes(2**27), compresslevel=1)
    if self.mode == 'other':
      return gzip.compress(file_of('other'))
    return right[:10] if self.mode == 'short' else {'page': b'<html>'}.get(self.mode, right)

  def log_message(self, *arguments):
    pass


def file_of(name: str) -> bytes:
  """An IDX file of two images or labels."""
  shape = (2, 28, 28) if 'images' in name else (2,)
  head = bytes([0, 0, 8, len(shape)]) + b''.join(size.to_bytes(4, 'big') for size in shape)
  return head + bytes(len(name) % 10 for _ in range(int(np.prod(shape))))


@pytest.fixture
def served(tmp_path, monkeypatch):
  """A loopback server in the mirror's place, and the folder that is downloaded into."""
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Server)
  thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
  thread.start()
  mirror = f'http://127.0.0.1:{server.server_port}/'
  sums = {name: hashlib.sha256(file_of(name)).hexdigest() for name in images.MNIST_SHA256}
  monkeypatch.setattr(images, 'MNIST_SHA256', sums)
  monkeypatch.setattr(images, 'MNIST_MIRRORS', (mirror,))
  monkeypatch.delenv('GDLAB_DATA', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setenv('no_proxy', '*')
  monkeypatch.setattr(Server, 'asked', [])
  yield mirror, tmp_path / 'gdlab' / 'mnist'
  server.shutdown()
  server.server_close()
  thread.join()


@pytest.mark.parametrize(
  ('mode', 'message'),
  [
    ('other', r'expected uncompressed bytes with SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}'),
    ('short', r'IncompleteRead|10 bytes'),
    ('page', r'expected an intact gzip file, found 6 bytes'),
    ('bomb', rf'expected at most {idx.LIMIT} bytes, found more'),
    ('endless', rf'expected at most {idx.LIMIT} bytes, found more'),
    ('elsewhere', r'HTTP Error 302|not allowed'),
  ],
)
def test_a_download_that_is_not_what_it_should_be_is_named_and_not_kept(served, monkeypatch, mode, message):
  mirror, folder = served
  monkeypatch.setattr(Server, 'mode', mode)
  first = next(iter(images.MNIST_SHA256))
  with pytest.raises(InputError, match=message) as caught:
    problems.mnist()
  assert Server.asked == [f'/{first}.gz']
  assert first in str(caught.value)
  assert mirror in str(caught.value)
  assert '\n' not in str(caught.value)
  assert not folder.exists() or list(folder.iterdir()) == []


def test_a_right_download_is_kept_and_asked_for_once(served):
  _, folder = served
  for _ in range(2):
    problem = problems.mnist(problems.MLP((), 10))
  assert problem.num_examples == 2
  assert sorted(path.name for path in folder.iterdir()) == sorted(
    f'{name}.gz' for name in images.MNIST_SHA256
  )
  assert len(Server.asked) == 4


def test_nothing_else_asks_the_network(served, tmp_path, monkeypatch):
  """Problems, a run, saving and loading; and MNIST once its files are there."""
  problems.mnist(problems.MLP((), 10))
  asked = []
  monkeypatch.setattr(socket.socket, 'connect', lambda own, address: asked.append(address))
  monkeypatch.setattr(socket, 'getaddrinfo', lambda *address, **options: asked.append(address) or [])
  made = [
    problems.mnist(problems.MLP((), 10)),
    problems.digits(problems.MLP((4,), 10)),
    problems.character_lm(),
  ]
  method = gdlab.algorithm(sampler=gdlab.sampling.full_batch(), optimizer=optax.sgd(0.1))
  result = gdlab.run(problems.quadratic([1.0, 0.5]), method, num_steps=2, seeds=1)
  gdlab.load(gdlab.save(result, tmp_path / 'result.nc'))
  assert asked == []
  assert len(made) == 3
