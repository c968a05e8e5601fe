"""How near linear recurrences come to the machine's memory: `python benchmarks/scan.py --threads 2`.

minGRU and minLSTM multiply no matrix in their loop: it is a scan, which reads what was made before it and writes the
states and what is kept. Bytes are those of all rows that the loop's stages read and write, whether memory or a cache
has them; the time is that of the loop alone, inside a call. Beside it stand copies by torch: of 256 MB, in memory that
is there, and of as many bytes, into new memory like that of the results.
"""

import argparse
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch

from elman import Recurrent, cells
from elman.bench.layers import Shape, parse
from elman.bench.run import machine
from elman.engine.compiled import plan_cache
from elman.engine.cpu.backend import NATIVE, compiled_for
from elman.engine.cpu.codegen import FUNCTIONS
from elman.engine.cpu.invocation import Invocation
from elman.engine.plan.ir import Pointwise, Program

CELLS = ("min_gru", "min_lstm")
SHAPES = "128,16,64,64 128,32,128,128 128,32,256,256 1024,32,256,256"
REPEATS = 15
LARGE = 256 * 2**20


def moved(program: Program) -> int:
    """How many numbers the stages of a loop read and write in each row of each step."""
    total = 0
    for stage in program.stages:
        assert isinstance(stage, Pointwise)
        columns = stage.heads * stage.width
        total += columns * (len(stage.loads()) + len(stage.stores))
    return total


def times(name: str, shape: Shape) -> dict[str, tuple[float, int]]:
    """Seconds and bytes of each loop."""
    layer = Recurrent(cells.by_name(name)(shape.D, shape.H), executor="native")
    x = torch.randn(*shape[:3], requires_grad=True)
    shapes = tuple((key, tuple(value.shape)) for key, value in layer.cell.named_parameters())
    planned = plan_cache.plan_for(layer.cell, shapes, shape.D, shape.H, NATIVE)
    native = compiled_for(planned.key, torch.float32)
    names = {address: name for loop in FUNCTIONS for name, address in native.functions[loop].items()}
    spent: dict[str, float] = {}
    run = Invocation.run

    def timed(call: Invocation, function: int) -> None:
        begin = perf_counter()
        run(call, function)
        spent[names[function]] = spent.get(names[function], 0.0) + perf_counter() - begin

    found: dict[str, list[float]] = {"inference": [], "forward": [], "backward": []}
    with patch.object(Invocation, "run", timed):
        for _ in range(2 + REPEATS):
            spent.clear()
            with torch.no_grad():
                layer(x)
            layer(x)[0].sum().backward()
            for loop in found:
                found[loop].append(spent[loop])
    plan = plan_cache.cached_plan(planned.key).plan
    rows = 4 * shape.T * shape.B
    return {loop: (median(all_[2:]), rows * moved(getattr(plan, loop))) for loop, all_ in found.items()}


def copy_bandwidth(size: int, new: bool) -> float:
    """Bytes read and written in a second by a copy that reads and writes `size` bytes in all."""
    a, b = torch.randn(size // 8), torch.empty(size // 8)
    found = []
    for _ in range(REPEATS):
        begin = perf_counter()
        a.clone() if new else b.copy_(a)
        found.append(perf_counter() - begin)
    return size / median(found)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--shapes", type=parse, default=parse(SHAPES))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(
        f"{'cell':9} {'T,B,D,H':>16} {'loop':>10} {'MB':>7} {'ms':>7} {'GB/s':>6} {'of 256 MB':>10} {'of as many':>10}"
    )
    for name in CELLS:
        for shape in asked.shapes:
            for loop, (seconds, size) in times(name, shape).items():
                large, same = copy_bandwidth(LARGE, False), copy_bandwidth(size, True)
                speed = size / seconds
                print(f"{name:9} {shape!s:>16} {loop:>10} {size / 1e6:7.1f} {seconds * 1e3:7.2f} {speed / 1e9:6.1f} "
                      f"{speed / large:10.2f} {speed / same:10.2f}", flush=True)  # fmt: skip
    print(f"medians of {REPEATS}; {asked.threads} threads; {machine()['cpu']}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
