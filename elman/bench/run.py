"""The measurements of `elman bench`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import exp, log
from typing import Any

import torch

from elman.bench.layers import Shape, disagreement, flops, medians, rivals


@dataclass(frozen=True)
class Row:
    """One cell at one shape. Times in seconds; without ratios where the numbers disagree."""

    cell: str
    shape: Shape
    threads: int
    error: float
    bound: float  # of the error
    forward: tuple[float, float] | None = None  # ours, theirs
    both: tuple[float, float] | None = None
    gflops: tuple[float, float] | None = None  # ours, forward, and forward and backward

    @property
    def agrees(self) -> bool:
        """Whether both gave the same numbers."""
        return self.error <= self.bound

    @property
    def ratios(self) -> tuple[float, float]:
        """How many times as fast ours is: forward, and forward and backward."""
        assert self.forward
        assert self.both
        return self.forward[1] / self.forward[0], self.both[1] / self.both[0]


def measure(
    cells: Sequence[str], shapes: Sequence[Shape], seconds: float = 1.0, input_gradient: bool = True
) -> Iterator[Row]:
    """Measure every cell at every shape on the threads that torch is set to.

    Args:
        cells: names in `PAIRS`.
        shapes: to measure at.
        seconds: to spend on each cell and shape, forward and again both ways.
        input_gradient: compute the gradient of x too.
    """
    for cell in cells:
        for shape in shapes:
            two = rivals(cell, shape, input_gradient)
            error, bound = disagreement(two)
            if not error <= bound:
                yield Row(cell, shape, torch.get_num_threads(), error, bound)
                continue
            ours, theirs = medians([partial(two.forward, k) for k in (0, 1)], seconds)
            both = medians([partial(two.both_ways, k) for k in (0, 1)], seconds)
            work = flops(cell, shape, input_gradient)
            yield Row(
                cell, shape, torch.get_num_threads(), error, bound, (ours, theirs), (both[0], both[1]),
                (work[0] / ours / 1e9, work[1] / both[0] / 1e9),
            )  # fmt: skip


def peak(seconds: float = 1.0) -> dict[str, float]:
    """GFLOP/s of single-precision products of large matrices, the best of some sizes: torch's, and our tile's."""
    from elman.engine.cpu.matmul import PackedMatmul

    best = {"torch": 0.0, "tile": 0.0}
    for n in (512, 1024, 2048):
        a, b = torch.randn(n, n), torch.randn(n, n)
        ours = partial(PackedMatmul(b), a)
        for name, median in zip(best, medians([partial(torch.mm, a, b), ours], seconds / 3), strict=True):
            best[name] = max(best[name], 2 * n**3 / median / 1e9)
    return best


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios."""
    return exp(sum(map(log, values)) / len(values))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    import platform
    from pathlib import Path

    import llvmlite

    from elman import __version__
    from elman.engine.cpu.jit import this_machine

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    host = this_machine()
    return {
        "cpu": f"{names[0] if names else platform.processor()} ({host.cpu}, vectors of {8 * host.vector_bytes} bits)",
        "cores": len(names) or None,
        "elman": __version__,
        "torch": torch.__version__,
        "llvmlite": llvmlite.__version__,
        "python": platform.python_version(),
    }


def as_json(row: Row) -> dict[str, Any]:
    """A row for other programs."""
    found = asdict(row) | {"shape": list(row.shape), "agrees": row.agrees}
    if row.agrees:
        found["ratios"] = row.ratios
    return found
