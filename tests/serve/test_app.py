"""What is refused, with which status and which line; and what the service says of itself."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import elman
from elman import tasks
from elman.errors import BadInput, Failure
from elman.serve import create_app
from elman.serve.refused import MAX_LINE
from elman.serve.service import Service
from elman.tasks import Trained
from tests.serve.conftest import Serve, run_async, scope_of

Runs = Callable[[str], Trained]
IMAGE = [[0.0] * 8] * 8
JSON = {"Content-Type": "application/json"}


def refused(answer: Any, status: int, *parts: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert list(body) == ["error"]
    assert len(body["error"]) <= MAX_LINE
    assert body["error"].isprintable()
    assert all(part in body["error"] for part in parts), body


REFUSED: dict[str, tuple[Any, int, list[str]]] = {
    "no JSON": (b"{", 422, ["EOF"]),
    "no object": (b"[]", 422, ["expected"]),
    "no inputs": (b"{}", 422, ["inputs: expected a list, got nothing"]),
    "unknown": (b'{"inputs": [], "a": 1}', 422, ["a: unknown name, expected one of inputs"]),
    "a number": (b'{"inputs": 1}', 422, ["inputs: expected a list, got 1"]),
    "nan": (b'{"inputs": [[[NaN]]]}', 422, ["inputs[0][0][0]: expected a number or a list, got nan"]),
    "infinite": (b'{"inputs": [[[1e999]]]}', 422, ["inputs[0][0][0]: expected a number or a list, got inf"]),
    "deep": (b'{"inputs": ' + b"[" * 100_000, 422, ["recursion"]),
    "digits": (b'{"inputs": [[[' + b"9" * 10_000 + b"]]]}", 422, ["number out of range at line 1 column"]),
    "bytes": (b'{"inputs": "\xff"}', 422, ["invalid unicode code point at line 1"]),
    "half a character": (b'{"inputs": "\\ud800"}', 422, ["at line 1 column"]),
    "ragged": (b'{"inputs": [[[0, 0], [0]]]}', 422, ["input 1: image: expected an image (rows, columns)"]),
    "white": (b'{"inputs": [[[7, 0]]]}', 422, ["input 1: image: expected numbers from 0 to 1, got 7"]),
    "empty": (b'{"inputs": [[]]}', 422, ["input 1: image: expected an image (rows, columns)"]),
}


@pytest.mark.parametrize("body", REFUSED)
def test_inputs_that_cannot_be_used(serve: Serve, body: str) -> None:
    content, status, parts = REFUSED[body]
    refused(serve("image").post("/predict", content=content, headers=JSON), status, *parts)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_only_json(serve: Serve, media_type: str | None) -> None:
    """A form on a page of somebody else can send the others without asking."""
    headers = {"Content-Type": media_type} if media_type else None
    refused(serve("image").post("/predict", content=b'{"inputs": []}', headers=headers), 415, "application/json")


OF_GENERATION: list[tuple[dict[str, Any], str]] = [
    ({"length": 0}, "length: expected an integer from 1 to 2000, got 0"),
    ({"length": 2001}, "length: expected an integer from 1 to 2000, got 2001"),
    ({"length": "9"}, "length: expected an integer from 1 to 2000, got '9'"),
    ({"temperature": -1}, "temperature: expected a number of at least 0, got -1"),
    ({"top_p": 0}, "top_p: expected a number greater than 0 and at most 1, got 0"),
    ({"seed": 2**64}, "seed: expected an integer of at least 0"),
    ({"prompt": 1}, "prompt: expected a text, got 1"),
    ({"prompt": "\u4e16\u754c"}, "prompt: expected characters or words of the training text, got none: '\u4e16\u754c'"),
    ({"tempreature": 1}, "tempreature: unknown name, expected one of prompt, length, stream, temperature"),
    ({"prompt": "x" * 10_001}, "prompt: expected at most 10,000 time steps, got more"),
]


@pytest.mark.parametrize(("body", "message"), OF_GENERATION)
def test_generation_that_cannot_be(serve: Serve, body: dict[str, Any], message: str) -> None:
    refused(serve("text").post("/generate", json=body), 422, message)


@pytest.mark.parametrize("temperature", [0, 5e-324, 1e-300, 1e308])
def test_any_temperature(serve: Serve, temperature: float) -> None:
    assert serve("text").post("/generate", json={"temperature": temperature, "length": 3}).status_code == 200


def test_too_many_inputs(serve: Serve) -> None:
    client = serve("image", max_inputs=2)
    assert len(client.post("/predict", json={"inputs": [IMAGE] * 2}).json()["predictions"]) == 2
    refused(client.post("/predict", json={"inputs": [IMAGE] * 3}), 422, "inputs: expected at most 2, got more")
    answer = serve("image", max_steps=1).post("/predict", json={"inputs": [IMAGE]})
    refused(answer, 422, "inputs: expected at most 1 time steps, got ")


def test_too_large_a_body(serve: Serve) -> None:
    client, message = serve("image", max_size=0.001), "expected a request of at most 0.001 MB, got a larger one"
    refused(client.post("/predict", content=b" " * 1001, headers=JSON), 413, message)
    parts = (b" " * 100 for _ in range(11))  # sent in chunks, without a length
    refused(client.post("/predict", content=parts, headers=JSON), 413, message)
    refused(client.post("/predict/files", files=[("files", ("a.png", b" " * 1001))]), 413, message)
    refused(client.post("/predict", content=b" " * 1000, headers=JSON), 422)


def test_too_slow_a_body(runs: Runs) -> None:
    app = create_app(runs("image"), timeout=0.05)
    sent = list[Any]()

    async def receive() -> Any:
        await asyncio.sleep(10)

    async def send(message: Any) -> None:
        sent.append(message)

    run_async(app(scope_of("/predict"), receive, send))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"] == "expected the request in 0.05 seconds, got a part of it"


def test_no_files(serve: Serve) -> None:
    client, message = serve("image"), "expected a form (multipart/form-data) with one or several files, named files"
    for answer in (
        client.post("/predict/files"),
        client.post("/predict/files", data={"files": "a"}),
        client.post("/predict/files", files=[("file", ("a.png", b""))]),
    ):
        refused(answer, 422, message)
    damaged = client.post("/predict/files", content=b"--", headers={"Content-Type": "multipart/form-data; boundary=a"})
    assert damaged.status_code in (400, 422)
    damaged = client.post("/predict/files", content=b"--", headers={"Content-Type": "multipart/form-data"})
    refused(damaged, 400, "oundary")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/predict", 405), ("POST", "/generate", 404)])
def test_endpoints_that_do_not_exist(serve: Serve, method: str, path: str, status: int) -> None:
    answer = serve("image").request(method, path)
    endpoints = "GET /, GET /health, POST /predict, POST /predict/files"
    refused(answer, status, f"expected one of {endpoints}; got {method} {path}")
    assert status != 405 or answer.headers["allow"] == "POST"


def test_control_characters_are_escaped(serve: Serve) -> None:
    refused(serve("image").get("/%1B[31m%07" + "a" * 999), 404, r"\x1b[31m")


@pytest.mark.parametrize(("error", "status", "message"), [
    (Failure("diverged"), 500, "diverged"), (KeyError("secret"), 500, "the service has failed; its log has the reason"),
    (BadInput("odd; pass --skip-bad to skip it"), 422, "odd"), (MemoryError(), 500, "the service has failed"),
])  # fmt: skip
def test_errors_within(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, message: str
) -> None:
    def fail(*arguments: Any) -> Any:
        raise error

    client = serve("image")
    monkeypatch.setattr("elman.tasks.supervised.SupervisedTask.predict_requests", fail)
    answer = client.post("/predict", json={"inputs": [IMAGE]})
    refused(answer, status, message)
    assert "secret" not in answer.text
    assert "skip" not in answer.text


def test_an_error_in_a_stream(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([[{"text": "a"}], [KeyError("secret")]])
    client = serve("text")
    monkeypatch.setattr("elman.tasks.text.sample.TextGeneration.advance", lambda *arguments: next(results))
    text = client.post("/generate", json={"stream": True}).text
    failed = {"error": "the service has failed; its log has the reason"}
    assert text == f'data: {{"text": "a"}}\n\nevent: error\ndata: {json.dumps(failed)}\n\n'


def test_a_request_that_takes_too_long(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(service: Service, values: Any) -> Any:
        await asyncio.sleep(60)

    client = serve("image", timeout=0.05)
    monkeypatch.setattr(Service, "predict", never)
    answer = client.post("/predict", json={"inputs": [IMAGE]})
    refused(answer, 504, "expected to answer in 0.05 seconds; send fewer inputs")


def test_what_is_served(serve: Serve, runs: Runs) -> None:
    answer = serve("image", max_inputs=7).get("/").json()
    run = runs("image")
    assert answer["elman"] == elman.__version__
    assert (answer["task"], answer["model"], answer["run"]) == ("image", run.model.title, "run")
    assert answer["classes"] == run.classes_.tolist()
    assert answer["limits"]["max_inputs"] == 7
    assert answer["endpoints"] == ["GET /", "GET /health", "POST /predict", "POST /predict/files"]
    assert str(run.run.path.parent) not in json.dumps(answer)
    assert serve("image").get("/health").json() == {"status": "ok", "waiting": 0, "sessions": 0}


def test_scores_that_are_not_finite(serve: Serve, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runs("image").run.config, "scores", {"GRU": {"accuracy": float("nan")}})
    assert serve("image").get("/").json()["scores"] == {"GRU": {"accuracy": None}}


def test_no_notes_of_requests(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """They are for the command line, and strangers could fill the log."""
    assert serve("text").post("/generate", json={"prompt": "the \u4e16", "length": 1}).status_code == 200
    values = {"time": [0, 1, 1.2, *range(2, 40)], "value": [1.0] * 41}
    serve("forecast").post("/predict", json={"inputs": values})
    assert capsys.readouterr() == ("", "")


def test_options(runs: Runs) -> None:
    run = runs("translate").run.path
    assert create_app(run, beam=1).state.endpoints
    with pytest.raises(TypeError, match="create_app: skip_bad: expected one of"):  # it would have no effect
        create_app(run, skip_bad=True)
    with pytest.raises(TypeError, match="create_app: max_btach: expected one of max_batch"):
        create_app(run, max_btach=1)
    with pytest.raises(ValueError, match="create_app: max_batch: expected an integer of at least 1, got 0"):
        create_app(run, max_batch=0)
    with pytest.raises(BadInput, match="no-such"):
        create_app(run.parent / "no-such")


def test_it_can_be_mounted(runs: Runs) -> None:
    outer = FastAPI()
    outer.mount("/digits", create_app(runs("image")))
    client = TestClient(outer)
    rows = client.post("/digits/predict", json={"inputs": [IMAGE]}).json()["predictions"]
    assert rows == runs("image").predict([np.array(IMAGE)])


def test_a_task_of_another_package_is_served(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it inherits: the server knows no task."""
    source = "".join(path.read_text(encoding="utf-8") for path in Path(str(elman.serve.__path__[0])).glob("*.py"))
    assert not [name for name in tasks.TASKS if f'"{name}"' in source]
