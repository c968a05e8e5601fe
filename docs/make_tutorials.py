"""Run the code of the tutorials and write what it prints below it: `python docs/make_tutorials.py [PAGE ...]`.

A page is a script: its `python` and `sh` blocks run from top to bottom in an empty folder, and a `text` block right
after such a block shows what it prints. Pictures that a page shows are copied from that folder. Without arguments, all
pages of docs/tutorials are run.

A block that begins with the comment `# takes N minutes` is slow. The test of the pages runs its trainings for a
moment only, and compares no output from there on.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

PAGES = sorted((Path(__file__).parent / "tutorials").glob("*.md"))
CODE = re.compile(r"^```(?P<language>python|sh)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.M | re.S)
PICTURE = re.compile(r"!\[[^]]*\]\(([\w./]+)\)")
SLOW = re.compile(r"# takes .* minutes?\n")
QUICK = {"new": ["--epochs", "0.01", "--hidden", "8"], "resumed": ["--epochs", "0.02"]}  # options of slow trainings
NUMBER = r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
MEASURED = rf"{NUMBER}(?= (?:ms|s|MB|times|windows/s|tokens/s)\b)"  # times and memory differ from run to run
TOKEN = re.compile(rf"(?P<rest>\.\.\.)|(?P<space>\s+)|(?P<measured>{MEASURED})|(?P<number>{NUMBER})")
WIDTH = "100"  # of tables
MAX_LINE = 116


class Block(NamedTuple):
    """A block of code on a page, and the text below it; None if there is none."""

    language: str
    code: str
    shown: str | None
    is_slow: bool
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code on a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match["language"],
            match["code"],
            match["shown"],
            SLOW.match(match["code"]) is not None,
            text.count("\n", 0, match.start()) + 2,
        )
        for match in CODE.finditer(text)
    ]


def run(page: Path, folder: Path, quick: bool = False) -> Iterator[tuple[Block, str]]:
    """Run a page in a folder; return its blocks with what they print.

    Args:
        page: the page.
        folder: the working directory.
        quick: train for a moment only in slow blocks.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    script = ""
    for block in blocks(page):
        printed = StringIO()
        with chdir(folder), redirect_stdout(printed), redirect_stderr(printed):
            if block.language == "python":
                # Lines are counted as in a script of all blocks, as errors and notes name them.
                code = compile("\n" * script.count("\n") + block.code, f"{page.stem}.py", "exec")
                exec(code, namespace)  # noqa: S102
                script += block.code + "\n"
            else:
                for command in block.code.splitlines():
                    print(_run_command(command, quick and block.is_slow), end="")
        yield block, printed.getvalue()


def _run_command(command: str, quick: bool) -> str:
    """Run a line of a shell; return what a program other than elman prints."""
    from elman.cli import run as run_elman

    program, *arguments = shlex.split(command, comments=True) or [""]
    if program == "elman":
        if quick and arguments[0] == "train":
            arguments += QUICK["resumed" if "--resume" in arguments else "new"]
        code = run_elman(arguments)
        if code != 0:
            raise RuntimeError(f"{command}: exit code {code}")
        return ""
    return subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout  # noqa: S603, S607


def matches(shown: str, printed: str, tolerance: float) -> bool:
    """Return whether a page shows what was printed.

    Args:
        shown: the text of the page; `...` stands for any text.
        printed: what was printed. Line ends and spaces may differ.
        tolerance: the largest relative error of a number. Times and memory are not compared.
    """
    pattern, shown_numbers, end = "", [], 0
    text = shown.strip()
    for token in TOKEN.finditer(text):
        pattern += re.escape(text[end : token.start()])
        end = token.end()
        if token.lastgroup == "number":
            pattern += f"({NUMBER})"
            shown_numbers.append(token[0])
        else:
            pattern += {"rest": ".*?", "space": r"\s+", "measured": NUMBER}[str(token.lastgroup)]
    pattern += re.escape(text[end:])
    match = re.fullmatch(pattern, printed.strip(), re.S)
    return match is not None and all(
        abs(_value(number) - _value(other)) <= tolerance * abs(_value(number))
        for number, other in zip(shown_numbers, match.groups(), strict=True)
    )


def _wrap(line: str) -> str:
    """Wrap a line that is too wide for a page; continuation lines are indented like the line."""
    indent = " " * (len(line) - len(line.lstrip()))
    return "\n".join(textwrap.wrap(line, MAX_LINE, subsequent_indent=indent)) if len(line) > MAX_LINE else line.rstrip()


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def make(page: Path) -> str:
    """Run a page, write what it prints and its pictures; return what has changed, in words."""
    text, changed = page.read_text(encoding="utf-8"), []
    with TemporaryDirectory() as folder:
        for block, printed in run(page, Path(folder)):
            is_same = matches(block.shown or "", printed, 0.0)
            if is_same and "..." in (block.shown or ""):
                continue
            if not is_same:
                changed.append(f"line {block.line}")
            output = "\n".join(_wrap(line) for line in printed.strip("\n").splitlines())
            code = f"```{block.language}\n{block.code}```\n"
            old = code if block.shown is None else f"{code}\n```text\n{block.shown}```\n"
            text = text.replace(old, f"{code}\n```text\n{output}\n```\n" if output else code)
        for picture in dict.fromkeys(PICTURE.findall(text)):
            (page.parent / picture).parent.mkdir(exist_ok=True)
            shutil.copyfile(Path(folder) / picture, page.parent / picture)
    page.write_text(text, encoding="utf-8")
    return f"{page.name}: {', '.join(changed) or 'as before'}"


if __name__ == "__main__":
    os.environ["COLUMNS"] = WIDTH
    pages = [Path(name).resolve() for name in sys.argv[1:]] or PAGES
    # Each page in a process of its own: the peak of the memory of a process never falls. Nothing is compiled before.
    with TemporaryDirectory() as cache, ProcessPoolExecutor(1, max_tasks_per_child=1) as pool:
        os.environ["ELMAN_CACHE"] = cache
        for line in pool.map(make, pages):
            print(line)
