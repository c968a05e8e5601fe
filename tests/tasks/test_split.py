"""What is on which side of a drawn split: copies and groups together, labels in equal shares."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from elman.data.examples import Example
from elman.data.parts import ExampleStore, SplitRecord
from elman.data.splits import fingerprint, stratified_parts
from elman.errors import BadInput
from elman.tasks.registry import get_task, options_of
from tests.small import Command
from tests.tasks.test_image import SMALL, bars
from tests.tasks.test_music import chords, off, on, saved

COPIES, SINGLE = 12, 12  # inputs that are there twice or more, and others


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def png(path: Path, seed: int) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Pillow.fromarray((noise(seed, 4, 5) * 255).astype(np.uint8)).save(path)
    return path


def images(folder: Path) -> Any:
    """Copies under another name, in another format, under another label."""
    for i in range(COPIES + SINGLE):
        one = png(folder / "ab"[i % 2] / f"{i}.png", i)
        if i < COPIES:
            shutil.copy(one, folder / "ab"[(i + i // 4) % 2] / f"copy {i}.png")
            with Pillow.open(one) as opened:
                opened.save(one.with_name(f"{i}.bmp"))
    return [folder]


def captions(folder: Path) -> Any:
    """A file named in five ways: as it is, from here, in full, through links to it and to its folder."""
    (folder / "link").symlink_to(folder, target_is_directory=True)
    rows = []
    for i in range(COPIES + SINGLE):
        png(folder / f"{i}.png", i)
        if i < COPIES:
            (folder / f"to {i}.png").symlink_to(f"{i}.png")
            names = (f"{i}.png", f"./{i}.png", folder / f"{i}.png", f"to {i}.png", f"link/{i}.png")
        rows += [(name, "abc"[k % 3]) for k, name in enumerate(names if i < COPIES else (f"{i}.png",))]
    return written(folder / "t.csv", ("path", "text"), rows)


def written(path: Path, *rows: Any) -> list[Path]:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *rows[1]])
    return [path]


def texts(folder: Path) -> Any:
    """Spaces, and accents as one character or two."""
    rows = [(f"caf\u00e9 {i}", "ab"[i % 2]) for i in range(COPIES + SINGLE)]
    rows += [(f"cafe\u0301  {i} ", "ab"[i % 2]) for i in range(COPIES)]
    return written(folder / "t.csv", ("text", "label"), rows)


def translations(folder: Path) -> Any:
    path = folder / "t.tsv"
    pairs = [f"Satz {i}\tsentence {i}" for i in range(COPIES + SINGLE)]
    path.write_text("\n".join(pairs + [f"Satz  {i}\tanother {i}" for i in range(COPIES)]))
    return [path]


def tagged(folder: Path) -> Any:
    """A sentence that stands in two documents, or in two files."""
    blocks = [f"word\tA\n{i}\tB\n" for i in range(COPIES + SINGLE)]
    begin = "-DOCSTART-\tO\n"
    first, second = folder / "1.txt", folder / "2.txt"
    first.write_text("\n".join(begin + "\n" + "\n".join(blocks[k : k + 3]) for k in range(0, len(blocks), 3)))
    second.write_text("\n".join(begin + "\n" + "\n".join(blocks[k:COPIES:4]) for k in range(4)))
    return [first, second]


def recordings(folder: Path) -> Any:
    """WAV and FLAC, and in several groups."""
    rows = []
    for i in range(COPIES + SINGLE):
        wave = (noise(i, 800) * 20000).astype(np.int16)
        for suffix in ("wav", "flac") if i < COPIES else ("wav",):
            soundfile.write(folder / f"{i}.{suffix}", wave, 8000)
            rows.append((f"{i}.{suffix}", "ab", f"{suffix} {i // 2}"))
    return written(folder / "t.csv", ("path", "text", "who"), rows)


def pieces(folder: Path) -> Any:
    """The frames of JSON, and MIDI of other ticks."""
    found = chords(COPIES + SINGLE)
    (folder / "p.json").write_text(json.dumps([[[p] for p in (60 + i, 62, 64 + i)] for i in range(len(found))]))
    for i in range(COPIES):
        for ticks in (96, 480):
            track = [m for pitch in (60 + i, 62, 64 + i) for m in (on(pitch), off(pitch, ticks))]
            saved(folder / f"{i} {ticks}.mid", track, ticks=ticks)
    return [folder / "p.json", folder]


CASES: dict[str, tuple[Callable[[Path], Any], dict[str, Any], int]] = {
    "image": (images, {}, 3),
    "caption": (captions, {}, 5),
    "classify": (texts, {}, 2),
    "translate": (translations, {}, 2),
    "tag": (tagged, {}, 2),
    "transcribe": (recordings, {}, 2),
    "transcribe by group": (recordings, {"group": "who"}, 2),
    "music": (pieces, {"grid": 1}, 3),
}


@pytest.mark.parametrize("case", CASES)
def test_copies_are_on_one_side(case: str, tmp_path: Path) -> None:
    make, options_given, copies = CASES[case]
    task = case.split()[0]
    kind, data = get_task(task), make(tmp_path)
    options, _ = kind.resolve_options(data, options_of(task).OPTIONS(**options_given))  # type: ignore[attr-defined]
    for seed in range(3):
        parts = kind.split_data(data, options, seed)  # type: ignore[attr-defined]
        rows = list(csv.DictReader(SplitRecord.of(parts).table.splitlines()))
        assert len(rows) == COPIES * copies + SINGLE == sum(map(len, parts))
        assert sorted(int(row["number"]) for row in rows) == list(range(len(rows)))
        keys = [{fingerprint(example.input) for example in part} for part in parts]
        assert len(set.union(*keys)) == COPIES + SINGLE == sum(map(len, keys))
        assert all(keys)
        groups = [{example.group for example in part} - {None} for part in parts]
        if task != "tag":  # where a copy goes with the document of the first
            assert sum(map(len, groups)) == len(set.union(*groups))


def test_a_piece_goes_with_its_copy_whose_part_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = chords(30)
    told = {"train": found[:8], "valid": found[8:12], "test": [*found[12:16], found[0]]}
    (tmp_path / "told.json").write_text(json.dumps(told))
    (tmp_path / "other.json").write_text(json.dumps([*found[8:30], found[8]]))
    kind = get_task("music")
    data = [tmp_path / "told.json", tmp_path / "other.json"]
    options, _ = kind.resolve_options(data, options_of("music").OPTIONS())  # type: ignore[attr-defined]
    parts = kind.split_data(data, options, 0)  # type: ignore[attr-defined]
    train, validation, test = ({fingerprint(example.input) for example in part} for part in parts)
    assert not train & validation
    assert not validation & test
    assert len(train & test) == 1  # as the file says
    assert sum(map(len, parts)) == 17 + 23
    assert "1 of the 11 pieces for test are also used for training" in capsys.readouterr().err


def test_groups_that_share_an_example_are_joined() -> None:
    groups = ["a", "b", "c", "b", "d", None, None]
    inputs = ["x", "y", "z", "x", "w", "w", "v"]
    examples = [Example(*pair) for pair in zip(inputs, [""] * 7, groups, strict=True)]
    contents = ExampleStore(examples, list).contents
    assert contents.components().tolist() == [0, 0, 1, 0, 2, 2, 3]
    assert contents.components(join=False).tolist() == [0, 1, 2, 0, 3, 3, 4]


@pytest.mark.parametrize("values", [(np.zeros((2, 3)), np.zeros((3, 2))), ("a b", ["a", "b"]), (["ab"], ["a", "b"])])
def test_other_content_has_another_fingerprint(values: tuple[Any, Any]) -> None:
    assert fingerprint(values[0]) != fingerprint(values[1])


def test_labels_have_the_same_share_in_all_parts() -> None:
    """Each part its tenth of each label, to within one; never more than one of three."""
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.repeat(list("abcdefg"), [500, 200, 50, 33, 9, 4, 3])).tolist()
    for seed in range(5):
        found, rare = stratified_parts(np.arange(len(labels)), labels, seed, ["validation", "test"], "task")
        assert not rare
        assert sorted(i for part in found.values() for i in part) == list(range(len(labels)))
        assert {name: len(part) for name, part in found.items()} == {"validation": 80, "test": 80, "train": 639}
        for name in ("validation", "test"):
            counts = Counter(labels[i] for i in found[name])
            assert all(abs(counts[label] - count / 10) <= 1 for label, count in Counter(labels).items())
        assert {labels[i] for i in found["train"]} == set("abcdefg")
    again, _ = stratified_parts(np.arange(len(labels)), labels, 4, ["validation", "test"], "task")
    other, _ = stratified_parts(np.arange(len(labels)), labels, 3, ["validation", "test"], "task")
    assert again == found != other


def test_what_has_many_copies_is_trained_on() -> None:
    """400 of 500 examples of a label are one text: no part is made of them."""
    component = np.array([0] * 400 + list(range(1, 101)) + list(range(101, 201)))
    labels = ["a"] * 500 + ["b"] * 100
    for seed in range(5):
        found, _ = stratified_parts(component, labels, seed, ["validation", "test"], "task")
        assert {name: len(part) for name, part in found.items()} == {"validation": 21, "test": 21, "train": 558}


@pytest.mark.parametrize("count", [4, 9])
def test_many_labels_of_few_examples(count: int) -> None:
    labels = [i % 50 for i in range(50 * count)]
    found, rare = stratified_parts(np.arange(50 * count), labels, 0, ["validation", "test"], "task")
    assert not rare
    assert len(found["validation"]) == len(found["test"]) == 5 * count
    assert max(Counter(labels[i] for i in found["test"]).values()) == 1


def test_rare_labels_are_trained_on_and_told(elman: Command, tmp_path: Path) -> None:
    """Once, or twice, or three times the same."""
    images, labels = bars(40)
    for i, (image, label) in enumerate([*zip(images, labels, strict=True)]):
        (tmp_path / "x" / label).mkdir(exist_ok=True, parents=True)
        Pillow.fromarray((image * 255).astype(np.uint8)).save(tmp_path / "x" / label / f"{i}.png")
    for label, seeds in {"once": [1], "twice": [2, 3], "copies": [4, 4, 4]}.items():
        for k, seed in enumerate(seeds):
            png(tmp_path / "x" / label / f"{k}.png", seed)
    said = elman("train", "image", tmp_path / "x", "--out", tmp_path / "run", *SMALL, "--epochs", "1", "--size", "5")
    assert said.code == 0, said.err
    told = "for training only, because there are fewer than 3 different images of each: "
    assert f"{told}'copies' (1), 'once' (1), 'twice' (2)\n" in said.err
    assert "38 images for training, 4 for validation, 4 for test" in said.err
    rows = list(csv.DictReader((tmp_path / "run" / "split.csv").read_text().splitlines()))
    folders = Counter(Path(row["name"]).parent.name for row in rows if row["part"] != "train")
    assert folders == {"lying": 4, "upright": 4}
    codec = json.loads((tmp_path / "run" / "codec.json").read_text())
    assert codec["labels"] == ["copies", "lying", "once", "twice", "upright"]


def test_a_split_of_too_few(elman: Command, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label\na,x\nb,x\nc,y\nd,y\n")
    said = elman("train", "classify", path, "--out", tmp_path / "run")
    assert said.code == 2
    expected = (
        "expected a label with at least 3 different examples to split, got 4 of 2 labels, where duplicates count as one"
    )
    assert expected in said.err
    assert "pass --validation and --test" in said.err


@pytest.mark.slow
def test_a_run_keeps_its_split(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a later version draws: what a run says of its own data is asked of the same parts."""
    run = tmp_path / "run"
    path = images(tmp_path / "x")
    assert elman("train", "image", *path, "--out", run, *SMALL, "--epochs", "1").code == 0

    def otherwise(*arguments: Any) -> Any:
        raise AssertionError

    image: Any = get_task("image")
    with monkeypatch.context() as changed:
        changed.setattr("elman.tasks.image.task.TASK", replace(image, split=otherwise))
        assert elman("train", "image", "--resume", run, "--epochs", "2").code == 0
        assert elman("flow", run).code == 0
    (tmp_path / "x" / "a" / "0.png").unlink()
    said = elman("train", "image", "--resume", run, "--epochs", "3")
    assert said.code == 2
    assert "got other or changed data" in said.err


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 6), st.integers(0, 2))
def test_what_every_stratified_split_promises(seed: int, n: int, most: int, drawn: int) -> None:
    """Each example once, components whole, every label trained on, no part empty, rare labels nowhere else."""
    draw = np.random.default_rng(seed)
    component = np.unique(draw.integers(0, n, n), return_inverse=True)[1]
    labels, parts = draw.integers(0, most, n).tolist(), ["validation", "test"][:drawn]
    try:
        found, rare = stratified_parts(component, labels, seed, parts, "task")
    except BadInput:
        return
    assert sorted(i for part in found.values() for i in part) == list(range(n))
    assert all(found[name] for name in parts)
    assert sum(len(set(component[part])) for part in found.values()) == component.max() + 1
    assert {labels[i] for i in found["train"]} == set(labels)
    assert not any(labels[i] in rare for name in parts for i in found[name])


WALKED = ["classify", "image", "tag", "music", "music in parts", "caption", "translate", "translate bpe", "transcribe"]


@pytest.mark.parametrize("name", WALKED)
def test_examples_are_walked_at_most_twice(name: str) -> None:
    """To fit or to check, and to encode: all else is collected as they are read."""
    draw, (task, *variant) = np.random.default_rng(0), name.split()
    frames = [[[40 + i % 20, 60 + i // 20]] * 3 for i in range(40)]
    data: Any = {
        "music": {"train": frames[:30], "valid": frames[30:35], "test": frames[35:]} if variant else frames,
        "caption": ([*draw.random((40, 4, 4))], ["a word", "two words"] * 20),
        "translate": [(f"quelle {i}", f"source {i}") for i in range(40)],
        "transcribe": ([*draw.normal(0, 0.1, (40, 4000)).astype(np.float32)], ["ab", "ba"] * 20),
        "classify": ([f"text {i}" for i in range(40)], ["a", "b"] * 20),
        "image": ([*draw.random((40, 4, 4))], ["a", "b"] * 20),
        "tag": [[(f"word{i}", "X"), ("and", "Y")] for i in range(40)],
    }[task]
    walks = Counter[str]()

    class Counted(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            return (self[i] for i in range(len(self)))

        def __getitem__(self, index: Any) -> Any:
            item = super().__getitem__(index)
            if isinstance(item, Example):
                walks[item.name] += 1
            return item

    kind: Any = get_task(task)
    options = options_of(task).OPTIONS(**({"tokens": "bpe", "vocabulary": 300} if variant == ["bpe"] else {}))
    parts = replace(kind, store=Counted).prepare(data, options, 0).details[1]
    counts = dict(walks)
    for part in parts:
        first, *others = (counts[example.name] for example in part)
        assert first <= 4  # it is also looked at alone
        assert max(others) <= 2
