"""A picture of where a decoder looked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.validation import shortened
from elman.io.files import write_figure
from elman.tasks.text_output import TextPrediction

MOST = 18  # steps to a side, of the text that is shown

LARGEST = 8  # inches of an image that was read
LONGEST = 100  # steps to a side that are drawn of what is longer


def choose(said: Sequence[TextPrediction]) -> TextPrediction:
    """A text that fits into a picture: the first that is not long, or else the shortest."""
    sizes = [max(len(one.pieces), len(one.source)) for one in said if one.source is not None]
    return next(
        (one for one, size in zip(said, sizes, strict=True) if 5 <= size <= MOST), said[sizes.index(min(sizes))]
    )


def draw(path: Path, said: TextPrediction, read: Sequence[str] | NDArray[Any]) -> None:
    """How much of each step that was read went into each token that was written, as a map.

    Args:
        path: of the PNG.
        said: what was written.
        read: the steps in words; or an image, whose rows they are.
    """
    from matplotlib.figure import Figure

    assert said.attention is not None
    words = not isinstance(read, np.ndarray)
    attention = said.attention[:LONGEST, : LONGEST if words else None]
    T, S = attention.shape
    columns = read.shape[1] if isinstance(read, np.ndarray) else 0
    inch = min(0.36, LARGEST / max(S, columns)) if columns else 0.36
    figure = Figure(figsize=(2.2 + 0.36 * T + inch * columns, 1.4 + inch * S), dpi=110, layout="constrained")
    if not isinstance(read, np.ndarray):
        axes = figure.subplots()
        axes.set_yticks(range(S), [shortened(piece) for piece in read[:S]], fontsize=9)
    else:
        image, axes = figure.subplots(1, 2, sharey=True, width_ratios=(columns, T))
        image.imshow(read, cmap="gray", aspect="auto")
        image.set(ylabel="what is read, row by row", xticks=[])
    shown = axes.imshow(attention.T.numpy(), cmap="cividis", vmin=0, aspect="auto")
    axes.set_xticks(range(T), [shortened(piece) or "space" for piece in said.pieces[:T]], rotation=90, fontsize=9)
    axes.set(xlabel="what is written")
    figure.colorbar(shown, label="attention")
    write_figure(path, figure)
