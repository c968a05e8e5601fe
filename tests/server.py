"""Trainings in processes that can be killed: forked from one that has imported what they need, which takes seconds."""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# What a training imports on its way. It starts no threads, which a fork would not have.
IMPORTED = ("lightning.pytorch", "torch.utils.tensorboard", "sklearn.linear_model", "polars", "matplotlib.figure")
SAVE_EVERY = 0.2  # seconds between checkpoints, so that a short training has some that no validation is due for


class Server:
    """Starts `elman` in processes of its own, one at a time."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.server"]
        root, pipe = Path(__file__).parents[1], subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True)
        self._pid: int | None = None  # of the process that was started last, until it is waited for
        self._line("ready")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        assert self._process.stdout
        if self._pid is not None:
            self.kill()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _line(self, about: str) -> int:
        assert self._process.stdout
        number: int = json.loads(self._process.stdout.readline())[about]
        return number

    def start(self, *arguments: object, err: Path | None = None, **how: Any) -> None:
        """Start `elman`. A process that was started before, and that nobody has waited for, is killed.

        Args:
            arguments: of the command line.
            err: the file for standard output and error.
            how: arguments of `_prepare`.
        """
        if self._pid is not None:
            self.kill()
            self.wait()
        order = {"arguments": list(map(str, arguments)), "err": str(err or os.devnull), "how": how}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._pid = self._line("started")

    def kill(self) -> None:
        """Kill the process that was started, as `kill -9` does, if it has not ended."""
        assert self._pid is not None
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Return the exit code of the process that was started; for one that was killed, minus the signal."""
        self._pid, status = None, self._line("ended")
        return os.waitstatus_to_exitcode(status)


def _prepare(within: str = "", kill_at: int = 0, max_bytes: int = 0, terminal: str = "") -> None:
    """Prepare the process of a training.

    Args:
        within: a folder.
        kill_at: kill the process when it is about to create, open, rename or remove a file in that folder, for this
            time.
        max_bytes: the largest file that may be written.
        terminal: the terminal of the process.
    """
    if max_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    if terminal:
        os.setsid()
        descriptor = os.open(terminal, os.O_RDWR)  # the first one of a session becomes its terminal
        for standard in (0, 1, 2):
            os.dup2(descriptor, standard)
    if kill_at:
        times = 0

        def look(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal times
            if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate"):
                return
            path, writes = arguments[0], event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(within):
                times += 1
                if times == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)


def _serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    import torch

    from elman.cli import run
    from elman.tasks.registry import get_task
    from elman.training import callbacks

    for task in ("text", "image"):
        get_task(task)
    torch.set_num_threads(1)
    callbacks.SAVE_EVERY = SAVE_EVERY
    print(json.dumps({"ready": 0}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 99
            try:
                output = os.open(order["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                for descriptor in (1, 2):
                    os.dup2(output, descriptor)
                _prepare(**order["how"])
                code = run(order["arguments"])
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:  # the exit code tells it
                traceback.print_exc()
            finally:
                os._exit(code)
        print(json.dumps({"started": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"ended": status}), flush=True)


if __name__ == "__main__":
    _serve()
