"""`elman bench` prints ratios of layers that agree, and of no others."""

import json

import pytest

from elman.engine import EXECUTORS
from tests.small import Command

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
SMALL = ("--seconds", 0.01, "--shapes", "3,2,4,5 1,1,1,1", "--threads", 1)


def test_table(elman: Command) -> None:
    said = elman("bench", "--cells", "lstm rnn-relu", *SMALL)
    assert said.code == 0
    assert said.out.count("3,2,4,5") == 2
    assert "rnn-relu: forward minimum" in said.out
    assert "1 thread; matrix product: torch" in said.out


def test_json(elman: Command) -> None:
    said = elman("bench", "--cells", "gru", *SMALL, "--json", "--no-input-gradient")
    found = json.loads(said.out)
    assert [row["shape"] for row in found["rows"]] == [[3, 2, 4, 5], [1, 1, 1, 1]]
    for row in found["rows"]:
        (ours, theirs), ratio = row["forward"], row["ratios"][0]
        assert ratio == pytest.approx(theirs / ours)
        assert row["error"] < 1e-5
    assert set(found["peak"]) == {"torch", "tile"}
    assert found["machine"]["torch"]
    assert "bf16" not in found["machine"]


@pytest.mark.slow
def test_bfloat16(elman: Command) -> None:
    measured = json.loads(elman("bench", "--cells", "lstm", *SMALL, "--dtype", "bf16", "--json").out)
    assert measured["dtype"] == "bf16"
    assert measured["machine"]["bf16"].startswith(("by VDPBF16PS", "by conversion to float32: "))
    assert all(1e-5 < row["error"] <= row["bound"] for row in measured["rows"])


def test_no_ratio_where_the_numbers_differ(elman: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.bench.run.disagreement", lambda rivals: (1e-3, 5e-5))
    said = elman("bench", "--cells", "lstm", *SMALL)
    assert said.code == 1
    assert "the results differ by 1.0e-03" in said.out
    assert "minimum" not in said.out
    assert "differ from torch.nn's" in said.err


@pytest.mark.parametrize("shapes", ["3,2,4", "3,2,4,0", "a,b,c,d", ""])
def test_bad_shapes(elman: Command, shapes: str) -> None:
    said = elman("bench", "--shapes", shapes)
    assert said.code == 2
    assert "--shapes: expected sizes" in said.err


def test_bad_cells(elman: Command) -> None:
    said = elman("bench", "--cells", "lstm elephant")
    assert said.code == 2
    assert "--cells: expected some of lstm, gru" in said.err
