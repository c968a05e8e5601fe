"""Errors of bfloat16 against float64: `python benchmarks/bfloat16.py` prints the table of docs/numerics.md.

The largest error of any entry, relative to the largest entry, over all shapes; of gradients, the worst of all.
`python benchmarks/bfloat16.py times` prints times, forward and backward, in times those of float32.
"""

import sys
import time
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from elman.bench.layers import PAIRS, Shape, medians

SHAPES = [
    Shape(*sizes)
    for sizes in (
        (28, 64, 28, 128), (128, 1, 64, 64), (128, 16, 64, 64), (128, 32, 128, 128), (64, 32, 128, 256),
        (200, 32, 64, 128), (128, 32, 256, 256),
    )
]  # fmt: skip


def results(layer: nn.Module, x: Tensor, dy: Tensor, autocast: bool = False) -> list[Tensor]:
    """The outputs, and the gradients of x and of every parameter."""
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs: Tensor = layer(x)[0]
    return [outputs.detach(), *torch.autograd.grad(outputs, [x, *layer.parameters()], dy.to(outputs.dtype))]


def errors(cell: str, shape: Shape) -> dict[str, list[float]]:
    """The errors of every value, of elman in bfloat16 and under autocast and of torch.nn."""
    torch.manual_seed(0)
    T, B, D, H = shape
    ours, theirs = PAIRS[cell].ours(D, H, executor="native").bfloat16(), PAIRS[cell].theirs(D, H).bfloat16()
    theirs.load_state_dict(ours.state_dict())
    x, dy = torch.randn(T, B, D).bfloat16(), torch.randn(T, B, H).bfloat16()
    exact = results(deepcopy(theirs).double(), x.double(), dy.double())
    computed = {
        "elman": results(ours, x, dy),
        "elman under autocast": results(deepcopy(ours).float(), x.float(), dy, autocast=True),
        "torch.nn": results(theirs, x, dy),
    }
    return {
        name: [float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(values, exact, strict=True)]
        for name, values in computed.items()
    }


TIMED = (Shape(128, 1, 64, 64), Shape(128, 16, 64, 64), Shape(64, 32, 128, 256), Shape(48, 48, 256, 384))


def times(cell: str, shape: Shape) -> str:
    """Return the processor times of a layer in bfloat16 and under autocast, in times that of float32."""
    T, B, D, H = shape
    layer, x, dy = PAIRS[cell].ours(D, H, executor="native"), torch.randn(T, B, D), torch.randn(T, B, H)
    half = deepcopy(layer).bfloat16()
    calls = [
        partial(results, layer, x, dy),
        partial(results, half, x.bfloat16(), dy),
        partial(results, layer, x, dy, autocast=True),
    ]
    single, in_half, cast = medians(calls, 2.0, clock=time.process_time)
    return f"{cell:9} {shape!s:15} bfloat16 {in_half / single:.2f}, autocast {cast / single:.2f}"


def main() -> None:
    """Print the largest errors of each cell, or the times."""
    if sys.argv[1:] == ["times"]:
        torch.set_num_threads(1)
        for cell in ("lstm", "gru"):
            for shape in TIMED:
                print(times(cell, shape), flush=True)
        return
    for cell in ("lstm", "gru", "rnn-tanh"):
        by_shape = [errors(cell, shape) for shape in SHAPES]
        for name in by_shape[0]:
            outputs = max(found[name][0] for found in by_shape)
            gradients = max(error for found in by_shape for error in found[name][1:])
            print(f"{cell:9} {name:21} outputs {outputs:.4f}, gradients {gradients:.4f}")


if __name__ == "__main__":
    main()
