"""Runs a loader on damaged files, each a function of the seed and a number, and says what happened."""

import contextlib
import io
import random
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from elman.errors import BadInput
from tests.fuzz.loaders import Loader, Seed
from tests.fuzz.mutations import damaged

READ, REFUSED = "read", "refused"
MAX_MESSAGE = 2000  # characters of the line that says what is wrong


class TooSlow(BaseException):
    """An input takes too long."""


@dataclass
class Outcome:
    """What happened to some inputs.

    counts: of inputs that were read, and that were refused.
    failures: for each other way to end, the numbers of some inputs.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[int]] = field(default_factory=dict)

    def add(self, number: int, ending: str) -> None:
        """Count an input."""
        if ending in (READ, REFUSED):
            self.counts[ending] += 1
        else:
            self.counts["failed"] += 1
            numbers = self.failures.setdefault(ending, [])
            numbers += [number] * (len(numbers) < 3)


class Fuzzer:
    """A loader and its damaged files.

    Args:
        loader: the loader.
        folder: an empty folder to work in.
        seed: with a number, it determines an input.
        seconds: for an input; then it is too slow.
    """

    def __init__(self, loader: Loader, folder: Path, seed: int = 0, seconds: float = 60) -> None:
        self.loader, self.folder, self.seed, self.seconds = loader, folder, seed, seconds
        self.seeds = loader.seeds()
        self._contents = [loader.unpack(seed.data) for seed in self.seeds]
        self._runs = dict[Path, Path]()

    def input(self, number: int) -> Seed:
        """Return the damaged file of this number; below 0, a valid one."""
        if number < 0:
            return self.seeds[number]
        draw = random.Random(f"{self.seed} {number}")
        i = draw.randrange(len(self.seeds))
        data = self.loader.pack(damaged(self._contents[i], self._contents, draw))
        return Seed(data, self.seeds[i].suffix, self.seeds[i].folder)

    def place(self, file: Seed) -> Path:
        """Write a file, and return the path that the loader takes: of the file, or of the run that it is in."""
        if file.folder is None:
            path = self.folder / f"input{file.suffix}"
            path.write_bytes(file.data)
            return path
        if file.folder not in self._runs:
            self._runs[file.folder] = self.folder / file.folder.name
            shutil.copytree(file.folder, self._runs[file.folder])
        run = self._runs[file.folder]
        (run / self.loader.name).write_bytes(file.data)
        return run

    def load(self, number: int) -> None:
        """Load an input; raise whatever the loader raises."""
        path = self.place(self.input(number))
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), _limited(self.seconds):
            self.loader.load(path)

    def ending(self, number: int) -> str:
        """Load an input and return how that ended: `READ`, `REFUSED`, or the exception and its place."""
        try:
            self.load(number)
        except BadInput as error:
            message = str(error)
            if len(message) > MAX_MESSAGE or "\n" in message:
                return f"a message of {message.count(chr(10)) + 1} lines and {len(message)} characters"
            return REFUSED
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return f"{type(error).__name__} in {_place_of(error)}"
        return READ

    def run(self, numbers: Iterable[int]) -> Outcome:
        """Load inputs."""
        outcome = Outcome()
        for number in numbers:
            outcome.add(number, self.ending(number))
        return outcome


def _place_of(error: BaseException) -> str:
    """Return the last lines of elman in a traceback, and the last line of all."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "/elman/" in frame.filename and "/site-packages/" not in frame.filename]
    places = [*inside[-2:], *(frames[-1:] if frames[-1:] != inside[-1:] else [])]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in places)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` in the body after some seconds."""

    def stop(number: int, frame: FrameType | None) -> Any:
        raise TooSlow

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
