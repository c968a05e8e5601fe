"""Music as a picture: what sounds, over time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.midi import Notes
from elman.io.files import write_figure

QUARTERS = 64  # that are drawn
OCTAVE = 12


def draw(path: Path, grid: int, piece: Notes, name: str, nats: Mapping[str, NDArray[Any]], written: Notes) -> None:
    """A piece, how many nats it took to tell, and a piece that was written.

    Args:
        path: of the PNG.
        grid: steps to a quarter note.
        piece: one of the test part.
        name: of it.
        nats: of each of its steps (T,), by who has told it.
        written: what the network has written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), dpi=120, layout="constrained")
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.3, 3))
    both = [_shown(piece, grid), _shown(written, grid)]
    pitches = np.concatenate([notes[:, 0] for notes in both]).astype(int)
    low, high = (pitches.min(), pitches.max()) if len(pitches) else (60, 72)
    for axes, notes, title in ((above, both[0], name), (below, both[1], "written by the network")):
        axes.barh(
            notes[:, 0], notes[:, 2] - notes[:, 1], 0.8, notes[:, 1], color="C0", edgecolor="white", linewidth=0.6
        )
        octaves = range(low // OCTAVE * OCTAVE, high + OCTAVE, OCTAVE)
        axes.set_yticks(octaves, [f"C{pitch // OCTAVE - 1}" for pitch in octaves])
        axes.set_ylim(low - 1.5, high + 1.5)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    for i, (who, values) in enumerate(nats.items()):
        shown = values[: QUARTERS * grid]
        label = f"{who}, {values.sum():,.0f} in all"
        middle.stairs(shown, np.arange(len(shown) + 1) / grid, color=("C0", "C1")[i % 2], label=label, zorder=3 - i)
    middle.set_ylabel("nats", fontsize=9)
    most = max((values[: QUARTERS * grid].max(initial=1) for values in nats.values()), default=1)
    middle.set_ylim(0, 1.35 * most)  # room for the legend
    middle.legend(fontsize=8, loc="upper right", ncols=2)
    middle.grid(alpha=0.3)
    below.set_xlabel("quarter notes")
    below.set_xlim(0, min(QUARTERS, max(piece.steps, written.steps, 1) / grid))
    write_figure(path, figure)


def _shown(piece: Notes, grid: int) -> NDArray[np.float64]:
    """Its notes, in quarter notes, as far as they are drawn."""
    notes = piece.notes[piece.notes[:, 1] < QUARTERS * grid].astype(float)
    notes[:, 1:] = np.minimum(notes[:, 1:] / grid, QUARTERS)
    return notes
