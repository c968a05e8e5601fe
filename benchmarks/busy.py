"""Training speed beside a busy process: `python benchmarks/busy.py`.

Measures a training step (forward, backward, AdamW) of an LSTM with H = 384, B = 16, T = 64, and whole trainings by the
command line, alternately alone and beside one process that never sleeps. On two cores, the fair share of two threads
beside that process is two thirds of their speed. Each figure is a median.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from elman.bench.run import machine

POLICIES = {
    "as torch sets it": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=2000": {"GOMP_SPINCOUNT": "2000"},
}
H, B, T = 384, 16, 64
TRAININGS = {
    "train image": ["image", "--epochs", "20"],
    "train text": ["text", "--epochs", "1"],
}


def steps(library: str, seconds: float) -> float:
    """Tokens per second of a training step, in this process."""
    import torch

    import elman

    layer = (elman.LSTM if library == "elman" else torch.nn.LSTM)(H, H)
    optimizer, x = torch.optim.AdamW(layer.parameters()), torch.randn(T, B, H)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        optimizer.zero_grad()
        layer(x)[0].square().mean().backward()
        optimizer.step()
        times.append(time.perf_counter() - before)
    # The mean: what a neighbour takes comes in pieces, which a median of single steps may miss.
    return T * B * len(times[2:]) / sum(times[2:])


def child(environment: dict[str, str], library: str, threads: int, seconds: float) -> float:
    """`steps` in a process of its own."""
    arguments = [sys.executable, __file__, "--child", library, "--seconds", str(seconds)]
    environment = os.environ | environment | {"OMP_NUM_THREADS": str(threads)}
    output = subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout
    return float(output)


COMMAND = {"GOMP_SPINCOUNT=2000, as elman sets it": {}, "as torch sets it": {"GOMP_SPINCOUNT": "300000"}}


def training(arguments: list[str], environment: dict[str, str]) -> float:
    """Trainings per second, by the command line."""
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter()
        command = [sys.executable, "-m", "elman", "train", *arguments, "--out", f"{folder}/run"]
        subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
        return 1 / (time.perf_counter() - before)


@contextmanager
def neighbour() -> Iterator[None]:
    """Another process computes, within."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def pair(measure: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Alone and with a neighbour, in turns: medians."""
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(measure())
        with neighbour():
            beside.append(measure())
    return statistics.median(alone), statistics.median(beside)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        print(steps(options.child, options.seconds))
        return
    print(f"python benchmarks/busy.py --seconds {options.seconds:g} --rounds {options.rounds}")
    print(f"{os.cpu_count()} cores; {machine()['cpu']}, torch {machine()['torch']}")
    print(f"\nLSTM, H={H}, B={B}, T={T}, whole training step, tokens per second\n")
    print(f"{'':<7} {'wait policy':<25} {'threads':>7} {'alone':>9} {'beside':>9} {'kept':>6}")
    for library in ("elman", "torch"):
        for policy, environment in POLICIES.items():
            for threads in (1, 2):
                measure = partial(child, environment, library, threads, options.seconds)
                alone, beside = pair(measure, options.rounds)
                print(
                    f"{library:<7} {policy:<25} {threads:>7} {alone:>9.0f} {beside:>9.0f} {beside / alone:>6.0%}",
                    flush=True,
                )
    print("\nWhole trainings by the command line, seconds, on all cores\n")
    print(f"{'':<13} {'waiting threads':<36} {'alone':>9} {'beside':>9} {'kept':>6}")
    for name, arguments in TRAININGS.items():
        for policy, environment in COMMAND.items():
            alone, beside = pair(partial(training, arguments, environment), options.rounds)
            print(f"{name:<13} {policy:<36} {1 / alone:>9.1f} {1 / beside:>9.1f} {beside / alone:>6.0%}", flush=True)


if __name__ == "__main__":
    main()
