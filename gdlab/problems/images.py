"""Classification of handwritten digits: the images that come with scikit-learn, and MNIST."""

import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx

from gdlab.core.arguments import checked
from gdlab.core.errors import InputError
from gdlab.core.types import Array, Examples, Problem
from gdlab.problems import idx
from gdlab.problems.linen import from_linen
from gdlab.problems.models import MLP
from gdlab.problems.nnx import from_nnx

MNIST_MIRRORS = (
  'https://storage.googleapis.com/cvdf-datasets/mnist/',
  'https://ossci-datasets.s3.amazonaws.com/mnist/',
)

# Of the uncompressed bytes.
MNIST_SHA256 = MappingProxyType(
  {
    'train-images-idx3-ubyte': 'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
    'train-labels-idx1-ubyte': '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
    't10k-images-idx3-ubyte': '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
    't10k-labels-idx1-ubyte': 'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
  }
)


@checked('model')
def digits(model: nn.Module | Callable[[nnx.Rngs], nnx.Module] | None = None) -> Problem:
  """Classification of the 1797 handwritten 8x8 digits that come with scikit-learn, without a download.

  Inputs float[N, 8, 8] in [0, 1] (the stored 0 ... 16 divided by 16), targets int32[N] in 0 ... 9. The split
  is fixed: 1437 training and 360 test images, stratified by digit, drawn and shuffled with seed 0. The loss
  is the softmax cross-entropy; metrics are 'loss' and 'accuracy'.

  Args:
    model: a Flax Linen module or a function from `nnx.Rngs` to an NNX module that maps images [B, 8, 8] to
      logits [B, 10]; None for an MLP with one hidden layer of 32 units.

  Raises:
    InputError: `model` is neither, or has fewer than 10 outputs.

  Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998 (the
  test set of that data).
  """
  # Here, since scikit-learn takes a second to import.
  from sklearn import datasets, model_selection

  images, labels = datasets.load_digits(return_X_y=True)
  images = (images / 16).reshape(-1, 8, 8)
  train_x, test_x, train_y, test_y = model_selection.train_test_split(
    images, labels.astype(np.int32), test_size=360, stratify=labels, random_state=0
  )
  model = MLP(features=(32,)) if model is None else model
  return classification(model, Examples(train_x, train_y), Examples(test_x, test_y), 'digits')


@checked('model')
def mnist(
  model: nn.Module | Callable[[nnx.Rngs], nnx.Module] | None = None,
  data_dir: str | os.PathLike[str] | None = None,
) -> Problem:
  """Classification of the handwritten digits of MNIST, in the original order: 60,000 training and 10,000 test images.

  Inputs float[N, 28, 28] in [0, 1] (the stored bytes divided by 255), targets int32[N] in 0 ... 9. The loss
  is the softmax cross-entropy; metrics are 'loss' and 'accuracy'.

  The four IDX files, plain or .gz, are taken from `data_dir` if given; else from the folder `mnist` in
  $GDLAB_DATA or from the user's cache ($XDG_CACHE_HOME/gdlab/mnist, by default ~/.cache/gdlab/mnist),
  into which they are downloaded once from `MNIST_MIRRORS`. Each is checked by the SHA-256 of its uncompressed
  bytes.

  Args:
    model: a Flax Linen module or a function from `nnx.Rngs` to an NNX module that maps images [B, 28, 28] to
      logits [B, 10]; None for an MLP with hidden layers of 300 and 100 units (LeCun et al. 1998).
    data_dir: a folder with the four files.

  Raises:
    InputError: a file is missing and cannot be downloaded, or is corrupt; `model` is neither, or has fewer
      than 10 outputs.

  Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
  recognition", Proc. IEEE 86(11), 1998.
  """
  folders, cache = _mnist_folders(data_dir)
  arrays = {}
  for name, sha256 in MNIST_SHA256.items():
    arrays[name] = idx.read(idx.find(folders, name) or _fetch(name, sha256, folders, cache), sha256)

  def examples(part: str) -> Examples:
    images = arrays[f'{part}-images-idx3-ubyte'].astype(np.float32) / np.float32(255)
    return Examples(images, arrays[f'{part}-labels-idx1-ubyte'].astype(np.int32))

  return classification(MLP() if model is None else model, examples('train'), examples('t10k'), 'mnist')


def classification(
  model: nn.Module | Callable[[nnx.Rngs], nnx.Module], train: Examples, test: Examples, name: str
) -> Problem:
  """Softmax classification with a Linen module or an NNX factory; metrics 'loss' and 'accuracy'."""
  linen_class = isinstance(model, type) and issubclass(model, nn.Module)
  if linen_class or isinstance(model, nnx.Module) or not (isinstance(model, nn.Module) or callable(model)):
    raise InputError(
      f'model must be an instance of flax.linen.Module or a function (nnx.Rngs) -> nnx.Module, got {model!r}'
    )
  loss = optax.softmax_cross_entropy_with_integer_labels
  if isinstance(model, nn.Module):
    return from_linen(model, train, loss, test=test, metrics={'accuracy': hits}, name=name)
  return from_nnx(model, train, loss, test=test, metrics={'accuracy': hits}, name=name)


def hits(logits: Array, labels: Array) -> Array:
  """1 where the largest logit is the label's and 0 elsewhere, float[B]; the mean is the accuracy."""
  return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.result_type(float))


def _mnist_folders(data_dir: str | os.PathLike[str] | None) -> tuple[list[Path], Path | None]:
  """The folders to search, in order, and the folder to download to (None: no download)."""
  if data_dir is not None:
    return [Path(data_dir)], None
  cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'gdlab' / 'mnist'
  data = os.environ.get('GDLAB_DATA')
  return ([Path(data) / 'mnist', cache] if data else [cache]), cache


def _fetch(name: str, sha256: str, folders: list[Path], cache: Path | None) -> Path:
  """Downloads one file, or raises InputError with the folders searched and how to provide it."""
  failure = ''
  if cache is not None:
    try:
      return idx.download(name, sha256, MNIST_MIRRORS, cache)
    except InputError as error:
      failure = f' and {error}'
  raise InputError(
    f'MNIST: {name} or {name}.gz is not in {" or ".join(map(str, folders))}{failure}. Put the files '
    f'{", ".join(MNIST_SHA256)} (or .gz) into a folder and give it as data_dir, or into a folder mnist and '
    'set GDLAB_DATA to the folder that holds it'
  )
