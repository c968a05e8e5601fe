"""Law 7, checked: memory that nobody wrote to is NaN, in both libraries and in every way to ask for it."""

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_fresh_torch_memory_is_nan(dtype: torch.dtype) -> None:
    like = torch.ones(3, dtype=dtype)
    for fresh in (torch.empty(3, dtype=dtype), torch.empty_like(like), like.new_empty(3)):
        assert fresh.isnan().all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fresh_numpy_memory_is_nan(dtype: type[np.floating]) -> None:
    for fresh in (np.empty((2, 3), dtype), np.empty_like(np.ones(3, dtype))):
        assert fresh.dtype == dtype
        assert np.isnan(fresh).all()


def test_fresh_integers_are_left_alone() -> None:
    assert np.empty(3, np.int64).shape == np.empty_like(np.ones(3, np.int64)).shape == (3,)
