"""The measurements of `elman bench`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import exp, log
from typing import Any

import torch

from elman.bench.layers import Shape, disagreement, flops, implementations, medians
from elman.environment import environment


@dataclass(frozen=True)
class Row:
    """Measurements of a cell at a shape, in seconds; there are none if the implementations disagree.

    Attributes:
        cell: a name in `PAIRS`.
        shape: the sizes.
        threads: number of threads.
        error: relative error of elman's values; see `disagreement`.
        bound: tolerance of the error.
        forward: median times of elman and torch.nn, forward.
        both: median times of elman and torch.nn, forward and backward.
        gflops: GFLOP/s of elman, forward, and forward and backward.
    """

    cell: str
    shape: Shape
    threads: int
    error: float
    bound: float
    forward: tuple[float, float] | None = None
    both: tuple[float, float] | None = None
    gflops: tuple[float, float] | None = None

    @property
    def agrees(self) -> bool:
        """True if both implementations give the same values within the tolerance."""
        return self.error <= self.bound

    @property
    def ratios(self) -> tuple[float, float]:
        """Speedup of elman over torch.nn: forward, and forward and backward."""
        assert self.forward
        assert self.both
        return self.forward[1] / self.forward[0], self.both[1] / self.both[0]


def measure(
    cells: Sequence[str],
    shapes: Sequence[Shape],
    seconds: float = 1.0,
    input_gradient: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Row]:
    """Measure every cell at every shape with torch's current number of threads.

    Args:
        cells: names in `PAIRS`.
        shapes: the shapes to measure.
        seconds: time per cell and shape, spent once on forward and once on forward and backward.
        input_gradient: whether to compute the gradient of x.
        dtype: of the layers.

    Yields:
        One row per cell and shape.
    """
    for cell in cells:
        for shape in shapes:
            layers = implementations(cell, shape, input_gradient, dtype)
            error, bound = disagreement(layers)
            if not error <= bound:
                yield Row(cell, shape, torch.get_num_threads(), error, bound)
                continue
            ours, theirs = medians([partial(layers.forward, k) for k in (0, 1)], seconds)
            both = medians([partial(layers.forward_backward, k) for k in (0, 1)], seconds)
            operations = flops(cell, shape, input_gradient)
            yield Row(
                cell, shape, torch.get_num_threads(), error, bound, (ours, theirs), (both[0], both[1]),
                (operations[0] / ours / 1e9, operations[1] / both[0] / 1e9),
            )  # fmt: skip


def peak(seconds: float = 1.0, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Measure the peak speed of matrix products, the best of several sizes.

    Args:
        seconds: total time to spend. Sizes of which a single product takes longer are left out, such as those of
            torch in bfloat16 on processors without instructions for it.
        dtype: of the matrices.

    Returns:
        GFLOP/s of torch (key "torch") and of elman's GEMM tile (key "tile").
    """
    from elman.engine.cpu.matmul import PackedMatmul

    best = {"torch": 0.0, "tile": 0.0}
    names = list(best)
    for n in (512, 1024, 2048):
        a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
        products = {"torch": partial(torch.mm, a, b), "tile": partial(PackedMatmul(b), a)}
        times = dict(zip(names, medians([products[name] for name in names], seconds / 3), strict=True))
        for name, median in times.items():
            best[name] = max(best[name], 2 * n**3 / median / 1e9)
        names = [name for name in names if 8 * times[name] < seconds]  # twice the size takes eight times as long
        if not names:
            break
    return best


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values."""
    return exp(sum(map(log, values)) / len(values))


def machine(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Describe the machine and the versions that the measurements depend on, for bfloat16 its instructions too."""
    parts = environment()
    system, compiler = parts["system"], parts["compiler"]
    return {
        "cpu": f"{system['cpu']} ({compiler['cpu']}, {compiler['vector_bits']}-bit vectors)",
        "cores": system["cores"],
        "elman": parts["elman"]["version"],
        "torch": parts["torch"]["version"],
        "llvmlite": compiler["llvmlite"],
        "python": parts["python"]["version"],
    } | ({"bf16": compiler["bf16"]} if dtype == torch.bfloat16 else {})


def as_json(row: Row) -> dict[str, Any]:
    """Convert a row to a JSON object."""
    values = asdict(row) | {"shape": list(row.shape), "agrees": row.agrees}
    if row.agrees:
        values["ratios"] = row.ratios
    return values
