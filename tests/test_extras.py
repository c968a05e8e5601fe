"""What needs a package that only an extra brings says so, in one line."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from elman.extras import SMALLEST
from elman.tasks.registry import TASKS
from tests.small import Command
from tests.test_bad_input import refused

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
USERS = EXTRAS.keys() - {"test", "dev", "docs"}
EXTRA_OF = {  # of each task
    "text": "text", "translate": "text", "caption": "text", "forecast": "forecast", "transcribe": "speech",
    "music": "music", "image": "train", "classify": "train", "tag": "train", "series": "train",
}  # fmt: skip
DRAW = """
import elman, torch
layer = elman.LSTM(3, 5)
with elman.flow.record(layer) as recording:
    layer(torch.randn(4, 2, 3))[0].sum().backward()"""
PICTURE = "a picture needs matplotlib: pip install 'elman[draw]'"


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (f"{DRAW}\nelman.draw(layer, 'a.png')", PICTURE),
        (f"{DRAW}\nelman.flow.plots.gradients(recording, 'a.png')", PICTURE),
        (
            "import elman; elman.export.onnx(None, 'a.onnx')",
            "elman.export.onnx needs onnx: pip install 'elman[export]'",
        ),
        ("import elman; elman.tasks.text.fit()", "elman.tasks needs typer: pip install 'elman[tasks]'"),
        ("from elman.__main__ import main; main()", "elman: the command line needs typer: pip install 'elman[train]'"),
    ],
)
def test_parts_without_their_packages(code: str, message: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules.update(typer=None, matplotlib=None, onnx=None)\n{code}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode in (1, 2)
    assert result.stderr.splitlines()[-1].endswith(message)


def requirements(extra: str, of_others: bool = True) -> set[str]:
    """The packages that an extra installs."""
    found = set[str]()
    for requirement in EXTRAS[extra]:
        name, _, others = re.split(r"[>=<]", requirement)[0].partition("[")
        if name != "elman":
            found.add(name)
        elif of_others:
            found.update(*(requirements(other) for other in others.rstrip("]").split(",")))
    return found


def test_no_requirement_stands_twice() -> None:
    names = [name for extra in USERS for name in requirements(extra, of_others=False)]
    names += [re.split(r"[>=<]", requirement)[0] for requirement in PROJECT["dependencies"]]
    assert len(names) == len(set(names))


def test_the_extras() -> None:
    assert EXTRAS.keys() == {
        "draw", "train", "text", "forecast", "speech", "music", "tasks", "export", "tensorboard", "hub", "serve",
        "stream", "tune", "ray", "statsforecast", "aeon", "all", "dev", "docs", "test",
    }  # fmt: skip
    parts = (requirements(extra) for extra in ("text", "forecast", "speech", "music"))
    assert requirements("tasks") == set().union(*parts)
    left_out = {"ray", "statsforecast", "aeon"}  # which are large, or hold others back
    assert requirements("all") == set().union(*(requirements(extra) for extra in USERS - left_out))


def test_the_smallest_extra_is_named() -> None:
    for package, extra in SMALLEST.items():
        having = [other for other in EXTRAS if package in requirements(other)]
        assert extra == min(having, key=lambda other: len(requirements(other))), package


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_task_imports_nothing_of_other_extras(task: str) -> None:
    """So that its extra is enough. `jiwer` and `soundfile` are imported later, by what needs them."""
    installed = requirements(EXTRA_OF[task])
    missing = [package for package in SMALLEST if package not in installed | {"tensorboard"}]
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); from elman.tasks.registry import get_task; "
    subprocess.run([sys.executable, "-c", f"{code}get_task({task!r})"], check=True)


def test_a_command_without_a_package(elman: Command, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("elman.tasks.text.", "elman.data.tokenizers"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    message = "elman: the task text needs tokenizers: pip install 'elman[text]'"
    refused(elman("train", "text", file), message)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("elman.io.run_folder.open_run", lambda path: import_module("jinja2"))
    refused(elman("report", "run"), "elman: this command needs jinja2: pip install 'elman[train]'")
