"""How scripts end where the input, a file or the system is not as it should be: real processes, one line each."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import gdlab
from gdlab.core.errors import InputError
from gdlab.study import launch

STUDY = pathlib.Path(__file__).with_name('tiny_study.py')


def command(workdir: pathlib.Path, *arguments: str) -> list[str]:
  return [sys.executable, str(STUDY), f'--workdir={workdir}', *arguments]


def environment(workdir: pathlib.Path) -> dict[str, str]:
  cache = workdir.parent / 'compiled'
  return {**os.environ, 'JAX_NUM_CPU_DEVICES': '2', 'JAX_COMPILATION_CACHE_DIR': str(cache)}


def ended(workdir: pathlib.Path, *arguments: str, shell: str = 'exec "$@"') -> tuple[int, str, str]:
  """Runs the tiny study to its end, by a shell that can redirect; returns status and both outputs."""
  process = subprocess.run(
    ['sh', '-c', shell, 'sh', *command(workdir, *arguments)],
    env=environment(workdir),
    capture_output=True,
    text=True,
    check=False,
    timeout=240,
  )
  return process.returncode, process.stdout, process.stderr


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """A working directory in which all cells are."""
  workdir = tmp_path_factory.mktemp('launch') / 'finished'
  status, out, _ = ended(workdir)
  assert (status, out) == (0, 'finished\n')
  return workdir


# The study prints when all is written, so nothing but its last line is lost.
@pytest.mark.parametrize(
  ('shell', 'expected'),
  [
    # A reader that is gone before anything is written: what `| head` comes to.
    (
      'exec 3>&1; { "$@" 2>&3 3>&-; echo $? >&3; } | { exec 0<&-; sleep 0.1; } 3>&-',
      '[Errno 32] Broken pipe',
    ),
    ('exec "$@" >/dev/full', '[Errno 28] No space left on device'),
  ],
)
def test_an_output_that_cannot_be_written_is_one_line(finished, shell, expected):
  if 'full' in shell and not pathlib.Path('/dev/full').exists():
    pytest.skip('no /dev/full')
  status, out, err = ended(finished, shell=shell)
  lines = [line for line in (out + err).splitlines() if 'found' not in line]
  assert lines[0] == f'error: {expected}'
  assert (lines[1:] or [str(status)]) == ['1']


def test_without_a_standard_error_a_study_is_the_same(finished):
  workdir = finished.parent / 'silent'
  assert ended(workdir, shell='exec "$@" 2>&-') == (0, 'finished\n', '')
  for name in ('start', 'runs', 'tail', 'last'):
    ours, theirs = (gdlab.load(folder / 'results' / f'{name}.nc') for folder in (workdir, finished))
    assert ours.drop_attrs().identical(theirs.drop_attrs())
  # Nobody can be told what was wrong; the status says it.
  assert ended(workdir, '--config.num_seeds=6', shell='exec "$@" 2>&-') == (2, '', '')


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
  code = f"""
import os
from gdlab.study import launch
launch._occupy_standard_streams()
with open({str(tmp_path / 'result')!r}, 'w') as file:
  os.write(2, b'a message of a library')
  os._exit(file.fileno())
"""
  process = subprocess.run(
    ['sh', '-c', 'exec "$@" 2>&- 0<&-', 'sh', sys.executable, '-c', code], cwd=STUDY.parents[2], check=False
  )
  assert process.returncode == 3
  assert (tmp_path / 'result').read_bytes() == b''


def test_a_truncated_result_that_has_no_sum_is_one_line(finished, tmp_path):
  (tmp_path / 'results').mkdir()
  whole = (finished / 'results' / 'start.nc').read_bytes()
  (tmp_path / 'results' / 'start.nc').write_bytes(whole[: len(whole) // 2])
  status, out, err = ended(tmp_path)
  assert (status, out) == (2, '')
  assert err == (
    f'error: workdir {tmp_path} holds start.nc, which is not a result of a study; '
    'move it away, or name a new --workdir\n'
  )


def test_ctrl_c_ends_a_study_at_once(tmp_path):
  # What a shell starts in the background ignores SIGINT, and so would we. A million seeds take minutes.
  run = command(tmp_path / 'workdir', '--config.num_seeds=1000000')
  code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execv(sys.executable, {run!r})
"""
  process = subprocess.Popen(
    [sys.executable, '-c', code],
    env=environment(tmp_path / 'workdir'),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  limit = time.monotonic() + 120
  try:
    while not (tmp_path / 'workdir' / 'results' / 'start.nc').exists():
      assert process.poll() is None, process.stderr.read()
      assert time.monotonic() < limit
      time.sleep(0.1)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
  finally:
    process.kill()
  assert process.returncode == 75
  assert (out, err.splitlines()[1:]) == (
    '',
    ['interrupted: what is finished is kept, and the same command goes on from there'],
  )  # after '[1/4] start: 0.0 s'
  assert [path.name for path in (tmp_path / 'workdir' / 'results').glob('*.nc')] == ['start.nc']


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('x = 1', "fails with KeyError: 'get_config'"),
    ('def get_config(', r"fails with SyntaxError: '\(' was never closed"),
    ('def get_config():\n  return 1 / 0', 'fails with ZeroDivisionError: division by zero'),
    ('def get_config():\n  return {}', r'which returns a ConfigDict, and that of .*mine\.py returns \{\}$'),
    ('def get_config(a):\n  return {}', 'fails with TypeError'),
    (b'\xff\xfe\x00', 'fails with'),
  ],
)
def test_a_configuration_file_that_is_none_is_one_line(tmp_path, text, message):
  file = tmp_path / 'mine.py'
  file.write_bytes(text if isinstance(text, bytes) else text.encode())
  for arguments in ([f'--config={file}'], ['--config', str(file)], ['-config', str(file)]):
    with pytest.raises(InputError, match=f'^config must be a Python file with get_config.*{message}'):
      launch._check_overrides(arguments, 'absent.py')


@pytest.mark.parametrize(
  'arguments',
  [
    ['--config.num_sedes=3'],
    ['--config.num_sedes', '3'],
    ['-config.num_sedes=3'],
    [f'--config={STUDY}', '--config.num_sedes=3'],
    ['--config', str(STUDY), '--config.num_sedes', '3'],
    ['--config.num_sedes=a\nb'],
  ],
)
def test_an_unknown_key_is_one_line_with_the_nearest(arguments):
  with pytest.raises(InputError) as caught:
    launch._check_overrides(arguments, str(STUDY))
  expected = "unknown configuration key 'num_sedes'; did you mean 'num_seeds'? Known: fails, num_seeds"
  assert str(caught.value) == expected


@pytest.mark.parametrize(
  'arguments', [['--config.num_seeds', '3'], ['--config.fails=x=y'], ['--', '--config.a=1'], []]
)
def test_known_keys_pass(arguments):
  launch._check_overrides(arguments, str(STUDY))


@pytest.mark.parametrize('place', ['', 'results'])
def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path, place):
  workdir = tmp_path / 'workdir'
  if place:
    workdir.mkdir()
  (workdir / place).write_text('')
  status, out, err = ended(workdir)
  assert (status, out) == (2, '')
  assert err == f'error: workdir must be a folder that can be written, got {workdir / place}: File exists\n'
