"""A text and a model that train in a second, and the command line as a function."""

import random
from pathlib import Path
from typing import NamedTuple

import pytest

from elman.cli import run

NOUNS, VERBS = ("state", "network", "word", "gate"), ("sees", "keeps", "forgets")
SMALL = ["--hidden", "12", "--embed", "8", "--batch", "4", "--bptt", "10"]


def text(characters: int = 4000, seed: int = 0) -> str:
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
