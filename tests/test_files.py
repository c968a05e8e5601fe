"""Pages and pictures go over those that elman made before, and over nothing else."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elman.errors import BadInput
from elman.io.files import numbered, write_new, write_whole
from tests.small import Command, Said
from tests.small import files as files_in
from tests.test_bad_input import refused

# What each command writes, by the end of its name. None of them has a model to train.
ARGUMENTS = {
    "page.html": ["explain", "please stay", "--steps", "1"],
    "picture.svg": ["draw", "rnn"],
    "picture.png": ["draw", "rnn"],
}
Write = Callable[..., Said]


@pytest.fixture(params=[*ARGUMENTS, "report.html"])
def place(request: pytest.FixtureRequest) -> str:
    """The name of what is written."""
    return str(request.param)


@pytest.fixture
def write(elman: Command, place: str, copied: Path) -> Write:
    """Writes it under a name."""
    (copied / "model.safetensors").unlink()  # a report without a backward pass is quick
    arguments = ARGUMENTS.get(place, ["report", copied])
    return lambda out: elman(*arguments, "--out", out)


def test_what_elman_made_is_replaced(write: Write, place: str, tmp_path: Path) -> None:
    out = tmp_path / place
    assert write(out).code == 0
    first = out.read_bytes()
    out.write_bytes(first + b"\n")
    assert write(out).code == 0
    assert out.read_bytes() == first


def test_no_other_file_is(write: Write, place: str, tmp_path: Path) -> None:
    out = tmp_path / place
    out.write_text("mine, and about elman 0.1.0")
    refused(write(out), f"--out {out}: expected a new name or a file written by elman")
    assert out.read_text() == "mine, and about elman 0.1.0"
    out.unlink()
    out.symlink_to(tmp_path / "nowhere")
    refused(write(out), f"--out {out}: expected a new name")
    assert out.is_symlink()


def test_the_name_says_what_is_in_it(write: Write, place: str, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    ends = ".html" if place.endswith("html") else ".png or .svg"
    for name in ("a.txt", "a.pdf", "a"):
        refused(write(tmp_path / name), f"--out {tmp_path / name}: expected a file name that ends with {ends}")
    refused(write(tmp_path), f"--out {tmp_path}: expected the name of a file, got a folder")
    refused(write(tmp_path / "no" / place), "does not exist; create it first")
    assert files_in(tmp_path) == before


def test_errors_name_the_file_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path, data: bytes) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", forbidden)
    with pytest.raises(PermissionError) as caught:
        write_whole(tmp_path / "page.html", "a page")
    assert caught.value.filename == str(tmp_path / "page.html")
    assert ".page.html" not in str(caught.value)


def test_numbered_names_are_given_out_once(tmp_path: Path) -> None:
    with numbered(tmp_path, "piece", ".mid") as first, numbered(tmp_path, "piece", ".mid") as second:
        assert [first.name, second.name] == ["piece-1.mid", "piece-2.mid"]
    with pytest.raises(KeyboardInterrupt), numbered(tmp_path, "piece", ".mid"):
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["piece-1.mid", "piece-2.mid"]


def test_a_file_that_came_in_the_meantime_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    write_new(path, ["fir", b"st"])
    with pytest.raises(BadInput, match=r"--out .*rows\.csv: expected a new name, got a file"):
        write_new(path, ["second"], "--out ")
    assert path.read_text() == "first"
    path.unlink()

    def full_disk() -> Iterator[str]:
        yield "third"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        write_new(path, full_disk())
    assert list(tmp_path.iterdir()) == []
