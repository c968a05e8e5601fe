"""`elman predict` on lines of standard input that cannot be used. The same holds for every task that reads lines."""

import json
import sys
from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from elman.data import midi
from elman.errors import BadInput
from elman.tasks import caption, classify, image, load, music, tag, transcribe, translate
from elman.tasks.music.steps import PITCHES, notes_of_frames
from tests.small import Command, Said

COUNT, BATCH = 24, 3
TINY: dict[str, Any] = {"hidden": 4, "epochs": 1, "batch": BATCH}
TEXTS = [f"{'good' if i % 2 else 'bad'} word {i}" for i in range(COUNT)]
LABELS = ["pos" if i % 2 else "neg" for i in range(COUNT)]
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (COUNT, 4, 4)).astype(np.uint8)
WAVES = list(DRAW.uniform(-0.5, 0.5, (COUNT, 2000)))


def pieces() -> list[np.ndarray]:
    return [np.eye(PITCHES, dtype=bool)[40 + i : 44 + i] for i in range(COUNT)]


def image_lines(folder: Path) -> list[str]:
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(COUNT)]


def train_image(folder: Path) -> list[str]:
    image.fit((PIXELS / 255, LABELS), folder / "run", **TINY)
    return image_lines(folder)


def train_caption(folder: Path) -> list[str]:
    caption.fit((PIXELS / 255, TEXTS), folder / "run", embed=4, **TINY)
    return image_lines(folder)


def train_transcribe(folder: Path) -> list[str]:
    transcribe.fit((WAVES, LABELS), folder / "run", rate=8000, **TINY)
    for i, wave in enumerate(WAVES):
        soundfile.write(folder / f"{i}.wav", wave, 8000)
    return [str(folder / f"{i}.wav") for i in range(COUNT)]


def train_music(folder: Path) -> list[str]:
    """Return MIDI files and a file of several pieces, which has several rows."""
    music.fit(pieces(), folder / "run", **TINY)
    for i, piece in enumerate(pieces()):
        midi.write(folder / f"{i}.mid", notes_of_frames(piece), 1)
    (folder / "two.json").write_text(json.dumps([[[60], [62]], [[64]]]))
    return [str(folder / "two.json"), *(str(folder / f"{i}.mid") for i in range(COUNT))]


def train_classify(folder: Path) -> list[str]:
    classify.fit((TEXTS, LABELS), folder / "run", embed=4, **TINY)
    return TEXTS


def train_tag(folder: Path) -> list[str]:
    tag.fit(
        [[(word, "NUM" if word.isdigit() else "WORD") for word in text.split()] for text in TEXTS],
        folder / "run",
        embed=4,
        **TINY,
    )
    return TEXTS


def train_translate(folder: Path) -> list[str]:
    translate.fit(([text.upper() for text in TEXTS], TEXTS), folder / "run", embed=4, **TINY)
    return [text.upper() for text in TEXTS]


OF_TEXTS: list[Callable[[Path], list[str]]] = [train_classify, train_tag, train_translate]
OF_FILES: list[Callable[[Path], list[str]]] = [train_image, train_caption, train_transcribe, train_music]
Runs = Callable[[Callable[[Path], list[str]]], tuple[Path, list[bytes]]]
Predict = Callable[..., Said]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Train once for each task; return the run and lines to predict from."""
    trained = dict[str, tuple[Path, list[bytes]]]()

    def run_of(train: Callable[[Path], list[str]]) -> tuple[Path, list[bytes]]:
        if train.__name__ not in trained:
            folder = tmp_path_factory.mktemp(train.__name__)
            trained[train.__name__] = folder / "run", [f"{line}\n".encode() for line in train(folder)]
        return trained[train.__name__]

    return run_of


@pytest.fixture
def predict(elman: Command, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Predict from lines that all wait on standard input."""

    def from_lines(run: Path, lines: list[bytes], *options: object) -> Said:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"".join(lines)), "utf-8"))
        return elman("predict", run, "--format", "jsonl", *options)

    return from_lines


def check_stops_at(said: Said, expected: Said, message: str) -> None:
    """Check that the rows of the lines before came out, then one message, and nothing of the lines after."""
    assert (said.code, said.out) == (2, expected.out)
    assert said.err.startswith(f"elman: {message}")
    assert said.err.count("\n") == 1


# The first line; in the first batch; the first line of the second batch; in the third.
@pytest.mark.sample(1)
@pytest.mark.parametrize("before", [0, 1, BATCH, 2 * BATCH + 1])
@pytest.mark.parametrize("train", [*OF_TEXTS, *OF_FILES])
def test_rows_before_a_line_of_another_encoding(
    runs: Runs, predict: Predict, train: Callable[[Path], list[str]], before: int
) -> None:
    run, lines = runs(train)
    good = [b"\n", *lines[:before], b" \n"]  # blank lines are skipped, and counted
    said = predict(run, [*good, b"caf\xe9\n", *lines[before:]])
    offset = len(b"".join(good)) + 3
    message = f"standard input: line {before + 3}: expected UTF-8, got byte 0xe9 at offset {offset}; pass the encoding"
    expected = predict(run, good)
    check_stops_at(said, expected, message)
    assert (expected.code, expected.out.count("\n") >= before) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 1, BATCH, 2 * BATCH + 1])
@pytest.mark.parametrize("train", OF_FILES)
def test_rows_before_a_line_that_names_no_usable_file(
    runs: Runs, predict: Predict, train: Callable[[Path], list[str]], before: int, tmp_path: Path
) -> None:
    run, lines = runs(train)
    (tmp_path / "empty").write_bytes(b"")
    good, after = [*lines[:before], b"\n"], lines[before : before + BATCH]
    for name in ("empty", "missing"):
        bad = f"{tmp_path / name}\n".encode()
        said, where = predict(run, [*good, bad, *after]), f"standard input: line {before + 2}: {tmp_path / name}: "
        check_stops_at(said, predict(run, good), where)
        assert said.err.endswith("; pass --skip-bad to skip it\n")
        said = predict(run, [*good, bad, *after], "--skip-bad")
        inputs = [json.loads(row)["input"] for row in predict(run, [*good, *after]).out.splitlines()]
        assert (said.code, [json.loads(row)["input"] for row in said.out.splitlines()]) == (0, inputs)
        assert said.err.startswith(where)
        assert said.err.endswith("; skipped\n")
        assert said.err.count("\n") == 1


def test_a_line_that_names_unusable_music(runs: Runs, predict: Predict, tmp_path: Path) -> None:
    run, lines = runs(train_music)
    (tmp_path / "half.json").write_text("[[[60], [62")
    said = predict(run, [*lines[:2], f"{tmp_path / 'half.json'}\n".encode(), *lines[2:]])
    where = f"standard input: line 3: {tmp_path / 'half.json'}: expected valid JSON"
    check_stops_at(said, predict(run, lines[:2]), where)


def test_lines_before_a_null_byte(runs: Runs, predict: Predict) -> None:
    run, lines = runs(train_classify)
    said = predict(run, [*lines[:4], b"\0\0\n", *lines[4:]])
    offset = len(b"".join(lines[:4]))
    message = f"standard input: line 5: expected a text, got a binary file: byte 0x00 at offset {offset}\n"
    check_stops_at(said, predict(run, lines[:4]), message)


def test_no_file_of_some_of_the_rows(runs: Runs, predict: Predict, tmp_path: Path) -> None:
    run, lines = runs(train_image)
    said = predict(run, [*lines[:4], b"missing.png\n"], "--out", tmp_path / "rows.jsonl")
    assert (said.code, said.out, list(tmp_path.iterdir())) == (2, "", [])
    assert said.err.startswith("elman: standard input: line 5: missing.png: ")


def test_rows_before_an_argument_that_is_no_image(elman: Command, runs: Runs) -> None:
    run, lines = runs(train_image)
    first, second = (line.decode().strip() for line in lines[:2])
    said = elman("predict", run, first, second, "missing.png", first, "--format", "jsonl")
    check_stops_at(said, elman("predict", run, first, second, "--format", "jsonl"), "input 3: missing.png: ")
    with pytest.raises(BadInput, match=r"^input 3: missing\.png: "):
        load(run).predict([first, second, "missing.png"])


def test_lines_of_a_stream_of_text(elman: Command, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = runs(train_tag)
    monkeypatch.setattr(sys, "stdin", StringIO(f"{TEXTS[0]}\n\n{TEXTS[1]}\n\udce9\n"))
    said = elman("predict", run, "--format", "jsonl")
    expected = elman("predict", run, TEXTS[0], TEXTS[1], "--format", "jsonl")
    check_stops_at(said, expected, "standard input: line 4: predict: expected UTF-8, got byte 0xe9; pass --skip-bad")
