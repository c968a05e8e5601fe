"""Pretrained word vectors, from every form of file to the weights of a model."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elman.data import word_vectors
from elman.data.word_vectors import read_vectors, vector_size
from elman.errors import BadInput
from elman.tasks import classify, tag
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.classify.task import TASK
from tests.small import Command, unchecked
from tests.tasks.test_classify import texts
from tests.tasks.test_tag import sentences
from tests.test_bad_input import refused

VECTORS: dict[str, list[float]] = {
    "the": [0.5, -1.25, 0.002],
    "Good": [1, 2, 3],
    "good": [4, 5, 6],
    "Bad": [7, 8, 9],
    "BAD": [0, 0, 1],
}
WORDS = ["bad", "good", "the", "never"]
EXPECTED = [VECTORS["Bad"], VECTORS["good"], VECTORS["the"], [0, 0, 0]]


def text(vectors: dict[str, list[float]] = VECTORS) -> bytes:
    return "".join(f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in vectors.items()).encode()


def binary(vectors: dict[str, list[float]] = VECTORS, end: bytes = b"\n") -> bytes:
    rows = (word.encode() + b" " + np.array(numbers, "<f4").tobytes() for word, numbers in vectors.items())
    return header(vectors) + end.join(rows) + end


def header(vectors: dict[str, list[float]] = VECTORS) -> bytes:
    return f"{len(vectors)} {len(next(iter(vectors.values())))}\n".encode()


FORMS: dict[str, bytes] = {
    "GloVe": text(),
    "word2vec text": header() + text(),
    "spaces at the ends": header() + text().replace(b"\n", b" \n"),
    "carriage returns": (header() + text()).replace(b"\n", b"\r\n"),
    "tabs": text().replace(b" ", b"\t"),
    "words with spaces": text() + b". . . 1 1 1\n\xff 2 2 2\n\n",
    "word2vec binary": binary(),
    "binary without newlines": binary(end=b""),
}


@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path: Path, form: str, is_gzip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word has its own vector, or else the first that equals it in lower case."""
    monkeypatch.setattr(word_vectors, "BLOCK", 7)
    path = tmp_path / "vectors"
    path.write_bytes(gzip.compress(FORMS[form]) if is_gzip else FORMS[form])
    assert vector_size(path) == 3
    vectors, has_vector = read_vectors(path, WORDS)
    np.testing.assert_array_equal(vectors, np.array(EXPECTED, np.float32))
    assert has_vector.tolist() == [True, True, True, False]


MANY: dict[str, list[float]] = {f"w{i}": [0.25 * i] * 300 for i in range(40)}
WRONG: list[tuple[bytes, str]] = [
    (b"", "line 1: expected a word and its numbers, or the counts of both; got none"),
    (b"a text\n", "line 1: expected a word and its numbers, or the counts of both; got 'a text'"),
    (b"2 0\n", "line 1: expected vectors of 1 to 8,192 numbers, got 0"),
    (b"2 99999999999\n", "line 1: expected vectors of 1 to 8,192 numbers, got 99,999,999,999"),
    (b"0 3\n", "line 1: expected vectors of 1 to 8,192 numbers, got no vectors"),
    (text().replace(b" 8 9", b" 8"), "line 4: expected a word and 3 numbers, got 2"),
    (header() + text().replace(b" 8 9", b" 8"), "line 5: expected a word and 3 numbers, got 2"),
    (header() + text().replace(b" 5 6", b" 5 x"), "line 4: expected numbers, got an error: could not convert"),
    (text().replace(b" 5 6", b" 5 nan"), "line 3: expected finite numbers, got nan"),
    (text().replace(b" 5 6", b" 5 1e99"), "line 3: expected finite numbers, got inf"),
    (b"9 3\n" + text(), "expected 9 vectors, as line 1 says, got 5"),
    (b"2 3\n" + text(), "expected 2 vectors, as line 1 says, got 5"),
    (binary().replace(b"5 3", b"9 3", 1), "vector 6: expected a word and 3 numbers, got the end of the file, after 5"),
    (binary(MANY)[:-9], "vector 40: expected a word and 300 numbers, got the end of the file, after 39 of 40 vectors"),
    (binary().replace(b"5 3", b"4 3", 1), "expected 4 vectors, as line 1 says, got more"),
    (binary({"good": [1, 2, float("inf")]}), "vector 1: expected finite numbers, got inf"),
    (header(MANY) + b"\0" * 5000, "vector 1: expected a word and a space, got 4,096 bytes without a space"),
    (b"x" * (1 << 20) + b" 1 2\n", "line 1: expected a word and its numbers, got more than 1,048,576 bytes"),
    (b"PK\x03\x04 1 2 3", "expected word vectors of word2vec or GloVe, got a zip archive; unpack it"),
    (b"\xba\x16\x4f\x2f", "got a model of fastText; pass its .vec file"),
    (gzip.compress(text() * 9)[:-12], "got a damaged gzip file: Compressed file ended"),
    (b"\x1f\x8bno", "got a damaged gzip file"),
]


@pytest.mark.parametrize(("data", "message"), WRONG, ids=range(len(WRONG)))
def test_damaged_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(data)
    with pytest.raises(BadInput) as error:
        read_vectors(path, WORDS)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.txt"
    path.write_bytes(text({"good": [4, 5, 6], "bad": [7, 8, 9], "cat": [1, 2, 3], "the": [0.5, 0, 2]}))
    return path


def test_vectors_are_the_first_weights(file: Path) -> None:
    """Words without a vector, and unknown words, have random vectors of the same spread."""
    data = ([*texts()[0], "other words " + " ".join(map(str, range(300)))], [*texts()[1], "pos"])
    lines = list[str]()
    prepared = TASK.prepare(data, ClassifyOptions(vectors=str(file)), 0, tell=lines.append)
    assert prepared.options.embed == prepared.model_args["embed"] == 3
    codec, model = prepared.details[0], TASK.model(**prepared.model_args)
    assert prepared.initialize is not None
    prepared.initialize(model)
    weights = model.words.weight  # type: ignore[union-attr]
    assert weights[codec.number["good"]].tolist() == [4, 5, 6]  # type: ignore[index]
    others = np.array([i for word, i in {"": 0, **codec.number}.items() if word not in ("good", "bad")])
    assert 0.8 < weights[others].std() / torch.tensor([4.0, 5, 6, 7, 8, 9]).std(correction=0) < 1.2  # type: ignore[index]
    share = f"2 of the {len(codec.words):,} words of the training part ({2 / len(codec.words):.1%})"
    assert lines == [f"{file}: vectors of 3 numbers for {share}"]


SIZE = ["--hidden", "4", "--pieces", "50", "--schedule", "constant"]


@pytest.mark.slow
def test_a_run_with_vectors(elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is resumed, used and repeated from another folder; only what repeats it needs the file."""
    rows = "text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(*texts(), strict=True))
    (tmp_path / "t.csv").write_text(rows)
    monkeypatch.chdir(tmp_path)
    train = ("train", "classify", "t.csv", "--vectors", file.name, *SIZE)
    assert "vectors of 3 numbers for 2 of the" in elman(*train, "--epochs", "2", "--out", "whole").err
    assert elman(*train, "--epochs", "1", "--out", "parted").code == 0
    assert json.loads(Path("whole/config.json").read_text())["options"]["vectors"] == str(file.resolve())
    moved = file.with_name("moved.txt")
    shutil.move(file, moved)
    assert elman("train", "classify", "--resume", "parted", "--epochs", "2").code == 0
    assert Path("whole/model.safetensors").read_bytes() == Path("parted/model.safetensors").read_bytes()
    assert elman("predict", "whole", "good").code == 0
    refused(elman("train", "classify", "--config", "whole", "--out", "again"), "vectors.txt", "does not exist")
    refused(elman(*train[: -len(SIZE) - 1], moved, "--embed", "4"), "--embed 4: expected 3, the size of the vectors in")


def test_an_unsaved_run_begins_with_its_vectors(file: Path, tmp_path: Path) -> None:
    trained = classify.fit(texts(), tmp_path / "run", vectors=file, hidden=4, pieces=50, epochs=0.01, lr=1e-9)
    weights = load_file(unchecked(tmp_path / "run") / "model.safetensors")["words.weight"]
    np.testing.assert_allclose(weights[trained.codec.number["good"]], [4, 5, 6], rtol=1e-5)


@pytest.mark.slow
def test_vectors_of_a_tagger(file: Path, tmp_path: Path) -> None:
    trained = tag.fit(sentences(), tmp_path / "run", vectors=str(file), hidden=4, characters=4, epochs=0.01, lr=1e-9)
    weights = load_file(unchecked(tmp_path / "run") / "model.safetensors")["words.weight"]
    np.testing.assert_allclose(weights[trained.codec.number["cat"]], [1, 2, 3], rtol=1e-5)
    np.testing.assert_allclose(weights[trained.codec.number["the"]], [0.5, 0, 2], rtol=1e-5, atol=1e-6)
