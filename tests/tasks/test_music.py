"""elman train music, from MIDI files and frames to a run, and the run put to use."""

import csv
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import torch

from elman.cli import run
from elman.tasks import music
from elman.tasks._choose import choose_each
from elman.tasks.music import midi
from elman.tasks.music.baselines import Spelled
from elman.tasks.music.chain import Chain
from elman.tasks.music.data import read
from elman.tasks.music.midi import Notes
from elman.tasks.music.model import Batch, Events, Frames, Sigmoid
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.steps import END, EVENTS, OFF, ON, PITCHES, SHIFT, SHIFTS, events, frames, notes, performed
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
        midi.write(path / f"{i}.mid", notes(hot(piece)), 1)
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
    steps, nats = (np.array([row[name] for row in rows[25:]]) for name in ("frames", "nats_per_frame"))
    config = json.loads((trained / "config.json").read_text())
    assert next(iter(config["scores"].values()))["nats_per_step"] == pytest.approx(nats @ steps / steps.sum(), abs=1e-4)


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
    assert "32 quarter notes, 24 of them those of" in elman("generate", trained, *further).out
    begun = frames(midi.read(tmp_path / "d.mid", 1))[:24]
    assert (begun == frames(midi.read(tmp_path / "a.mid", 1))).all()
    assert elman("generate", trained, *further, "--temperature", 0).code == 0, "what elman made is replaced"
    greedy = (tmp_path / "d.mid").read_bytes()
    assert elman("generate", trained, *further, "--top-k", 1).code == 0
    assert (tmp_path / "d.mid").read_bytes() == greedy
    other = saved(tmp_path / "other.mid", [on(60), off(60, 480)])
    refused(elman("generate", trained, "--out", other), "--out", "other.mid", "that it did not make")
    refused(elman("generate", trained, "--out", tmp_path / "x.txt"), "expected a name that ends with .mid or .midi")
    refused(elman("generate", trained, "--prompt", tmp_path / "none.mid"), "none.mid", "found nothing of that name")


def test_midi_files_as_events(elman: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = elman("train", "music", folder, "--out", out, *SMALL, "--as", "events")
    assert said.code == 0
    assert "16 pieces to learn from, 2 to validate, 2 to test" in said.out
    assert elman("predict", out, folder / "0.mid", "--format", "csv").out.startswith("input,events,nats_per_event\n")
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


def test_in_python(tmp_path: Path) -> None:
    pieces = chords()
    found = music.fit([hot(piece) for piece in pieces], tmp_path / "run", hidden=8, epochs=2, batch=8, output="sigmoid")
    assert list(next(iter(found.scores.values()))) == ["nats_per_step"]
    rows = found.predict(pieces[:2])
    assert [row["frames"] for row in rows] == [len(piece) for piece in pieces[:2]]
    other = found.evaluate([torch.from_numpy(hot(piece)) for piece in pieces[:2]])
    mean = sum(row["frames"] * row["nats_per_frame"] for row in rows) / sum(row["frames"] for row in rows)
    assert next(iter(other.values()))["nats_per_step"] == pytest.approx(mean, abs=1e-4)
    with pytest.raises(ValueError, match=r"^elman.tasks.music.fit: as_: expected one of frames, events; got 'notes'"):
        music.fit(pieces, tmp_path / "other", as_="notes")


def test_what_is_read_of_midi(tmp_path: Path) -> None:
    melody = [
        mido.MetaMessage("set_tempo", tempo=300_000),
        mido.Message("control_change", control=64, value=127),
        on(60), on(60, 240), off(60, 240), off(60, 240),  # struck again while it sounds
        on(62), on(62, 0, 0),  # of no length
        on(64), on(64, 480, 0),  # ended by velocity 0
        on(65), off(65, 10),  # shorter than a step
        on(67, 470),  # never ended
    ]  # fmt: skip
    drums = [on(35, 0, 64, midi.DRUMS), off(35, 480, midi.DRUMS)]
    bass = [on(40, 0, 64, 1), off(40, 960, 1), on(60, 0, 64, 1), off(60, 480, 1)]
    found = midi.read(saved(tmp_path / "a.mid", melody, drums, bass), 4)
    read_notes = {tuple(note) for note in found.notes.tolist()}
    assert {(40, 0, 8), (60, 0, 2), (60, 2, 6), (64, 6, 10), (65, 10, 11), (60, 8, 12)} == read_notes - {(67, 14, 14)}
    assert found.steps == 14


@pytest.mark.parametrize("grid", [1, 3, 4, 7])
def test_what_is_written_is_read_again(tmp_path: Path, grid: int) -> None:
    draw = np.random.default_rng(grid)
    sounding = draw.random((40, PITCHES)) < 0.1
    sounding[0] = sounding[-3:] = False
    midi.write(tmp_path / "a.mid", notes(sounding), grid)
    assert (frames(midi.read(tmp_path / "a.mid", grid)) == sounding).all()
    assert (frames(performed(events(notes(sounding)))) == sounding).all()


def test_events_are_those_of_the_notes() -> None:
    piece = Notes(np.array([[60, 0, 1], [64, 0, 20], [60, 1, 2]]), 20)
    found = events(piece).tolist()
    first = [ON + 60, ON + 64, SHIFT, OFF + 60, ON + 60, SHIFT, OFF + 60, SHIFT + SHIFTS - 1, SHIFT + 1, OFF + 64, END]
    assert found == first
    assert performed(np.array(found)).notes.tolist() == piece.notes.tolist()
    odd = performed(np.array([OFF + 60, ON + 60, SHIFT, ON + 60, SHIFT, ON + 62]))
    assert odd.notes.tolist() == [[60, 0, 1], [60, 1, 2]]


@pytest.mark.parametrize("kind", ["chain", "sigmoid"])
def test_all_frames_together_have_probability_one(kind: str) -> None:
    torch.manual_seed(0)
    low, count, draws = 60, 6, 500
    output: Any = (Chain(5, 0.0) if kind == "chain" else Sigmoid(5)).double().requires_grad_(False)
    bias = output.pitch.bias[1:] if kind == "chain" else output.logits.bias
    bias[:low] = bias[low + count :] = -1e9  # nothing but these pitches
    sets = torch.zeros(2**count, PITCHES, dtype=torch.double)
    sets[:, low : low + count] = torch.tensor(list(itertools.product([0, 1], repeat=count)))
    h, before = torch.randn(1, 5).double().expand(len(sets), -1), sets[37:38].expand(len(sets), -1)
    nats = output.nats(h, before, sets)
    assert float((-nats).exp().sum()) == pytest.approx(1)
    assert nats.std() > 0.1
    one = functools.partial(choose_each, generator=torch.Generator().manual_seed(0))
    drawn = torch.stack([output.draw(h[:1], before[:1], one) for _ in range(draws)]).double().mean(0)
    marginal = ((-nats).exp().unsqueeze(1) * sets).sum(0)
    torch.testing.assert_close(drawn, marginal, atol=1.5 / draws**0.5, rtol=0)  # three standard deviations at most


@pytest.mark.parametrize("kind", ["chain", "sigmoid", "events"])
def test_batches_change_no_likelihood(kind: str) -> None:
    torch.manual_seed(0)
    model = (Events(hidden=7) if kind == "events" else Frames(kind, hidden=7)).eval()
    options = MusicOptions(as_="events" if kind == "events" else "frames", grid=1)
    pieces = [torch.from_numpy(example.input) for example in read(chords(3), options)]
    pieces = pieces if kind == "events" else [piece.float() for piece in pieces]
    zero = torch.zeros(3, dtype=torch.long)
    lengths = torch.tensor([len(piece) for piece in pieces])
    together = model.nats(Batch(torch.nn.utils.rnn.pad_sequence(pieces), lengths, zero, zero))
    for b, piece in enumerate(pieces):
        alone = model.nats(Batch(piece.unsqueeze(1), lengths[b : b + 1], zero[:1], zero[:1]))
        torch.testing.assert_close(together[: len(piece), b], alone[:, 0])
        assert together[len(piece) :, b].abs().sum() == 0


def test_pieces_are_moved_as_far_as_their_pitches_go() -> None:
    torch.manual_seed(0)
    low, high = torch.tensor([0, 60]), torch.tensor([5, 127])
    moves = torch.stack([Batch(torch.zeros(1, 2), torch.ones(2), low, high).semitones(12) for _ in range(300)])
    assert moves.min(0).values.tolist() == [0, -12]
    assert moves.max(0).values.tolist() == [12, 0]
    piece = hot(chords(1)[0])
    for kind, model in (("frames", Frames(hidden=4, transpose=3)), ("events", Events(hidden=4, transpose=3))):
        steps = torch.from_numpy(piece).float() if kind == "frames" else torch.from_numpy(events(notes(piece)))
        batch = Batch(steps.unsqueeze(1), torch.tensor([len(steps)]), torch.tensor([40]), torch.tensor([52]))
        assert len({round(model.loss(batch)[0].item(), 3) for _ in range(40)}) == 7
        assert len({model.eval().loss(batch)[0].item() for _ in range(5)}) == 1


def test_the_n_gram_sums_to_one() -> None:
    train = read(chords(8), MusicOptions(grid=1))
    baseline = Spelled.fit(train, "frames")
    sounding = sorted({p for piece in chords(8) for frame in piece for p in frame})[:9]
    sets = [list(c) for n in range(3) for c in itertools.combinations(sounding, n)]
    one = read([[[41, 45], frame] for frame in sets if frame], MusicOptions(grid=1))
    total = sum(np.exp(-said[1]) for said in baseline.say(one))
    assert 0 < total <= 1
    tokens = Spelled.fit(read(chords(8), MusicOptions(as_="events", grid=1)), "events")
    mass = 0.0
    for token in range(EVENTS):
        piece = train[0]._replace(input=np.array([ON + 41, SHIFT, token]))
        mass += np.exp(-tokens.say([piece])[0][2])
    assert mass == pytest.approx(1)


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
    refused(train(tmp_path / "none"), "none: expected a file, found nothing")
    (tmp_path / "bad.mid").write_bytes(b"no music")
    refused(train(folder, tmp_path / "bad.mid"), "bad.mid: expected a MIDI file", "--skip-bad")
    whole = (folder / "0.mid").read_bytes()
    (tmp_path / "cut.mid").write_bytes(whole[:-9])
    refused(train(tmp_path / "cut.mid"), "cut.mid: expected a MIDI file", "--skip-bad")
    silent = saved(tmp_path / "silent.mid", [on(35, 0, 64, midi.DRUMS), off(35, 480, midi.DRUMS)])
    refused(train(folder, silent), "silent.mid: expected notes, got none that are no drums")
    assert len(read([folder, silent, tmp_path / "bad.mid"], MusicOptions(grid=1, skip_bad=True))) == 20
    assert "left out 2" in capsys.readouterr().out
    refused(elman("predict", trained, silent), "silent.mid")
    refused(train(folder / "0.mid"), "expected at least 4 examples", "got 1")
    refused(train(saved(tmp_path / "two.mid", [on(60)], [on(60)], type=2)), "two.mid", "of type 0 or 1")
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
    refused(train(tmp_path / "g.json"), "g.json: expected JSON")
    refused(train(folder, text("h.json", chords(4))), "music: expected --grid, steps to a quarter note")
    refused(elman("train", "music", folder, "--as", "notes", *out), "--as", "expected one of frames, events")
    refused(elman("train", "music", folder, "--as", "events", "--output", "sigmoid", *out), "--output: expected none")
