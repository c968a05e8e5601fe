"""elman train caption, from images and texts to a run, and the run put to use."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from elman.cli import run
from elman.errors import BadInput
from elman.tasks import caption
from elman.tasks.caption.options import CaptionOptions
from elman.tasks.caption.task import TASK
from tests.small import Command, files
from tests.tasks.test_image import bars
from tests.test_bad_input import refused

SMALL = [
    "--hidden", "12", "--embed", "8", "--dropout", "0.3", "--batch", "8", "--epochs", "20", "--lr", "0.03",
    "--beam", "2",
]  # fmt: skip
TEXTS = {"upright": "it stands", "lying": "it lies"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for i, (pixels, label) in enumerate(zip(*bars(), strict=True)):
        Pillow.fromarray((pixels * 255).astype(np.uint8)).save(folder / f"{i}.png")
        rows.append((f"{i}.png", TEXTS[label]))
    return written(folder / "table.csv", rows)


def written(path: Path, rows: list[tuple[str, str]], head: tuple[str, str] = ("path", "text")) -> Path:
    with path.open("w", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert run(["train", "caption", str(table), "--out", str(path), "--flow-every", "50", *SMALL]) == 0
    return path


def test_a_run_of_captions(elman: Command, trained: Path, table: Path, tmp_path: Path) -> None:
    assert {"codec.json", "split.csv", "baseline.safetensors", "attention.png", "flow.csv"} <= files(trained)
    config = json.loads((trained / "config.json").read_text())
    assert list(config["scores"]) == [
        "GRU 12, attention",
        "most frequent text",
        "logistic regression to whole texts",
    ]
    assert [list(row) for row in config["scores"].values()] == [["exact_match", "chrf"]] * 3
    said = elman("evaluate", trained, table)
    assert said.code == 0
    assert "chrF nrefs:1|" in said.err
    for command in (["info"], ["report"], ["flow"], ["draw", "--out", tmp_path / "net.svg", "--gradients"]):
        assert elman(command[0], trained, *command[1:]).code == 0
    assert "it stands" in (trained / "report.html").read_text()


def test_the_scores_are_those_of_the_predictions(elman: Command, trained: Path, table: Path) -> None:
    rows = list(csv.DictReader(table.read_text().splitlines()))
    paths = [table.parent / row["path"] for row in rows]
    said = elman("predict", trained, *paths, "--format", "jsonl")
    found = [json.loads(line) for line in said.out.splitlines()]
    right = sum(one["text"] == row["text"] for one, row in zip(found, rows, strict=True)) / len(rows)
    scores = elman("evaluate", trained, table).out
    assert f"{right:.4f}" in next(line for line in scores.splitlines() if "GRU" in line)
    assert right > 0.9


def test_resuming_changes_nothing(elman: Command, table: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = ["--dropout", "0.3", "--schedule", "constant", "--smoothing", "0.1", "--epochs"]
    assert elman("train", "caption", table, "--out", whole, *SMALL, *more, "4").code == 0
    assert elman("train", "caption", table, "--out", parted, *SMALL, *more, "1.5").code == 0
    assert elman("train", "caption", "--resume", parted, "--epochs", "4").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_in_python(tmp_path: Path) -> None:
    images, labels = bars(40)
    texts = [TEXTS[label] for label in labels]
    options: dict[str, Any] = {"hidden": 8, "batch": 8, "epochs": 1, "tokens": "word", "layers": 2, "bptt": 3}
    found = caption.fit((images, texts), tmp_path / "run", **options)
    assert set(found.evaluate((images, ["üblich"] * 40))) == set(found.scores)  # of characters that it never saw
    assert [set(row) for row in found.predict(images[:2])] == [{"input", "text"}] * 2
    images[2, 1, 1] = np.nan
    with pytest.raises(BadInput, match="image 3: expected numbers from 0 to 1, got nan"):
        caption.fit((images, texts), tmp_path / "other", **options)
    with pytest.raises(BadInput, match="got 40 and 39"):
        caption.fit((images, texts[1:]), tmp_path / "other", **options)
    assert not (tmp_path / "other").exists()


def test_wrong_captions(elman: Command, table: Path, tmp_path: Path) -> None:
    rows = [(str(table.parent / f"{i}.png"), "it lies") for i in range(12)]
    out = ["--out", tmp_path / "run", *SMALL, "--epochs", "1"]
    other = written(tmp_path / "other.csv", rows, ("file", "caption"))
    refused(elman("train", "caption", other, *out), "--path: expected one of the columns file, caption; got 'path'")
    refused(elman("train", "caption", other, "--path", "file", *out), "--text: expected one of the columns")
    refused(elman("train", "caption", table, other, *out), "expected one table of files and texts, got 2 files")
    refused(elman("train", "caption", written(tmp_path / "none.csv", []), *out), "expected at least one row")
    (tmp_path / "latin1.csv").write_bytes("path,text\n0.png,grün\n".encode("cp1252"))
    refused(elman("train", "caption", tmp_path / "latin1.csv", *out), "expected UTF-8, got byte 0xfc")
    empty = written(tmp_path / "empty.csv", [*rows, (rows[0][0], "")])
    refused(elman("train", "caption", empty, *out), "row 13: expected a text, got none", "--skip-bad")
    (tmp_path / "x.png").write_bytes(b"no image")
    bad = written(tmp_path / "bad.csv", [*rows, ("x.png", "it lies"), (rows[0][0], "")])
    refused(elman("train", "caption", bad, *out), "x.png", "cannot be read as one", "--skip-bad")
    assert not (tmp_path / "run").exists()
    said = elman("train", "caption", bad, "--skip-bad", *out)
    assert said.code == 0
    assert "skipped 2" in said.err
    assert "8 images for training, 2 for validation, 2 for test" in said.err


def test_images_are_counted_not_their_texts(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.reader(table.read_text().splitlines()))[1:]
    many = written(table.with_name("many.csv"), [(name, f"{text} {i}") for name, text in rows for i in range(5)])
    once, five = (TASK.prepare([path], CaptionOptions(), 0).summary for path in (table, many))
    assert five == once.replace(" for training", f" with {5 * int(once.split()[0])} texts for training")
    TASK.prepare([many], CaptionOptions(test=[str(many)]), 0)
    images = len({table.with_name(name).read_bytes() for name, _ in rows})
    assert f"of the {images} images for test are also in the training part" in capsys.readouterr().err
