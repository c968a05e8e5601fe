"""elman train image, from images to a run, and the run put to use."""

import base64
import csv
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from elman.cli import run
from elman.data.batches import ByLength
from elman.tasks import image
from tests.small import Command, files, unchecked
from tests.test_bad_input import refused

SMALL = ["--hidden", "8", "--batch", "8", "--epochs", "25", "--lr", "0.02"]


def bars(count: int = 60, rows: int = 5, columns: int = 6) -> tuple[np.ndarray, list[str]]:
    """Images with an upright bar or one that lies, and noise."""
    draw = np.random.default_rng(0)
    images = draw.random((count, rows, columns)).astype(np.float32) / 4
    for i in range(count):
        if i % 2:
            images[i, draw.integers(rows)] = 1
        else:
            images[i, :, draw.integers(columns)] = 1
    return images, ["lying" if i % 2 else "upright" for i in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    for i, (pixels, label) in enumerate(zip(*bars(), strict=True)):
        (path / label).mkdir(exist_ok=True)
        Pillow.fromarray((pixels * 255).astype(np.uint8)).save(path / label / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert run(["train", "image", str(folder), "--out", str(path), "--flow-every", "5", *SMALL]) == 0
    return path


def test_a_run_of_images(
    elman: Command, trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # titles are not wrapped
    assert {"config.json", "codec.json", "split.csv", "baseline.safetensors", "confusion.png", "flow.csv"} <= files(
        trained
    )
    config = json.loads((trained / "config.json").read_text())
    assert (config["data"]["train"], config["data"]["validation"], config["data"]["test"]) == (48, 6, 6)
    assert [list(row) for row in config["scores"].values()] == [["accuracy", "macro_f1", "nats_per_image"]] * 3
    parts = [row["part"] for row in csv.DictReader((trained / "split.csv").read_text().splitlines())]
    assert [parts.count(part) for part in ("train", "validation", "test")] == [48, 6, 6]
    said = elman("evaluate", trained, folder)
    assert said.code == 0
    assert "logistic regression" in said.out
    assert "feed-forward network 30-" in said.out
    assert sorted(config["scores"], key=said.out.index) == list(config["scores"])
    for command in (["info"], ["report"], ["flow"], ["draw", "--out", tmp_path / "net.svg", "--gradients"]):
        assert elman(command[0], trained, *command[1:]).code == 0
    page = (trained / "report.html").read_text()
    assert f"{folder}/lying/" in page
    picture = base64.b64encode((trained / "confusion.png").read_bytes()).decode()
    assert f'<img src="data:image/png;base64,{picture}" alt="Confusion matrix' in page
    assert "generate: a run of image is used with elman predict" in elman("generate", trained).err


def test_the_scores_are_those_of_the_predictions(elman: Command, trained: Path, folder: Path) -> None:
    paths = sorted(folder.rglob("*.png"))
    said = elman("predict", trained, *paths, "--format", "jsonl")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["input"] for row in rows] == [str(path) for path in paths]
    right = sum(row["label"] == path.parent.name for row, path in zip(rows, paths, strict=True)) / len(paths)
    assert f"{right:.4f}" in elman("evaluate", trained, folder).out.splitlines()[3]
    assert right > 0.9
    table = elman("predict", trained, paths[0], "--format", "csv").out.splitlines()
    assert table[0] == "input,label,probability"


def test_a_damaged_run(elman: Command, trained: Path, folder: Path, tmp_path: Path) -> None:
    copy = unchecked(shutil.copytree(trained, tmp_path / "copy"))
    codec = json.loads((copy / "codec.json").read_text())
    (copy / "codec.json").write_text(json.dumps(codec | {"labels": ["lying", "standing", "upright"]}))
    refused(elman("evaluate", copy, folder), "codec.json", "was trained with, labels 2; got 3")
    (copy / "confusion.png").write_bytes(b"no picture")
    (copy / "codec.json").write_text(json.dumps(codec))
    refused(elman("report", copy), "confusion.png: expected a PNG file")
    (copy / "codec.json").write_text(json.dumps({"labels": 3}))
    refused(elman("evaluate", copy, folder), "codec.json", "expected the codec of `elman train image`")


@pytest.mark.slow
def test_the_split_is_the_seeds(elman: Command, folder: Path, tmp_path: Path) -> None:
    tables = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            elman("train", "image", folder, "--out", tmp_path / name, *SMALL, "--epochs", "1", "--seed", seed).code == 0
        )
        tables.append((tmp_path / name / "split.csv").read_text())
    assert tables[0] == tables[1] != tables[2]
    scores = [json.loads((tmp_path / name / "config.json").read_text())["scores"] for name in "ab"]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_parts_of_their_own(elman: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    said = elman("train", "image", folder.name, "--test", folder.name, "--out", tmp_path / "run", *SMALL)
    assert said.code == 0
    assert "54 images for training, 6 for validation, 60 for test" in said.err
    monkeypatch.chdir(tmp_path)
    assert elman("flow", tmp_path / "run").code == 0


@pytest.mark.slow
def test_what_is_no_file_is_gone_on_with(elman: Command, tmp_path: Path) -> None:
    """Longer; and where it fell between its last step and its scores."""
    run = tmp_path / "run"
    assert elman("train", "image", "--epochs", 2, "--hidden", 4, "--out", run).code == 0
    config = json.loads((run / "config.json").read_text())
    scores = config.pop("scores")
    unchecked(run)
    (run / "config.json").write_text(json.dumps({**config, "ended": None}))
    assert elman("train", "image", "--resume", run).code == 0
    assert json.loads((run / "config.json").read_text())["scores"] == scores
    assert elman("train", "image", "--resume", run, "--epochs", 2.5).code == 0


def test_resuming_changes_nothing(elman: Command, folder: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = ["--dropout", "0.3", "--schedule", "constant"]
    assert elman("train", "image", folder, "--out", whole, *SMALL, *more).code == 0
    assert elman("train", "image", folder, "--out", parted, *SMALL, *more, "--epochs", "10.5").code == 0
    assert elman("train", "image", "--resume", parted, "--epochs", "25").code == 0
    a, b = ([line.split(",")[:-1] for line in (r / "metrics.csv").read_text().splitlines()] for r in (whole, parted))
    assert [row for row in b if row in a] == a
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_tables_and_idx_files(elman: Command, tmp_path: Path) -> None:
    images, labels = bars(rows=4, columns=4)
    pixels = (images * 255).astype(np.uint8)
    table = tmp_path / "bars.csv"
    with table.open("w") as file:
        csv.writer(file).writerows(
            [["label", *range(16)], *([label, *p.ravel()] for label, p in zip(labels, pixels, strict=True))]
        )
    numbers = np.array([label == "lying" for label in labels], np.uint8)
    (tmp_path / "x.idx").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape) + pixels.tobytes())
    (tmp_path / "y.idx").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, len(numbers)) + numbers.tobytes())
    scores = []
    for name, data in (("a", [table]), ("b", [tmp_path / "x.idx", tmp_path / "y.idx"])):
        assert elman("train", "image", *data, "--out", tmp_path / name, *SMALL).code == 0
        scores.append(next(iter(json.loads((tmp_path / name / "config.json").read_text())["scores"].values())))
    assert scores[0]["accuracy"] == scores[1]["accuracy"]


@pytest.mark.slow
def test_in_python(tmp_path: Path) -> None:
    images, labels = bars()
    found = image.fit(
        (torch.from_numpy(images), labels), tmp_path / "run", hidden=8, epochs=25, lr=0.02, batch=8, read="rows"
    )
    own, *_ = found.scores.values()
    assert own["accuracy"] == 1
    assert next(iter(found.evaluate((images, labels)).values()))["accuracy"] > 0.9
    assert [row["label"] for row in found.predict(images[:2])] == labels[:2]
    assert isinstance(found.model, torch.nn.Module)
    with pytest.raises(TypeError, match=r"^elman.tasks.image.fit: colour: expected one of cell, hidden, "):
        image.fit((images, labels), tmp_path / "other", colour=1)  # type: ignore[call-arg]  # editors know the options
    with pytest.raises(ValueError, match=r"^elman.tasks.image.fit: hidden: expected an integer of at least 1, got 0"):
        image.fit((images, labels), tmp_path / "other", hidden=0)
    assert not (tmp_path / "other").exists()


def test_wrong_images(elman: Command, folder: Path, tmp_path: Path, trained: Path) -> None:
    out = ["--out", tmp_path / "run", *SMALL]
    refused(elman("train", "image", tmp_path / "none", *out), "none")
    (tmp_path / "empty").mkdir()
    refused(elman("train", "image", tmp_path / "empty", *out), "expected a folder for each label, got none")
    one = tmp_path / "one"
    shutil.copytree(folder / "lying", one / "lying")
    refused(elman("train", "image", one, *out), "at least two different labels", "'lying'")
    (one / "upright").mkdir()
    shutil.copy(folder / "upright/0.png", one / "upright")
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    (bad / "lying/x.png").write_bytes(b"no image")
    refused(elman("train", "image", bad, *out), "x.png", "cannot be read as one", "--skip-bad")
    said = elman("train", "image", bad, "--skip-bad", *out)
    assert said.code == 0
    assert "skipped 1" in said.out + said.err
    other = tmp_path / "other"
    shutil.copytree(folder / "lying", other / "sideways")
    refused(elman("evaluate", trained, other), "expected a label of the training data, lying, upright; got 'sideways'")
    refused(elman("predict", trained, bad / "lying/x.png"), "x.png")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    shutil.rmtree(tmp_path / "run")
    refused(elman("train", "image", tmp_path / "t.csv", *out), "expected a column 'label', got a, b")


def test_batches_by_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 500).tolist()
    batches = ByLength(lengths, 8, lambda numbers, epoch: numbers, seed=3)
    assert len(batches) == 63
    for epoch in (0, 1):
        indices = [batches[epoch * 63 + i] for i in range(63)]
        assert sorted(i for batch in indices for i in batch) == list(range(500))
        assert all(np.ptp([lengths[i] for i in batch]) <= 8 for batch in indices)
    assert batches[0] != batches[63]
    assert ByLength(lengths, 8, lambda numbers, epoch: numbers, seed=3)[70] == batches[70]
