"""What it costs to see every state and gate: `python benchmarks/trajectory.py --threads 2`.

`layer.trajectory(x)` beside `layer(x)`: without a graph, with one, and with the backward step (of the outputs alone for
the call, of the outputs and of all gates for the trajectory). They take turns as in `elman bench`.
"""

import torch
from arguments import arguments
from torch import Tensor

import elman
from elman.bench.layers import Shape, medians
from elman.bench.run import machine

SHAPES = "128,16,64,64 128,32,128,128 128,32,256,256"


def times(layer: elman.Stack, shape: Shape, seconds: float) -> list[float]:
    """Median seconds of a call and of a trajectory: without a graph, with one, and both ways."""
    x = torch.randn(*shape[:3])

    def call() -> Tensor:
        outputs: Tensor = layer(x)[0]
        return outputs.sum()

    def seen() -> Tensor:
        found = layer.trajectory(x)
        total: Tensor = found.outputs.sum()
        return total + sum(value.sum() for value in found.named.values())

    with torch.no_grad():
        found = medians([lambda: layer(x), lambda: layer.trajectory(x)], seconds)
    found += medians([lambda: layer(x), lambda: layer.trajectory(x)], seconds)
    return found + medians([lambda: call().backward(), lambda: seen().backward()], seconds)


def main() -> None:
    """Print a table."""
    asked = arguments(__doc__, SHAPES, seconds=0.5).parse_args()
    torch.set_num_threads(asked.threads)
    seen = f"{'seen':>7} {'cost':>5}"
    print(f"{'layer':6} {'T,B,D,H':>16} {'call ms':>8} {seen} {'with graph':>11} {seen} {'both ms':>8} {seen}")
    for kind in (elman.LSTM, elman.GRU):
        for shape in asked.shapes:
            torch.manual_seed(0)
            a, b, c, d, e, f = (1e3 * t for t in times(kind(shape.D, shape.H), shape, asked.seconds))
            print(f"{kind.__name__:6} {shape!s:>16} {a:8.2f} {b:7.2f} {b / a:5.2f} {c:11.2f} {d:7.2f} {d / c:5.2f} "
                  f"{e:8.2f} {f:7.2f} {f / e:5.2f}", flush=True)  # fmt: skip
    print(f"{asked.threads} threads; {machine()['cpu']}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
