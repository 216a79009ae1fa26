"""How much of the engine there is to know: files, types, and calls from `gdlab.run` to the optimizer's update."""

import ast
import traceback
from pathlib import Path

import optax
import pytest

import gdlab

LIBRARY = Path(gdlab.__file__).parent
# What a reader has to know, and how runs are asked for.
CONCEPTS = {
  'Plan',
  'Grid',
  'Records',
  'Chunk',
  'Lane',
  'Program',
  'Block',
  'Halving',
  'Footprint',
  'Checkpoint',
}


def test_the_engine_has_few_files_and_types():
  files = [path for path in (LIBRARY / 'training').glob('*.py') if path.name != '__init__.py']
  types = {
    node.name
    for path in files
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
    if isinstance(node, ast.ClassDef)
  }
  assert len(files) <= 14
  assert types == CONCEPTS


@pytest.mark.parametrize(
  'plan',
  [
    None,
    gdlab.Plan(1, 2, program_per_device=True),
    gdlab.Plan(2, 2),
    gdlab.Plan(data_parallel=2),
    gdlab.Plan(1, host_steps=True),
  ],
)
def test_an_update_is_at_most_ten_calls_from_run(plan):
  depths = []

  def update(updates, state, params=None):
    del params
    calls = [
      call for call in traceback.walk_stack(None) if Path(call[0].f_code.co_filename).is_relative_to(LIBRARY)
    ]
    depths.append([call[0].f_code.co_qualname for call in calls])
    return updates, state

  optimizer = optax.GradientTransformation(lambda params: (), update)
  descent = gdlab.algorithm(sampler=gdlab.sampling.reshuffle(4), optimizer=optimizer)
  problem = gdlab.problems.quadratic([1.0, 0.5], noise=0.1, num_examples=16)
  gdlab.run(problem, descent, num_steps=3, seeds=2, plan=plan, progress=False)
  assert depths
  assert max(map(len, depths)) <= 10, max(depths, key=len)
