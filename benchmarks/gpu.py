"""Time of elman's layers on a GPU beside torch.nn (cuDNN), the Python loop, and that loop as a CUDA graph.

    python benchmarks/gpu.py --out benchmarks/results/gpu.txt

It has not been run on a GPU yet: its first run there is also its first test.

First the results of every layer are checked against the loop executor; what is wrong is not measured, and ends in exit
code 1. Then forward (without gradients) and both ways are timed, interleaved, the median of several by CUDA events. The
most wanted come first: what does not fit into `--minutes` is left out, and the table says so. Needs torch 2.11, triton
3.6 or newer. `TRITON_INTERPRET=1 python benchmarks/gpu.py --device cpu --sizes 3,2,4` tries it without a GPU.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple, TextIO

import torch
from torch import Tensor, nn

import elman
from elman import cells
from elman.engine import EXECUTORS, UNAVAILABLE

BUILT_IN = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
CHECKED = (16, 5)  # T, B
LARGEST_ERROR = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # of any entry, as a part of the largest
LOOP_REPEATS = 3  # the loop takes half a second


class Own(nn.Module):
    """A cell that no library has: two gates, one of them of the state's own norm."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.state_size, self.input_size = hidden_size, input_size
        self.read, self.recur = nn.Linear(input_size, 3 * hidden_size), nn.Linear(hidden_size, 3 * hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """One step."""
        a, b, c = (self.read(x) + self.recur(h)).chunk(3, -1)
        gate = torch.sigmoid(a - h.square().mean(-1, keepdim=True))
        return gate * h + (1 - gate) * nn.functional.softplus(b) * torch.tanh(c)


class Size(NamedTuple):
    """Steps, sequences, and the width of x and of the state."""

    T: int
    B: int
    H: int


class Asked(NamedTuple):
    """A measurement: a cell by its name, in a dtype."""

    cell: str
    dtype: torch.dtype
    size: Size


Run = Callable[[], object]


def main() -> int:
    """Check and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--minutes", type=float, default=5.5, help="after which nothing more is begun")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sizes", nargs="+", type=size, help="T,B,H of the built-in and the own cell, instead of all")
    parser.add_argument("--cells", nargs="+", choices=["own", *cells.REGISTRY], help="only these")
    parser.add_argument("--out", type=Path, help="a file for the table, beside the terminal")
    options = parser.parse_args()
    if "triton" not in EXECUTORS:
        print(f"the triton executor cannot run here: {UNAVAILABLE['triton']}", file=sys.stderr)
        return 2
    end = time.monotonic() + 60 * options.minutes
    with Table(options.out) as table:
        table.line("python benchmarks/gpu.py")
        table.line(f"{machine(options.device)}; milliseconds, forward / both ways, medians of {options.repeats}\n")
        table.line(f"{'':22}{'':9}{'T':>6}{'B':>5}{'H':>6}" + "".join(f"{name:>22}" for name in RUNNERS))
        wrong = 0
        for asked in everything(options.sizes, options.cells):
            if time.monotonic() > end:
                table.line(f"{title(asked)}  left out: {options.minutes} minutes are over")
                continue
            error = largest_error(asked, options.device)
            if not error <= LARGEST_ERROR[asked.dtype]:
                wrong += 1
                table.line(f"{title(asked)}  WRONG: differs from the loop by {error:.1e} of the largest entry")
                continue
            table.line(
                title(asked) + "".join(f"{text:>22}" for text in measure(asked, options.device, options.repeats))
            )
    return 1 if wrong else 0


def size(text: str) -> Size:
    """Parse T,B,H."""
    T, B, H = map(int, text.split(","))
    return Size(T, B, H)


def everything(sizes: Sequence[Size] | None, names: Sequence[str] | None) -> Iterator[Asked]:
    """Yield the measurements, the most important first."""
    single, half = torch.float32, torch.bfloat16
    widths = sizes or [Size(1024, 16, H) for H in (64, 128, 256, 512, 768, 1024)]
    batches = [] if sizes else [Size(1024, B, 256) for B in (1, 4, 64, 128)]
    shelf = [cell for cell in cells.REGISTRY if cell not in BUILT_IN]
    asked = [Asked("lstm", dtype, s) for s in widths for dtype in (single, half)]
    asked += [Asked(cell, single, s) for cell in ("own", "gru", "rnn") for s in widths[:3]]
    asked += [Asked("lstm", single, s) for s in batches]
    asked += [Asked(cell, single, widths[min(1, len(widths) - 1)]) for cell in shelf]
    yield from (a for a in asked if not names or a.cell in names)


def title(asked: Asked) -> str:
    """The first columns of a line."""
    T, B, H = asked.size
    return f"{asked.cell:22}{str(asked.dtype).removeprefix('torch.'):9}{T:6}{B:5}{H:6}"


def layer(asked: Asked, executor: str, device: str) -> elman.Recurrent:
    """A layer, always with the same weights."""
    torch.manual_seed(0)
    build = Own if asked.cell == "own" else cells.by_name(asked.cell)
    return elman.Recurrent(build(asked.size.H, asked.size.H), executor=executor).to(device, asked.dtype)


def largest_error(asked: Asked, device: str) -> float:
    """Of outputs and gradients of a short sequence, as a part of the largest entry, beside the loop executor."""
    T, B = (min(a, b) for a, b in zip(CHECKED, asked.size[:2], strict=True))
    x = torch.randn(T, B, asked.size.H, device=device, dtype=asked.dtype)
    dy, results = torch.randn_like(x), []
    for executor in ("triton", "loop"):
        model, inputs = layer(asked, executor, device), x.detach().requires_grad_()
        outputs, _ = model(inputs)
        results.append(
            [outputs, *torch.autograd.grad(outputs, [inputs, *model.parameters()], dy[..., : outputs.shape[-1]])]
        )
    pairs = zip(*results, strict=True)
    errors: list[float] = [((a - b).abs().max() / b.abs().max().clamp(min=0.1)).item() for a, b in pairs]
    return max(errors)


# What is measured of each: functions that run forward, and both ways, or why there are none.


def by_executor(name: str) -> Callable[[Asked, str], tuple[Run, Run] | str]:
    """On an executor of elman."""

    def build(asked: Asked, device: str) -> tuple[Run, Run] | str:
        return runs(layer(asked, name, device), asked, device) if name in EXECUTORS else "-"

    return build


def by_torch(asked: Asked, device: str) -> tuple[Run, Run] | str:
    """By torch.nn."""
    if asked.cell not in BUILT_IN:
        return "-"
    return runs(BUILT_IN[asked.cell](asked.size.H, asked.size.H).to(device, asked.dtype), asked, device)


def by_graph(asked: Asked, device: str) -> tuple[Run, Run] | str:
    """The loop, captured in a CUDA graph."""
    if device != "cuda":
        return "-"
    forward, both = runs(layer(asked, "loop", device), asked, device)
    return graphed(forward), graphed(both)


def runs(model: nn.Module, asked: Asked, device: str) -> tuple[Run, Run]:
    """Forward without gradients, and both ways."""
    T, B, H = asked.size
    x = torch.randn(T, B, H, device=device, dtype=asked.dtype, requires_grad=True)
    inputs = [x, *model.parameters()]
    with torch.no_grad():
        dy = torch.randn_like(model(x)[0])

    def forward() -> object:
        with torch.no_grad():
            return model(x)

    def both() -> object:
        return torch.autograd.grad(model(x)[0], inputs, dy)

    return forward, both


def graphed(run: Run) -> Run:
    """Capture what a function launches."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


RUNNERS: dict[str, Callable[[Asked, str], tuple[Run, Run] | str]] = {
    "triton": by_executor("triton"),
    "torch": by_executor("torch"),
    "torch.nn": by_torch,
    "loop": by_executor("loop"),
    "loop as a graph": by_graph,
}


def measure(asked: Asked, device: str, repeats: int) -> list[str]:
    """The entries of a line of the table, by runner."""
    entries: dict[str, tuple[Run, Run] | str] = {}
    for name, build in RUNNERS.items():
        try:
            entry = entries[name] = build(asked, device)
            for run in () if isinstance(entry, str) else entry:
                seconds(run, device)  # compiles
        except (RuntimeError, torch.OutOfMemoryError) as error:
            entries[name] = f"{type(error).__name__}"  # in the table, for one runner must not end the others
            print(f"{name}: {error}", file=sys.stderr)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in entries}
    for repeat in range(repeats):
        for name, entry in entries.items():
            if isinstance(entry, str) or (name == "loop" and repeat >= LOOP_REPEATS):
                continue
            for run, found in zip(entry, times[name], strict=True):
                found.append(seconds(run, device))
    return [
        entry if isinstance(entry, str) else " / ".join(f"{1000 * median(found):.3f}" for found in times[name])
        for name, entry in entries.items()
    ]


def seconds(run: Run, device: str) -> float:
    """Of one run, by CUDA events."""
    if device == "cpu":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    run()
    last.record()
    last.synchronize()
    milliseconds: float = first.elapsed_time(last)
    return milliseconds / 1000


def machine(device: str) -> str:
    """The device and the versions."""
    import triton

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU, Triton's interpreter: not a measurement"
    return f"{name}, torch {torch.__version__}, triton {triton.__version__}, elman {elman.__version__}"


class Table:
    """Prints lines, and writes them into a file as they come."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = path.open("w", encoding="utf-8") if path else None

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def line(self, text: str) -> None:
        for file in filter(None, (sys.stdout, self._file)):
            print(text, file=file, flush=True)


if __name__ == "__main__":
    sys.exit(main())
