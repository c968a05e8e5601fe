"""`elman.export.check` takes what the formats take, and says in one line what is wrong."""

from pathlib import Path

import pytest
import torch
from torch import nn

import elman.export
from elman.errors import Failure


@pytest.mark.sample(1)
@pytest.mark.parametrize("suffix", ["json", "c", "onnx"])
def test_check_takes_what_was_written(suffix: str, tmp_path: Path) -> None:
    """A list of modules and an `nn.Sequential`, in every format that takes them."""
    modules, file = [elman.LSTM(3, 4), nn.Linear(4, 2)], tmp_path / f"model.{suffix}"
    write = {"json": elman.export.rtneural, "c": elman.export.c, "onnx": elman.export.onnx}[suffix]
    write(modules, file, torch.randn(5, 2, 3))
    assert elman.export.check(file, modules).whole < 1e-5
    assert elman.export.check(file, nn.Sequential(*modules), torch.randn(7, 3, 3)).whole < 1e-5


def test_check_of_other_modules(tmp_path: Path) -> None:
    file, layer = tmp_path / "gru.onnx", elman.GRU(3, 4)
    elman.export.onnx(layer, file)
    with pytest.raises(Failure, match=r"gru\.onnx: expected 1 inputs and 1 states, got 1 inputs and 2 states"):
        elman.export.check(file, elman.LSTM(3, 4))
    with pytest.raises(Failure, match=r"gru\.onnx: ONNX Runtime cannot run this file on this input: .*$"):
        elman.export.check(file, elman.GRU(5, 4))
    file.write_bytes(b"no model")
    with pytest.raises(Failure, match=r"gru\.onnx: ONNX Runtime cannot run this file on this input: .*$"):
        elman.export.check(file, layer)
    for wrong in ("gru", elman.GRU, [3], []):
        with pytest.raises(TypeError, match="module: expected "):
            elman.export.check(file, wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="module: expected "):
            elman.export.onnx(wrong, file)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected an exported file, but .*none\.onnx does not exist"):
        elman.export.check(tmp_path / "none.onnx", layer)
    with pytest.raises(ValueError, match=r"got torch\.nn\.LSTM; convert the model first: elman\.convert\(model\)"):
        elman.export.c(nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2)), tmp_path / "model.c")
