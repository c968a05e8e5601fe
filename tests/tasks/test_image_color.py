"""Images in colour: read as such if the training part has colour, in files, arrays, and what a run is used for."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from elman import tasks
from elman.data.examples import Example
from elman.data.images import image_of, picture, with_channels
from elman.errors import BadInput
from elman.io.schema import validated
from elman.serve.bodies import predict_request
from elman.tasks import Trained, image
from elman.tasks.image.data import read
from elman.tasks.image.options import ImageOptions
from elman.tasks.image.task import ImageCodec
from elman.tasks.registry import get_task
from tests.small import Command, unchecked
from tests.tasks.test_image_data import idx
from tests.test_bad_input import refused

SMALL: dict[str, Any] = {"hidden": 6, "filters": 4, "epochs": 20, "batch": 8, "lr": 0.02}


def patches(count: int = 40) -> tuple[np.ndarray, list[str]]:
    """Images of one brightness that are reddish or bluish, with noise: as grey, they cannot be told apart."""
    draw = np.random.default_rng(0)
    images = np.full((count, 5, 6, 3), 0.4, np.float32) + draw.random((count, 5, 6, 1)).astype(np.float32) / 9
    for i in range(count):
        images[i, ..., 0] += (-0.2, 0.2)[i % 2] / 0.299
        images[i, ..., 2] -= (-0.2, 0.2)[i % 2] / 0.114 / 6
        images[i] *= 0.5
    return images.clip(0, 1), ["red" if i % 2 else "blue" for i in range(count)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return image.fit(patches(), tmp_path_factory.mktemp("runs") / "run", **SMALL)


def test_a_run_of_colour_images(reader: Trained, elman: Command, tmp_path: Path) -> None:
    images, labels = patches()
    assert next(iter(reader.scores.values()))["accuracy"] == 1
    assert reader.batch(images[:2])[0].shape == (6, 2, 15)  # columns, images, red then green then blue rows
    np.testing.assert_array_equal(reader.batch(images[:1])[0][2, 0, 5:10], images[0, :, 2, 1])
    for i, label in enumerate(labels[:4]):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.rint(images[i] * 255).astype(np.uint8)).save(tmp_path / "data" / label / f"{i}.png")
    reader.save(tmp_path / "run")
    run = unchecked(tmp_path / "run")
    completed = elman("predict", run, *sorted((tmp_path / "data").rglob("*.png")), "--format", "jsonl")
    assert [json.loads(line)["label"] for line in completed.out.splitlines()] == ["blue", "blue", "red", "red"]
    for command in ("evaluate", "flow"):
        assert elman(command, run, tmp_path / "data").code == 0
    assert elman("draw", run, "--out", tmp_path / "net.svg").code == 0


def test_the_channels_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = patches(8)
    examples = [Example(image_of(pixels, "x", True), label) for pixels, label in zip(images, labels, strict=True)]
    grey = [example._replace(input=with_channels(example.input, 1)) for example in examples]
    assert ImageCodec.fit([*grey, examples[0]], ImageOptions()).channels == 3
    assert "1 of 9 training images have colour, so all are read in colour; else --grey" in capsys.readouterr().err
    assert ImageCodec.fit(grey, ImageOptions()).channels == 1
    assert not capsys.readouterr().err


def test_grey_images_for_a_model_of_colour_and_the_reverse(reader: Trained, tmp_path: Path) -> None:
    images, labels = patches()
    grey = images.mean(3)
    np.testing.assert_array_equal(
        reader.predict_proba(grey[:3]), reader.predict_proba(np.repeat(grey[:3, ..., None], 3, axis=3))
    )
    of_grey = image.fit((images, labels), tmp_path / "run", **SMALL | {"epochs": 1}, grey=True)
    assert of_grey.batch(images[:2])[0].shape == (6, 2, 5)
    luma = images[:3] @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(of_grey.predict_proba(images[:3]), of_grey.predict_proba(luma), atol=1e-6)


def test_images_in_requests(reader: Trained) -> None:
    """JSON for `elman serve`: grey images and images in colour."""
    images, _ = patches()
    body = predict_request(get_task("image"))
    assert body is not None
    request: Any = validated(body, json.dumps({"inputs": [images[0].tolist(), images[1, ..., 0].tolist()]}), "json")
    np.testing.assert_allclose(
        reader.predict_proba(request.inputs), reader.predict_proba([images[0], images[1, ..., 0]]), atol=1e-6
    )
    with pytest.raises(ValueError, match=r"^inputs"):
        validated(body, json.dumps({"inputs": [[["white"]]]}), "json")
    with pytest.raises(BadInput, match=r"expected an image \(rows, columns\) or \(rows, columns, 3\)"):
        reader.predict([[[[0.5, 0.5], [0.5, 0.5]]]])


def test_a_run_of_an_earlier_version_is_grey(tmp_path: Path) -> None:
    """It has neither channels nor filters, in its codec, its options and its model."""
    images, labels = patches()
    trained = image.fit((images[..., 0], labels), tmp_path / "run", **SMALL | {"filters": 0, "epochs": 1})
    before = trained.predict_proba(images[:3, ..., 0])
    run = unchecked(tmp_path / "run")
    config, codec = (json.loads((run / name).read_text()) for name in ("config.json", "codec.json"))
    assert not {"channels", "filters", "width"} & config["model"].keys()
    for name in ("grey", "filters", "perturb", "flip"):
        config["options"].pop(name, None)
        codec.pop(name, None)
    del codec["channels"]
    (run / "config.json").write_text(json.dumps(config))
    (run / "codec.json").write_text(json.dumps(codec))
    loaded = tasks.load(run)
    np.testing.assert_array_equal(loaded.predict_proba(images[:3, ..., 0]), before)
    assert loaded.predict_proba(images[:3]).shape == (3, 2)


@pytest.mark.parametrize(
    ("mode", "pixels", "expected"),
    [
        ("RGB", (255, 0, 51), (1, 0, 0.2)),
        ("RGB", (51, 51, 51), 0.2),
        ("L", 51, 0.2),
        ("RGBA", (255, 0, 0, 51), (1, 0.8, 0.8)),
        ("RGBA", (0, 0, 0, 51), 0.8),
        ("CMYK", (0, 255, 255, 0), (1, 0, 0)),
    ],
)
def test_colour_in_files(tmp_path: Path, mode: str, pixels: Any, expected: Any) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Pillow.new(mode, (2, 1), pixels).save(path)
    np.testing.assert_allclose(picture(path, color=True), np.broadcast_to(expected, (1, 2, *np.shape(expected))))
    assert picture(path).shape == (1, 2)


def test_colour_in_arrays() -> None:
    pixels = np.random.default_rng(0).random((2, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(image_of(torch.from_numpy(pixels), "x", True), pixels)
    assert image_of(pixels[..., :1], "x", True).shape == (2, 4)
    half = np.concatenate([pixels, np.full((2, 4, 1), 0.5)], axis=2)
    np.testing.assert_allclose(image_of(half, "x", True), pixels / 2 + 0.5, atol=1e-6)
    with pytest.raises(BadInput, match=r"x: expected an image \(rows, columns\), got float32 of shape \(2, 4, 3\)"):
        image_of(pixels, "x")
    with pytest.raises(BadInput, match=r"or \(rows, columns, 3\), got float32 of shape \(2, 4, 2\)$"):
        image_of(pixels[..., :2], "x", True)
    with pytest.raises(BadInput, match=r"move the channels to the last axis: images.transpose\(0, 2, 3, 1\)"):
        image.fit((np.zeros((8, 3, 5, 6)), list("ab") * 4))


def test_idx_files_in_colour(tmp_path: Path, elman: Command) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 5, 3)).astype(np.uint8)
    pixels[1] = pixels[1, ..., :1]
    (tmp_path / "x.idx").write_bytes(idx(pixels))
    (tmp_path / "y.idx").write_bytes(idx(np.arange(4, dtype=np.uint8)))
    files = [tmp_path / "x.idx", tmp_path / "y.idx"]
    assert [example.input.shape for example in read(files, False)] == [(2, 5, 3), (2, 5), (2, 5, 3), (2, 5, 3)]
    assert [example.input.shape for example in read(files, False, color=False)] == [(2, 5)] * 4
    np.testing.assert_allclose(next(iter(read(files, False))).input, pixels[0] / 255, atol=1e-6)
    (tmp_path / "x.idx").write_bytes(struct.pack(">4B4I", 0, 0, 8, 4, 4, 3, 2, 5) + pixels.tobytes())
    refused(
        elman("train", "image", *files, "--out", tmp_path / "run"),
        "expected images (N, rows, columns) or (N, rows, columns, 3) and labels (N), got (4, 3, 2, 5) and (4,)",
    )
