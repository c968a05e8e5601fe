"""Speed of trainings on several processes, and on two hosts: `python benchmarks/distributed.py`.

Trains each model with one process and with two, as `elman train` does, on one and on two threads each, and reads the
time of a training step from metrics.csv. Trainings take turns, and the median counts. Every process has the same
batch, so two work on twice as much in a step.

`--hosts` adds trainings on two hosts: network namespaces of this machine, joined by a virtual cable with a given rate.
It needs root, and the commands ip and tc. Writes benchmarks/results/distributed.md.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from safetensors import safe_open

from elman.bench.run import machine

NAMESPACES = ("elman0", "elman1")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = 29500
RESULTS = Path(__file__).parent / "results" / "distributed.md"
MODELS = {
    "text, LSTM 256": (["text", "--batch", "32", "--bptt", "64", "--hidden", "256"], 0.5),
    "text, LSTM 512": (["text", "--batch", "32", "--bptt", "64", "--hidden", "512"], 0.15),
    "image, GRU 96": (["image", "--batch", "32"], 12.0),
}  # arguments of `elman train`, all with data that come with Python or scikit-learn; and epochs of one process


class Setup(NamedTuple):
    """How a model is trained."""

    processes: int
    threads: int
    cable: str = ""  # of two hosts: its rate

    def __str__(self) -> str:
        hosts = f", on two hosts: {self.cable}" if self.cable else ""
        return f"{self.processes} x {self.threads} thread{'s' * (self.threads > 1)}{hosts}"


def main() -> None:
    """Write a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--hosts", nargs="*", default=[], metavar="RATE", help="as tc names it: 1gbit")
    options = parser.parse_args()
    setups = [Setup(1, 1), Setup(1, 2), Setup(2, 1), *(Setup(2, 1, cable) for cable in options.hosts)]
    lines = [
        "# Training on several processes",
        "",
        f"`{' '.join(['python', 'benchmarks/distributed.py', *sys.argv[1:]])}`. {machine()['cpu']}, {os.cpu_count()} "
        f"CPUs; medians of {options.repeats} trainings each. Speed: batches in a second, beside one process.",
    ]
    for model in options.models:
        arguments, epochs = MODELS[model]
        times, size = defaultdict[Setup, list[float]](list), 0
        for _ in range(options.repeats):
            for setup in setups:
                seconds, size = train(arguments, epochs * setup.processes, setup)
                times[setup].append(seconds)
        lines += ["", f"## {model}", "", f"{size:,} bytes of gradients.", ""]
        lines += ["| processes x threads | a step, ms | batches/s | speed |", "|---|---|---|---|"]
        base = median(times[setups[0]])
        for setup in setups:
            step = median(times[setup])
            rate = setup.processes / step
            lines.append(f"| {setup} | {step * 1e3:.1f} | {rate:.1f} | {rate * base:.2f} |")
            print(f"{model}: {lines[-1]}", flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


def train(arguments: Sequence[str], epochs: float, setup: Setup) -> tuple[float, int]:
    """Train once; return the seconds of a step and the bytes of the gradients."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "elman", "train", *arguments, "--accelerator", "cpu", "--out", str(run)]
        command += ["--epochs", str(epochs)]
        environment = os.environ | {"OMP_NUM_THREADS": str(setup.threads)}
        if not setup.cable:
            start([*command, "--devices", str(setup.processes)], environment).wait_or_fail()
            return seconds_per_step(run), size_of(run)
        stack.enter_context(hosts(setup.cable))
        environment |= {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": str(PORT)}
        command += ["--nodes", "2"]
        nodes = [
            start(["ip", "netns", "exec", name, *command], environment | {"NODE_RANK": str(rank)})
            for rank, name in enumerate(NAMESPACES)
        ]
        for node in nodes:
            node.wait_or_fail()
        return seconds_per_step(run), size_of(run)


class Training(NamedTuple):
    """A training that runs."""

    process: "subprocess.Popen[str]"

    def wait_or_fail(self) -> None:
        _, err = self.process.communicate()
        if self.process.returncode:
            raise SystemExit(err)


def start(command: Sequence[str], environment: dict[str, str]) -> Training:
    """Start a training."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return Training(subprocess.Popen(command, env=environment, text=True, **pipes))  # type: ignore[call-overload]


def seconds_per_step(run: Path) -> float:
    """Return the median time of a step, from the times of the rows in metrics.csv; the first of them warm up."""
    with (run / "metrics.csv").open() as file:
        rows = [(int(row["step"]), float(row["seconds"])) for row in csv.DictReader(file) if row["seconds"]]
    rows = rows[len(rows) // 4 :]
    return median((end[1] - begin[1]) / (end[0] - begin[0]) for begin, end in pairwise(rows))


def size_of(run: Path) -> int:
    """Return the bytes of the weights of a run, which are those of their gradients."""
    with safe_open(run / "model.safetensors", "pt") as weights:
        return sum(weights.get_tensor(name).nbytes for name in weights.keys())  # noqa: SIM118 - it has no iterator


@contextmanager
def hosts(rate: str) -> Iterator[None]:
    """Make two network namespaces that are joined by a cable with a rate in each direction."""
    first, second = NAMESPACES
    with ExitStack() as stack:
        for name in NAMESPACES:
            run_command("ip", "netns", "add", name)
            stack.callback(run_command, "ip", "netns", "delete", name)
        run_command(
            "ip", "link", "add", "elman-a", "netns", first, "type", "veth", "peer", "name", "elman-b", "netns", second
        )
        for name, link, address in zip(NAMESPACES, ("elman-a", "elman-b"), ADDRESSES, strict=True):
            run_command("ip", "-n", name, "address", "add", f"{address}/24", "dev", link)
            for device in ("lo", link):
                run_command("ip", "-n", name, "link", "set", device, "up")
            limit = ["tbf", "rate", rate, "burst", "256kb", "latency", "100ms"]
            run_command("tc", "-n", name, "qdisc", "add", "dev", link, "root", *limit)
        yield


def run_command(*words: str) -> None:
    """Run a command."""
    subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
