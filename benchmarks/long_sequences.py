"""Time and memory of the gradient modes on long sequences: `python benchmarks/long_sequences.py --threads 1`.

An LSTM, B = 4, D = 8, H = 128, forward and backward, for three losses: on the state after the last step; on all outputs
(the mean of their squares); and on a readout of ten classes within the cell, whose outputs are these (cross-entropy at
every step). Times are medians of runs in turns in one process. Memory is the peak of a process of its own above what it
had before the call, with all that the loss itself needs. Draws results/long-sequences.png.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import matplotlib as mpl
import torch
from memory import forget_peak, peak, resident
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import elman
from elman.bench.run import machine
from elman.bptt import Checkpointed, Full, Truncated

mpl.use("Agg")
from matplotlib import pyplot as plt

B, D, H, CLASSES = 4, 8, 128, 10
LENGTHS = (1_000, 3_000, 10_000, 30_000, 100_000)
MODES = {repr(mode): mode for mode in (Full(), Checkpointed(), Truncated(100), Truncated(50, 100))}
FULL, *_ = MODES


class Tagger(nn.Module):
    """An LSTM whose output is a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.readout = elman.cells.LSTM(D, H), nn.Linear(H, CLASSES)
        self.input_size, self.state_size = D, (H, H)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = self.cell(x, state)
        return self.readout(h), (h, c)


def last_state(layer: nn.Module, x: Tensor) -> None:
    """A loss on the state after the last step."""
    layer(x)[1][0].sum().backward()


def all_outputs(layer: nn.Module, x: Tensor) -> None:
    """A loss on all outputs."""
    layer(x)[0].square().mean().backward()


def readout(layer: nn.Module, x: Tensor) -> None:
    """A loss on ten classes at every step."""
    logits = layer(x)[0]
    cross_entropy(logits.flatten(0, 1), torch.zeros(logits.shape[:2], dtype=torch.long).flatten()).backward()


Loss = Callable[[nn.Module, Tensor], None]
LOSSES: dict[str, tuple[Loss, Callable[[], nn.Module]]] = {
    "last state": (last_state, lambda: elman.LSTM(D, H)),
    "all outputs": (all_outputs, lambda: elman.LSTM(D, H)),
    "readout": (readout, lambda: elman.Recurrent(Tagger())),
}


def problem(loss: str, mode: str, T: int) -> Callable[[], None]:
    """A call of a layer and its backward step; all code is compiled, and x is there."""
    torch.manual_seed(0)
    run, build = LOSSES[loss]
    layer = build()
    layer.bptt = MODES[mode]  # type: ignore[assignment]
    run(layer, torch.randn(300, B, D))
    layer.zero_grad()
    x = torch.randn(T, B, D)
    return lambda: run(layer, x)


def highest(loss: str, mode: str, T: int) -> float:
    """Megabytes at the peak, of a process of its own."""
    command = [sys.executable, __file__, "--threads", str(torch.get_num_threads()), "--peak", loss, mode, str(T)]
    found: float = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def measure_peak(loss: str, mode: str, T: int) -> None:
    """Print the megabytes that this process had more at the peak than before."""
    run = problem(loss, mode, T)
    forget_peak()
    before = resident()
    run()
    print((peak() - before) / 1e6)


def times(loss: str, T: int, rounds: int) -> dict[str, float]:
    """Median microseconds a step of each mode."""
    runs = {mode: problem(loss, mode, T) for mode in MODES}
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode, run in runs.items():
            start = perf_counter()
            run()
            found[mode].append(perf_counter() - start)
    return {mode: median(seconds) / T * 1e6 for mode, seconds in found.items()}


def draw(rows: list[tuple[str, str, int, float, float]]) -> None:
    """The picture: a row of times and one of peaks, a column for each loss."""
    figure, axes = plt.subplots(2, len(LOSSES), figsize=(12, 6.5), sharex=True, sharey="row")
    for column, loss in zip(axes.T, LOSSES, strict=True):
        for mode in MODES:
            own = [(T, us, mb) for name, of, T, us, mb in rows if (name, of) == (loss, mode)]
            lengths, us, mb = zip(*own, strict=True)
            column[0].plot(lengths, us, marker="o", ms=3, label=mode)
            column[1].plot(lengths, mb, marker="o", ms=3, label=mode)
        column[0].set_title(f"loss: {loss}", fontsize=11)
        column[1].set(xscale="log", yscale="log", xlabel="T (steps)")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel("forward and backward, µs per step")
    axes[1, 0].set_ylabel("peak memory of the call (MB)")
    axes[1, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(Path(__file__).parent / "results" / "long-sequences.png", dpi=110)


def main() -> None:
    """Print a table and draw it, or measure one peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", nargs=3, metavar=("LOSS", "MODE", "T"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.peak:
        loss, mode, T = asked.peak
        return measure_peak(loss, mode, int(T))
    rows = []
    print(f"{'loss':11} {'mode':42} {'T':>7} {'us a step':>9} {'of Full':>7} {'peak MB':>8} {'of Full':>7}")
    for loss in LOSSES:
        for T in LENGTHS:
            us, mb = times(loss, T, asked.rounds), {mode: highest(loss, mode, T) for mode in MODES}
            for mode in MODES:
                rows.append((loss, mode, T, us[mode], mb[mode]))
                print(f"{loss:11} {mode:42} {T:7} {us[mode]:9.2f} {us[mode] / us[FULL]:7.2f} {mb[mode]:8.1f} "
                      f"{mb[mode] / mb[FULL]:7.1%}", flush=True)  # fmt: skip
    print(f"B = {B}, D = {D}, H = {H}, float32; {asked.threads} threads; {machine()['cpu']}, torch {torch.__version__}")
    return draw(rows)


if __name__ == "__main__":
    main()
