"""Text from data is text wherever it is printed: no markup, no emoji codes, no control characters."""

import ast
import io
import json
import sys
from pathlib import Path

import pytest

import elman as package
from elman.cli import run
from elman.io.run_folder import open_run
from elman.io.terminal import escaped
from elman.report import rows, tables
from elman.report.shown import Scores
from tests.small import Command

ODD = "x [/b] [b]y[/b] :heart: \x1b]0;title\x07 \x1b[31m \x9b2J \x08 \x7f"
SAFE = r"x [/b] [b]y[/b] :heart: \x1b]0;title\x07 \x1b[31m \x9b2J \x08 \x7f"


class Terminal(io.StringIO):
    """A terminal, as far as a program can see."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard output and standard error, from here to the end of the test."""
    found = Terminal()
    monkeypatch.setattr(sys, "stdout", found)
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    return found


def test_controls_are_written_as_python_writes_them() -> None:
    assert escaped(ODD) == SAFE
    assert escaped("one\ttwo\r\nthree\rfour\n") == "one\ttwo\r\nthree\\rfour\n"


def test_cells_and_lines_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    rows.write([[{ODD: ODD}]], "table", None)
    assert terminal.getvalue().count(SAFE) == 2
    console = tables.console()
    console.print(ODD)
    with console.status(ODD):
        pass
    tables.scores(Scores({ODD: {"loss": 1.0}}, counted=ODD), console)
    assert terminal.getvalue().count(SAFE) >= 5
    assert not set("\x07\x08\x7f\x9b") & set(terminal.getvalue())


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_files_and_pipes_get_exact_text(format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows.write([[{"input": "\x1b[b]"}]], format, None)
    expected = {"csv": "input\n\x1b[b]\n", "jsonl": json.dumps({"input": "\x1b[b]"}) + "\n"}[format]
    assert capsys.readouterr().out == expected
    rows.write([[{"input": "\x1b[b]"}]], format, tmp_path / "rows")
    assert (tmp_path / "rows").read_text() == expected


def test_a_run_in_a_folder_with_brackets(elman: Command, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    path = copied.rename(copied.with_name("[b]a [1]"))
    opened = open_run(path)
    opened.update(data=opened.config["data"] | {"name": "my [/red] text :smile:"})
    said = elman("info", path)
    assert str(path) in said.out
    assert "my [/red] text :smile:" in said.out


def test_all_that_commands_write_is_guarded(monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    terminal = on_a_terminal(monkeypatch)
    assert run(["generate", str(trained), "--length", "5", "--prompt", "the \x1b]0;\x07"]) == 0
    assert run(["evaluate", str(trained), "a\x1b[31m"]) == 2
    written = terminal.getvalue()
    assert r"the \x1b]0;\x07" in written
    assert r"a\x1b[31m: expected a file" in written
    assert not set("\x1b\x07") & set(written)
    assert sys.stdout is terminal


def test_tasks_print_through_one_door() -> None:
    """A bare print would hand texts from data to the terminal as they are, while a progress bar stands there."""
    bare = [
        f"{path.name}: line {node.lineno}"
        for path in (Path(package.__file__).parent / "tasks").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not bare
