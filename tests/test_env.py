"""`elman env` describes the environment for bug reports, of a broken installation too."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import llvmlite
import numpy as np
import pytest
import torch

import elman as package
from elman.engine import EXECUTORS
from elman.environment import as_text, environment
from tests.small import Command


def in_process(code: str, **variables: str) -> str:
    """Standard output of a process that runs the code."""
    settings = os.environ | variables
    return subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True).stdout


def test_text(elman: Command) -> None:
    printed = elman("env")
    assert (printed.code, printed.err) == (0, "")
    for part in (package.__version__, platform.python_version(), torch.__version__, f"numpy {np.__version__}"):
        assert part in printed.out
    assert f"llvmlite {llvmlite.__version__}, LLVM " in printed.out
    assert f"threads {torch.get_num_threads()}" in printed.out
    assert "-bit vectors, bf16 by " in printed.out
    assert ", ".join(EXECUTORS) in printed.out


def test_json_has_the_same_parts(elman: Command) -> None:
    description = json.loads(elman("env", "--json").out)
    expected = environment()
    assert description.keys() == expected.keys()
    changing = {"kernel_cache"}  # other tests compile meanwhile
    assert all(description[name] == expected[name] for name in description.keys() - changing)
    assert all("error" not in part for part in description.values())
    assert len(as_text(description).splitlines()) == len(description)
    assert description["torch"]["cuda"] == torch.version.cuda
    assert description["packages"]["lightning"] == version("lightning")
    assert description["compiler"]["vector_bits"] in (128, 256, 512)
    assert description["system"]["usable_cores"] <= description["system"]["cores"]


@pytest.mark.skipif(sys.platform != "linux", reason="torch is built with another OpenMP library")
def test_the_openmp_library_is_a_file_of_the_process() -> None:
    path = environment()["openmp"]["library"]
    assert str(Path(path).resolve()) in Path("/proc/self/maps").read_text()


def test_the_kernel_cache_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path))
    (tmp_path / "one.o").write_bytes(bytes(100))
    (tmp_path / "two.o").write_bytes(bytes(150))
    (tmp_path / "tmp123").write_bytes(bytes(7))  # of a process that is writing
    description = environment()
    assert description["kernel_cache"] == {"folder": str(tmp_path), "kernels": 2, "bytes": 250, "not_used": None}
    assert description["variables"]["ELMAN_CACHE"] == str(tmp_path)
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path / "missing"))
    assert environment()["kernel_cache"]["kernels"] == 0


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def version_without_mido(name: str) -> str:
        if name == "mido":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("elman.environment.version", version_without_mido)
    description = environment()
    assert description["packages"]["mido"] is None
    assert description["extras"]["music"] == ["mido"]
    assert description["extras"]["text"] == []
    assert "mido not installed" in as_text(description)
    assert "music (missing: mido)" in as_text(description)


def test_a_checkout_that_is_not_installed(elman: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("elman.environment.requires", no_package)
    printed = elman("env")
    assert printed.code == 0
    assert "PackageNotFoundError: No package metadata was found for elman" in printed.out
    assert torch.__version__ in printed.out


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["torch", "llvmlite", "numpy"])
def test_a_broken_installation(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from elman.cli import run; print('code', run(['env']))"
    printed = in_process(code, ELMAN_NATIVE="1")
    halted = f"ModuleNotFoundError: import of {missing} halted"
    assert halted in next(line for line in printed.splitlines() if line.startswith("executors"))
    assert f"python        {platform.python_version()}" in printed
    assert printed.endswith("code 0\n")


@pytest.mark.slow
def test_without_the_packages_of_the_command_line() -> None:
    missing = "sys.modules.update(dict.fromkeys(['typer', 'rich', 'lightning', 'matplotlib']))"
    code = f"import runpy, sys; {missing}; runpy.run_module('elman.environment', run_name='__main__')"
    assert in_process(code).startswith(f"elman         {package.__version__}")


@pytest.mark.slow
def test_why_an_executor_is_not_available() -> None:
    code = "from elman.environment import *; print(as_text(environment()))"
    assert "native (the environment variable ELMAN_NATIVE is 0)" in in_process(code, ELMAN_NATIVE="0")
    code = "import elman; elman.LSTM(3, 5, executor='native')"
    failed = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ELMAN_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    message = (
        "executor: 'native' is not available, since the environment variable ELMAN_NATIVE is 0; use executor='auto'"
    )
    assert failed.stderr.splitlines()[-1] == f"ValueError: {message}"
