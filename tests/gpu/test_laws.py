"""The laws for the triton executor, in Triton's interpreter, on tensors of the CPU.

The interpreter is chosen when Triton is imported, so these tests run in a process of their own, in which the triton
executor is one of those that `every_executor` lists. The interpreter takes milliseconds for what a GPU does in
microseconds: of each law, the cases here are small, and few; most run with `make test-all` only.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = ("gpu/laws.py", "test_executors.py")
MORE_FILES = ("contract/test_attributes.py", "flow/test_recording.py")  # with --thorough
SELECTED = "laws or test_executors or triton and not bptt and not forward"


@pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed")
def test_in_the_interpreter(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "ELMAN_CACHE": str(tmp_path)}
    options = ["-n", "0", "-p", "no:cacheprovider", "-k", SELECTED]
    # The interpreter of Triton 3.6 does what NumPy warns of.
    options += ["-W", "ignore:Conversion of an array with ndim > 0:DeprecationWarning"]
    thorough = pytestconfig.getoption("--thorough")
    files = [str(TESTS / file) for file in (*FILES, *(MORE_FILES if thorough else ()))]
    command = [sys.executable, "-m", "pytest", *options, *["--thorough"] * thorough, *files]
    done = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
