"""A text and a model that train in a second, and the command line as a function."""

import random
from pathlib import Path
from typing import NamedTuple

import pytest

from elman.cli import run
from elman.io.checksums import CHECKSUMS

NOUNS, VERBS = ("state", "network", "word", "gate"), ("sees", "keeps", "forgets")
SMALL = ["--hidden", "12", "--embed", "8", "--batch", "16", "--bptt", "10"]
EPOCH = 22  # steps on `text()`: 3,600 tokens in 16 streams, in whole chunks of 10

RUN = {"task": "test", "data": {}, "model": {}, "options": {}, "training": {}}  # a configuration

FLOW = """step,name,steps,horizon,growth,largest,first,last,stuck,norm,clipped
1,recurrent.c_l0,10,4,0.31,1,0.01,0.2,0.1,0.5,0
101,recurrent.c_l0,10,7,0.62,1,0.02,0.2,0.1,1.5,1
201,recurrent.c_l0,10,10,0.81,1,0.03,0.2,0.1,0.7,0
"""  # what --flow-every writes


def text(characters: int = 4500, seed: int = 0) -> str:
    draw = random.Random(seed)
    lines = (f"the {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)}\n" for _ in range(characters))
    return "".join(lines)[:characters]


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    """`elman`, in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: object) -> Said:
        self._capture.readouterr()
        code = run([str(argument) for argument in arguments])
        return Said(code, *self._capture.readouterr())


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def unchecked(run: str | Path) -> Path:
    """A run whose files may be changed: the digests by which changes are noticed are gone."""
    (Path(run) / CHECKSUMS).unlink(missing_ok=True)
    return Path(run)
