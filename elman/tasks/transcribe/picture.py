"""A recording, and what the network heard at each step of it, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elman.data import filter_banks
from elman.data.validation import shortened
from elman.decoding.ctc import BLANK
from elman.io.files import write_figure
from elman.tasks.transcribe.prediction import TranscribePrediction

MOST = 120  # steps in a picture
LONG = 60  # characters of a title
HERTZ = (250, 500, 1000, 2000, 4000, 8000, 16000)


def choose(said: Sequence[TranscribePrediction], targets: Sequence[str]) -> int:
    """The number of a recording that fits into a picture: of those that are right the longest text."""
    sizes = [len(one.log_p) if one.log_p is not None else 0 for one in said]
    fit = [i for i, size in enumerate(sizes) if size <= MOST]
    if not fit:
        return int(np.argmin(sizes))
    return max(fit, key=lambda i: (said[i].text == targets[i], len(targets[i])))


def draw(
    path: Path, said: TranscribePrediction, target: str, frames: NDArray[np.float32], rate: int, characters: str
) -> None:
    """Above the sound, below how likely each symbol is at each step; the likeliest of each step is written there.

    Args:
        path: of the PNG.
        said: of a recording.
        target: what it should be.
        frames: log-mel energies (t, M).
        rate: samples a second.
        characters: those of the symbols, from 1.
    """
    from matplotlib.figure import Figure

    assert said.log_p is not None
    P, frames = np.exp(said.log_p[:MOST]), frames[: MOST * -(-len(frames) // len(said.log_p))]
    best = P.argmax(1)
    rows = [*dict.fromkeys(best[best != BLANK].tolist()), BLANK]
    names = ["blank" if k == BLANK else "space" if characters[k - 1] == " " else characters[k - 1] for k in rows]
    T, width = len(P), len(frames) * filter_banks.HOP
    figure = Figure(figsize=(max(6.5, min(0.16 * T, 18)), 2.6 + 0.26 * len(rows)), dpi=110, layout="constrained")
    sound, symbols = figure.subplots(2, 1, sharex=True, height_ratios=(8, len(rows)))
    edges = (0.0, width)
    sound.imshow(frames.T, origin="lower", aspect="auto", cmap="magma", extent=(*edges, -0.5, frames.shape[1] - 0.5))
    heard = [f for f in HERTZ if f <= rate / 2]
    sound.set_yticks([filter_banks.place(f, rate, frames.shape[1]) for f in heard], [f"{f / 1000:g}" for f in heard])
    sound.set_ylabel("kHz")
    sound.set_title(_title(said.text, target))
    shown = symbols.imshow(
        P[:, rows].T, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=(*edges, len(rows) - 0.5, -0.5)
    )
    symbols.set_yticks(range(len(rows)), names)
    for t, k in enumerate(best.tolist()):
        at, mark = (t + 0.5) * width / T, "·" if k == BLANK else names[rows.index(k)][:1]
        ink = "white" if P[t, k] > 0.5 else "black"
        symbols.text(at, rows.index(k), mark, ha="center", va="center", fontsize=9, color=ink)
    symbols.set(xlabel="seconds", ylabel="symbol")
    figure.colorbar(shown, ax=symbols, label="probability", aspect=10)
    write_figure(path, figure)


def _title(text: str, target: str) -> str:
    written = f"“{shortened(text, LONG)}”"
    return f"{written}, as it is said" if text == target else f"{written}, where it says “{shortened(target, LONG)}”"
