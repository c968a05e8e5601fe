"""Law 7: fresh memory is poison. And every test begins from one seed."""

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

# The same examples on every machine and in every run.
hypothesis.settings.register_profile("elman", derandomize=True, database=None, deadline=None, max_examples=10)
hypothesis.settings.load_profile("elman")

Allocator = Callable[..., NDArray[Any]]


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_memory_is_poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What nobody wrote to is NaN, and a NaN passes no comparison."""
    monkeypatch.setattr(np, "empty", poisoned(np.empty))
    monkeypatch.setattr(np, "empty_like", poisoned(np.empty_like))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def poisoned(allocate: Allocator) -> Allocator:
    def allocate_poison(*args: Any, **kwargs: Any) -> NDArray[Any]:
        fresh = allocate(*args, **kwargs)
        if np.issubdtype(fresh.dtype, np.inexact):
            fresh.fill(np.nan)
        return fresh

    return allocate_poison
