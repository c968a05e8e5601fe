"""Trainings that are killed come to the same end as one that is not: every number of it."""

import csv
import os
import pty
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from elman.io.checksums import CHECKSUMS
from elman.io.files import TEMPORARY
from elman.io.run_folder import open_run
from elman.training.checkpoints import progress
from tests.server import Server
from tests.small import text

TRAIN = {
    "text": ["--epochs", 3, "--dropout", 0.2, "--hidden", 12, "--embed", 8, "--batch", 4, "--bptt", 10],
    "image": ["--epochs", 3, "--dropout", 0.2, "--hidden", 6, "--batch", 32],
}
Whole = tuple[Path, float]  # a run that nothing interrupts, and its seconds


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def arguments(task: str, folder: Path) -> list[Any]:
    """Of a training; the folder has its data."""
    data = [folder / "text.txt"] if task == "text" else []
    for path in data:
        path.write_text(text(2250))
    return ["train", task, *data, *TRAIN[task]]


@pytest.fixture(scope="module")
def wholes(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    return {}


def whole(task: str, server: Server, folder: Path, wholes: dict[str, Whole]) -> Whole:
    if task not in wholes:
        began = time.monotonic()
        server.start(*arguments(task, folder), "--out", folder / "whole")
        assert server.wait() == 0
        wholes[task] = folder / "whole", time.monotonic() - began
    return wholes[task]


def numbers(run: Path) -> dict[str, Any]:
    """All numbers of a run, but for times."""
    config = {key: value for key, value in open_run(run).config.items() if value is not None}
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{**row, "seconds": None} for row in csv.DictReader(file)]
    checkpoints = {}
    for path in sorted((run / "checkpoints").iterdir()):
        state = torch.load(path, weights_only=True)
        del state["callbacks"]["Clock"]["seconds"]
        loops = state["loops"]["fit_loop"]
        for name in [name for name in loops if "val_loop" in name]:  # Lightning counts validations that are repeated
            del loops[name]
        checkpoints[path.name] = plain(state)
    ended, data = {**config["ended"], "seconds": None}, {**config["data"], "files": None, "name": None}
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in (".safetensors", ".json")}
    for name in ("config.json", CHECKSUMS):
        files.pop(name)
    return {
        **files,
        **checkpoints,
        "rows": rows,
        "scores": config["scores"],
        "config": {**config, "ended": ended, "data": data},
    }


def plain(value: Any) -> Any:
    """Tensors as what can be compared."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def check_same(run: Path, whole: Path) -> None:
    got, expected = numbers(run), numbers(whole)
    assert got.keys() == expected.keys()
    different = [name for name in expected if got[name] != expected[name]]
    assert not different
    assert not [path for path in run.rglob("*") if TEMPORARY.fullmatch(path.name)]


def begin(server: Server, task: str, folder: Path, run: Path, **how: Any) -> None:
    """Start a training, or resume it."""
    if (run / "config.json").exists():
        server.start("train", task, "--resume", run, err=folder / "err", **how)
    else:
        server.start(*arguments(task, folder), "--out", run, err=folder / "err", **how)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "kills"), [("text", 3), ("text", 20), ("image", 20)])
def test_at_any_moment(server: Server, tmp_path: Path, wholes: dict[str, Whole], task: str, kills: int) -> None:
    """At random moments, from the first file to the last; a run that came to its end is followed by another."""
    expected, seconds = whole(task, server, tmp_path, wholes)
    draw, killed, runs = random.Random(kills), 0, 0
    while killed < kills or runs == 0:
        run = tmp_path / f"run{runs}"
        while True:
            begin(server, task, tmp_path, run)
            if killed < kills:
                time.sleep(draw.uniform(0, seconds))
                server.kill()
            code = server.wait()
            assert code in (0, -signal.SIGKILL), (tmp_path / "err").read_text()
            if code == 0:
                break
            killed += 1
            saved = run / "checkpoints" / "last.ckpt"
            assert not saved.exists() or progress(saved).steps > 0
        check_same(run, expected)
        runs += 1


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["two", *(f"part {part} of 8" for part in range(8))])
def test_at_every_file(server: Server, tmp_path: Path, wholes: dict[str, Whole], chosen: str) -> None:
    """When a file of the run is about to be created, opened to write, renamed or removed."""
    expected, _ = whole("text", server, tmp_path, wholes)
    count = 0
    while True:
        first, step = (7, 40) if chosen == "two" else (1 + int(chosen.split()[1]), 8)
        run, kill_at = tmp_path / f"run{count}", first + count * step
        begin(server, "text", tmp_path, run, within=str(run), kill_at=kill_at)
        code = server.wait()
        if code == 0:  # it does not do so much
            break
        assert code == -signal.SIGKILL, (tmp_path / "err").read_text()
        begin(server, "text", tmp_path, run)
        assert server.wait() == 0, (tmp_path / "err").read_text()
        check_same(run, expected)
        count += 1
        if chosen == "two" and count == 2:
            break
    assert count >= 2


@pytest.mark.slow
def test_a_file_that_is_too_large_for_the_disk(server: Server, tmp_path: Path, wholes: dict[str, Whole]) -> None:
    """Half a checkpoint is written, and nothing of it stays."""
    expected, _ = whole("text", server, tmp_path, wholes)
    size = (expected / "checkpoints/last.ckpt").stat().st_size
    run, err = tmp_path / "run", tmp_path / "err"
    begin(server, "text", tmp_path, run, max_bytes=size // 2)
    assert server.wait() == 1
    line = f"elman: --out {run}: cannot be written: last.ckpt: File too large"
    assert err.read_text().splitlines()[-1] == line
    assert not run.exists()
    begin(server, "text", tmp_path, run)
    assert server.wait() == 0
    check_same(run, expected)


@pytest.mark.slow
def test_a_terminal_that_is_closed(server: Server, tmp_path: Path, wholes: dict[str, Whole]) -> None:
    """Whoever writes to it gets an error; the training saves, and ends with 129."""
    expected, _ = whole("text", server, tmp_path, wholes)
    master, slave = pty.openpty()
    run = tmp_path / "run"
    begin(server, "text", tmp_path, run, terminal=os.ttyname(slave))
    os.set_blocking(master, False)
    while not (run / "checkpoints/last.ckpt").exists():
        with suppress(BlockingIOError):
            os.read(master, 1 << 16)  # the progress bar waits for a terminal that is full
        time.sleep(0.01)
    os.close(slave)
    os.close(master)
    assert server.wait() == 128 + signal.SIGHUP
    begin(server, "text", tmp_path, run)
    assert server.wait() == 0
    check_same(run, expected)
