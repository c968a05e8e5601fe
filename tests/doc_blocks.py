"""The blocks of code of the documentation: how each kind is run, and how what it prints is compared with the page.

A page is a script: its blocks run from top to bottom, in a folder of their own.

    pycon      run as a doctest
    python     run; a `text` block right below has what it prints
    console    `$ command` lines are run, and what they print follows them
    sh         commands with placeholders: they are not run, but the command line must accept them
    text       the output of the block above; else not an example: a formula, a layout
    any        with title="NAME": a file, which is written before the next block runs

In an output, "..." stands for anything, and white space is not compared.

A block whose title begins with "Recorded" takes too long for the tests, or needs what is not installed for them:
`python -m tests.recorded` runs it. If it also has tests="OPTIONS", the tests run its `elman train` commands with these
options added, and compare no output from there on.

A page makes the pictures that it shows: they are copied from the folder in which its blocks have run.
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
from tests.tolerances import PRINTED

ROOT = Path(__file__).parents[1]
NEW_TASK = ROOT / "docs" / "new_task.md"  # tests/test_new_task.py runs it: its files are a package to install
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {NEW_TASK})
WIDTH = "100"  # of the terminal
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<info>.*)\n(?P<code>(?:.*\n)*?)(?P=indent)```$", re.MULTILINE
)
OUTPUT = re.compile(r"\n\n```text\n(?P<shown>(?:.*\n)*?)```$", re.MULTILINE)
PICTURE = re.compile(r"!\[[^]]*\]\((?P<path>[\w./]+)\)")
ERROR = re.compile(r"^elman(?: \w+)*: ", re.MULTILINE)  # of the command line
RECORDED = "Recorded"
NUMBER = r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
MEASURED = rf"{NUMBER}(?= (?:ms|s|MB|windows/s|tokens/s)\b)"
TOKEN = re.compile(rf"(?P<rest>\.\.\.)|(?P<space>\s+)|(?P<measured>{MEASURED})|(?P<number>(?>{NUMBER})(?!\.\.\.))")


class Example(NamedTuple):
    """A command, or all code of a block, and what the page says that it prints."""

    code: str
    shown: str


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str
    in_tests: str | None  # options of its `elman train` commands in the tests
    code: str
    examples: tuple[Example, ...]
    line: int  # of the page, at which the code begins
    number: int  # among the blocks of the page
    span: tuple[int, int]  # in the page, with a `text` block that has the output

    @property
    def is_recorded(self) -> bool:
        """True if it takes too long for the tests."""
        return self.title.startswith(RECORDED)

    @property
    def is_file(self) -> bool:
        """True if its code is a file with the name `title`."""
        return bool(self.title) and not self.is_recorded


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, except those that are outputs of others."""
    text = page.read_text(encoding="utf-8")
    number = end = 0
    for fence in FENCE.finditer(text):
        if fence.start() < end:
            continue
        options = dict(re.findall(r'(\w+)="([^"]*)"', fence["info"]))
        code = textwrap.dedent(fence["code"])
        output = OUTPUT.match(text, fence.end()) if fence["language"] == "python" else None
        end = output.end() if output else fence.end()
        yield Block(
            fence["language"],
            options.get("title", ""),
            options.get("tests"),
            code,
            tuple(_examples(fence["language"], code, output["shown"] if output else "")),
            text.count("\n", 0, fence.start("code")) + 1,
            number,
            (fence.start(), end),
        )
        number += 1


def _examples(language: str, code: str, shown: str) -> Iterator[Example]:
    if language in ("pycon", "python"):
        yield Example(code, shown)
    elif language == "console":
        for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n", part)
            assert command, part
            yield Example(command[0].strip(), part[command.end() :])


def pictures(page: Path) -> list[str]:
    """Return the paths of the pictures that a page makes: it shows them, and a block names them or their folder."""
    code = "\n".join(block.code for block in blocks(page))
    paths = (match["path"] for match in PICTURE.finditer(page.read_text(encoding="utf-8")))
    return [path for path in dict.fromkeys(paths) if re.search(rf"\b{re.escape(Path(path).parts[0])}\b", code)]


def run_page(page: Path, with_recorded: bool = False) -> Iterator[tuple[Block, list[str], bool]]:
    """Run the blocks of a page in order, in the working directory.

    Args:
        page: the page.
        with_recorded: run blocks that are recorded as they stand; else they are left out, or run with `in_tests`.

    Yields:
        Blocks that were run, what each of their examples printed, and whether that can be compared with the page.

    Raises:
        AssertionError: if a command fails, or does not fail where the page shows an error.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    is_comparable, lines = True, 0
    for block in blocks(page):
        where, extra = f"{page.name}, line {block.line}", ""
        if block.is_recorded and not with_recorded:
            if block.in_tests is None:
                continue
            is_comparable, extra = False, block.in_tests
        printed = []
        if block.is_file:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.code, encoding="utf-8")
            continue
        if block.language == "pycon":
            printed = [_run_doctest(block.code, names, where)]
        elif block.language == "python":
            # Lines are counted as in a script of all blocks, as errors and notes name them.
            printed = [_run_python("\n" * lines + block.code, names, f"{page.stem}.py")]
            lines += block.code.count("\n") + 1
        elif block.language == "console":
            for command, shown in block.examples:
                code, text = run_command(f"{command} {extra}" if command.startswith("elman train ") else command)
                assert (code != 0) == bool(ERROR.search(shown)), f"{where}: $ {command}: exit code {code}\n{text}"
                printed.append(text)
        yield block, printed, is_comparable


def check_page(page: Path) -> None:
    """Run a page as the tests do, in the working directory.

    Raises:
        AssertionError: if an example prints something else than the page says, or a picture is missing.
    """
    for block, printed, is_comparable in run_page(page):
        if is_comparable:
            assert not (lines := list(differences(page, block, printed))), "\n".join(lines)
    if all(not block.is_recorded or block.in_tests is not None for block in blocks(page)):
        for picture in pictures(page):
            assert Path(picture).exists(), f"{page.name}: {picture} was not made"


def differences(page: Path, block: Block, printed: list[str], exactly: bool = False) -> Iterator[str]:
    """Yield what a block printed that the page does not say.

    Args:
        page: the page.
        block: a block of it.
        printed: what each example of the block printed.
        exactly: compare numbers exactly; else those of tutorials, which train, may differ a little.
    """
    tolerance = PRINTED if page.parent.name == "tutorials" and not exactly else 0.0
    for (code, shown), text in zip(block.examples, printed, strict=True):
        if not matches("" if block.language == "pycon" else shown, text, tolerance):
            command = f"$ {code}\n" if block.language == "console" else ""
            yield f"{page.name}, line {block.line}: {command}\nexpected:\n{shown}\ngot:\n{text}"


def _run_doctest(code: str, names: dict[str, Any], where: str) -> str:
    """Run a doctest; return its failures."""
    test = doctest.DocTestParser().get_doctest(code, names, where, where, 0)
    output = io.StringIO()
    doctest.DocTestRunner(verbose=False).run(test, out=output.write, clear_globs=False)
    names.update(test.globs)
    return output.getvalue()


def _run_python(code: str, names: dict[str, Any], file: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        exec(compile(code, file, "exec"), names)
    return printed.getvalue()


def run_command(command: str) -> tuple[int, str]:
    """Run a command line in the working directory; return its exit code and what it prints, errors included."""
    words = shlex.split(command, comments=True)
    if words[0] == "elman" and not {"|", "<", ">", "2>"} & set(words):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = run(words[1:])
        return code, printed.getvalue()
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    result = subprocess.run(
        command, shell=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return result.returncode, result.stdout


def matches(shown: str, printed: str, tolerance: float = 0.0) -> bool:
    """Return whether a page shows what was printed.

    Args:
        shown: the text of the page; "..." stands for any text.
        printed: what was printed. White space may differ.
        tolerance: the largest relative error of a number; if it is not 0, times and memory are not compared.
    """
    pattern, numbers = "", []
    for kind, text in _tokens(shown.strip()):
        if kind == "number" and tolerance:
            pattern += f"({NUMBER})"
            numbers.append(text)
        elif kind == "measured" and tolerance:
            pattern += NUMBER
        else:
            pattern += {"rest": ".*?", "space": r"\s+"}.get(kind, re.escape(text))
    match = re.fullmatch(pattern, printed.strip(), re.DOTALL)
    return match is not None and all(
        abs(_value(number) - _value(other)) <= tolerance * abs(_value(number))
        for number, other in zip(numbers, match.groups(), strict=True)
    )


def shorten(shown: str, printed: str) -> str:
    """Return what was printed, without what the page leaves out with "..."; all of it if more than numbers differs."""
    kinds = {"number": NUMBER, "measured": NUMBER, "space": r"\s+", "rest": ").*?("}
    pattern = "".join(kinds.get(kind, re.escape(text)) for kind, text in _tokens(shown.strip()))
    match = re.fullmatch(f"({pattern})", printed.strip(), re.DOTALL)
    return "...".join(match.groups()) if match else printed


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Split an output of a page into pairs of a kind (a group of TOKEN, or "literal") and a text."""
    end = 0
    for token in TOKEN.finditer(text):
        yield "literal", text[end : token.start()]
        yield str(token.lastgroup), token[0]
        end = token.end()
    yield "literal", text[end:]


def _value(number: str) -> float:
    return float(number.replace(",", ""))


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
