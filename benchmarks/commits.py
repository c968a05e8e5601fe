"""Compare the speed of two checkouts: `python benchmarks/commits.py OLD NEW`.

For each pair of fresh processes, one for each checkout, the layers of `elman bench` run in turns: forward without
autograd, and forward and backward. A ratio is the time of OLD divided by that of NEW; each row has the median of the
pairs and their range, since two processes differ by some percent from the layout of memory alone.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

WORKER = """
import json, sys, time
from statistics import median
checkout, threads = sys.argv[1:]
sys.path.insert(0, checkout)
import torch
torch.set_num_threads(int(threads))
import elman
assert elman.__file__.startswith(checkout), elman.__file__
CELLS = {"lstm": (elman.LSTM, {}), "gru": (elman.GRU, {}), "rnn-tanh": (elman.RNN, {}),
         "rnn-relu": (elman.RNN, {"nonlinearity": "relu"})}
key = None
for line in sys.stdin:
    cell, shape, backward, seconds = json.loads(line)
    if key != (cell, shape):
        key, (T, B, D, H) = (cell, shape), shape
        torch.manual_seed(0)
        constructor, options = CELLS[cell]
        layer = constructor(D, H, executor="native", **options)
        x, dy = torch.randn(T, B, D, requires_grad=True), torch.randn(T, B, H)
    def forward():
        with torch.no_grad():
            layer(x)
    def both():
        layer.zero_grad()
        x.grad = None
        layer(x)[0].backward(dy)
    run = both if backward else forward
    run(), run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or not times:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    print(median(times), flush=True)
"""
CELLS = ("lstm", "gru", "rnn-tanh", "rnn-relu")
SHAPES = "128,1,64,64 128,1,256,256"
Row = tuple[str, tuple[int, ...], bool]


def compare(checkouts: Sequence[Path], threads: int, shapes: Sequence[tuple[int, ...]], turns: int) -> dict[Row, float]:
    """Return the time of the first checkout divided by that of the second for each row, from one pair of processes."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    workers = {
        checkout: subprocess.Popen(
            [sys.executable, "-c", WORKER, str(checkout), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for checkout in checkouts
    }  # fmt: skip

    def seconds(checkout: Path, *work: Any) -> float:
        worker = workers[checkout]
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(work) + "\n")
        worker.stdin.flush()
        return float(worker.stdout.readline())

    ratios = {}
    first, second = checkouts
    for row in ((cell, shape, backward) for cell in CELLS for shape in shapes for backward in (False, True)):
        for checkout in checkouts:
            seconds(checkout, *row, 0.05)  # compiles
        measured = [(seconds(first, *row, 0.06), seconds(second, *row, 0.06)) for _ in range(turns)]
        ratios[row] = median(a / b for a, b in measured)
    for worker in workers.values():
        worker.communicate()
    return ratios


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--shapes", default=SHAPES, help='"T,B,D,H ..."')
    asked = parser.parse_args()
    old, new = asked.old.resolve(), asked.new.resolve()
    shapes = [tuple(map(int, shape.split(","))) for shape in asked.shapes.split()]
    pairs = []
    for k in range(asked.pairs):
        if k % 2 == 0:
            pairs.append(compare((old, new), asked.threads, shapes, asked.turns))
        else:  # the process that starts first may find the better memory
            inverse = compare((new, old), asked.threads, shapes, asked.turns)
            pairs.append({row: 1 / ratio for row, ratio in inverse.items()})
    print(f"{'layer':9} {'T,B,D,H':>14} {'forward':>26} {'forward and backward':>26}")
    for cell in CELLS:
        for shape in shapes:
            cells = []
            for backward in (False, True):
                values = sorted(pair[cell, shape, backward] for pair in pairs)
                cells.append(f"{median(values):.3f} ({values[0]:.3f} to {values[-1]:.3f})")
            print(f"{cell:9} {','.join(map(str, shape)):>14} {cells[0]:>26} {cells[1]:>26}")
    for backward in (False, True):
        logs = [log(median(pair[row] for pair in pairs)) for row in pairs[0] if row[2] is backward]
        print(f"geometric mean, {'forward and backward' if backward else 'forward'}: {exp(sum(logs) / len(logs)):.3f}")
    print(f"{asked.threads} thread{'s' if asked.threads > 1 else ''}, {asked.pairs} pairs of processes")


if __name__ == "__main__":
    main()
