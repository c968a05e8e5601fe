"""The command `elman serve`: it listens, and SIGTERM loses no request."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from elman.errors import BadInput
from elman.serve.server import listen
from tests.small import Command
from tests.test_bad_input import refused


class Service:
    """`elman serve` in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "elman", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        self.first = self.process.stderr.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+);", self.first)
        assert match, self.first
        self.port = int(match[1])

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code and what the process prints."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=300)
        return self.process.returncode, errors


def post(connection: HTTPConnection, path: str, body: Any) -> tuple[int, bytes]:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_sigterm_loses_no_request(trained: Path) -> None:
    """Each request is answered as a whole, or refused before any of it is answered."""
    service, answers, errors = Service(trained), list[tuple[int, bytes]](), list[Exception]()

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", service.port)
        try:
            while True:
                answers.append(post(connection, "/generate", {"prompt": "the ", "length": 100, "seed": 0}))
        except (OSError, HTTPException) as error:
            errors.append(error)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(answers) < 20:
        time.sleep(0.01)
    code, printed = service.stop(signal.SIGTERM)
    for thread in threads:
        thread.join()
    count = len(answers)
    assert (code, printed) == (143, f"stopped; {count} of {count} requests were answered\nelman: terminated\n")
    assert {status for status, _ in answers} == {200}
    assert len({text for _, text in answers}) == 1
    assert all(isinstance(error, ConnectionError) for error in errors)  # none ends within an answer


def test_an_address_that_is_not_free(elman: Command, trained: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused(
            elman("serve", trained, "--port", port),
            f"--host 127.0.0.1 --port {port}: expected a free address of this machine, got Address already in use",
        )
    with pytest.raises(BadInput, match=r"--host 192\.0\.2\.1 --port 0: expected a free address of this machine"):
        listen("192.0.2.1", 0)


def test_answers_are_sent_at_once() -> None:
    """asyncio sets TCP_NODELAY on sockets that name their protocol alone."""
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_bad_options(elman: Command, trained: Path) -> None:
    refused(elman("serve", trained, "--port", 70_000), "elman serve", "--port", "from 0 to 65535", "70000")
    refused(elman("serve", trained, "--max-batch", 0), "elman serve", "--max-batch", "of at least 1", "0")
    refused(elman("serve", trained, "--beam", 2), "--beam: not an option of the task")
    refused(elman("serve", trained / "no-such"), "no-such: expected a run folder, but it does not exist")


def test_without_its_packages(elman: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("elman.serve.") and name != "elman.serve.options"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    refused(elman("serve", trained), "elman: elman serve needs fastapi: pip install 'elman[serve]'")
