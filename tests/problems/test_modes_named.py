"""Modules whose mode switches under a name of one's own: the message says how to name it."""

import numpy as np
import optax
import pytest
from flax import linen as nn

import gdlab
from gdlab import InputError

DATA = np.ones((20, 3), np.float32), np.zeros(20, np.int32)


class Default(nn.Module):
  @nn.compact
  def __call__(self, x, is_fit=True):
    return nn.Dense(2)(nn.BatchNorm(use_running_average=not is_fit)(x))


class Required(nn.Module):
  @nn.compact
  def __call__(self, x, fit_mode):
    return nn.Dense(2)(nn.BatchNorm(use_running_average=not fit_mode)(x))


class Fixed(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(2)(nn.BatchNorm(use_running_average=False)(x))


@pytest.mark.parametrize(
  ('module', 'flags', 'expected'),
  [
    (Default(), None, "name the argument that switches it, as in flags={'is_fit': True}"),
    (Required(), None, "needs an argument fit_mode in its call: .*flags={'fit_mode': True}"),
    (Required(), {'fit_mode': False}, "flags={'fit_mode': False} may be the wrong way round"),
    (Fixed(), None, 'its call needs an argument such as train'),
  ],
)
def test_a_mode_under_another_name(module, flags, expected):
  loss = optax.softmax_cross_entropy_with_integer_labels
  with pytest.raises(InputError, match=expected) as caught:
    gdlab.problems.from_linen(module, DATA, loss, flags=flags)
  message = str(caught.value)
  assert '\n' not in message
  assert 'batch_stats in evaluation' in message or 'fit_mode' in message


def test_the_named_mode_works():
  loss = optax.softmax_cross_entropy_with_integer_labels
  for module, name in ((Default(), 'is_fit'), (Required(), 'fit_mode')):
    gdlab.problems.from_linen(module, DATA, loss, flags={name: True})
