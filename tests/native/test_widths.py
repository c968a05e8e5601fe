"""Machines with narrower vectors than this one: the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elman.engine import EXECUTORS
from elman.engine.cpu import jit

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")

SCRIPT = """
import sys
import torch
from elman.engine.cpu import jit
from tests.native.pairs import LAYERS, agrees, problem

assert jit.this_machine().vector_bytes == int(sys.argv[1])
torch.manual_seed(0)  # as in every test: of 400 draws at H = 1, one cancels, and errs by 9e-15 at any width
for dtype, names in [(torch.float32, ("LSTM", "GRU", "RNN")), (torch.float64, ("GRU", "RNN", "LSTM"))]:
    for name, (T, B, D, H) in zip(names, [(4, 3, 5, 7), (3, 9, 2, 17), (2, 1, 33, 1)]):
        layer = LAYERS[name](D, H, executor="native", dtype=dtype)
        agrees(layer, *problem(layer, T, B, D))
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 32])
def test_narrower_vectors(width: int) -> None:
    if width >= jit.this_machine().vector_bytes:
        pytest.skip(f"the vectors of this machine are no wider than {width} bytes")
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(width)],
        cwd=Path(__file__).parents[2],  # where `tests` is found
        env={**os.environ, "ELMAN_VECTOR_BYTES": str(width)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
