"""The random models are mostly sound ones, and of every kind."""

import numpy as np
import random_models as models


def test_most_draws_have_to_be_right():
  hazards = [bool(models.draw(seed).hazard) for seed in range(300)]
  assert 0.15 < np.mean(hazards) < 0.45


def test_every_kind_is_drawn():
  draws = [models.draw(seed) for seed in range(300)]
  assert {layer for draw in draws for layer in draw.layers} == {
    *('attention', 'batch', 'conv', 'dense', 'dropout', 'frozen', 'group', 'layer', 'pool', 'stack')
  }
  assert {draw.api for draw in draws} == {'linen', 'nnx'}
  assert {draw.head for draw in draws} == {'dense', 'tied'}
  assert {draw.dtype for draw in draws} == {'bfloat16', 'float32', 'float64'}
