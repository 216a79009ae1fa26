"""The same training in PyTorch, eagerly: one process per core, one thread each."""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.throughput import tasks

TRIAL_STEPS = 100


def build(work: Mapping[str, Any]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
  """The loop over single steps, with whichever of SGD's implementations is faster here."""
  torch = importlib.import_module('torch')  # an optional extra, not among the declared dependencies
  torch.set_num_threads(1)
  _, problem = tasks.make(work)
  images = np.array(problem.train.inputs)
  inputs = torch.from_numpy(images[:, None] if work['model'] == 'cnn' else images.reshape(len(images), -1))
  targets = torch.from_numpy(np.array(problem.train.targets, np.int64))
  cross_entropy = torch.nn.CrossEntropyLoss()

  def loop(fused: bool, num_steps: int) -> None:
    for seed in work['seeds']:
      torch.manual_seed(seed)
      model = _mlp(torch.nn, work['hidden']) if work['model'] == 'mlp' else _cnn(torch.nn)
      optimizer = torch.optim.SGD(
        model.parameters(), lr=work['learning_rate'], momentum=tasks.MOMENTUM, fused=fused
      )
      for _ in range(num_steps):
        indices = torch.randint(len(targets), (work['batch_size'],))
        optimizer.zero_grad()
        cross_entropy(model(inputs[indices]), targets[indices]).backward()
        optimizer.step()

  def trial(fused: bool) -> float:
    loop(fused, 1)
    started = time.perf_counter()
    loop(fused, TRIAL_STEPS)
    return time.perf_counter() - started

  faster = min((False, True), key=trial)
  return {'torch': lambda: loop(faster, work['num_steps'])}, {'torch': f'SGD(fused={faster})'}


def _mlp(nn: Any, hidden: list[int]) -> Any:
  widths = [64, *hidden]
  layers = [layer for pair in zip(widths, hidden) for layer in (nn.Linear(*pair), nn.ReLU())]
  return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def _cnn(nn: Any) -> Any:
  """`gdlab.problems.CNN()` for images of 28x28."""
  return nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(32 * 7 * 7, 10),
  )
