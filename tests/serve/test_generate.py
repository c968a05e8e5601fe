"""Generation over HTTP: whole, as a stream of events, and continued in sessions."""

import asyncio
import base64
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from torch import Tensor

from elman import tasks
from elman.data import midi
from elman.serve import create_app
from elman.tasks import Trained
from elman.tasks.music.compose import compose
from elman.tasks.text.model import LanguageModel
from elman.tasks.text.sample import TextGeneration
from tests.serve.conftest import Serve, run_async, scope_of
from tests.tasks.test_damaged import made
from tests.tasks.test_export import randomize

Runs = Callable[[str], Trained]
SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_k": 5, "top_p": 0.9}


def generated(client: TestClient, path: str = "/generate", **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(client: TestClient, path: str = "/generate", **body: Any) -> tuple[list[Any], Any]:
    """The steps of a stream, and its last event."""
    with client.stream("POST", path, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        *steps, last = "".join(answer.iter_text()).strip().split("\n\n")
    name, _, data = last.partition("\n")
    assert name == "event: done"
    return [json.loads(step.removeprefix("data: ")) for step in steps], json.loads(data.removeprefix("data: "))


def opened(client: TestClient, **body: Any) -> str:
    answer = client.post("/sessions", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_text_is_that_of_python(serve: Serve, trained: Path) -> None:
    client, prompt = serve("text"), "the state "
    expected = tasks.load(trained).generate(prompt, 40, seed=3, **SAMPLING)
    body: dict[str, Any] = {"prompt": prompt, "length": 40, "seed": 3, **SAMPLING}
    assert generated(client, **body) == {
        "text": expected.removeprefix(prompt), "steps": 40, "finish_reason": "length"
    }  # fmt: skip
    steps, last = events(client, **body)
    assert prompt + "".join(step["text"] for step in steps) == expected
    assert last == {"steps": 40, "finish_reason": "length"}
    without = tasks.load(trained).generate(length=9, seed=3, **SAMPLING)
    assert generated(client, length=9, seed=3, **SAMPLING)["text"] == without


def test_texts_of_several_clients(serve: Serve, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written together, and each is that of its client alone: other prompts, lengths, samplings, sessions."""
    sizes, hidden = list[int](), LanguageModel.hidden

    def seen(self: LanguageModel, tokens: Tensor, state: Any = None) -> Any:
        sizes.append(tokens.shape[1])
        return hidden(self, tokens, state)

    monkeypatch.setattr(LanguageModel, "hidden", seen)
    ways = [SAMPLING, {"temperature": 0}, {}, {"temperature": 2.0, "top_k": 3}, {"top_p": 0.5}]
    prompts = ["the state ", "a", "the gate of the network", "\n", "in", "of a", "the ", "of", "t"]
    bodies = [
        {"prompt": prompt, "length": 60 + 15 * i, "seed": i, **ways[i % len(ways)]} for i, prompt in enumerate(prompts)
    ]
    client = serve("text")
    expected = [generated(client, **body)["text"] for body in bodies]
    assert set(sizes) == {1}
    texts = [""] * len(bodies)

    def write(i: int) -> None:
        if i % 3 == 1:
            path, body = (
                f"/sessions/{opened(client, seed=i)}/generate",
                {k: v for k, v in bodies[i].items() if k != "seed"},
            )
            texts[i] = generated(client, path, **body)["text"]
        elif i % 3 == 2:
            texts[i] = generated(client, **bodies[i])["text"]
        else:
            texts[i] = "".join(step["text"] for step in events(client, **bodies[i])[0])

    threads = [threading.Thread(target=write, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == expected
    assert max(sizes) > 1
    whole = tasks.load(trained).generate("the state ", 60, seed=0, **SAMPLING)
    assert whole == "the state " + expected[0]


def test_a_session_continues(serve: Serve) -> None:
    """The output of several requests is that of one."""
    client = serve("text")
    whole = generated(client, prompt="the ", length=30, seed=5, **SAMPLING)["text"]
    name = opened(client, seed=5)
    path = f"/sessions/{name}/generate"
    first = generated(client, path, prompt="the ", length=10, **SAMPLING)["text"]
    steps, _ = events(client, path, length=15, **SAMPLING)
    last = generated(client, path, length=5, **SAMPLING)["text"]
    assert first + "".join(step["text"] for step in steps) + last == whole


def test_a_prompt_in_a_session(serve: Serve, trained: Path) -> None:
    client = serve("text")
    path = f"/sessions/{opened(client, seed=5)}/generate"
    generated(client, path, prompt="the ", length=10)
    after = generated(client, path, prompt=" network", length=10)["text"]
    loaded = tasks.load(trained)
    generation = TextGeneration(loaded.model, loaded.codec, 5)  # type: ignore[arg-type]
    texts = []
    for prompt in ("the ", " network"):
        generation.read(prompt)
        texts.append(generation.output(list(generation.steps(10, temperature=0.8, top_k=0, top_p=1.0)))["text"])
    assert after == texts[1]


def test_sessions_are_deleted(serve: Serve) -> None:
    client = serve("text", max_sessions=1)
    name = opened(client)
    assert client.post("/sessions", json={}).status_code == 429
    assert client.get("/health").json()["sessions"] == 1
    assert client.delete(f"/sessions/{name}").status_code == 204
    for answer in (client.delete(f"/sessions/{name}"), client.post(f"/sessions/{name}/generate", json={})):
        assert answer.status_code == 404
        assert answer.json()["error"] == f"expected an open session, got '{name}', which has ended or never was"
    assert opened(client) != name


def test_a_refused_prompt_changes_no_session(serve: Serve) -> None:
    client = serve("text", max_steps=10)
    name = opened(client, seed=5)
    for prompt in ("\u4e16\u754c", "x" * 11):
        assert client.post(f"/sessions/{name}/generate", json={"prompt": prompt}).status_code == 422
    text = generated(client, f"/sessions/{name}/generate", prompt="the ", length=9)["text"]
    assert text == generated(client, prompt="the ", length=9, seed=5)["text"]


def test_time_is_limited(serve: Serve) -> None:
    client = serve("text", timeout=0.2, max_length=10**9)
    answer = client.post("/generate", json={"length": 10**9})
    assert answer.status_code == 504
    assert "or more in time; ask for a smaller length" in answer.json()["error"]
    steps, last = events(client, length=10**9)
    assert last == {"steps": len(steps), "finish_reason": "time"}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_stream(trained: Path, stream: bool) -> None:
    app, body = create_app(trained, max_length=10**9), json.dumps({"length": 10**9, "stream": stream}).encode()
    service, messages = app.state.service, [{"type": "http.request", "body": body}]
    sent = list[Any]()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        while not (service.worker.waiting if not stream else len(sent) > 1):
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        await asyncio.sleep(0)

    async def run() -> None:
        await app(scope_of("/generate"), receive, send)
        while service.worker.waiting:
            await asyncio.sleep(0.01)

    run_async(asyncio.wait_for(run(), 20))
    assert bool(sent) == stream
    assert app.state.requests.answered == 0


@pytest.mark.parametrize("steps", ["frames", "events"])
def test_music(serve: Serve, runs: Runs, steps: str, tmp_path: Path) -> None:
    if steps == "events":
        run = tasks.load(made("music", tmp_path / "run", as_="events", output="chain"))
        randomize(run)
    else:
        run = runs("music")
    client, prompt = serve(run), [[60], [60, 64], []]
    answer = generated(client, prompt=prompt, length=12, seed=2)
    notes = run._task.start_generation(run._loaded, 2)
    notes.read(prompt)
    expected = list(notes.steps(12, temperature=0.8, top_k=0, top_p=1.0))
    assert answer["steps"] == len(expected)
    (tmp_path / "a.mid").write_bytes(base64.b64decode(answer["midi"]))
    if answer["notes"]:
        assert midi.read(tmp_path / "a.mid", answer["grid"]).notes.tolist() == answer["notes"]
    streamed, last = events(client, prompt=prompt, length=12, seed=2)
    assert streamed == expected
    assert last["steps"] == len(expected)
    whole = compose(run.model, None, 12, seed=4, temperature=0.8, top_k=0, top_p=1.0)
    assert generated(client, length=12, seed=4)["notes"] == whole.notes.tolist()
