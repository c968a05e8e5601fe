"""Calls with sequences of one step beside torch.nn: `python benchmarks/one_step.py`.

As decoders and reinforcement learning make them: without gradients, and forward and backward. One thread; both take
turns in one process; a figure above 1 says that elman is faster.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch

from elman.bench.layers import PAIRS, medians
from elman.bench.run import machine


def calls(layer: Any, x: torch.Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """A call without gradients, and one with its backward pass."""

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        layer.zero_grad()
        layer(x)[0].sum().backward()

    return forward, both


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'layer':9} {'layers':>6} {'B':>4} {'forward us':>11} {'torch.nn us':>12} {'ratio':>6} "
          f"{'with backward us':>17} {'torch.nn us':>12} {'ratio':>6}")  # fmt: skip
    for cell, pair in PAIRS.items():
        for layers in (1, 2):
            ours, theirs = (make(asked.hidden, asked.hidden, layers) for make in (pair.ours, pair.theirs))
            theirs.load_state_dict(ours.state_dict())
            for B in (1, 8, 64):
                x = torch.randn(1, B, asked.hidden)
                torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-4, atol=1e-5)
                (f, g), (tf, tg) = calls(ours, x), calls(theirs, x)
                a, b = (1e6 * t for t in medians([f, tf], asked.seconds))
                c, d = (1e6 * t for t in medians([g, tg], asked.seconds))
                print(f"{cell:9} {layers:6} {B:4} {a:11.1f} {b:12.1f} {b / a:6.2f} {c:17.1f} {d:12.1f} {d / c:6.2f}",
                      flush=True)  # fmt: skip
    print(f"T=1, D=H={asked.hidden}, 1 thread; {machine()['cpu']}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
