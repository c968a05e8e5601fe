"""elman train transcribe, from recordings to a run, and the run put to use."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from elman.cli import run
from elman.decoding import ctc
from elman.errors import BadInput
from elman.tasks import transcribe
from tests.small import Command, files
from tests.test_bad_input import refused

SMALL = ["--hidden", "16", "--layers", "1", "--batch", "8", "--epochs", "30", "--lr", "0.01", "--dropout", "0"]
TONES = {"a": 400, "b": 900, "c": 1600, " ": 0}
WORDS = ("ab", "ba c", "cab", "bc a", "acb", "cc")


def sound(text: str, rate: int, seed: int = 0, level: float = 0.5) -> NDArray[np.float64]:
    """A tone of 60 to 90 ms for every letter, with 20 ms of noise between."""
    draw, found = np.random.default_rng(seed), []
    for letter in text:
        t = np.arange(round(rate * draw.uniform(0.06, 0.09))) / rate
        found += [np.sin(2 * np.pi * TONES[letter] * t) * level, np.zeros(rate // 50)]
    wave = np.concatenate([np.zeros(rate // 50), *found])
    return wave + draw.normal(0, 0.001, len(wave))


def written(folder: Path, rows: list[list[str]]) -> Path:
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 recordings, of eight takes; in WAV and FLAC, of one channel and of two, at three rates."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = [["path", "text", "take"]]
    for i in range(48):
        text, rate = WORDS[i % len(WORDS)], (8000, 16000, 11025)[i % 3]
        wave = sound(text, rate, i)
        rows.append([f"{i}.{'flac' if i % 4 else 'wav'}", text, str(i // 6)])
        soundfile.write(folder / rows[-1][0], np.stack([wave, wave / 2], 1) if i % 2 else wave, rate)
    return written(folder, rows)


@pytest.fixture(scope="module")
def trained(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    more = ["--epochs", "60", "--group", "take", "--ngram-weight", "0.3", "--flow-every", "40"]
    assert run(["train", "transcribe", str(manifest), "--out", str(path), *SMALL, *more]) == 0
    return path


def test_a_run_of_recordings(elman: Command, trained: Path, manifest: Path, tmp_path: Path) -> None:
    assert {"config.json", "codec.json", "split.csv", "baseline.safetensors", "path.png", "flow.csv"} <= files(trained)
    config = json.loads((trained / "config.json").read_text())
    assert (config["data"]["train"], config["data"]["validation"], config["data"]["test"]) == (36, 6, 6)
    own, nearest = config["scores"].values()
    assert list(own) == list(nearest) == ["word_error_rate", "character_error_rate"]
    assert list(config["scores"]) == ["bidirectional GRU 16, CTC", "nearest of 36 recordings (DTW)"]
    assert own["character_error_rate"] < 0.2
    rows = csv.DictReader((trained / "split.csv").read_text().splitlines())
    takes: dict[str, set[int]] = {}
    for row in rows:
        takes.setdefault(row["part"], set()).add(int(Path(row["name"]).stem) // 6)
    assert sorted(take for part in takes.values() for take in part) == list(range(8)), "a take is on two sides"
    said = elman("evaluate", trained, manifest)
    assert said.code == 0
    assert "nearest of 36 recordings (DTW)" in said.out
    for command in (["info"], ["report"], ["flow"], ["draw", "--out", tmp_path / "net.svg", "--gradients"]):
        assert elman(command[0], trained, *command[1:]).code == 0
    assert f"{manifest.parent}/" in (trained / "report.html").read_text()
    assert "generate: a run of transcribe is used with elman predict" in elman("generate", trained).err


def test_the_scores_are_those_of_the_predictions(elman: Command, trained: Path, manifest: Path) -> None:
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    paths = [manifest.parent / row["path"] for row in rows]
    said = elman("predict", trained, *paths, "--format", "jsonl")
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [row["input"] for row in found] == [str(path) for path in paths]
    words = sum(len(row["text"].split()) for row in rows)
    wrong = sum(_edits(one["text"].split(), row["text"].split()) for one, row in zip(found, rows, strict=True))
    assert f" {wrong / words:.4f} " in elman("evaluate", trained, manifest).out.splitlines()[3]
    assert wrong / words < 0.2
    assert all(0 < row["confidence"] <= 1 for row in found)


def test_how_texts_are_found_can_be_asked_anew(elman: Command, trained: Path, manifest: Path) -> None:
    asked: list[Any] = []

    def search(log_p: Any, width: int, goes_on: Any, weight: float) -> list[int]:
        asked.append((width, weight))
        return [1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctc, "best_path", lambda log_p: search(log_p, 1, None, 0.0))
        patch.setattr(ctc, "search", search)
        for how in (["--beam", 1, "--ngram-weight", 0], ["--beam", 3], ["--ngram-weight", 2]):
            assert elman("evaluate", trained, manifest, *how).code == 0
    assert list(dict.fromkeys(asked)) == [(1, 0.0), (3, 0.3), (8, 2.0)]
    refused(elman("evaluate", trained, manifest, "--label", "x"), "--label: not an option of the task of")


def _edits(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words have to be put in, left out or replaced."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def test_resuming_changes_nothing(elman: Command, manifest: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = [*SMALL, "--dropout", "0.3", "--schedule", "constant", "--epochs"]
    assert elman("train", "transcribe", manifest, "--out", whole, *more, "4").code == 0
    assert elman("train", "transcribe", manifest, "--out", parted, *more, "1.5").code == 0
    assert elman("train", "transcribe", "--resume", parted, "--epochs", "4").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()
    a, b = (json.loads((path / "config.json").read_text())["scores"] for path in (whole, parted))
    assert a == b


def test_in_python(tmp_path: Path, manifest: Path) -> None:
    texts = [WORDS[i % len(WORDS)] for i in range(24)]
    waves = [sound(text, 8000, i) for i, text in enumerate(texts)]
    how: dict[str, Any] = {"hidden": 8, "layers": 1, "epochs": 2, "batch": 8, "beam": 1}
    found = transcribe.fit((waves, texts), tmp_path / "run", rate=8000, **how)
    rows = found.predict([waves[0], torch.from_numpy(waves[0]).numpy(), str(manifest.parent / "0.wav")])
    assert [row["input"] for row in rows] == ["recording 1", "recording 2", str(manifest.parent / "0.wav")]
    assert rows[0]["text"] == rows[1]["text"]
    assert list(found.evaluate((waves[:3], texts[:3]))) == list(found.scores)
    as_written = (waves[0] * 32767).round().astype(np.int16)
    assert abs(found.predict([as_written])[0]["confidence"] - rows[0]["confidence"]) < 1e-3
    for wrong, part in (
        (([waves[0]], []), "expected as many recordings as texts, got 1 and 0"),
        (([np.zeros((2, 4))], ["a"]), r"recording 1: expected a 1-D array of numbers, got float64 of shape \(2, 4\)"),
        (([np.zeros(0)], ["a"]), "recording 1: expected a recording, got an empty one"),
        (([np.array([0, np.nan])], ["a"]), "recording 1: expected finite numbers, got nan"),
        (([waves[0]], [" "]), "recording 1: expected a text, got an empty one"),
        (([waves[0][:100]], ["aa"]), r"recording 1: expected at least 3 steps \(stack 3\) for 'aa', got a recording"),
    ):
        with pytest.raises(BadInput, match=part):
            transcribe.fit(wrong, tmp_path / "other", **how)
    assert not (tmp_path / "other").exists()


def test_silence_is_no_number_that_is_none(tmp_path: Path) -> None:
    """Alone, in training, and where nothing else was trained on."""
    silent = np.zeros(2000)
    waves = [silent, *(sound(WORDS[i % 6], 8000, i) for i in range(19))]
    how: dict[str, Any] = {"hidden": 4, "layers": 1, "epochs": 1, "batch": 4}
    found = transcribe.fit((waves, ["ab"] * 20), tmp_path / "run", **how)
    assert np.isfinite(found.predict([silent])[0]["confidence"])
    several = [np.zeros(2000 + i) for i in range(20)]
    nothing = transcribe.fit((several, ["ab"] * 20), tmp_path / "nothing", **how)
    assert all(np.isfinite(value) for scores in nothing.scores.values() for value in scores.values())
    assert np.isfinite(nothing.predict([waves[1]])[0]["confidence"])


Change = Callable[[Path, list[list[str]]], None]


def _broken(folder: Path, rows: list[list[str]]) -> None:
    (folder / rows[3][0]).write_bytes(b"no sound at all")


def _empty(folder: Path, rows: list[list[str]]) -> None:
    soundfile.write(folder / rows[3][0], np.zeros(0), 8000)


def _short(folder: Path, rows: list[list[str]]) -> None:
    soundfile.write(folder / rows[3][0], np.zeros(150), 8000)


def _not_finite(folder: Path, rows: list[list[str]]) -> None:
    soundfile.write(folder / rows[3][0], np.array([0.0, np.inf] * 900), 8000, format="WAV", subtype="FLOAT")


BAD: dict[str, tuple[Change, list[str]]] = {
    "gone": (lambda folder, rows: (folder / rows[3][0]).unlink(), ["2.wav", "does not exist"]),
    "broken": (_broken, ["2.wav", "cannot be read as one"]),
    "empty": (_empty, ["2.wav", "got an empty one"]),
    "short": (_short, ["2.wav", "at least 2 steps (--stack 3) for 'ab', got a recording of 1"]),
    "infinite": (_not_finite, ["2.wav", "expected finite numbers, got inf"]),
    "long": (lambda folder, rows: rows[3].__setitem__(0, "a" * 5000), ["row 3:", "cannot be read: File name too long"]),
    "no text": (lambda folder, rows: rows[3].__setitem__(1, " "), ["row 3: expected a text, got an empty one"]),
    "no file": (lambda folder, rows: rows[3].__setitem__(0, ""), ["row 3: expected a file, got none"]),
}


@pytest.fixture
def eight(tmp_path: Path) -> list[list[str]]:
    """The rows of a manifest of eight recordings, its head among them."""
    for i in range(8):
        soundfile.write(tmp_path / f"{i}.wav", sound("ab", 8000, i), 8000)
    return [["path", "text"], *([f"{i}.wav", "ab"] for i in range(8))]


@pytest.mark.parametrize(("change", "parts"), BAD.values(), ids=BAD)
def test_a_recording_that_cannot_be_used(
    elman: Command, tmp_path: Path, eight: list[list[str]], change: Change, parts: list[str]
) -> None:
    change(tmp_path, eight)
    said = elman("train", "transcribe", written(tmp_path, eight), "--out", tmp_path / "run", *SMALL)
    refused(said, *parts, "pass --skip-bad to skip it")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_used_is_left_out(elman: Command, tmp_path: Path, eight: list[list[str]]) -> None:
    _broken(tmp_path, eight)
    eight[5][1] = ""
    out = ["--out", tmp_path / "run", *SMALL, "--epochs", 1]
    said = elman("train", "transcribe", written(tmp_path, eight), "--skip-bad", *out)
    assert said.code == 0
    assert "skipped 2 unusable examples" in said.err
    assert "4 recordings for training, 1 for validation, 1 for test" in said.err


def test_manifests(elman: Command, manifest: Path, trained: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "run", *SMALL]
    refused(elman("train", "transcribe", *out), "expected DATA")
    refused(elman("train", "transcribe", tmp_path / "none.csv", *out), "none.csv", "does not exist")
    text = ["--text", "said"]
    refused(elman("train", "transcribe", manifest, *text, *out), "--text", "path, text, take", "got 'said'")
    group = ["--group", "speaker"]
    refused(elman("train", "transcribe", manifest, *group, *out), "--group", "path, text, take", "got 'speaker'")
    (tmp_path / "empty.csv").write_text("path,text\n")
    refused(elman("train", "transcribe", tmp_path / "empty.csv", *out), "expected at least one row")
    (tmp_path / "bad.csv").write_text("path,text\nx.wav,a\n")
    said = elman("train", "transcribe", tmp_path / "bad.csv", "--skip-bad", *out)
    assert said.code == 2
    told, *_, refusal = said.err.splitlines()
    assert told.endswith("x.wav: expected a recording, but it does not exist; skipped")
    assert refusal.endswith("bad.csv: expected at least one usable example, got none")
    few = [f"{i}.flac" for i in (1, 2)]
    (tmp_path / "few.tsv").write_text("path\ttext\n" + "".join(f"{manifest.parent / name}\ta\n" for name in few))
    refused(elman("train", "transcribe", tmp_path / "few.tsv", *out), "expected at least 3 different examples")
    refused(elman("predict", trained, tmp_path / "bad.csv"), "bad.csv", "cannot be read as one")


def test_what_no_text_of_the_training_has(elman: Command, manifest: Path, trained: Path, tmp_path: Path) -> None:
    """It is told, and it is an error."""
    name = manifest.parent / "0.wav"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"path": str(name), "text": t}) + "\n" for t in ("ab", "éß")))
    said = elman("evaluate", trained, tmp_path / "a.jsonl")
    assert said.code == 0
    assert "2 characters are not in the training part and count as errors: 'é', 'ß'" in said.err
    more = ["--test", tmp_path / "a.jsonl", "--validation", tmp_path / "a.jsonl", "--epochs", "1"]
    assert elman("train", "transcribe", manifest, "--out", tmp_path / "run", *SMALL, *more).code == 0
    scores = json.loads((tmp_path / "run/config.json").read_text())["scores"]
    assert all(row["word_error_rate"] >= 0.5 for row in scores.values())
