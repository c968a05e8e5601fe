"""The blocks of code of the documentation, and how each kind is checked.

    pycon      run as a doctest
    python     run
    console    `$ command` lines are run, and what they print is compared with what follows; "..." stands for anything
    sh         commands with placeholders: they are not run, but the command line must accept them
    text       not an example: a formula, a layout, an output that another block has produced
    others     with title="NAME", a file, which is written before the next block runs

A block whose title begins with "Recorded" takes too long for the tests, or needs what is not installed for them:
`python -m tests.recorded` runs it.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from elman.cli import app, run

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<info>.*)\n(?P<code>(?:.*\n)*?)(?P=indent)```$", re.MULTILINE
)
COMPARED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RECORDED = "Recorded"


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str
    code: str

    @property
    def is_recorded(self) -> bool:
        """True if it takes too long for the tests."""
        return self.title.startswith(RECORDED)

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Pairs of a command and what it prints."""
        parts = re.split(r"^\$ ", self.code, flags=re.MULTILINE)[1:]
        pairs = (re.match(r"((?:.*\\\n)*.*\n)", part + "\n") for part in parts)
        return [(pair[1].strip(), part[len(pair[1]) :]) for pair, part in zip(pairs, parts, strict=True) if pair]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]*)"', fence["info"])
        yield Block(fence["language"], title[1] if title else "", textwrap.dedent(fence["code"]))


def run_page(page: Path, with_recorded: bool = False) -> None:
    """Run the blocks of a page in order, in the working directory; those that are recorded only if asked for.

    Raises:
        AssertionError: if an example prints something else than the page says.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page), 1):
        where = f"{page.name}, block {number}"
        if block.is_recorded and not with_recorded:
            continue
        if block.language == "pycon":
            _run_doctest(block.code, names, where)
        elif block.language == "python":
            exec(compile(block.code, where, "exec"), names)
        elif block.language == "console":
            for command, expected in block.commands:
                printed = run_command(command)
                assert is_as(expected, printed), f"{where}: $ {command}\nexpected:\n{expected}\ngot:\n{printed}"
        elif block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.code, encoding="utf-8")


def _run_doctest(code: str, names: dict[str, Any], where: str) -> None:
    test = doctest.DocTestParser().get_doctest(code, names, where, where, 0)
    output = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=output.write, clear_globs=False)
    names.update(test.globs)
    assert runner.failures == 0, output.getvalue()


def is_as(expected: str, printed: str) -> bool:
    """Return whether a command printed what a page says, but for white space and what "..." stands for."""
    return doctest.OutputChecker().check_output(expected, printed, COMPARED)


def run_command(command: str) -> str:
    """Run a command line in the working directory; return what it prints, errors included."""
    words = shlex.split(command, comments=True)
    if words[0] == "elman" and not {"|", "<", ">", "2>"} & set(words):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            run(words[1:])
        return printed.getvalue()
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    result = subprocess.run(
        command, shell=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return result.stdout


def check_usage(line: str) -> None:
    """Parse the `elman` commands in a line of a shell, without running them.

    Raises:
        Exception: if the command line does not accept one.
    """
    for part in re.split(r" (?:\||<|>|2>|&&) ", line):
        words = shlex.split(part, comments=True)
        if words[:1] == ["elman"]:
            command: Any = typer.main.get_command(app)
            words, name = words[1:], "elman"
            while hasattr(command, "commands") and words and words[0] in command.commands:
                command, name = command.commands[words[0]], f"{name} {words[0]}"
                words = words[1:]
            if not hasattr(command, "commands"):
                command.make_context(name, [word for word in words if word != "--help"])
