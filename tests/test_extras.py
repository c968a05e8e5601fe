"""What needs a package that only an extra brings says so, in one line."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

DRAW = """
import elman, torch
layer = elman.LSTM(3, 5)
with elman.flow.record(layer) as recording:
    layer(torch.randn(4, 2, 3))[0].sum().backward()"""
PICTURE = "a picture needs matplotlib: pip install 'elman[draw]'"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (f"{DRAW}\nelman.draw(layer, 'a.png')", PICTURE),
        (f"{DRAW}\nelman.flow.plots.gradients(recording, 'a.png')", PICTURE),
        ("import elman; elman.tasks.text.fit()", "elman.tasks needs typer: pip install 'elman[tasks]'"),
        ("from elman.__main__ import main; main()", "elman: the command line needs typer: pip install 'elman[tasks]'"),
    ],
)
def test_parts_without_their_packages(code: str, message: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules.update(typer=None, matplotlib=None)\n{code}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode in (1, 2)
    assert result.stderr.splitlines()[-1].endswith(message)


def test_no_requirement_stands_twice() -> None:
    file = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(file.read_text())["project"]
    users = [
        *project["dependencies"],
        *project["optional-dependencies"]["draw"],
        *project["optional-dependencies"]["tasks"],
    ]
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in users if not requirement.startswith("elman[")]
    assert len(names) == len(set(names))
