"""A stream step by step: `python benchmarks/step.py`. Needs onnx and onnxruntime.

`layer.step(x_t, state)` beside the compiled step by itself (the arithmetic, with nothing of Python around it), ONNX
Runtime with the states as inputs and outputs, and torch.nn called with sequences of one step. One thread; they take
turns as in `elman bench`. And the memory that a long stream has taken when it ends.
"""

import argparse
import resource
from collections.abc import Callable
from typing import Any

import onnxruntime
import torch
from onnx_stack import session

from elman.bench.layers import PAIRS, medians
from elman.bench.run import machine
from elman.engine import choose


def arithmetic(layer: Any, x: torch.Tensor, states: list[torch.Tensor]) -> Callable[[], None]:
    """The compiled step of every layer, again and again on the same memory."""
    cells, parameters, _ = layer._layer_inputs(x, states)
    specs = layer._cell_specs(cells, parameters)
    prepared: Any = choose(layer.executor, specs)[0].prepare(specs, x, layer._state_lead(), gradients=False)
    assert prepared is not None
    assert prepared.fits(parameters, x, states)
    results = prepared(None, x, states, parameters, (len(x), layer.output_size))

    def run(keep: Any = (x, states, results)) -> None:
        for loop in prepared._loops:
            loop.run(loop._once, loop._each, loop._moving)

    return run


def measure(cell: str, B: int, H: int, layers: int, seconds: float) -> tuple[list[float], int]:
    """Median seconds of a step, the arithmetic, ONNX Runtime and torch.nn; and what 100,000 steps have taken, in kB."""
    torch.manual_seed(0)
    pair = PAIRS[cell]
    ours: Any = pair.ours(H, H, layers)
    theirs = pair.theirs(H, H, layers)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(B, H)
    states = [torch.randn(layers, B, H) for _ in range(2 if cell == "lstm" else 1)]
    state: Any = tuple(states) if len(states) > 1 else states[0]
    run = session(cell, ours, 1, B, threads=1, with_states=True)
    feed = {"x": x[None].numpy()}
    for name, values in zip("hc", states, strict=False):
        feed |= {f"{name}{k}": values[k : k + 1].numpy() for k in range(layers)}
    x_1 = x[None]
    y, found = ours.step(x, state)[0], torch.from_numpy(run(feed)[0][0, 0])
    if not (error := float((y - found).abs().max())) < 5e-6:
        raise SystemExit(f"{cell}: the outputs differ by {error:.1e}")
    times = medians(
        [lambda: ours.step(x, state), arithmetic(ours, x, states), lambda: run(feed), lambda: theirs(x_1, state)],
        seconds,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100_000):
        _, state = ours.step(x, state)
    return times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


@torch.no_grad()
def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'layer':9} {'step us':>8} {'arithmetic us':>14} {'more':>6} {'ONNX Runtime us':>16} {'torch.nn us':>12} "
          f"{'kB more after 100,000':>22}")  # fmt: skip
    for cell in PAIRS:
        times, memory = measure(cell, asked.batch, asked.hidden, asked.layers, asked.seconds)
        a, b, c, d = (1e6 * t for t in times)
        print(f"{cell:9} {a:8.1f} {b:14.1f} {a - b:6.1f} {c:16.1f} {d:12.1f} {memory:22}", flush=True)
    sizes = f"B={asked.batch}, D=H={asked.hidden}, {asked.layers} layers"
    print(f"{sizes}, 1 thread; {machine()['cpu']}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
