"""Load test of `elman serve` over the loopback interface: `python benchmarks/serve.py`.

A language model as that of `make demo`, which writes 100 characters for each request, and a forecaster of hourly
values, which forecasts a day for each request. The clients are in one other process; each sends its next request as
soon as it has the answer to the last. At the end, SIGTERM is sent under full load: the answers that the clients have
must be those that the server says it has sent. Writes benchmarks/results/serve.md.
"""

import argparse
import asyncio
import atexit
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from elman.bench.run import machine
from elman.tasks import forecast, text

RESULTS = Path(__file__).parent / "results" / "serve.md"
CLIENTS = (1, 8, 64)
LENGTH = 100  # characters
WARM_UP = 2.0  # seconds


@dataclass
class Load:
    """What the clients have measured.

    Attributes:
        seconds: of each answer, from the first byte of the request to the last of the answer.
        first: of each answer, to its first bytes after the headers.
        refused: connections that the server has closed without a part of an answer.
    """

    seconds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    refused: int = 0


class Server:
    """`elman serve` in a process of its own."""

    def __init__(self, run: Path, *options: str) -> None:
        command = [sys.executable, "-m", "elman", "serve", str(run), "--port", "0", "--timeout", "300", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        line = self.process.stderr.readline()
        match = re.search(r":(\d+);", line)
        assert match, line
        self.port = int(match[1])
        atexit.register(self.process.kill)  # if a measurement fails

    def stop(self) -> tuple[int, int, int]:
        """Send SIGTERM; return how many requests were answered and have arrived, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        _, printed = self.process.communicate(timeout=120)
        match = re.search(r"(\d+) of (\d+) requests were answered", printed)
        assert match, printed
        return int(match[1]), int(match[2]), self.process.returncode


def request(path: str, body: Any) -> bytes:
    """Return the bytes of a request."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    return head.encode() + b"\r\n\r\n" + content


async def answer(reader: asyncio.StreamReader) -> float:
    """Read an answer to its end, and return when its first bytes after the headers came."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head + await reader.read(1000)
    if length := re.search(rb"content-length: (\d+)", head):
        body = await reader.readexactly(1)
        first = time.perf_counter()
        body += await reader.readexactly(int(length[1]) - 1)
        return first
    first = 0.0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        first = first or time.perf_counter()
        await reader.readexactly(size + 2)
    await reader.readexactly(2)
    return first


async def ask(port: int, content: bytes, begin: float, end: float, load: Load) -> None:
    """Send requests one after the other until the end, and record the answers that come between `begin` and `end`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while (sent := time.perf_counter()) < end:
            writer.write(content)
            first = await answer(reader)
            if begin <= (now := time.perf_counter()) < end:
                load.seconds.append(now - sent)
                load.first.append(first - sent)
    except asyncio.IncompleteReadError as error:
        if error.partial:  # an answer that breaks off
            raise
        load.refused += 1
    except ConnectionError:
        load.refused += 1
    writer.close()


async def measured(port: int, content: bytes, clients: int, seconds: float) -> Load:
    """Load the server with a number of clients."""
    load, begin = Load(), time.perf_counter() + WARM_UP
    await asyncio.gather(*(ask(port, content, begin, begin + seconds, load) for _ in range(clients)))
    return load


async def stopped(server: Server, content: bytes, clients: int) -> tuple[Load, int, int, int]:
    """Stop the server while all clients send requests."""
    load, forever = Load(), time.perf_counter() + 600
    tasks = [asyncio.create_task(ask(server.port, content, 0.0, forever, load)) for _ in range(clients)]
    await asyncio.sleep(2)
    counts = await asyncio.to_thread(server.stop)
    await asyncio.gather(*tasks)
    return load, *counts


def milliseconds(seconds: list[float], percent: float) -> str:
    """Return a percentile in milliseconds; "-" if there was no answer."""
    return f"{1000 * float(np.percentile(seconds, percent)):.1f}" if seconds else "-"


def rows(name: str, run: Path, content: bytes, unit: int, seconds: float, *options: str) -> list[str]:
    """Return the rows of the table for one service; `unit` is the number of characters or forecasts of an answer."""
    server, table = Server(run, *options), []
    for clients in CLIENTS:
        load = asyncio.run(measured(server.port, content, clients, seconds))
        rate = len(load.seconds) / seconds
        times = [milliseconds(load.seconds, 50), milliseconds(load.seconds, 99), milliseconds(load.first, 50)]
        table.append(f"| {name} | {clients} | {rate:.1f} | {rate * unit:,.0f} | {' | '.join(times)} |")
        print(table[-1], flush=True)
    server.stop()
    return table


def loss(name: str, run: Path, content: bytes) -> str:
    """Return a row on SIGTERM under load."""
    load, answered, arrived, code = asyncio.run(stopped(Server(run), content, CLIENTS[-1]))
    row = f"| {name} | {len(load.seconds)} | {answered} | {arrived} | {load.refused} | {code} |"
    print(row, flush=True)
    assert len(load.seconds) == answered == arrived, "requests were lost"
    return row


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row")
    parser.add_argument("--note", default="", help="a line for the page: what else ran on the machine")
    arguments = parser.parse_args()
    hours = np.arange(24 * 120)
    values = 20 + 5 * np.sin(hours * np.pi / 12) + np.random.default_rng(0).normal(size=len(hours))
    with tempfile.TemporaryDirectory() as folder:
        writer, forecaster = Path(folder, "writer"), Path(folder, "forecaster")
        text.fit(None, writer, minutes=0.2)
        forecast.fit(values, forecaster, season=24, horizon=24, minutes=0.2)
        body = {"prompt": "The statement ", "length": LENGTH, "temperature": 0.6, "seed": 1}
        whole, streamed = request("/generate", body), request("/generate", body | {"stream": True})
        day = request("/predict", {"inputs": values[-24 * 14 :].round(3).tolist()})
        table = [
            *rows("text", writer, whole, LENGTH, arguments.seconds),
            *rows("text, streamed", writer, streamed, LENGTH, arguments.seconds),
            *rows("forecast", forecaster, day, 1, arguments.seconds),
            *rows("forecast, one by one", forecaster, day, 1, arguments.seconds, "--max-batch", "1", "--max-wait", "0"),
        ]
        losses = [loss("text", writer, whole), loss("forecast", forecaster, day)]
    page = PAGE.format(machine=machine()["cpu"], note=arguments.note, rows="\n".join(table), losses="\n".join(losses))
    RESULTS.write_text(page, encoding="utf-8")


PAGE = f"""# `elman serve` under load

Written by `python benchmarks/serve.py`. {{machine}}, two cores. {{note}}

Server and clients share the machine: one process of the server, and one process with all clients, each of which sends
its next request as soon as it has the answer to the last.

- **text**: a language model as that of `make demo` (characters, LSTM 384) writes {LENGTH} characters for each request
- **text, streamed**: the same, as server-sent events
- **forecast**: a forecaster (GRU 64) forecasts 24 hours for each request, which has the values of the last 14 days
- **forecast, one by one**: the same with `--max-batch 1 --max-wait 0`, without putting requests together

| service | clients | requests/s | characters or forecasts/s | p50, ms | p99, ms | p50 to the first bytes, ms |
|---|---|---|---|---|---|---|
{{rows}}

## Nothing is lost on SIGTERM

SIGTERM after two seconds of load by {CLIENTS[-1]} clients. Each client ends when its connection is closed without a
part of an answer. The answers that clients have are those that the server says it has sent, and these are all requests
that have arrived.

| service | answers that clients have | answers sent | requests arrived | connections closed | exit code |
|---|---|---|---|---|---|
{{losses}}
"""

if __name__ == "__main__":
    main()
