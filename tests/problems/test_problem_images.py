"""The digits and MNIST: what is in them, and what is said when their files are not as they should be."""

import gzip
import hashlib
import os
import struct
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
from absl.testing import parameterized
from sklearn import datasets

from gdlab.core.errors import InputError
from gdlab.problems import CNN, MLP, digits, idx, images, mnist

SHAPES = {'train-images-idx3-ubyte': (12, 28, 28), 'train-labels-idx1-ubyte': (12,),
          't10k-images-idx3-ubyte': (5, 28, 28), 't10k-labels-idx1-ubyte': (5,)}  # fmt: skip


def idx_bytes(array):
  """The IDX file of an array of bytes, written from the format's description."""
  head = struct.pack('>BBBB', 0, 0, 8, array.ndim) + struct.pack(f'>{array.ndim}I', *array.shape)
  return head + array.astype(np.uint8).tobytes()


class DigitsTest(parameterized.TestCase):
  def test_split(self):
    problem = digits()
    self.assertEqual((problem.name, problem.num_examples), ('digits', 1437))
    self.assertEqual(problem.train.inputs.shape, (1437, 8, 8))
    self.assertEqual(problem.test.inputs.shape, (360, 8, 8))
    self.assertEqual(
      {str(problem.train.inputs.dtype), str(problem.train.targets.dtype)}, {'float32', 'int32'}
    )
    pixels = np.concatenate(
      [np.asarray(part.inputs).reshape(-1, 64) for part in (problem.train, problem.test)]
    )
    labels = np.concatenate([problem.train.targets, problem.test.targets])
    self.assertEqual((pixels.min(), pixels.max()), (0, 1))

    # Both parts together are the whole, each image with its label, once.
    whole, whole_labels = datasets.load_digits(return_X_y=True)
    rows = lambda x, y: sorted(map(tuple, np.column_stack([np.rint(x), y]).astype(int).tolist()))
    self.assertEqual(rows(pixels * 16, labels), rows(whole, whole_labels))
    # Stratified: each digit's share of the test set is its share of the whole, to one image.
    expected = np.bincount(whole_labels) * 360 / 1797
    self.assertLess(np.abs(np.bincount(problem.test.targets) - expected).max(), 1)

  def test_split_is_fixed(self):
    # As split by scikit-learn 1.9; a new version that splits otherwise would change every result.
    content = np.asarray(digits().test.targets, np.uint8).tobytes()
    self.assertEqual(hashlib.sha256(content).hexdigest()[:16], '70ee2850bb25b543')

  def test_what_is_no_model(self):
    for model in ('mlp', MLP):
      with self.assertRaisesRegex(InputError, 'model must be an instance of flax.linen.Module or a function'):
        digits(model)
    with self.assertRaisesRegex(InputError, r'targets must be labels in \[0, 3\].*got [4-9]'):
      digits(MLP((), num_outputs=4))
    self.assertEqual(digits(CNN()).loss.model.module, CNN())


class MnistTest(parameterized.TestCase):
  """Tiny files under MNIST's names, with checksums of their own."""

  def setUp(self):
    super().setUp()
    self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
    rng = np.random.default_rng(0)
    high = lambda shape: 256 if len(shape) == 3 else 10
    self.arrays = {name: rng.integers(0, high(shape), shape) for name, shape in SHAPES.items()}
    self.content = {name: idx_bytes(array) for name, array in self.arrays.items()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in self.content.items()}
    self.enterContext(mock.patch.object(images, 'MNIST_SHA256', sums))
    # No network: a mirror is a folder, here one that does not exist.
    self.mirror = self.root / 'mirror'
    self.enterContext(mock.patch.object(images, 'MNIST_MIRRORS', (f'{self.mirror.as_uri()}/',)))
    variables = {name: value for name, value in os.environ.items() if name != 'GDLAB_DATA'}
    variables['XDG_CACHE_HOME'] = str(self.root / 'cache')
    self.enterContext(mock.patch.dict(os.environ, variables, clear=True))

  def write(self, folder, *, compressed=False):
    folder.mkdir(parents=True)
    for name, content in self.content.items():
      path = folder / (f'{name}.gz' if compressed else name)
      path.write_bytes(gzip.compress(content) if compressed else content)
    return folder

  def assert_loaded(self, problem):
    names = {'train': problem.train, 't10k': problem.test}
    for part, examples in names.items():
      np.testing.assert_allclose(examples.inputs * 255, self.arrays[f'{part}-images-idx3-ubyte'], rtol=1e-6)
      np.testing.assert_array_equal(examples.targets, self.arrays[f'{part}-labels-idx1-ubyte'])
    self.assertEqual(
      {str(problem.train.inputs.dtype), str(problem.train.targets.dtype)}, {'float32', 'int32'}
    )

  @parameterized.parameters(False, True)
  def test_from_a_folder(self, compressed):
    self.assert_loaded(mnist(MLP((), 10), self.write(self.root / 'data', compressed=compressed)))

  def test_from_the_environment(self):
    self.write(self.root / 'mnist', compressed=True)
    with mock.patch.dict(os.environ, {'GDLAB_DATA': str(self.root)}):
      self.assert_loaded(mnist(MLP((), 10)))

  def test_downloaded_once(self):
    self.write(self.mirror, compressed=True)
    self.assert_loaded(mnist(MLP((), 10)))
    for path in self.mirror.iterdir():
      path.unlink()
    self.assert_loaded(mnist(MLP((), 10)))
    cached = sorted(path.name for path in (self.root / 'cache' / 'gdlab' / 'mnist').iterdir())
    self.assertEqual(cached, sorted(f'{name}.gz' for name in SHAPES))

  def test_a_corrupt_download_is_not_kept(self):
    self.write(self.mirror, compressed=True)
    (self.mirror / 'train-labels-idx1-ubyte.gz').write_bytes(gzip.compress(b'other'))
    with self.assertRaisesRegex(InputError, 'train-labels-idx1-ubyte.*expected.*SHA-256.*found') as caught:
      mnist()
    self.assertNotIn('\n', str(caught.exception))
    cached = [path.name for path in (self.root / 'cache' / 'gdlab' / 'mnist').iterdir()]
    self.assertEqual(cached, ['train-images-idx3-ubyte.gz'])

  def test_offline(self):
    with self.assertRaises(InputError) as caught:
      mnist()
    message = str(caught.exception)
    for part in (*SHAPES, 'data_dir', 'GDLAB_DATA', str(self.root / 'cache'), self.mirror.as_uri()):
      self.assertIn(part, message)
    self.assertNotIn('\n', message)

  def test_missing(self):
    folder = self.write(self.root / 'data')
    (folder / 't10k-labels-idx1-ubyte').unlink()
    with self.assertRaisesRegex(InputError, 't10k-labels-idx1-ubyte.gz is not in .*data'):
      mnist(data_dir=folder)

  @parameterized.parameters(
    (lambda content: content[:-1], False, 'SHA-256'),
    (lambda content: content[:100] + b'x' + content[101:], True, 'SHA-256'),
    (lambda content: b'', False, 'SHA-256'),
  )
  def test_corrupt(self, damage, compressed, message):
    folder = self.write(self.root / 'data', compressed=compressed)
    name = 'train-images-idx3-ubyte'
    content = damage(self.content[name])
    path = folder / (f'{name}.gz' if compressed else name)
    path.write_bytes(gzip.compress(content) if compressed else content)
    found = hashlib.sha256(content).hexdigest()
    expected = rf'{name}.*{message} {hashlib.sha256(self.content[name]).hexdigest()}, found {found}'
    with self.assertRaisesRegex(InputError, expected):
      mnist(data_dir=folder)

  @parameterized.parameters(
    lambda gz: gz[:-10], lambda gz: b'none', lambda gz: gz[:20] + b'\xff' * 20 + gz[40:]
  )
  def test_broken_gzip(self, damage):
    path = self.root / 'file.gz'
    path.write_bytes(damage(gzip.compress(bytes(1000))))
    with self.assertRaisesRegex(InputError, 'file.gz.*expected an intact gzip file'):
      idx.read(path, 'unused')

  def test_a_file_that_cannot_be_read(self):
    with self.assertRaisesRegex(InputError, 'expected a readable file, found'):
      idx.read(self.root, 'unused')

  def test_a_cache_that_cannot_be_written(self):
    self.write(self.mirror, compressed=True)
    (self.root / 'cache').write_text('a file where the folder should be')
    with self.assertRaisesRegex(InputError, 'expected a folder that can be written'):
      mnist()


class IdxTest(parameterized.TestCase):
  @parameterized.parameters((), (5,), (3, 4), (2, 3, 4, 2), (0, 3))
  def test_round_trip(self, *shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(idx.parse('name', idx_bytes(array)), array)

  @parameterized.parameters(
    (b'', 'found nothing'),
    (b'\0\0\x08', 'found 00 00 08'),
    (b'\0\0\x0d\x01\0\0\0\0', 'unsigned bytes.*found 00 00 0d 01'),
    (b'\x89PNG', 'found 89 50 4e 47'),
    (b'\0\0\x08\x02\0\0\0\x01', 'expected an IDX head of 12 bytes, found 8'),
    (b'\0\0\x08\x01\0\0\0\x03ab', r'expected 11 bytes for shape \(3,\) in its head, found 10'),
    (b'\0\0\x08\x01\0\0\0\x01ab', r'expected 9 bytes .* found 10'),
    (b'\0\0\x08\x03' + b'\xff' * 12, r'expected \d+ bytes .* found 16'),
  )
  def test_refusals(self, content, message):
    with self.assertRaisesRegex(InputError, f'the file: .*{message}'):
      idx.parse('the file', content)


@unittest.skipUnless(
  os.environ.get('GDLAB_DATA'), 'needs MNIST: set GDLAB_DATA to the folder that holds mnist/'
)
class RealMnistTest(parameterized.TestCase):
  def test_known_statistics(self):
    problem = mnist()
    self.assertEqual((problem.num_examples, problem.test.inputs.shape), (60_000, (10_000, 28, 28)))
    # Counts per digit and the pixels' mean and deviation, as published with many MNIST examples.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    self.assertEqual(np.bincount(problem.train.targets).tolist(), counts)
    pixels = np.asarray(problem.train.inputs, np.float64)
    self.assertEqual((round(pixels.mean(), 4), round(pixels.std(), 4)), (0.1307, 0.3081))
