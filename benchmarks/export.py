"""Exported layers beside the native executor: `python benchmarks/export.py`.

Times of one step of a stream, with its state fed back, and of sequences; sizes of the files. One thread; all take turns
in one process. Writes benchmarks/results/export.md. A column is one entry of `RUNTIMES`.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch

import elman
import elman.export
from elman import cells
from elman.bench.layers import medians
from elman.bench.run import machine

RESULTS = Path(__file__).parent / "results" / "export.md"
CELLS = ("lstm", "gru", "mgu", "layer_norm_lstm")
Call = Callable[[], Any]


class Exported(NamedTuple):
    """An exported layer: a call for a step or a sequence, and the file."""

    call: Call
    size: int


def native(layer: elman.Stack, x: torch.Tensor, folder: Path) -> Exported:
    """The layer itself; a step is `layer.step`."""
    del folder
    size = sum(parameter.numel() * 4 for parameter in layer.parameters())
    if len(x) > 1:
        return Exported(lambda: layer(x), size)
    state: Any = None

    def step() -> None:
        nonlocal state
        _, state = layer.step(x[0], state)

    return Exported(step, size)


def onnx(layer: elman.Stack, x: torch.Tensor, folder: Path) -> Exported:
    """ONNX Runtime."""
    path = folder / "layer.onnx"
    elman.export.onnx(layer, path)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, ["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()][1:]
    zeros = np.zeros((1, x.shape[1], layer.hidden_size), np.float32)
    states, rows = dict.fromkeys(names, zeros), x.numpy()

    def run() -> None:
        _, *new = session.run(None, {"input": rows, **states})
        if len(rows) == 1:
            states.update(zip(names, new, strict=True))

    return Exported(run, path.stat().st_size)


#: what is measured, by the name of its column
RUNTIMES: dict[str, Callable[[elman.Stack, torch.Tensor, Path], Exported]] = {
    "elman native": native, "ONNX Runtime": onnx,
}  # fmt: skip


def table(T: int, B: int, hidden: list[int], seconds: float, folder: Path) -> list[str]:
    """Return the lines of a table in Markdown: microseconds for a call of T steps, and bytes of each file."""
    names = list(RUNTIMES)
    lines = [["cell", "H", *(f"{name}, us" for name in names), *(f"{name}, bytes" for name in names)]]
    lines.append(["---"] * len(lines[0]))
    for cell in CELLS:
        for H in hidden:
            torch.manual_seed(0)
            layer = elman.Stack(H, H, cell_type=cells.by_name(cell), executor="native").eval()
            exported = [make(layer, torch.randn(T, B, H), folder) for make in RUNTIMES.values()]
            times = medians([one.call for one in exported], seconds)
            lines.append([cell, str(H), *(f"{1e6 * time:.1f}" for time in times), *(str(one.size) for one in exported)])
            print(" ".join(lines[-1]), flush=True)
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--seconds", type=float, default=0.5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    about = f"One thread, {machine()['cpu']}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    text = [
        "# Exported layers",
        "",
        f"`python benchmarks/export.py`. {about}. The size of elman is that of the weights.",
    ]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for T, B, title in (1, 1, "One step of a stream"), (100, 1, "100 steps"), (100, 16, "100 steps, batch of 16"):
            text += ["", f"## {title}", "", *table(T, B, asked.hidden, asked.seconds, Path(folder))]
    RESULTS.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
