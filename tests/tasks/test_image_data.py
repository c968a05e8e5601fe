"""Images as they come: what is read of each kind of file, and how one that cannot be used is told before anything is
made."""

import csv
import gzip
import json
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from elman.data.images import picture
from elman.errors import BadInput
from elman.io.run_folder import open_run
from elman.tasks.image.data import Unscaled, read
from elman.tasks.image.task import TASK
from tests.small import Command, files
from tests.tasks.test_image import SMALL
from tests.test_bad_input import refused

HEAD = ["label", "p0", "p1", "p2", "p3"]
Row = Sequence[Any]


def table(path: Path, rows: Sequence[Row], head: Row = HEAD) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def rows_of(count: int = 24, white: float = 255) -> list[list[Any]]:
    """No two are the same, and each has a white pixel."""
    return [["ab"[i % 2], *(white * (i % 2 == k % 2) / (1 + i // 2 * (k > 1)) for k in range(4))] for i in range(count)]


BAD_ROWS: dict[str, tuple[Row, str]] = {
    "no number": (["a", 0, "abc", 0, 0], "row 5: column p1: expected a number, got 'abc'"),
    "empty": (["a", 0, 0, "", 0], "row 5: column p2: expected a number, got nothing"),
    "short": (["a", 0, 0], "row 5: column p2: expected a number, got nothing"),
    "NaN": (["a", "nan", 0, 0, 0], "row 5: column p0: expected a number, got 'nan'"),
    "infinite": (["a", 0, 0, 0, "inf"], "row 5: column p3: expected a number from 0 to 255, got inf"),
    "below": (["a", -1, 0, 0, 0], "row 5: column p0: expected a number from 0 to 255, got -1"),
    "above": (["a", 0, 255.5, 0, 0], "row 5: column p1: expected a number from 0 to 255, got 255.5"),
    "no label": (["", 0, 0, 0, 0], "row 5: expected a label, got none"),
    "no label at all": (["nan", 0, 0, 0, 0], "row 5: expected a label, got 'nan'"),
}


@pytest.mark.parametrize(("row", "part"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_row_that_is_no_image(
    elman: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Row, part: str
) -> None:
    rows = rows_of()
    path = table(tmp_path / "x.csv", [*rows[:4], row, *rows[4:]])
    refused(elman("train", "image", path, "--out", tmp_path / "run"), f"x.csv: {part}; pass --skip-bad to skip it")
    assert files(tmp_path) == {"x.csv"}
    assert len(list(read([path], skip_bad=True))) == 24
    assert f"{path}: {part}; skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (["label", "p0", "p1", "p2", "label"], "expected unique column names, got 2 columns named 'label'"),
        (["label", "p0", "p1", "p0", "p3"], "expected unique column names, got 2 columns named 'p0'"),
        (["label"], "expected a square number of pixel columns beside 'label', got none"),
        (["label", "p0", "p1"], "expected a square number of pixel columns beside 'label', got 2"),
        (["text", "label"], "row 1: column text: expected a number, got 'a'"),
    ],
)
def test_a_table_of_something_else(elman: Command, tmp_path: Path, head: list[str], part: str) -> None:
    path = table(tmp_path / "x.csv", [row[: len(head)] for row in rows_of()], head)
    refused(elman("train", "image", path, "--out", tmp_path / "run"), f"x.csv: {part}")
    assert files(tmp_path) == {"x.csv"}


def test_an_empty_line_is_no_row(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", rows_of())
    path.write_text(path.read_text() + "\n")
    assert len(list(read([path], skip_bad=False))) == 24


@pytest.mark.sample(1)
@pytest.mark.parametrize("white", [1, 16, 255])
def test_white_is_what_it_was_in_the_training(elman: Command, tmp_path: Path, white: int) -> None:
    """A table with dark images alone is read as what it was trained on is; one that is beyond that is refused."""
    path, run = table(tmp_path / "x.csv", rows_of(white=white)), tmp_path / "run"
    assert elman("train", "image", path, "--out", run, *SMALL, "--epochs", "1").code == 0
    assert json.loads((run / "codec.json").read_text())["white"] == white
    dark = table(tmp_path / "dark.csv", rows_of(white=white / 255))
    examples = list(read([dark], skip_bad=False))
    assert all(isinstance(one.input, Unscaled) for one in examples)
    codec = TASK.load_codec(open_run(run))
    assert float(codec.image(examples[0]).max()) == pytest.approx(1 / 255)
    if white < 255:
        bright = table(tmp_path / "bright.csv", rows_of(white=white + 1))
        said = elman("evaluate", run, bright)
        refused(said, f"row 1: as in the training: expected numbers from 0 to {white}, got {white + 1}")


def idx(values: NDArray[Any], dims: Sequence[int] | None = None, kind: int = 8) -> bytes:
    dims = values.shape if dims is None else dims
    return struct.pack(f">4B{len(dims)}I", 0, 0, kind, len(dims), *dims) + values.tobytes()


IMAGES = np.zeros((24, 2, 2), np.uint8)
BAD_IDX: dict[str, tuple[bytes, str]] = {
    "head cut": (idx(IMAGES)[:9], "expected a header of 16 bytes for 3 dimensions, got 9 in all"),
    "too few": (
        idx(IMAGES)[:-1],
        "expected 24 x 2 x 2 numbers according to its header, of 1 bytes each, and at least one; got 95",
    ),
    "too many": (idx(IMAGES) + b"0", "expected 24 x 2 x 2 numbers according to its header"),
    "half a number": (
        idx(IMAGES, kind=0x0D)[:-1],
        "expected 24 x 2 x 2 numbers according to its header, of 4 bytes each, and at least one; got 95 bytes",
    ),
    "none": (idx(IMAGES[:0]), "expected 0 x 2 x 2 numbers according to its header"),
    "no rows": (idx(IMAGES[:, :0]), "expected 24 x 0 x 2 numbers according to its header"),
    "immense": (
        idx(IMAGES, [2**31] * 3),
        "expected 2147483648 x 2147483648 x 2147483648 numbers according to its header",
    ),
    "no dimensions": (b"\0\0\x08\0", "expected several numbers according to its header"),
    "gzip cut": (gzip.compress(idx(IMAGES))[:-20], "expected an IDX file, got a damaged gzip file"),
    "gzip damaged": (
        gzip.compress(idx(IMAGES))[:12] + b"\xff" * 20,
        "expected an IDX file, got a damaged gzip file",
    ),
    "gzip bomb": (gzip.compress(idx(IMAGES) + bytes(1 << 24)), "expected 24 x 2 x 2 numbers according to its header"),
    "other": (b"\x89PNG", "expected an IDX file, which begins with two zero bytes and a type, got 89504e47"),
}


@pytest.mark.parametrize(("data", "part"), BAD_IDX.values(), ids=BAD_IDX)
def test_an_idx_file_that_is_none(elman: Command, tmp_path: Path, data: bytes, part: str) -> None:
    (tmp_path / "x.idx").write_bytes(data)
    (tmp_path / "y.idx").write_bytes(idx(np.arange(24, dtype=np.uint8) % 2))
    said = elman("train", "image", tmp_path / "x.idx", tmp_path / "y.idx", "--out", tmp_path / "run")
    refused(said, f"x.idx: {part}")
    assert files(tmp_path) == {"x.idx", "y.idx"}


@pytest.mark.parametrize(("dtype", "kind"), [(np.uint8, 8), (">f4", 0x0D)])
def test_dark_images_of_idx_files(tmp_path: Path, dtype: Any, kind: int) -> None:
    """Bytes are always of 255; of other numbers it is not known."""
    (tmp_path / "x.idx").write_bytes(idx(np.ones((4, 2, 2), dtype), kind=kind))
    (tmp_path / "y.idx").write_bytes(idx(np.arange(4, dtype=np.uint8)))
    found = next(iter(read([tmp_path / "x.idx", tmp_path / "y.idx"], skip_bad=False))).input
    assert isinstance(found, Unscaled) == (kind != 8)
    assert kind != 8 or found.max() == pytest.approx(1 / 255)


def test_an_image_that_would_take_all_memory(elman: Command, tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / "data" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Pillow.new("L", (2, 2), 255 * (i % 2)).save(tmp_path / "data" / "ab"[i % 2] / f"{i}.png")
    for name, side in (("bomb", 30_000), ("large", 10_000)):  # refused by Pillow; and only warned of
        head = struct.pack(">2I5B", side, side, 1, 0, 0, 0, 0)
        found = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")
        path = tmp_path / "data" / "a" / f"{name}.png"
        path.write_bytes(found)
        said = elman("train", "image", tmp_path / "data", "--out", tmp_path / "run")
        refused(
            said, f"{name}.png: expected an image of at most 89,478,485 pixels, got more; pass --skip-bad to skip it"
        )
        assert not (tmp_path / "run").exists()
        assert len(list(read([tmp_path / "data"], skip_bad=True))) == 12
        path.unlink()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(path: Path, mode: str, pixels: Any, **how: Any) -> Path:
    made = Pillow.fromarray(pixels) if isinstance(pixels, np.ndarray) else Pillow.new(mode, (2, 1), pixels)
    if mode == "P":
        made.putpalette([255, 255, 255, 0, 0, 0, 255, 0, 0])
    made.save(path, **how)
    return path


@pytest.mark.parametrize(
    ("mode", "pixels", "grey", "how"),
    [
        ("L", 51, 0.2, {}),
        ("I;16", np.full((1, 2), 13107, np.uint16), 0.2, {}),
        ("I;16", np.full((1, 2), 65535, np.uint16), 1, {}),
        ("I;16", np.full((1, 2), 300, np.uint16), 300 / 65535, {}),
        ("1", 1, 1, {}),
        ("1", 0, 0, {}),
        ("P", 0, 1, {}),
        ("P", 1, 0, {}),
        ("P", 2, 76 / 255, {}),
        ("P", 1, 1, {"transparency": 1}),
        ("LA", (0, 0), 1, {}),
        ("LA", (0, 255), 0, {}),
        ("RGBA", (0, 0, 0, 51), 0.8, {}),
        ("RGB", (255, 255, 255), 1, {}),
    ],
)
def test_every_kind_of_png_is_grey(tmp_path: Path, mode: str, pixels: Any, grey: float, how: dict[str, Any]) -> None:
    path = saved(tmp_path / "x.png", mode, pixels, **how)
    with Pillow.open(path) as opened:
        assert opened.mode == mode
    assert picture(path) == pytest.approx(np.full((1, 2), grey), abs=1e-6)


@pytest.mark.parametrize("command", ["train", "validation", "test"])
def test_nothing_of_that_name(elman: Command, tmp_path: Path, command: str) -> None:
    more = [] if command == "train" else [f"--{command}", tmp_path / "none"]
    data = table(tmp_path / "x.csv", rows_of()) if more else tmp_path / "none"
    said = elman("train", "image", data, *more, "--out", tmp_path / "run")
    refused(said, "none: expected a folder of images by label", "but it does not exist")


def test_least_size(elman: Command, tmp_path: Path) -> None:
    for task in ("image", "caption"):
        refused(elman("train", task, "--size", "0", "--out", tmp_path / "run"), "--size", "an integer of at least 1")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    """A corner that is white in the picture as people see it, 2 x 3 squares of 8 pixels."""
    seen = np.zeros((2, 3), np.uint8)
    seen[0, 0] = seen[0, 1] = 255
    stored = {  # the inverse of what a viewer does, by the EXIF standard: where the first row and column are
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.T,
        6: np.rot90(seen, 1),
        7: np.rot90(seen, 1)[:, ::-1],
        8: np.rot90(seen, -1),
    }[orientation]
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x{suffix}"
    Pillow.fromarray(np.kron(stored, np.ones((8, 8), np.uint8))).save(path, exif=exif)
    np.testing.assert_allclose(picture(path), np.kron(seen, np.ones((8, 8))) / 255, atol=0.05)


def test_damaged_exif_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.png"
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(np.eye(2, 3, dtype=np.uint8)).save(path, exif=exif.tobytes().replace(b"MM", b"XX"))
    assert picture(path).shape == (2, 3)
    assert "x.png: its EXIF data cannot be read, so it is not rotated: not a TIFF file" in capsys.readouterr().err


def test_a_folder_is_read_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every format that Pillow reads, by ending or by content; hidden names are skipped, the rest is counted."""
    pixels = Pillow.fromarray(np.eye(16, dtype=np.uint8) * 255)  # old Pillows write no smaller .ico
    for label in ("a", "b", ".ipynb_checkpoints", "a/sub", "a/.hidden", "nothing", "b/again"):
        (tmp_path / "x" / label).mkdir(parents=True)
    names = ("png", "PNG", "tif", "tiff", "jfif", "jp2", "ppm", "pgm", "tga", "ico", "pcx", "bmp", "gif")
    suffixes = [f".{name}" for name in names]
    for i, suffix in enumerate(suffixes):
        pixels.save(tmp_path / "x" / "ab"[i % 2] / f"{i}{suffix}")
    pixels.save(tmp_path / "x/a/sub/deep.webp")
    pixels.save(tmp_path / "x/b/no_ending", "png")
    pixels.save(tmp_path / "x/b/other.data", "jpeg")
    for name in (".ipynb_checkpoints/1.png", "a/.hidden/1.png", "a/._1.png", ".hidden.png"):
        pixels.save(tmp_path / "x" / name)
    pixels.save(tmp_path / "x/beside.png")
    (tmp_path / "x/a/linked").symlink_to(tmp_path / "x/b/again")
    pixels.save(tmp_path / "x/b/again/1.png")
    (tmp_path / "x/b/again/loop").symlink_to(tmp_path / "x/b/again")
    for name in ("a/notes.txt", "b/photo.heic", "b/more.txt", "b/page.eps"):
        (tmp_path / "x" / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0" if name.endswith("eps") else b"notes")
    found = [(example.target, Path(example.name).name) for example in read([tmp_path / "x"], skip_bad=False)]
    expected = {f"{i}{suffix}" for i, suffix in enumerate(suffixes)}
    assert {name for _, name in found} == expected | {"deep.webp", "no_ending", "other.data", "1.png"}
    assert [label for label, name in found if name == "1.png"] == ["a", "b"]
    assert len(found) == len(suffixes) + 5
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}/x: skipped 1 file beside the folders of the labels: .png (1)",
        f"{tmp_path}/x/nothing: no images of this label",
        f"{tmp_path}/x: skipped 4 files that are not images Pillow can read: .txt (2), .eps (1), .heic (1)",
    ]


def test_a_folder_without_images(elman: Command, tmp_path: Path) -> None:
    (tmp_path / "x/a").mkdir(parents=True)
    (tmp_path / "x/a/1.txt").write_text("no")
    said = elman("train", "image", tmp_path / "x", "--out", tmp_path / "run")
    refused(said, "x: expected images in the folders of the labels, got none")
    assert "skipped 1 file that" in said.err


def test_no_more_of_a_packed_file_is_unpacked_than_its_head_tells(tmp_path: Path) -> None:
    """64 MB of zeros behind 24 small images."""
    (tmp_path / "x.idx").write_bytes(gzip.compress(idx(IMAGES) + bytes(1 << 26)))
    (tmp_path / "y.idx").write_bytes(idx(np.arange(24, dtype=np.uint8) % 2))
    tracemalloc.start()
    with pytest.raises(BadInput, match="and at least one; got more"):
        read([tmp_path / "x.idx", tmp_path / "y.idx"], skip_bad=False)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_a_tiff_without_all_its_rows(tmp_path: Path) -> None:
    """Its head claims 8 million rows, 8 of which are there."""
    Pillow.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "x.tif")
    assert picture(tmp_path / "x.tif").shape == (8, 8)
    head = struct.pack("<HHII", 257, 4, 1, 8)
    data = (tmp_path / "x.tif").read_bytes()
    short = struct.pack("<HHII", 257, 3, 1, 8)
    assert head in data or short in data
    for entry in (head, short):
        data = data.replace(entry, struct.pack("<HHII", 257, 4, 1, 8_000_000))
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(
        BadInput, match=r"x.tif: expected an image, got a file that cannot be read as one: 8 of 8000000 rows"
    ):
        picture(tmp_path / "x.tif")


@pytest.mark.parametrize("error", [MemoryError(), AssertionError("odd"), RuntimeError("damaged"), IndexError("no")])
def test_whatever_pillow_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def convert(*arguments: Any) -> Any:
        raise error

    Pillow.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "x.png")
    monkeypatch.setattr(Pillow.Image, "convert", convert)
    with pytest.raises(BadInput, match=r"x.png: expected an image, got "):
        picture(tmp_path / "x.png")


@pytest.mark.parametrize("order", [("x.idx", "y.idx"), ("y.idx", "x.idx")])
def test_the_file_of_two_that_is_wrong_is_named(tmp_path: Path, order: tuple[str, str]) -> None:
    (tmp_path / "x.idx").write_bytes(idx(np.full((4, 2, 2), -1, ">i2"), kind=0x0B))
    (tmp_path / "y.idx").write_bytes(idx(np.arange(4, dtype=np.uint8)))
    paths = [tmp_path / name for name in order]
    with pytest.raises(BadInput, match=r"x\.idx: image 1: expected numbers from 0 to 255, got -1"):
        list(read(paths, skip_bad=False))
    (tmp_path / "y.idx").write_bytes(idx(np.arange(3, dtype=np.uint8)))
    with pytest.raises(BadInput, match=r"x\.idx, .*y\.idx: expected images .* got \(4, 2, 2\) and \(3,\)"):
        list(read(paths, skip_bad=False))
