"""Services of models with random weights."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from elman import tasks
from elman.serve import create_app
from elman.tasks import Trained
from tests.tasks.test_damaged import made
from tests.tasks.test_export import randomize

Serve = Callable[..., TestClient]


def run_async(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine in a thread, since tests with a browser, in the same process, leave a running event loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


def scope_of(path: str) -> dict[str, Any]:
    """What a server tells an application of a POST of JSON."""
    return {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
        "server": ("testserver", 80), "client": ("testclient", 1), "root_path": "",
    }  # fmt: skip


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """The model of a task, made when it is first asked for."""
    known = dict[str, Trained]()

    def run(task: str) -> Trained:
        if task not in known:
            known[task] = tasks.load(made(task, tmp_path_factory.mktemp(task) / "run"))
            randomize(known[task])
        return known[task]

    return run


@pytest.fixture
def serve(runs: Callable[[str], Trained], trained: Path) -> Iterator[Serve]:
    """A client of the service of a task, or of a model."""
    clients = list[TestClient]()

    def client(task: str | Trained, **options: Any) -> TestClient:
        run = trained if task == "text" else runs(task) if isinstance(task, str) else task
        clients.append(TestClient(create_app(run, **options), raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield client
    for entered in clients:
        entered.__exit__(None, None, None)
