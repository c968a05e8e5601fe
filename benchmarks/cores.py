"""The expected speed on more cores, by the cost model that chooses threads: `python benchmarks/cores.py`.

Arithmetic, not a measurement, except for the first columns: the time on one thread and on those that there are. The
model counts the loop over the steps alone. Products over all steps, before and after the loop, are shared by rows and
scale with the cores until memory is the limit.
"""

import argparse
from collections.abc import Callable

import torch
from torch import nn

import elman
from elman.bench.layers import medians
from elman.bench.run import machine
from elman.engine import CellSpec
from elman.engine.compiled.entry import plan_key
from elman.engine.cpu.backend import NATIVE, compiled_for
from elman.engine.cpu.invocation import loop_seconds

CORES = (2, 8, 16, 64)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    T, threads = options.steps, torch.get_num_threads()
    columns = "".join(f"{f'{count} cores':>16}" for count in CORES)
    print(f"{'layer':6} {'H':>5} {'B':>4} {'1 thread ms':>12} {f'{threads} threads':>10}{columns}")
    for name, constructor, cell_type in (("lstm", elman.LSTM, nn.LSTMCell), ("gru", elman.GRU, nn.GRUCell)):
        for H in (64, 256, 1024):
            for B in (1, 32, 256):
                layer, x = constructor(H, H, executor="native"), torch.randn(T, B, H)
                alone, together = medians([on(1, layer, x), on(threads, layer, x)], options.seconds)
                cell = cell_type(H, H)
                spec = CellSpec(cell, dict(cell.named_parameters()), H, (H, H) if name == "lstm" else H)
                key = plan_key(spec, x, NATIVE)
                assert key is not None
                compiled, fields = compiled_for(key, torch.float32), []
                for count in CORES:
                    one, rows, steps = loop_seconds(compiled.plan.inference, compiled.real, T, B, count)
                    best = min(one, rows, steps)
                    split = "alone" if best == one else "rows" if best == rows else "columns"
                    fields.append(f"{one / best:.1f} ({split})")
                measured = f"{alone * 1e3:12.3f} {alone / together:10.2f}"
                print(f"{name:6} {H:5} {B:4} {measured}{''.join(f'{field:>16}' for field in fields)}", flush=True)
    print(f"T={T}, D=H, forward; measured: 1 and {threads} threads of {machine()['cpu']}")


def on(threads: int, layer: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Return a function that runs a layer on some threads."""

    def run() -> None:
        torch.set_num_threads(threads)
        with torch.no_grad():
            layer(x)

    return run


if __name__ == "__main__":
    main()
