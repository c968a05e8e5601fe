"""Predictions over HTTP are those of `Trained.predict`, of every task, alone and in a batch with others."""

import io
import json
import re
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pillow

from elman.serve.uploads import safe_name
from elman.tasks import Trained
from elman.tasks.registry import NAMES, get_task
from tests.serve.conftest import Serve
from tests.tasks.test_damaged import DATA

Runs = Callable[[str], Trained]
PITCHES = [[[60], [64], [67]] * 4, [[62, 65], []] * 3]
INPUTS: dict[str, list[Any]] = {  # of each task: as many requests
    "image": [[image.tolist()] for image in DATA["image"][0][0][:3]],
    "classify": [["good thing"], ["bad", "odd words and good ones"], ["?"]],
    "tag": [["the cow sees fish"], [["fish"], "the the the the the"], ["cow ."]],
    "forecast": [
        list(np.sin(np.arange(60) / 3) + 2),
        {"time": list(range(40)), "value": [1.5, None] * 20, "series": ["a"] * 40},
    ],
    "translate": [["a house"], ["one", "two words of it"]],
    "caption": [[image.tolist()] for image in DATA["caption"][0][0][:3]],
    "transcribe": [[recording.tolist()] for recording in DATA["transcribe"][0][0][:2]],
    "music": [[piece] for piece in PITCHES],
    "series": [[part.tolist()] for part in DATA["series"][0][0][:3]],
}


def same(rows: Any, expected: Any) -> None:
    """Compare rows; numbers of batches differ by rounding."""
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            close = isinstance(value, float)
            assert value == (pytest.approx(other[name], rel=1e-4, abs=2e-4) if close else other[name])


def posted(client: TestClient, inputs: Any) -> Any:
    answer = client.post("/predict", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("task", INPUTS)
def test_predictions_are_those_of_python(serve: Serve, runs: Runs, task: str) -> None:
    """Of requests that arrive together, too: the service waits for all of them."""
    requests = INPUTS[task]
    alone = serve(task, max_wait=0)
    expected = [runs(task).predict(np.array(inputs) if task == "forecast" and isinstance(inputs, list) else inputs)
                for inputs in requests]  # fmt: skip
    for inputs, rows in zip(requests, expected, strict=True):
        same(posted(alone, inputs), rows)
    together = serve(
        task, max_wait=1000, max_batch=sum(len(inputs) for inputs in requests) if task != "forecast" else 2
    )
    with ThreadPoolExecutor(len(requests)) as threads:
        for rows, answer in zip(expected, threads.map(lambda inputs: posted(together, inputs), requests), strict=True):
            same(answer, rows)


def test_every_task_is_tested() -> None:
    assert {*INPUTS, "text"} == set(NAMES)


def test_the_ends_of_the_training_series(serve: Serve, runs: Runs) -> None:
    same(posted(serve("forecast"), None), runs("forecast").predict())


def sound(samples: Any, rate: int) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return data.getvalue()


def picture(pixels: Any) -> bytes:
    data = io.BytesIO()
    Pillow.fromarray((pixels * 255).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def content(task: str) -> tuple[str, bytes]:
    """The name and the content of a file of inputs."""
    if task in ("image", "caption"):
        return "a picture.png", picture(DATA[task][0][0][0])
    if task == "transcribe":
        return "a recording.wav", sound(DATA[task][0][0][0], 16_000)
    if task == "music":
        return "pieces.json", json.dumps(PITCHES).encode()
    if task == "forecast":
        lines = (f"{i},{value},a" for i, value in enumerate(np.sin(np.arange(60) / 3) + 2))
        return "values.csv", "\n".join(["time,value,series", *lines]).encode()
    if task == "series":
        return "waves.ts", b"@classLabel false\n@data\n1,2,3:4,5,6\n7,8:9,8\n"
    return "lines.txt", b"the good cow\nis bad\n" if task != "tag" else b"the\ncow\n\nfish\n"


@pytest.mark.parametrize("task", INPUTS)
def test_uploaded_files(serve: Serve, runs: Runs, task: str, tmp_path: Path) -> None:
    name, data = content(task)
    path = tmp_path / safe_name(name)
    path.write_bytes(data)
    expected = runs(task).predict([path])
    answer = serve(task).post("/predict/files", files=[("files", (name, data))])
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    same(rows, [
        {key: value.replace(f"{tmp_path}/", "") if isinstance(value, str) else value for key, value in row.items()}
        for row in expected
    ])  # fmt: skip
    assert str(tmp_path) not in json.dumps(rows)


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "a\\b.png", "\x00", ".", "x" * 300, "\u202e.png"]
)
def test_names_of_files_are_not_trusted(serve: Serve, name: str, tmp_path: Path) -> None:
    answer = serve("image").post("/predict/files", files=[("files", (name, b"no image"))])
    assert answer.status_code == 422
    line = answer.json()["error"]
    assert re.match(r"input 1: [\w.-]+: expected an image, got a file that cannot be read as one: ", line, re.ASCII)
    assert "elman-serve" not in line
    assert "/" not in safe_name(name)


def test_a_table_names_no_files(serve: Serve, tmp_path: Path) -> None:
    """A file of another form is refused; its paths are not opened."""
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "secret.png")
    table = f"path,text\n{tmp_path}/secret.png,one\n".encode()
    for task in ("image", "caption", "transcribe"):
        answer = serve(task).post("/predict/files", files=[("files", ("table.csv", table))])
        assert (answer.status_code, "cannot be read as one" in answer.text) == (422, True), answer.text


@pytest.mark.sample(2)
@pytest.mark.parametrize("task", ["image", "caption", "transcribe", "music", "forecast", "series"])
def test_texts_are_no_paths(serve: Serve, task: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    for inputs in ([str(tmp_path / "a.png")], str(tmp_path / "a.png"), [[str(tmp_path)]]):
        answer = serve(task).post("/predict", json={"inputs": inputs})
        assert (answer.status_code, "inputs" in answer.json()["error"]) == (422, True), answer.text


@pytest.mark.parametrize("task", ["classify", "translate"])
def test_names_of_files_are_texts(serve: Serve, task: str, tmp_path: Path) -> None:
    """Not the file of this name, as on the command line."""
    (tmp_path / "a.txt").write_text("good\ngood\ngood\n")
    answer = serve(task).post("/predict", json={"inputs": [str(tmp_path / "a.txt")]})
    assert [row["input"] for row in answer.json()["predictions"]] == [str(tmp_path / "a.txt")]


def test_get_task_says_what_it_can() -> None:
    assert [name for name in NAMES if get_task(name).can_generate] == ["text", "music"]
    assert [name for name in NAMES if not get_task(name).can_predict] == ["text"]
