"""What Python gives in the place of files, and what tables hold: told in one line, before anything is made."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image as Pillow

from elman.errors import BadInput
from elman.io.files import write_figure
from elman.tasks import caption, classify, image, plots, text, transcribe
from elman.tasks.text_output import TextPrediction
from elman.tasks.transcribe.data import parse_input
from elman.tasks.transcribe.options import TranscribeOptions
from tests.small import Command, files
from tests.tasks.test_image import bars
from tests.test_bad_input import refused

IN_PYTHON: dict[str, tuple[Any, str]] = {
    "a number": (5, r"expected files, or a tuple of images \(N, rows, columns\) and labels; got 5$"),
    "no labels": (np.zeros((9, 2, 2)), "and labels; got ndarray$"),
    "an empty list": ([], "and labels; got an empty list$"),
    "an empty dict": ({}, "and labels; got an empty dict$"),
    "three": (([1], [2], [3]), "got a tuple of 3$"),
    "none at all": ((np.zeros((0, 2, 2)), []), "got none$"),
    "no sequence": ((np.zeros((9, 2, 2)), 7), "got 7 for labels$"),
    "lengths": ((np.zeros((9, 2, 2)), [1, 2]), "as many images .* as labels, got 9 and 2$"),
    "flat": (
        (np.zeros((9, 4)), range(9)),
        r"image 1: expected an image \(rows, .* float64 of shape \(4,\)",
    ),
    "five channels": ((np.zeros((9, 2, 2, 5)), range(9)), r"image 1: expected an image .* shape \(2, 2, 5\);"),
    "channels first": (
        (np.zeros((9, 3, 2, 2)), range(9)),
        r"image 1: .* shape \(3, 2, 2\); move the channels to the last",
    ),
    "texts": ((["a"] * 9, range(9)), r"image 1: expected an image .* got <U1 of shape \(\)"),
    "no pixels": ((np.zeros((9, 0, 0)), range(9)), r"image 1: expected an image .* of shape \(0, 0\)"),
    "bytes": ((np.full((9, 2, 2), 255, np.uint8), range(9)), "image 1: expected numbers from 0 to 1, got 255"),
    "negative": ((np.full((9, 2, 2), -0.5), range(9)), "image 1: expected numbers from 0 to 1, got -0.5"),
    "NaN": ((np.full((9, 2, 2), np.nan), range(9)), "image 1: expected numbers from 0 to 1, got nan"),
    "ragged": (
        ([[[1, 2], [3]]] * 9, range(9)),
        r"image 1: expected an image \(rows, columns\) or \(rows, columns, 3\): ",
    ),
    "no label": ((np.zeros((2, 2, 2)), ["a", None]), "image 2: expected a label, got none"),
    "a NaN label": ((np.zeros((2, 2, 2)), [1.0, np.nan]), "image 2: expected a label, got nan"),
    "one-hot": ((np.zeros((3, 2, 2)), np.eye(3)), r"image 1: expected a label, got several at once, of shape \(3,\)"),
    "a list for a label": ((np.zeros((2, 2, 2)), ["a", ["b"]]), r"image 2: expected a label, got \['b'\]"),
}


@pytest.mark.parametrize(("data", "part"), IN_PYTHON.values(), ids=IN_PYTHON)
def test_what_is_no_images_in_python(tmp_path: Path, data: Any, part: str) -> None:
    with pytest.raises(BadInput, match=rf"^image: .*{part}"):
        image.fit(data, tmp_path / "run")
    assert not files(tmp_path)


def test_labels_in_tensors_and_images_to_predict(tmp_path: Path) -> None:
    images, labels = bars(24)
    numbers = torch.tensor([label == "lying" for label in labels], dtype=torch.long)
    images[3, 0, 0] = 2
    found = image.fit((images, numbers), tmp_path / "run", epochs=1, hidden=4, skip_bad=True)
    assert {row["label"] for row in found.predict(images[:3])} <= {"0", "1"}
    assert [row["input"] for row in found.predict(images[:2])] == ["image 1", "image 2"]
    for wrong, part in ((np.ones((1, 5)) * 7, "got 7"), (np.zeros(4), "of shape"), (None, "got object of shape")):
        with pytest.raises(BadInput, match=rf"^input 1: image: expected .*{part}"):
            found.predict([wrong], skip_bad=False)


ONE = np.zeros((1, 2, 2), np.float32)
WAVE = np.sin(np.arange(800) / 3)
OTHERS: list[tuple[Callable[..., Any], Any, str]] = [
    (caption.fit, 5, "caption: expected files, or a tuple of .*; got 5$"),
    (caption.fit, {}, "caption: expected files, or a tuple of .*; got an empty dict$"),
    (caption.fit, (ONE, [None]), "caption: image 1: expected a text, got none"),
    (caption.fit, (ONE, [7]), "caption: image 1: expected a text, got 7"),
    (caption.fit, (ONE, [["a"]]), r"caption: image 1: expected a text, got \['a'\]"),
    (caption.fit, (ONE, ["\ud800"]), "image 1: expected text, got an invalid character"),
    (caption.fit, (ONE[0], ["a", "b"]), r"caption: image 1: expected an image .* shape \(2,\)"),
    (caption.fit, (ONE * np.nan, ["a"]), "caption: image 1: expected numbers from 0 to 1, got nan"),
    (caption.fit, (ONE + 9, ["a"]), "caption: image 1: expected numbers from 0 to 1, got 9"),
    (classify.fit, ["a b c"], "a b c: expected a file"),
    (
        text.fit,
        "It was the best of times.",
        r"text: expected a file, but 'It was .* does not exist; .* io.StringIO\(text\)$",
    ),
    (text.fit, "word\n" * 2000, r"text: expected a file, but .* does not exist; .* io.StringIO\(text\)$"),
    (
        text.fit,
        ["It was the best", "of times."],
        r"text: expected a file, but .* does not exist; .* "
        r"io.StringIO\(text\)$",
    ),
    (text.fit, b"It was", r"text: expected a file, or a text as io.StringIO\(text\); got bytes"),
    (text.fit, 7, r"text: expected a file, or a text as io.StringIO\(text\); got 7"),
    (text.fit, pl.Series(["It was"]), r"text: expected a file, or a text as io.StringIO\(text\); got Series"),
    (text.fit, io.BytesIO(b"It was"), "a text in Python: expected a file opened as a text, got one of bytes"),
    (caption.fit, (ONE.astype(np.uint8) + 200, ["a"]), "image 1: expected .* 0 to 1, got 200; divide by 255"),
    (classify.fit, (["a"],), r"classify: expected files, or a tuple of texts and labels; got a tuple of 1$"),
    (classify.fit, (["a"], [["b"]]), r"text 1: expected a label, got \['b'\]"),
    (transcribe.fit, [WAVE], r"transcribe: expected .* recordings and texts \(and groups\); got list$"),
    (transcribe.fit, ([WAVE],), r"recordings and texts \(and groups\); got a tuple of 1$"),
    (transcribe.fit, ([WAVE], [None]), "transcribe: recording 1: expected a text, got none"),
    (transcribe.fit, ([WAVE], [True]), "transcribe: recording 1: expected a text, got True"),
    (transcribe.fit, ([WAVE], ["a"], [["b"]]), r"recording 1: expected a group, a text or a number, got \['b'\]"),
    (transcribe.fit, ([WAVE * 1e30], ["a"]), "recording 1: expected samples from -1 to 1, got"),
    (transcribe.fit, ([np.zeros((20, 9))], ["a"]), r"expected a 1-D array of numbers, got float64 of shape \(20, 9\)"),
    (
        transcribe.fit,
        ([[[1.0], [2.0, 3.0]]], ["a"]),
        "recording 1: expected a 1-D array of numbers: ",
    ),
]


@pytest.mark.parametrize(("fit", "data", "part"), OTHERS)
def test_what_is_no_data_in_python(tmp_path: Path, fit: Callable[..., Any], data: Any, part: str) -> None:
    with pytest.raises(BadInput, match=part):
        fit(data, tmp_path / "run")
    assert not files(tmp_path)


@pytest.mark.parametrize("text", [["a"], {"a": 1}, True, 7, float("nan"), None, "  "], ids=str)
@pytest.mark.parametrize("task", ["caption", "transcribe"])
def test_a_text_in_json_that_is_none(elman: Command, tmp_path: Path, task: str, text: Any) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"path": "x.png", "text": text}))
    said = elman("train", task, path, "--out", tmp_path / "run")
    refused(said, "x.jsonl: row 1: expected a text, got ", "pass --skip-bad to skip it")
    assert files(tmp_path) == {"x.jsonl"}


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"path": 5, "text": "a"}, "row 1: expected a file, got 5"),
        ({"path": "", "text": "a"}, "row 1: expected a file, got none"),
        ({"path": "x.wav", "text": "a", "who": ["b"]}, "row 1: expected a group, a text or a number, got ['b']"),
    ],
)
def test_a_row_of_a_manifest_that_is_none(elman: Command, tmp_path: Path, row: dict[str, Any], part: str) -> None:
    import soundfile

    soundfile.write(tmp_path / "x.wav", WAVE, 8000)
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"path": "x", "text": "y", "who": "z"} | row))
    refused(elman("train", "transcribe", path, "--group", "who", "--out", tmp_path / "run"), f"x.jsonl: {part}")


def test_a_recording_that_is_far_too_loud(elman: Command, tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "x.wav", WAVE * 1e30, 8000, subtype="FLOAT")
    (tmp_path / "x.csv").write_text("path,text\nx.wav,a\n")
    said = elman("train", "transcribe", tmp_path / "x.csv", "--out", tmp_path / "run")
    refused(said, "row 1: ", "x.wav: expected samples from -1 to 1, got ", "e+29; pass --skip-bad")


def test_of_several_channels_the_mean() -> None:
    two = np.stack([WAVE, WAVE / 2])
    for what in (two, two.T, torch.from_numpy(two)):
        assert parse_input(what, TranscribeOptions()).input == pytest.approx(WAVE * 0.75, abs=1e-6)
    as_written = (two.T * 32767).astype(np.int16)
    assert parse_input(as_written, TranscribeOptions()).input == pytest.approx(WAVE * 0.75, abs=1e-4)


ODD = ["$_$", "$a_{$", r"\$_$ $", "\u65e5\u672c", "\u0939\u093f", "x" * 300, "a\nb", "\udcff", "\0", ""]


def test_any_label_stands_in_a_picture(tmp_path: Path) -> None:
    """As it is; a warning of matplotlib's would be an error here."""
    count = len(ODD)
    plots.plot_confusion(range(count), np.arange(count), ODD, tmp_path / "confusion.png")
    said = TextPrediction("", torch.zeros(count), ODD, torch.rand(count, count))
    plots.plot_attention(tmp_path / "attention.png", said, ODD)
    assert files(tmp_path) == {"confusion.png", "attention.png"}


@pytest.mark.slow
def test_a_long_text_stands_in_a_picture(tmp_path: Path) -> None:
    """As far as there is room: the whole of it would be more than memory takes."""
    for T, S in ((2000, 5), (5, 2000)):
        said = TextPrediction("", torch.zeros(S), ["a"] * T, torch.rand(T, S))
        plots.plot_attention(tmp_path / "attention.png", said, ["b"] * S)
        with Pillow.open(tmp_path / "attention.png") as opened:
            assert max(opened.size) < 5000


def test_a_dollar_is_a_dollar_and_a_power_a_power(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.set_ylim(1, 1e6)
    title = axes.set_title("$_$")
    write_figure(tmp_path / "x.png", figure)
    assert not title.get_parse_math()
    assert all(tick.get_parse_math() for tick in axes.get_yticklabels() if tick.get_text())
    formula = Figure()
    text = formula.suptitle("$x^2$")
    write_figure(tmp_path / "x.png", formula, math=True)
    assert text.get_parse_math()
