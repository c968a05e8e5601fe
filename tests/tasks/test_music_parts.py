"""The parts of elman train music: MIDI, events, likelihoods, the n-gram."""

import functools
import itertools
import struct
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import torch

from elman.data import midi
from elman.data.midi import Notes
from elman.decoding.sampling import choose_each
from elman.errors import BadInput
from elman.tasks.music.baselines import MusicNGram
from elman.tasks.music.chain import Chain
from elman.tasks.music.data import read
from elman.tasks.music.model import Events, Frames, MusicBatch, Sigmoid
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.steps import (
    END,
    EVENTS,
    OFF,
    ON,
    PITCHES,
    SHIFT,
    SHIFTS,
    notes_of_events,
    notes_of_frames,
    to_events,
    to_frames,
)
from tests.tasks.test_music import chords, hot, off, on, saved


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
    midi.write(tmp_path / "a.mid", notes_of_frames(sounding), grid)
    assert (to_frames(midi.read(tmp_path / "a.mid", grid)) == sounding).all()
    assert (to_frames(notes_of_events(to_events(notes_of_frames(sounding)))) == sounding).all()


def test_events_are_those_of_the_notes() -> None:
    piece = Notes(np.array([[60, 0, 1], [64, 0, 20], [60, 1, 2]]), 20)
    found = to_events(piece).tolist()
    first = [ON + 60, ON + 64, SHIFT, OFF + 60, ON + 60, SHIFT, OFF + 60, SHIFT + SHIFTS - 1, SHIFT + 1, OFF + 64, END]
    assert found == first
    assert notes_of_events(np.array(found)).notes.tolist() == piece.notes.tolist()
    odd = notes_of_events(np.array([OFF + 60, ON + 60, SHIFT, ON + 60, SHIFT, ON + 62]))
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
    together = model.nats(MusicBatch(torch.nn.utils.rnn.pad_sequence(pieces), lengths, zero, zero))
    for b, piece in enumerate(pieces):
        alone = model.nats(MusicBatch(piece.unsqueeze(1), lengths[b : b + 1], zero[:1], zero[:1]))
        torch.testing.assert_close(together[: len(piece), b], alone[:, 0])
        assert together[len(piece) :, b].abs().sum() == 0


def test_pieces_are_moved_as_far_as_their_pitches_go() -> None:
    torch.manual_seed(0)
    low, high = torch.tensor([0, 60]), torch.tensor([5, 127])
    moves = torch.stack([MusicBatch(torch.zeros(1, 2), torch.ones(2), low, high).semitones(12) for _ in range(300)])
    assert moves.min(0).values.tolist() == [0, -12]
    assert moves.max(0).values.tolist() == [12, 0]
    piece = hot(chords(1)[0])
    for kind, model in (("frames", Frames(hidden=4, transpose=3)), ("events", Events(hidden=4, transpose=3))):
        steps = (
            torch.from_numpy(piece).float() if kind == "frames" else torch.from_numpy(to_events(notes_of_frames(piece)))
        )
        batch = MusicBatch(steps.unsqueeze(1), torch.tensor([len(steps)]), torch.tensor([40]), torch.tensor([52]))
        assert len({round(model.loss(batch)[0].item(), 3) for _ in range(40)}) == 7
        assert len({model.eval().loss(batch)[0].item() for _ in range(5)}) == 1


def test_the_n_gram_sums_to_one() -> None:
    train = list(read(chords(8), MusicOptions(grid=1)))
    baseline = MusicNGram.fit(train, "frames")
    sounding = sorted({p for piece in chords(8) for frame in piece for p in frame})[:9]
    sets = [list(c) for n in range(3) for c in itertools.combinations(sounding, n)]
    one = list(read([[[41, 45], frame] for frame in sets if frame], MusicOptions(grid=1)))
    total = sum(np.exp(-said[1]) for said in baseline.predict(one))
    assert 0 < total <= 1
    tokens = MusicNGram.fit(list(read(chords(8), MusicOptions(as_="events", grid=1))), "events")
    mass = 0.0
    for token in range(EVENTS):
        piece = train[0]._replace(input=np.array([ON + 41, SHIFT, token]))
        mass += np.exp(-tokens.predict([piece])[0][2])
    assert mass == pytest.approx(1)


def test_a_folder_is_read_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MIDI by ending or by content; hidden files, as other systems leave them, are skipped; the rest is counted."""
    for name in ("a.mid", "b.MIDI", "sub/c.kar", "sub/d", "._a.mid", ".git/e.mid"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        saved(tmp_path / "x" / name, [on(60), off(60, 480)])
    (tmp_path / "x/read me.txt").write_text("no")
    (tmp_path / "x/sub/e.mscz").write_bytes(b"PK")
    found = [Path(example.name).name for example in read([tmp_path / "x"], MusicOptions(grid=1))]
    assert found == ["a.mid", "b.MIDI", "c.kar", "d"]
    assert capsys.readouterr().err == f"{tmp_path}/x: skipped 2 files that are not MIDI: .txt (1), .mscz (1)\n"


@pytest.mark.parametrize("size", [4, 5, 12, 2000])
def test_a_time_that_no_piece_has(tmp_path: Path, size: int) -> None:
    """A number of so many bytes between two events, where MIDI has four at most."""
    track = bytes.fromhex("00903c40") + b"\xff" * (size - 1) + bytes.fromhex("7f803c00") + bytes.fromhex("00ff2f00")
    head = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 1)
    (tmp_path / "x.mid").write_bytes(head + b"MTrk" + struct.pack(">I", len(track)) + track)
    with pytest.raises(BadInput, match=r"x.mid: expected at most 1,000,000 steps \(--grid 4\), got more"):
        midi.read(tmp_path / "x.mid", 4)


@pytest.mark.parametrize("grid", [1, 7, 100, 500, 32767])
def test_any_grid_can_be_written(tmp_path: Path, grid: int) -> None:
    piece = Notes(np.array([[60, 0, 3], [64, 1, 5]]), 7)
    midi.write(tmp_path / "x.mid", piece, grid)
    found = midi.read(tmp_path / "x.mid", grid)
    assert found.notes.tolist() == piece.notes.tolist()
    assert found.steps == 7
