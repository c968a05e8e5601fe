"""A plot of a recording and of the symbols that the network predicts at each step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elman.data import filter_banks
from elman.data.validation import shortened
from elman.decoding.ctc import BLANK
from elman.io.files import write_figure
from elman.tasks.supervised import Evaluation, Plot
from elman.tasks.transcribe.prediction import TranscribePrediction

MAX_STEPS = 120
MAX_TITLE = 60  # characters
HERTZ = (250, 500, 1000, 2000, 4000, 8000, 16000)


def plot(evaluation: Evaluation, path: Path) -> None:
    """Plot a recording of the test part."""
    codec, predictions, targets = evaluation.codec, evaluation.predictions, evaluation.targets
    i = choose(predictions, targets)
    steps = predictions[i].steps
    plot_alignment(path, predictions[i], targets[i], codec.frames(steps), codec.rate, codec.characters)


ALIGNMENT = Plot("path.png", "A recording of the test part, and the most probable symbol at each step.", plot)


def choose(predictions: Sequence[TranscribePrediction], targets: Sequence[str]) -> int:
    """Return the index of a recording that fits into a plot: the longest text, correct ones first."""
    sizes = [len(prediction.log_p) if prediction.log_p is not None else 0 for prediction in predictions]
    candidates = [i for i, size in enumerate(sizes) if size <= MAX_STEPS]
    if not candidates:
        return int(np.argmin(sizes))
    return max(candidates, key=lambda i: (predictions[i].text == targets[i], len(targets[i])))


def plot_alignment(
    path: Path, prediction: TranscribePrediction, target: str, frames: NDArray[np.float32], rate: int, characters: str
) -> None:
    """Plot a recording and the probability of each symbol at each step, with the most probable symbols marked.

    Args:
        path: the PNG file to write.
        prediction: the prediction for the recording.
        target: the text of the recording.
        frames: log-mel energies (t, M).
        rate: samples a second.
        characters: the characters of symbols 1, 2, ...
    """
    from matplotlib.figure import Figure

    assert prediction.log_p is not None
    P, frames = np.exp(prediction.log_p[:MAX_STEPS]), frames[: MAX_STEPS * -(-len(frames) // len(prediction.log_p))]
    best = P.argmax(1)
    rows = [*dict.fromkeys(best[best != BLANK].tolist()), BLANK]
    names = ["blank" if k == BLANK else "space" if characters[k - 1] == " " else characters[k - 1] for k in rows]
    T, width = len(P), len(frames) * filter_banks.HOP
    figure = Figure(figsize=(max(6.5, min(0.16 * T, 18)), 2.6 + 0.26 * len(rows)), dpi=110, layout="constrained")
    sound, symbols = figure.subplots(2, 1, sharex=True, height_ratios=(8, len(rows)))
    edges = (0.0, width)
    sound.imshow(frames.T, origin="lower", aspect="auto", cmap="magma", extent=(*edges, -0.5, frames.shape[1] - 0.5))
    frequencies = [f for f in HERTZ if f <= rate / 2]
    sound.set_yticks(
        [filter_banks.band_at(f, rate, frames.shape[1]) for f in frequencies], [f"{f / 1000:g}" for f in frequencies]
    )
    sound.set_ylabel("kHz")
    sound.set_title(_title(prediction.text, target))
    image = symbols.imshow(
        P[:, rows].T, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=(*edges, len(rows) - 0.5, -0.5)
    )
    symbols.set_yticks(range(len(rows)), names)
    for t, k in enumerate(best.tolist()):
        at, mark = (t + 0.5) * width / T, "·" if k == BLANK else names[rows.index(k)][:1]
        color = "white" if P[t, k] > 0.5 else "black"
        symbols.text(at, rows.index(k), mark, ha="center", va="center", fontsize=9, color=color)
    symbols.set(xlabel="seconds", ylabel="symbol")
    figure.colorbar(image, ax=symbols, label="probability", aspect=10)
    write_figure(path, figure)


def _title(text: str, target: str) -> str:
    quoted_text = f"“{shortened(text, MAX_TITLE)}”"
    return f"{quoted_text}, correct" if text == target else f"{quoted_text}, expected “{shortened(target, MAX_TITLE)}”"
