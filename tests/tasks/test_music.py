"""elman train music, from MIDI files and frames to a run, and the run put to use."""

import csv
import json
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import torch

from elman.cli import run
from elman.data import midi
from elman.tasks import music
from elman.tasks.music.data import read
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.steps import PITCHES, notes_of_frames, to_frames
from tests.small import Command, files
from tests.test_bad_input import refused

SMALL = ["--hidden", "8", "--batch", "8", "--epochs", "4", "--lr", "0.02", "--transpose", "2"]


def chords(count: int = 30, length: int = 12) -> list[list[list[int]]]:
    """Pieces that go up a scale in thirds, with rests; no two are the same."""
    return [
        [[40 + i + 2 * (t % 5), 44 + i + 2 * (t % 5)] if t % 6 else [] for t in range(1, length + i % 4)]
        for i in range(count)
    ]


def hot(piece: list[list[int]]) -> np.ndarray:
    found = np.zeros((len(piece), PITCHES), bool)
    for t, frame in enumerate(piece):
        found[t, frame] = True
    return found


def saved(path: Path, *tracks: list[Any], ticks: int = 480, type: int = 1) -> Path:
    file = mido.MidiFile(type=type, ticks_per_beat=ticks)
    file.tracks.extend(mido.MidiTrack(track) for track in tracks)
    file.save(path)
    return path


def on(note: int, time: int = 0, velocity: int = 64, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=note, time=time, velocity=velocity, channel=channel)


def off(note: int, time: int = 0, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=note, time=time, channel=channel)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("json") / "pieces.json"
    pieces = chords()
    path.write_text(json.dumps({"train": pieces[:20], "valid": pieces[20:25], "test": pieces[25:]}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("midi")
    for i, piece in enumerate(chords(20, 8)):
        midi.write(path / f"{i}.mid", notes_of_frames(hot(piece)), 1)
    return path


@pytest.fixture(scope="module")
def trained(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert run(["train", "music", str(parts), "--out", str(path), "--flow-every", "5", *SMALL]) == 0
    return path


def test_a_run_of_frames(elman: Command, trained: Path, parts: Path, tmp_path: Path) -> None:
    assert {"codec.json", "split.csv", "baseline.safetensors", "piano_roll.png", "flow.csv"} <= files(trained)
    config = json.loads((trained / "config.json").read_text())
    assert (config["data"]["train"], config["data"]["validation"], config["data"]["test"]) == (20, 5, 5)
    assert [list(row) for row in config["scores"].values()] == [["nats_per_step"]] * 2
    rows = list(csv.DictReader((trained / "split.csv").read_text().splitlines()))
    named = {"train": "train", "validation": "valid", "test": "test"}
    assert all(f": {named[row['part']]}: piece " in row["name"] for row in rows)
    said = elman("evaluate", trained, parts)
    own = next(iter(config["scores"].values()))["nats_per_step"]
    assert said.code == 0
    assert f"{own:.4f}" in said.out, "of a file with parts, the test part is scored"
    assert "-gram (Kneser-Ney) over notes" in said.out
    for command in (["info"], ["report"], ["flow"], ["draw", "--out", tmp_path / "net.svg", "--gradients"]):
        assert elman(command[0], trained, *command[1:]).code == 0
    assert "test: piece 1" in (trained / "report.html").read_text()


def test_the_scores_are_those_of_the_predictions(elman: Command, trained: Path, parts: Path) -> None:
    rows = [json.loads(line) for line in elman("predict", trained, parts, "--format", "jsonl").out.splitlines()]
    assert len(rows) == 30
    steps, nats = (np.array([row[name] for row in rows[25:]]) for name in ("frames", "nats_per_step"))
    config = json.loads((trained / "config.json").read_text())
    assert next(iter(config["scores"].values()))["nats_per_step"] == pytest.approx(nats @ steps / steps.sum(), abs=1e-4)


@pytest.mark.slow
def test_generated_music(elman: Command, trained: Path, parts: Path, tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.mid"
        said = elman("generate", trained, "--seed", seed, "--length", 24, "--temperature", 1, "--out", out)
        assert said.out.startswith(f"{out}: ")
        assert len(said.out.splitlines()) == 1
        made.append(out.read_bytes())
    assert made[0] == made[1] != made[2]
    assert midi.read(tmp_path / "a.mid", 1).steps == 24
    assert f"{trained / 'generated-1.mid'}: " in elman("generate", trained, "--length", 3).out
    assert f"{trained / 'generated-2.mid'}: " in elman("generate", trained, "--length", 3).out
    further = ["--prompt", tmp_path / "a.mid", "--length", 8, "--out", tmp_path / "d.mid"]
    assert "32 quarter notes, of which 24 are those of" in elman("generate", trained, *further).out
    begun = to_frames(midi.read(tmp_path / "d.mid", 1))[:24]
    assert (begun == to_frames(midi.read(tmp_path / "a.mid", 1))).all()
    assert elman("generate", trained, *further, "--temperature", 0).code == 0, "what elman made is replaced"
    greedy = (tmp_path / "d.mid").read_bytes()
    assert elman("generate", trained, *further, "--top-k", 1).code == 0
    assert (tmp_path / "d.mid").read_bytes() == greedy
    other = saved(tmp_path / "other.mid", [on(60), off(60, 480)])
    refused(elman("generate", trained, "--out", other), "--out", "other.mid", "got another file")
    refused(
        elman("generate", trained, "--out", tmp_path / "x.txt"), "expected a file name that ends with .mid or .midi"
    )
    refused(elman("generate", trained, "--prompt", tmp_path / "none.mid"), "none.mid", "but it does not exist")


def test_midi_files_as_events(elman: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = elman("train", "music", folder, "--out", out, *SMALL, "--as", "events")
    assert said.code == 0
    assert "16 pieces for training, 2 for validation, 2 for test" in said.err
    assert elman("predict", out, folder / "0.mid", "--format", "csv").out.startswith("input,events,nats_per_step\n")
    written = [
        elman("generate", out, "--seed", 3, "--length", 8, "--out", tmp_path / n).code for n in ("a.mid", "b.mid")
    ]
    assert written == [0, 0]
    assert (tmp_path / "a.mid").read_bytes() == (tmp_path / "b.mid").read_bytes()
    assert elman("evaluate", out, folder).code == 0
    refused(elman("train", "music", "--resume", out, "--as", "frames"), "--as: cannot be changed")


def test_resuming_changes_nothing(elman: Command, parts: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = ["--schedule", "constant", "--epochs", "2"]
    assert elman("train", "music", parts, "--out", whole, *SMALL, *more).code == 0
    assert elman("train", "music", parts, "--out", parted, *SMALL, *more, "--epochs", "0.5").code == 0
    assert elman("train", "music", "--resume", parted, "--epochs", "2").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_in_python(tmp_path: Path) -> None:
    pieces = chords()
    found = music.fit([hot(piece) for piece in pieces], tmp_path / "run", hidden=8, epochs=2, batch=8, output="sigmoid")
    assert list(next(iter(found.scores.values()))) == ["nats_per_step"]
    rows = found.predict(pieces[:2])
    assert [row["frames"] for row in rows] == [len(piece) for piece in pieces[:2]]
    other = found.evaluate([torch.from_numpy(hot(piece)) for piece in pieces[:2]])
    mean = sum(row["frames"] * row["nats_per_step"] for row in rows) / sum(row["frames"] for row in rows)
    assert next(iter(other.values()))["nats_per_step"] == pytest.approx(mean, abs=1e-4)
    path = found.generate(length=4, seed=1)
    assert path == found.run.path / "generated-1.mid"
    assert midi.read(path, 1).steps <= 4
    further = found.generate(pieces[0], 4, tmp_path / "further.mid", seed=1)
    assert (to_frames(midi.read(further, 1))[: len(pieces[0])] == hot(pieces[0])).all()
    with pytest.raises(TypeError, match=r"^generate: size: expected one of temperature, top_k, top_p, seed"):
        found.generate(size=4)
    with pytest.raises(ValueError, match=r"^elman.tasks.music.fit: as_: expected frames or events; got 'notes'"):
        music.fit(pieces, tmp_path / "other", as_="notes")  # type: ignore[arg-type]


def test_wrong_music(
    elman: Command, trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", tmp_path / "run", *SMALL]

    def train(*data: Any) -> Any:
        return elman("train", "music", *data, *out)

    def text(name: str, value: Any) -> Path:
        (tmp_path / name).write_text(json.dumps(value))
        return tmp_path / name

    refused(train(), "music: expected DATA")
    (tmp_path / "empty").mkdir()
    refused(train(tmp_path / "empty"), "empty: expected MIDI files", "got a folder without any")
    refused(train(tmp_path / "none"), "none: expected a file, but it does not exist")
    (tmp_path / "bad.mid").write_bytes(b"no music")
    refused(train(folder, tmp_path / "bad.mid"), "bad.mid: expected a MIDI file", "--skip-bad")
    whole = (folder / "0.mid").read_bytes()
    (tmp_path / "cut.mid").write_bytes(whole[:-9])
    refused(train(tmp_path / "cut.mid"), "cut.mid: expected a MIDI file", "--skip-bad")
    silent = saved(tmp_path / "silent.mid", [on(35, 0, 64, midi.DRUMS), off(35, 480, midi.DRUMS)])
    refused(train(folder, silent), "silent.mid: expected notes other than drums, got none")
    assert len(list(read([folder, silent, tmp_path / "bad.mid"], MusicOptions(grid=1, skip_bad=True)))) == 20
    assert "skipped 2" in capsys.readouterr().err
    refused(elman("predict", trained, silent), "silent.mid")
    refused(train(folder / "0.mid"), "expected at least 3 different examples", "got 1")
    refused(train(saved(tmp_path / "two.mid", [on(60)], [on(60)], type=2)), "two.mid", "of type 0 or 1, got type 2")
    for division, said in ((0, "got 0"), (-6360, "got SMPTE time, 25 frames a second of 40 ticks each")):
        path = saved(tmp_path / "time.mid", [on(60)])
        path.write_bytes(path.read_bytes()[:12] + division.to_bytes(2, "big", signed=True) + path.read_bytes()[14:])
        refused(train(path), "time.mid: expected a division in ticks per quarter note", said)
    refused(train(text("a.json", {"train": []})), "a.json: expected 'train', 'valid', 'test'; got ['train']")
    refused(train(text("b.json", 3)), "b.json: expected a list of pieces, got 3")
    refused(
        train(text("c.json", [[[60], [61, 128]]])),
        "c.json: piece 1, frame 2: expected MIDI pitches from 0 to 127, got 128",
    )
    refused(train(text("d.json", [[[60], 61]])), "d.json: piece 1, frame 2: expected a list of MIDI pitches, got 61")
    refused(train(text("e.json", [[[], []]])), "e.json: piece 1: expected notes, got none")
    refused(train(text("f.json", [[]])), "f.json: piece 1: expected a list of frames, got []")
    (tmp_path / "g.json").write_text("[[")
    refused(train(tmp_path / "g.json"), "g.json: expected valid JSON")
    refused(train(folder, text("h.json", chords(4))), "music: expected --grid, steps per quarter note")
    refused(elman("train", "music", folder, "--as", "notes", *out), "--as", "expected frames or events")
    refused(elman("train", "music", folder, "--as", "events", "--output", "sigmoid", *out), "--output: expected none")
