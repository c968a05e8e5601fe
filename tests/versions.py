"""Run the tests on the lowest or the newest versions of what elman depends on, or on those of constraints.txt.

    python tests/versions.py lowest
    python3.13 tests/versions.py newest -k native
    python3.12 tests/versions.py pinned tests/contract tests/native

Makes a virtual environment in build/, for the Python that runs this, anew each time, and runs pytest in it with the
arguments that follow. `lowest` takes the lower bounds in pyproject.toml, for elman and its extra `all`; `newest` takes
what pip takes where nothing is installed: a CUDA build of torch on Linux, five gigabytes. The last line is a row of a
table: versions and results.
"""

import platform
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
WHICH = ("lowest", "newest", "pinned")
SHOWN = ("torch", "llvmlite", "numpy", "lightning", "polars", "scikit-learn")  # in the row


def lower_bounds(project: dict[str, Any]) -> list[str]:
    """Every direct dependency at its lower bound, as pip's constraints."""
    requirements = [*project["dependencies"], *(r for rs in project["optional-dependencies"].values() for r in rs)]
    bounds = [re.fullmatch(r"([\w.-]+)>=([\w.]+)(,.*)?", requirement) for requirement in requirements]
    return sorted({f"{bound[1]}=={bound[2]}" for bound in bounds if bound})


def row(python: str, which: str, report: Path, arguments: tuple[str, ...]) -> str:
    """Return the row of a table: versions, and what the tests of a report in JUnit's format came to."""
    code = (
        f"from importlib.metadata import version; print(*(f'{{name}} {{version(name)}}' for name in {SHOWN}), sep=', ')"
    )
    versions = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    suite = next(ElementTree.parse(report).iter("testsuite"))
    bad, skipped = int(suite.get("failures", 0)) + int(suite.get("errors", 0)), int(suite.get("skipped", 0))
    passed = int(suite.get("tests", 0)) - bad - skipped
    tests = f"`{' '.join(arguments)}`" if arguments else "all"
    result = f"{passed:,} passed, {skipped} skipped, {bad} failed"
    return f"| {platform.python_version()} | {which} | {versions} | {tests} | {result} |"


def main(which: str, *arguments: str) -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # Our own tools are no promise to users: the tests skip what needs those that are not installed here.
    extras = project["optional-dependencies"]
    test = [requirement for requirement in extras.pop("test") if not requirement.startswith("elman[")]  # in `all`
    extras.pop("dev")
    extras.pop("docs")
    folder = ROOT / "build" / f"versions-{sys.version_info.major}.{sys.version_info.minor}-{which}"
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    constraints, report = folder / "constraints.txt", folder / "report.xml"
    lines = {
        "lowest": lower_bounds(project),
        "newest": list[str](),
        "pinned": (ROOT / "constraints.txt").read_text().splitlines(),
    }
    constraints.write_text("\n".join(lines[which]))
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints)]
    subprocess.run([*pip, "-e", f"{ROOT}[all]", *test], check=True)
    subprocess.run([python, "-m", "pip", "freeze", "--exclude-editable"], check=True)
    command = [python, "-m", "pytest", f"--junitxml={report}", *arguments]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    print(row(python, which, report, arguments))
    return code


if __name__ == "__main__":
    if sys.argv[1:2] not in [[which] for which in WHICH]:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
