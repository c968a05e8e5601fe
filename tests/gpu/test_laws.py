"""The laws for the triton executor, in Triton's interpreter, on tensors of the CPU.

The interpreter is chosen when Triton is imported, so these tests run in processes of their own, in which the triton
executor is one of those that `every_executor` lists. The interpreter takes milliseconds for what a GPU does in
microseconds: of each law, the cases here are small, and few.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: for each process: a file, or several, and pytest's expression that selects tests
RUNS = {
    "operations": ("gpu/laws.py", "operations and not odd"),
    "odd cells": ("gpu/laws.py", "odd"),
    "1 to 6 and 9": ("gpu/laws.py", "not operations and not odd"),
    "12": ("test_executors.py", ""),
    "13": ("contract/test_attributes.py", "triton and not bptt and not forward"),
    "flow": ("flow/test_recording.py", "triton"),
}


@pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed")
@pytest.mark.parametrize("run", RUNS)
def test_in_the_interpreter(run: str, tmp_path: Path) -> None:
    files, expression = RUNS[run]
    environment = os.environ | {"TRITON_INTERPRET": "1", "ELMAN_CACHE": str(tmp_path)}
    options = ["-n", "0", "-p", "no:cacheprovider", "-k", expression]
    command = [sys.executable, "-m", "pytest", *options, *(str(TESTS / file) for file in files.split())]
    done = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
