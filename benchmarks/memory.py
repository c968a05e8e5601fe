"""What the backward pass needs kept, and the peak of memory: `python benchmarks/memory.py`.

Saved is what autograd holds on to, each piece of memory once, without x and the parameters (of what oneDNN asks for,
parts are never touched). The others are of a process of its own: the growth of its resident memory from before the
forward pass until after it, while its results live (with what has been freed and not yet been given back to the
system), and until the peak of forward and backward.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch

from elman.bench.layers import PAIRS, SHAPES, Shape, flops, parse

PAGE = 4096
FIGURES = ("saved", "kept", "peak")
WIDTH = 15


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def peak() -> int:
    """Bytes of this process in memory at most so far, since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak() -> None:
    """Begin anew to watch for the peak."""
    Path("/proc/self/clear_refs").write_text("5")


def saved(layer: torch.nn.Module, x: torch.Tensor) -> int:
    """Bytes that autograd keeps of the forward pass, beside what was there before it."""
    pieces: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        pieces[memory.data_ptr()] = memory.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        results = layer(x)
    for there in (x, *layer.parameters()):
        pieces.pop(there.untyped_storage().data_ptr(), None)
    del results
    return sum(pieces.values())


def measure(which: str, cell: str, shape: Shape) -> None:
    """Print the bytes saved, and of this process those kept and the peak."""
    pair = PAIRS[cell]
    layer = (pair.ours if which == "elman" else pair.theirs)(shape.D, shape.H)
    small = torch.randn(2, shape.B, shape.D, requires_grad=True)
    layer(small)[0].sum().backward()  # code is compiled and libraries have set up what they keep
    x, dy = torch.randn(*shape[:3], requires_grad=True), torch.randn(shape.T, shape.B, shape.H)
    for parameter in layer.parameters():
        parameter.grad = None
    forget_peak()
    before = resident()
    outputs = layer(x)
    kept = resident() - before
    outputs[0].backward(dy)
    highest = peak() - before
    print(json.dumps([saved(layer, x), kept, highest]))


def main() -> None:
    """Print a table."""
    shapes = parse(sys.argv[1]) if len(sys.argv) > 1 else [s for s in SHAPES if flops("lstm", s)[0] > 1e8]
    heads = [
        f"{what} MB: {whose}" if whose == "elman" else whose for what in FIGURES for whose in ("elman", "torch.nn")
    ]
    print(f"{'layer':9} {'T,B,D,H':>18} " + " ".join(f"{head:>{WIDTH}}" for head in heads))
    for cell in PAIRS:
        for shape in shapes:
            found = []
            for which in ("elman", "torch"):
                command = [sys.executable, __file__, "--one", which, cell, str(shape)]
                found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            figures = [figure / 1e6 for pair in zip(*found, strict=True) for figure in pair]
            print(f"{cell:9} {shape!s:>18} " + " ".join(f"{figure:{WIDTH}.1f}" for figure in figures), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], sys.argv[3], parse(sys.argv[4])[0])
    else:
        main()
