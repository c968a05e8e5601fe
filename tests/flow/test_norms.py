"""Norms of what single precision can hold, and cannot square."""

import math

import pytest
import torch

from elman.flow._norms import row_norms
from tests.tolerances import TOLERANCES

SIZES = [1e-44, 1e-38, 1e-30, 1e-21, 1e-18, 1e-13, 1e-12, 1e-3, 1.0, 1e9, 1e12, 1e19, 1e30, 1e37]


@pytest.mark.parametrize("width", [1, 5, 1000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_norms_of_any_size(dtype: torch.dtype, width: int) -> None:
    rows = (torch.tensor(SIZES).double().view(-1, 1, 1) * torch.randn(len(SIZES), 2, width).double()).to(dtype)
    found = row_norms(rows)
    exact = [[math.hypot(*row) for row in pair] for pair in rows.double().tolist()]
    expected = torch.tensor(exact, dtype=torch.float64)
    assert expected.max() > 1e30
    error = (found - expected).abs() / expected.clamp(min=1e-300)
    assert error.max() <= TOLERANCES[torch.promote_types(dtype, torch.float32)].outputs


def test_zeros_and_what_is_no_number() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, math.inf], [1.0, math.nan], [3.0, 4.0]])
    assert str(row_norms(rows).tolist()) == "[0.0, inf, nan, 5.0]"
    assert row_norms(torch.zeros(3, 0, 2)).shape == (3, 0)
