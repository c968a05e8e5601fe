"""Memory and time of trainings on streamed data: `python benchmarks/large_data.py [--gigabytes 4]`.

Data sets of random words are written as Parquet, in files of 50 MB of text with row groups of 5,000 rows. For each size
and task, a process trains for 50 steps of `elman train TASK --stream`, after the pass over all rows, and reads its peak
of resident memory. The last row is the same without --stream. Writes benchmarks/results/large_data.md.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from elman.bench.run import machine

RESULTS = Path(__file__).parent / "results" / "large_data.md"
FILE_ROWS, ROW_GROUP, WORDS = 50_000, 5_000, 140
STEPS = 50
OPTIONS = {
    "classify": ["--hidden", "32", "--embed", "32", "--batch", "32"],
    "text": ["--hidden", "64", "--batch", "16"],
}
PEAK = """
import resource, sys, time
from elman.cli import run
assert run(sys.argv[1:]) == 0
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
READ = """
import sys, time
from pathlib import Path
from elman.tasks.registry import get_task, options_of
task, data = sys.argv[1:]
import sklearn.feature_extraction.text, torch
began = time.monotonic()
prepared = get_task(task).prepare([Path(data)], options_of(task).OPTIONS(stream=True), 0)
print("pass", time.monotonic() - began)
began, batches = time.monotonic(), min(len(prepared.train), 1000)
for i in range(batches):
    prepared.train[i]
print("batches", (time.monotonic() - began) / batches)
print("length", len(prepared.train))
"""


def write(folder: Path, texts: int) -> int:
    """Write random texts of three labels, and return the size of all texts in bytes."""
    folder.mkdir()
    rng, size = np.random.default_rng(0), 0
    vocabulary = np.array([f"word{i}" for i in range(20_000)])
    for begin in range(0, texts, FILE_ROWS):
        count = min(FILE_ROWS, texts - begin)
        rows = [" ".join(row) for row in vocabulary[(20_000 * rng.random((count, WORDS)) ** 3).astype(int)]]
        size += sum(map(len, rows))
        table = pa.table({"text": rows, "label": [f"label {i % 3}" for i in range(count)]})
        pq.write_table(table, folder / f"{begin:09}.parquet", row_group_size=ROW_GROUP)
    return size


def called(program: str, *arguments: object) -> str:
    """Run a program in a process of its own, and return what it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def number(name: str, printed: str) -> float:
    """Return a number that a program has printed behind a name."""
    match = re.search(rf"^{name} (\S+)$", printed, re.MULTILINE)
    assert match, printed
    return float(match[1])


class Measured(NamedTuple):
    """A row of the table."""

    task: str
    size: int  # of the texts, in bytes
    peak: float  # bytes
    before: float  # seconds before training
    batch: float  # seconds in which a batch is read and encoded

    def __str__(self) -> str:
        size, peak = f"{self.size / 1e9:.2f} GB", f"{self.peak / 1e6:,.0f} MB"
        return f"| {self.task} | {size} | {peak} | {self.before:.1f} s | {1000 * self.batch:.1f} ms |"


def measured(task: str, data: Path, size: int, out: Path) -> Measured:
    """Measure a task on a data set."""
    printed = called(READ, task, data)
    epochs = STEPS / int(number("length", printed))
    peak = called(PEAK, "train", task, data, "--stream", "--epochs", epochs, "--out", out, *OPTIONS[task])
    return Measured(task, size, number("peak", peak), number("pass", printed), number("batches", printed))


def rate(rows: list[Measured]) -> str:
    """Return at which rate a task reads rows before training: what is fitted on a sample takes the same time always."""
    first, last = rows[0], rows[-1]
    return f"{(last.size - first.size) / (last.before - first.before) / 1e6:.0f} MB/s for {first.task}"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the largest data set")
    gigabytes, rows = parser.parse_args().gigabytes, list[Measured]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for share in (16, 4, 1):
            data = folder / f"data-{share}"
            size = write(data, int(gigabytes * 1e9 / share / (WORDS * 8.8)))
            for task in OPTIONS:
                rows.append(measured(task, data, size, folder / f"{task}-{share}"))
                print(rows[-1], flush=True)
        whole = folder / "whole.parquet"
        pq.write_table(pq.read_table(folder / "data-4"), whole)
        command = ["train", "classify", whole, "--epochs", 0.01, "--out", folder / "whole", *OPTIONS["classify"]]
        peak = number("peak", called(PEAK, *command))
    whole_row = f"| classify, without --stream | {gigabytes / 4:.2f} GB | {peak / 1e6:,.0f} MB | | |"
    rates = [rate([row for row in rows if row.task == task]) for task in OPTIONS]
    about = machine()
    RESULTS.write_text(
        "# Streamed data\n\n"
        f"`python benchmarks/large_data.py --gigabytes {gigabytes:g}`, on {about['cores']} cores of {about['cpu']},\n"
        f"torch {about['torch']}, {time.strftime('%Y-%m-%d')}. Random texts of {WORDS} words in Parquet files, row\n"
        f"groups of {ROW_GROUP:,} rows. Peak memory is that of a training of {STEPS} steps, torch and all other\n"
        "libraries included. Before training, all rows are read once, and what a task fits is fitted on a sample; the\n"
        "last column is the time in which the next batch is read and encoded.\n\n"
        "| task | data | peak memory | before training | reading a batch |\n|---|---|---|---|---|\n"
        + "\n".join([*map(str, rows), whole_row])
        + f"\n\nFrom the smallest to the largest data, one process reads {' and '.join(rates)} before training.\n"
    )


if __name__ == "__main__":
    main()
