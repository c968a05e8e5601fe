"""What it costs to look at the gradient: `python benchmarks/flow.py --threads 2`.

The backward pass of a layer on the native executor, of the same graph, alone and within `elman.flow.record`, in turns
as in `elman bench`. In the last column with the norms of what arrives at every state.
"""

from collections.abc import Callable

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
    """Functions to time: the gradients of the parameters, alone, recorded, and with the norms."""
    T, B, D, H = shape
    torch.manual_seed(0)
    outputs, _ = layer(torch.randn(T, B, D))
    dy = torch.randn(T, B, H)

    def alone() -> list[Tensor]:
        return list(torch.autograd.grad(outputs, [*layer.parameters()], dy, retain_graph=True))

    def recorded() -> list[Tensor]:
        with flow.record(layer):
            return alone()

    def with_norms() -> list[Tensor]:
        with flow.record(layer) as found:
            gradients = alone()
        assert found.state_gradients
        return gradients

    return [alone, recorded, with_norms]


def main() -> None:
    """Print a table."""
    asked = arguments(__doc__, SHAPES, seconds=2.0).parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{'layer':6} {'T,B,D,H':>15} {'backward ms':>12} {'recorded':>9} {'with norms':>11}")
    for name, make in LAYERS.items():
        for shape in asked.shapes:
            functions = sides(make(shape[2], shape[3], executor="native"), shape)
            for a, b in zip(functions[0](), functions[1](), strict=True):
                if not torch.equal(a, b):
                    raise SystemExit(f"{name} {shape}: the gradients differ where they are recorded")
            alone, recorded, norms = medians(functions, asked.seconds)
            print(
                f"{name:6} {shape!s:>15} {1e3 * alone:12.2f} {recorded / alone:9.2f} {norms / alone:11.2f}", flush=True
            )
    print(f"{asked.threads} threads; {machine()['cpu']}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
