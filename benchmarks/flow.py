"""What it costs to look at the gradient: `python benchmarks/flow.py --threads 2`.

The backward pass of a layer on the native executor, of the same graph, alone and within `elman.flow.record`, in turns
as in `elman bench`; with the norms of what arrives at every state; and, in the last two columns, with what is worked
out step by step when it is asked for: the norms of what each step contributes to the weights, and the credit of the
losses of eight steps. All are multiples of the backward pass alone.
"""

from collections.abc import Callable
from functools import partial

import torch
from arguments import arguments
from torch import Tensor

import elman
from elman import flow
from elman.bench.layers import Shape, medians
from elman.bench.run import machine

SHAPES = "128,1,256,256 128,16,64,64 128,32,128,128 128,32,256,256 64,64,512,512"
LAYERS: dict[str, Callable[..., elman.Stack]] = {"RNN": elman.RNN, "GRU": elman.GRU, "LSTM": elman.LSTM}


def sides(layer: elman.Stack, shape: Shape) -> list[Callable[[], list[Tensor]]]:
    """Functions to time: the gradients of the parameters, alone, recorded, with the norms, those of weights, credit."""
    T, B, D, H = shape
    torch.manual_seed(0)
    outputs, _ = layer(torch.randn(T, B, D))
    dy = torch.randn(T, B, H)

    def alone() -> list[Tensor]:
        return list(torch.autograd.grad(outputs, [*layer.parameters()], dy, retain_graph=True))

    def recorded(ask: Callable[[flow.Recording], object]) -> list[Tensor]:
        with flow.record(layer) as found:
            gradients = alone()
        ask(found)
        return gradients

    asked: list[Callable[[flow.Recording], object]] = [
        lambda found: None,
        lambda found: found.state_gradients,
        lambda found: found.weight_gradients,
        lambda found: found.credit(steps=8),
    ]
    return [alone, *(partial(recorded, ask) for ask in asked)]


def main() -> None:
    """Print a table."""
    asked = arguments(__doc__, SHAPES, seconds=2.0).parse_args()
    torch.set_num_threads(asked.threads)
    columns = f"{'recorded':>9} {'with norms':>11} {'weights':>8} {'credit':>7}"
    print(f"{'layer':6} {'T,B,D,H':>15} {'backward ms':>12} {columns}")
    for name, make in LAYERS.items():
        for shape in asked.shapes:
            functions = sides(make(shape[2], shape[3], executor="native"), shape)
            for a, b in zip(functions[0](), functions[1](), strict=True):
                if not torch.equal(a, b):
                    raise SystemExit(f"{name} {shape}: the gradients differ where they are recorded")
            alone, *others = medians(functions[:3], asked.seconds)
            recorded, norms, weights, credit = (t / alone for t in (*others, *medians(functions[3:], 0, least=1)))
            columns = f"{recorded:9.2f} {norms:11.2f} {weights:8.0f} {credit:7.0f}"
            print(f"{name:6} {shape!s:>15} {1e3 * alone:12.2f} {columns}", flush=True)
    print(f"{asked.threads} threads; {machine()['cpu']}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
