"""How long the first use of a layer takes, in processes of their own: `python benchmarks/first_use.py [--shelf]`.

Once with nothing in the cache, then from the cache of the run before, then a second call and calls of other shapes in
the same process. Time to import torch and elman is not counted; planning, compiling or loading, and one forward and
backward pass at T = 4, B = 3 are.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median

from elman.bench.layers import PAIRS
from elman.bench.run import machine
from elman.cells import REGISTRY

SCRIPT = """
import json
import sys
import time
from functools import partial
import torch
import elman.cells
from elman.bench.layers import PAIRS
import elman.engine.cpu.backend  # with the rest of the engine, as torch is: not a part of what is timed
from elman.engine.cpu import jit

compilations = []
compile = jit.machine_code
jit.machine_code = lambda *given: compilations.append(1) or compile(*given)
name, D, H = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
build = PAIRS[name].ours if name in PAIRS else partial(elman.Stack, cell_type=elman.cells.by_name(name))
layer = build(D, H, executor="native")
times = []
for T, B in [(4, 3), (4, 3), (9, 5)]:
    x = torch.randn(T, B, D, requires_grad=True)
    begin = time.perf_counter()
    layer(x)[0].sum().backward()
    times.append((time.perf_counter() - begin, len(compilations)))
print(json.dumps(times))
"""
SIZES = ((64, 64), (256, 256), (1024, 1024))
REPEATS = 3


def times(cell: str, sizes: tuple[int, int], cache: str) -> list[tuple[float, int]]:
    """Of the first, the second and a third call in a new process: seconds, and how often the compiler has run."""
    given = [sys.executable, "-c", SCRIPT, cell, *map(str, sizes)]
    said = subprocess.run(given, env={**os.environ, "ELMAN_CACHE": cache}, capture_output=True, text=True, check=True)
    return [(seconds, count) for seconds, count in json.loads(said.stdout)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shelf", action="store_true", help="every cell of the shelf, at one size")
    shelf = parser.parse_args().shelf
    names, all_sizes = (list(REGISTRY), SIZES[1:2]) if shelf else (list(PAIRS), SIZES)
    print("Seconds, and milliseconds of calls after the first")
    print(f"{'layer':18} {'D, H':>12} {'compiled':>9} {'from disk':>10} {'second ms':>10} {'other T, B ms':>14}")
    for cell in names:
        for sizes in all_sizes:
            cold, warm = [], []
            for _ in range(REPEATS):
                with tempfile.TemporaryDirectory() as cache:
                    cold.append(times(cell, sizes, cache))
                    warm.append(times(cell, sizes, cache))
            if not all(0 < run[0][1] == run[2][1] for run in cold) or any(run[2][1] for run in warm):
                raise SystemExit(f"{cell} {sizes}: something was compiled again")
            first, second, third = (median(run[i][0] for run in warm) for i in range(3))
            print(
                f"{cell:18} {sizes!s:>12} {median(run[0][0] for run in cold):9.2f} {first:10.3f} "
                f"{second * 1e3:10.2f} {third * 1e3:14.2f}",
                flush=True,
            )
    print(f"medians of {REPEATS}; {machine()['cpu']}, torch {machine()['torch']}, llvmlite {machine()['llvmlite']}")


if __name__ == "__main__":
    main()
