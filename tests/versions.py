"""Run the tests on the lowest or the newest versions of what elman depends on.

    python tests/versions.py lowest
    python tests/versions.py newest -k native

Makes a virtual environment in build/versions-lowest or build/versions-newest, anew each time, and runs pytest in it
with the arguments that follow. `lowest` takes the lower bounds in pyproject.toml, for elman and its extra `all`;
`newest` takes what pip takes where nothing is installed: a CUDA build of torch on Linux, five gigabytes.
"""

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def lower_bounds(project: dict[str, Any]) -> list[str]:
    """Every direct dependency at its lower bound, as pip's constraints."""
    requirements = [*project["dependencies"], *(r for rs in project["optional-dependencies"].values() for r in rs)]
    bounds = [re.fullmatch(r"([\w.-]+)>=([\w.]+)(,.*)?", requirement) for requirement in requirements]
    return sorted({f"{bound[1]}=={bound[2]}" for bound in bounds if bound})


def main(which: str, *arguments: str) -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # Our own tools are no promise to users: the tests skip what needs those that are not installed here.
    extras = project["optional-dependencies"]
    test = extras.pop("test")
    extras.pop("dev")
    extras.pop("docs")
    folder = ROOT / "build" / f"versions-{which}"
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(lower_bounds(project) if which == "lowest" else []))
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints)]
    subprocess.run([*pip, "-e", f"{ROOT}[all]", *test], check=True)
    subprocess.run([python, "-m", "pip", "freeze", "--exclude-editable"], check=True)
    return subprocess.run([python, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    if sys.argv[1:2] not in (["lowest"], ["newest"]):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
