"""ONNX files give the numbers of their modules: whole, in chunks, ragged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import elman
from elman import cells
from elman.export import CheckResult
from tests.odd import STEPS, B, D, H, T
from tests.odd import Cell as OddCell


def exported(path: Path, layer: nn.Module, inputs: Any = None, **options: Any) -> CheckResult:
    """Write a layer to a file, and compare the two."""
    file = path / "layer.onnx"
    elman.export.onnx(layer, file, inputs, **options)
    return elman.export.check(file, layer, inputs)


@pytest.mark.parametrize("name", cells.REGISTRY)
def test_the_shelf(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = elman.Stack(3, 5, cell_type=cells.by_name(name))
    result = exported(tmp_path, layer, lengths=True)
    assert None not in result


@pytest.mark.parametrize("name", STEPS)
def test_odd_cells(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    exported(tmp_path, elman.Recurrent(OddCell(name, H)), torch.randn(T, B, D), lengths=True)
