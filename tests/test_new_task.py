"""docs/new_task.md: its files are written, installed as a package and used as the page says."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.doc_blocks import NEW_TASK, ROOT, blocks

FILES = {block.title: block.code for block in blocks(NEW_TASK) if block.is_file}
MAX_LINES = 300  # of the package


def _blocks(language: str) -> str:
    return "\n".join(block.code for block in blocks(NEW_TASK) if block.language == language and not block.is_file)


def _install(folder: Path) -> None:
    """Write the files of the page, and what an installer writes of an editable package: its entry points."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()) for group, points in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))


def _run(folder: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(folder), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of the page installed."""
    folder = tmp_path_factory.mktemp("project")
    _install(folder)
    return folder


def test_the_task_works_on_the_command_line_and_in_python(project: Path) -> None:
    printed = {}
    for line in _blocks("sh").splitlines():
        program, *arguments = shlex.split(line)
        printed[arguments[0]] = _run(project, *(["-m", "elman"] if program == "elman" else []), *arguments)
    head, row = printed["predict"].splitlines()
    assert head == "input,number"
    assert row.startswith("0.5 -0.2 0.1 0.3,")
    assert "linear regression" in printed["train"]
    assert (project / "crossings" / "report.html").exists()
    (project / "blocks.txt").write_text(_blocks("pycon"))
    _run(project, "-m", "doctest", "blocks.txt")


def test_the_task_is_listed_with_its_options(project: Path) -> None:
    script = "import sys; from elman.cli import run; run(['train', '--help']); print('torch' in sys.modules)"
    listed = _run(project, "-c", script)
    assert re.search(r"regress +Train a model that predicts a number", listed)
    assert listed.splitlines()[-1] == "False"  # the help imports nothing heavy


def test_two_packages_cannot_have_one_name(tmp_path: Path) -> None:
    _install(tmp_path)
    with next(tmp_path.glob("*.dist-info/entry_points.txt")).open("a") as file:
        file.write("\ntext = elman_regress\n")
    with pytest.raises(AssertionError, match=r"expected one package for the task 'text', got elman\.tasks\.text"):
        _run(tmp_path, "-c", "import elman.tasks")


def test_what_a_package_needs_is_named(tmp_path: Path) -> None:
    _install(tmp_path)
    (tmp_path / "elman_regress" / "options.py").write_text("import no_such_package\n")
    expected = "elman.tasks: the task 'regress' needs no_such_package; install that, or uninstall the package"
    with pytest.raises(AssertionError, match=expected):
        _run(tmp_path, "-m", "elman", "--help")


def test_the_task_is_small() -> None:
    lines = [line for name, text in FILES.items() if name.startswith("elman_") for line in text.splitlines()]
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 120
