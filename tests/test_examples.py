"""The examples run, and learn. tests/test_docs.py runs those of the pages."""

import re
import runpy
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_example_runs(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    errors = [float(number) for number in re.findall(r"error ([\d.]+)", capsys.readouterr().out)]
    assert not errors or errors[-1] < errors[0] / 4


def test_the_cell_of_the_docs_is_that_of_the_example() -> None:
    page, example = (ROOT / "docs" / "own_cells.md").read_text(), (ROOT / "examples" / "delta_memory.py").read_text()
    for line in re.findall(r"(class DeltaMemory.*?)\n\n\n", page, re.DOTALL)[0].splitlines():
        assert line in example


@pytest.fixture(scope="module")
def amplifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that examples/plugin writes, after a short training."""
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("plugin")
    command = [sys.executable, str(ROOT / "examples" / "plugin" / "amplifier.py"), "--out", str(folder)]
    printed = subprocess.run([*command, "--seconds", "3", "--epochs", "10"], check=True, capture_output=True, text=True)
    (folder / "printed.txt").write_text(printed.stdout)
    return folder


def run_host(folder: Path, source: Path, *block: int) -> "subprocess.CompletedProcess[str]":
    command = [str(folder / "host"), str(source), str(folder / "out.wav"), *map(str, block)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_exported_amplifier_beats_a_static_curve(amplifier: Path) -> None:
    printed = (amplifier / "printed.txt").read_text()
    assert "blocks of 64 samples and a single block give the same numbers" in printed
    assert re.search(r"\d+ times as fast as real time", printed)
    assert float(re.findall(r"difference from PyTorch: (.+)", printed)[0]) < 1e-5
    static, lstm = (float(percent) for percent in re.findall(r"ratio of .+: ([\d.]+)%", printed))
    assert lstm < static


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_of_the_host_give_the_same_sound(amplifier: Path, block: int) -> None:
    run = run_host(amplifier, amplifier / "input.wav", block)
    assert run.returncode == 0, run.stderr
    assert (amplifier / "out.wav").read_bytes() == (amplifier / "lstm.wav").read_bytes()


def write_integers(path: Path, channels: int = 1) -> None:
    samples = np.frombuffer((path.parent / "input.wav").read_bytes()[44:], "<f4")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())


def test_the_host_reads_16_bits(amplifier: Path) -> None:
    write_integers(amplifier / "integers.wav")
    assert run_host(amplifier, amplifier / "integers.wav").returncode == 0
    output, expected = (np.frombuffer((amplifier / name).read_bytes()[44:], "<f4") for name in ("out.wav", "lstm.wav"))
    assert 0 < np.abs(output - expected).max() < 1e-3


def test_the_host_refuses_other_files(amplifier: Path) -> None:
    write_integers(amplifier / "stereo.wav", channels=2)
    sources = {
        "stereo.wav": "expected one channel of 16-bit integers or 32-bit floating-point numbers",
        "printed.txt": "expected a WAV file",
        "missing.wav": "cannot be read",
    }
    for name, problem in sources.items():
        run = run_host(amplifier, amplifier / name)
        assert (run.returncode, run.stderr) == (1, f"host: {amplifier / name}: {problem}\n")
