"""Plots that several tasks share: confusion matrices, attention."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from elman.data.validation import shortened
from elman.io.files import write_figure
from elman.tasks.codec import NO_LABEL
from elman.tasks.supervised import Evaluation, Plot

if TYPE_CHECKING:  # imports tokenizers, which other tasks do not need
    from elman.tasks.text_output import TextPrediction

MAX_LABELS_PLOTTED = 40
MAX_IMAGE_INCHES = 8  # of the longer side
MIN_GOOD_STEPS, MAX_GOOD_STEPS = 5, 18  # preferred lengths of the longer of source and output
MAX_STEPS = 100  # to plot


def plot_confusion(y: Sequence[int] | NDArray[Any], best: NDArray[Any], labels: Sequence[Any], path: Path) -> None:
    """Plot the confusion matrix with counts, if there are at most `MAX_LABELS_PLOTTED` labels.

    Args:
        y: numbers of the true labels.
        best: numbers of the predicted labels.
        labels: all labels.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import confusion_matrix

    K = len(labels)
    if K > MAX_LABELS_PLOTTED:
        return
    counts = confusion_matrix(y, best, labels=range(K))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(2.5 + 0.42 * K, 12)
    figure = Figure(figsize=(side + 0.6, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    for i, j in zip(*counts.nonzero(), strict=True):
        color = "black" if share[i, j] > 0.6 else "white"
        axes.text(j, i, counts[i, j], ha="center", va="center", color=color, fontsize=8)
    names = [shortened(str(label)) for label in labels]
    rotation = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(K), names, rotation=rotation, fontsize=8)
    axes.set_yticks(range(K), names, fontsize=8)
    axes.set(xlabel="predicted label", ylabel="true label")
    write_figure(path, figure)


def confusion_plot(labels_of: Callable[[Sequence[Any]], Iterable[Any]]) -> Plot:
    """Make the plot confusion.png, for a `LabelCodec`.

    Args:
        labels_of: returns all labels of the targets; unknown ones are not plotted.
    """

    def draw(evaluation: Evaluation, path: Path) -> None:
        y = evaluation.codec.label_numbers(labels_of(evaluation.targets))
        best, known = np.hstack([evaluation.codec.best(p) for p in evaluation.predictions]), y != NO_LABEL
        plot_confusion(y[known], best[known], evaluation.codec.labels, path)

    return Plot("confusion.png", "Confusion matrix of the test part.", draw)


def choose_for_attention(predictions: Sequence["TextPrediction"]) -> "TextPrediction":
    """Return a prediction that fits into a plot: the first of good length, or else the shortest."""
    sizes = [
        max(len(prediction.pieces), len(prediction.source))
        for prediction in predictions
        if prediction.source is not None
    ]
    candidates = (
        prediction
        for prediction, size in zip(predictions, sizes, strict=True)
        if MIN_GOOD_STEPS <= size <= MAX_GOOD_STEPS
    )
    return next(candidates, predictions[sizes.index(min(sizes))])


def plot_attention(path: Path, prediction: "TextPrediction", source: Sequence[str] | NDArray[Any]) -> None:
    """Plot the attention of each output token over the steps of the source.

    Args:
        path: the PNG file to write.
        prediction: a prediction with attention.
        source: the steps as texts; or an image, whose rows are the steps.
    """
    from matplotlib.figure import Figure

    assert prediction.attention is not None
    is_text = not isinstance(source, np.ndarray)
    attention = prediction.attention[:MAX_STEPS, : MAX_STEPS if is_text else None]
    T, S = attention.shape
    columns = source.shape[1] if isinstance(source, np.ndarray) else 0
    inch = min(0.36, MAX_IMAGE_INCHES / max(S, columns)) if columns else 0.36
    figure = Figure(figsize=(2.2 + 0.36 * T + inch * columns, 1.4 + inch * S), dpi=110, layout="constrained")
    if not isinstance(source, np.ndarray):
        axes = figure.subplots()
        axes.set_yticks(range(S), [shortened(piece) for piece in source[:S]], fontsize=9)
    else:
        image, axes = figure.subplots(1, 2, sharey=True, width_ratios=(columns, T))
        image.imshow(source, cmap="gray", aspect="auto")
        image.set(ylabel="input, row by row", xticks=[])
    heatmap = axes.imshow(attention.T.numpy(), cmap="cividis", vmin=0, aspect="auto")
    axes.set_xticks(range(T), [shortened(piece) or "space" for piece in prediction.pieces[:T]], rotation=90, fontsize=9)
    axes.set(xlabel="output")
    figure.colorbar(heatmap, label="attention")
    write_figure(path, figure)


def attention_plot(caption: str, source_of: Callable[[Any, Tensor], Sequence[str] | NDArray[Any]]) -> Plot:
    """Make the plot attention.png.

    Args:
        caption: describes it.
        source_of: returns the encoder's input for `plot_attention`, from the codec and the encoded source.
    """

    def draw(evaluation: Evaluation, path: Path) -> None:
        prediction = choose_for_attention(evaluation.predictions)
        assert prediction.source is not None
        plot_attention(path, prediction, source_of(evaluation.codec, prediction.source))

    return Plot("attention.png", caption, draw)
