"""Pages and pictures go over those that elman made before, and over nothing else."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elman.errors import BadInput
from elman.io.files import append_text, numbered, remove_leftovers, replacing, write_new, write_whole
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


@pytest.mark.sample(2)
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
    def forbidden(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", forbidden)
        with pytest.raises(PermissionError) as caught:
            write_whole(tmp_path / "page.html", "a page")
    assert caught.value.filename == str(tmp_path / "page.html")
    assert ".elman" not in str(caught.value)


@pytest.mark.parametrize("is_dangling", [False, True])
def test_a_link_is_replaced_and_what_it_points_to_is_not(tmp_path: Path, is_dangling: bool) -> None:
    (tmp_path / "folder").mkdir()
    mine, link = tmp_path / "mine", tmp_path / "folder" / "page.html"
    if not is_dangling:
        mine.write_text("mine")
    link.symlink_to(mine)
    write_whole(link, "a page")
    assert (link.read_text(), link.is_symlink()) == ("a page", False)
    assert mine.exists() != is_dangling
    assert is_dangling or mine.read_text() == "mine"
    link.unlink()
    link.symlink_to(mine)
    with pytest.raises(BadInput, match="expected a new name"):
        write_new(link, ["a page"])
    with pytest.raises(OSError, match="symbolic links"):
        append_text(link, "a row")
    assert mine.exists() != is_dangling
    assert is_dangling or mine.read_text() == "mine"


def test_temporary_names_cannot_be_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are random; and one that exists, as a link to elsewhere, is not written through."""
    names = set[str]()
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        names |= {first.name, second.name}
    assert len(names) == 2
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".elman-0123456789abcdef.tmp").symlink_to(tmp_path / "mine")
    monkeypatch.setattr("secrets.token_hex", lambda size: "0123456789abcdef")
    writes: list[Callable[[], None]] = [
        lambda: write_whole(tmp_path / "b", "b"),
        lambda: write_new(tmp_path / "b", "b"),
    ]
    for write in writes:
        with pytest.raises(FileExistsError):
            write()
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name, too, is on the disk when the function returns."""
    events, replace = list[str](), Path.replace

    def replaced(path: Path, target: Path) -> Path:
        events.append("renamed")
        return replace(path, target)

    def synced(descriptor: int) -> None:
        status = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")

    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(os, "fsync", synced)
    writes: list[Callable[[], None]] = [
        lambda: write_whole(tmp_path / "a", "page"),
        lambda: write_new(tmp_path / "b", ["pa", "ge"]),
    ]
    for write in writes:
        events.clear()
        write()
        assert events == ["4 bytes", "renamed", "folder"]


def test_new_files_have_the_mode_of_others(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_whole(tmp_path / "page.html", "a page")
    assert (tmp_path / "page.html").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_only_files_of_the_dead_are_removed(tmp_path: Path) -> None:
    mine = [".elman-0123456789abcdef", "elman-0123456789abcdef.tmp", ".elman-0123.tmp", ".page.html.123"]
    for name in [*mine, ".elman-0123456789abcdef.tmp"]:
        (tmp_path / name).write_text("a part")
    (tmp_path / ".elman-00000000000000ff.tmp").symlink_to(tmp_path / mine[0])
    (tmp_path / ".elman-00000000000000fe.tmp").mkdir()
    with replacing(tmp_path / "page.html") as file:
        file.write(b"a page")
        remove_leftovers(tmp_path)
    others = {".elman-00000000000000ff.tmp", ".elman-00000000000000fe.tmp", "page.html"}
    assert files_in(tmp_path) == {*mine, *others}
    assert (tmp_path / "page.html").read_text() == "a page"
    remove_leftovers(tmp_path / "nowhere")


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
