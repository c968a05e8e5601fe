"""The wheel has everything. `tests/installed.sh` runs this, and other tests, on an installed elman."""

import importlib
import os
import pkgutil
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest

import elman

CHECKOUT = Path(os.environ.get("ELMAN_CHECKOUT", Path(__file__).parents[1]))
PACKAGE = Path(elman.__file__).parent

pytestmark = pytest.mark.skipif("ELMAN_CHECKOUT" not in os.environ, reason="elman is not installed: make wheel")


def test_elman_is_not_that_of_the_checkout() -> None:
    assert CHECKOUT not in PACKAGE.parents


def test_every_file_of_the_checkout_is_installed() -> None:
    """And no other."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "elman"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = {path.removeprefix("elman/") for path in listed}
    installed = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path.relative_to(PACKAGE).as_posix() for path in installed} == expected
    assert "py.typed" in expected
    for path in installed:
        assert path.read_bytes() == (CHECKOUT / "elman" / path.relative_to(PACKAGE)).read_bytes(), path


def test_every_module_is_imported() -> None:
    names = [module.name for module in pkgutil.walk_packages(elman.__path__, "elman.")]
    assert len(names) > 250
    for name in names:
        if not name.endswith("__main__"):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name != "ray":  # which is not in `all`
                    raise


def test_the_license_and_the_command_are_installed() -> None:
    installed = distribution("elman")
    assert installed.version == elman.__version__
    assert {point.name for point in installed.entry_points if point.group == "console_scripts"} == {"elman"}
    assert any(path.name == "LICENSE" for path in installed.files or [])
