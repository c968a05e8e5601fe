"""Modes are values, made of numbers that can be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import elman
from elman.bptt import Checkpointed, Truncated
from tests.bptt.modes import B, D, H, T

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "k1": (lambda: Truncated(0), "Truncated: k1: expected an integer of at least 1, got 0"),
    "k1 is no number": (lambda: Truncated("5"), "Truncated: k1: expected .* at least 1, got '5'"),  # type: ignore[arg-type]
    "k1 is a fraction": (lambda: Truncated(2.5), "Truncated: k1: .* got 2.5"),  # type: ignore[arg-type]
    "k1 is a bool": (lambda: Truncated(True), "Truncated: k1: .* got True"),
    "k1 is NumPy's fraction": (lambda: Truncated(np.float64(2)), "Truncated: k1: .* got np.float64"),  # type: ignore[arg-type]
    "k1 is NumPy's bool": (lambda: Truncated(np.bool_(True)), "Truncated: k1: .* got np.True_"),  # type: ignore[arg-type]
    "k1 is torch's bool": (lambda: Truncated(torch.tensor(True)), "Truncated: k1: .* got tensor"),  # type: ignore[arg-type]
    "k1 is several": (lambda: Truncated(np.array([2, 3])), "Truncated: k1: .* got array"),  # type: ignore[arg-type]
    "k1 is NumPy's": (lambda: Truncated(np.int64(0)), "Truncated: k1: .* at least 1, got 0"),  # type: ignore[arg-type]
    "k2": (lambda: Truncated(5, 3), "Truncated: k2: expected an integer of at least k1=5, got 3"),
    "segments": (lambda: Checkpointed(0), "Checkpointed: segments: expected an integer .* or 'sqrt', got 0"),
    "segments by bool": (lambda: Checkpointed(True), "Checkpointed: segments: .* got True"),
    "segments by name": (lambda: Checkpointed("root"), "Checkpointed: segments: .* got 'root'"),
    "memory": (lambda: Checkpointed(memory="much"), "Checkpointed: memory: expected an amount such as .* got 'much'"),
    "memory in no unit": (lambda: Checkpointed(memory="5 pages"), "Checkpointed: memory: .* got '5 pages'"),
    "no memory": (lambda: Checkpointed(memory=0), "Checkpointed: memory: .* got 0"),
    "both": (lambda: Checkpointed(4, "5MB"), "Checkpointed: memory: expected None with segments=4, got '5MB'"),
    "too little": (
        lambda: elman.GRU(D, H, bptt=Checkpointed(memory="1KB"))(torch.randn(100, B, D)),
        r"Checkpointed: memory: expected at least [\d,]+ bytes for 100 steps, got '1KB'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_says(name: str) -> None:
    do, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        do()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("build", [elman.GRU, lambda *sizes: elman.Recurrent(nn.GRUCell(*sizes))])
def test_a_layer_says_what_its_bptt_must_be(build: Callable[..., Any]) -> None:
    layer = build(D, H)
    name = type(layer).__name__
    for layer.bptt in (20, Truncated, None):
        runs = (layer, layer.trajectory, lambda x, mode=layer.bptt: build(D, H)(x, bptt=mode))
        for run in runs[: 2 if layer.bptt is None else 3]:
            with pytest.raises(
                TypeError, match=rf"{name}: bptt: expected a mode of elman.bptt, such as Truncated\(20\)"
            ):
                run(torch.zeros(T, B, D))


@pytest.mark.parametrize(
    "number", [np.int64, np.uint8, np.array, torch.tensor], ids=["int64", "uint8", "array", "tensor"]
)
def test_whole_numbers_of_any_kind(number: Callable[[int], Any]) -> None:
    assert repr(Truncated(number(5), number(10))) == "Truncated(k1=5, k2=10)"
    assert repr(Checkpointed(number(4))) == "Checkpointed(segments=4, memory=None)"
    assert Truncated(number(5)) == Truncated(5)
    elman.GRU(D, H, bptt=Checkpointed(memory=number(200)))(torch.zeros(1, B, D))
    with pytest.raises(ValueError, match="Checkpointed: memory: expected None with segments=4"):
        Checkpointed(number(4), "5MB")


def test_modes_are_values() -> None:
    assert Truncated(5, 10) == Truncated(5, 10) != Truncated(5)
    assert repr(Checkpointed(memory="5MB")) == "Checkpointed(segments='sqrt', memory='5MB')"
