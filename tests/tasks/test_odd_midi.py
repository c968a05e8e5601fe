"""MIDI files as programs write them, byte by byte: what is read of them, or that they are refused.

symusic reads 23 of them right, mido 27, and mido behind `elman.data.midi.read` all but one.
"""

import struct
from pathlib import Path

import pytest

from elman.data import midi
from elman.errors import BadInput

TICKS = 480  # to a quarter note


def header(type: int = 0, tracks: int = 1, division: int = TICKS, more: bytes = b"") -> bytes:
    return b"MThd" + struct.pack(">IHHH", 6 + len(more), type, tracks, division & 0xFFFF) + more


def track(events: bytes, more: int = 0) -> bytes:
    """A track whose header claims some bytes more than there are."""
    return b"MTrk" + struct.pack(">I", len(events) + more) + events


def time(ticks: int) -> bytes:
    """A time as MIDI writes it, seven bits a byte."""
    return bytes([*([128 | ticks >> 7] if ticks > 127 else []), ticks & 127])


def on(ticks: int, pitch: int, velocity: int = 64, channel: int = 0) -> bytes:
    return time(ticks) + bytes([0x90 | channel, pitch, velocity])


def off(ticks: int, pitch: int, channel: int = 0) -> bytes:
    return time(ticks) + bytes([0x80 | channel, pitch, 0])


def tempo(ticks: int, microseconds: int) -> bytes:
    return time(ticks) + b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def riff(file: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 12 + len(file)) + b"RMIDdata" + struct.pack("<I", len(file)) + file


END = b"\x00\xff\x2f\x00"
TUNE = on(0, 60) + off(480, 60) + on(0, 64) + off(480, 64)
FILE = header() + track(TUNE + END)
NOTES = [[60, 0, 480], [64, 480, 960]]
ALIEN = b"XFIH" + struct.pack(">I", 4) + b"MTrk"

READ: dict[str, tuple[bytes, list[list[int]]]] = {
    "type 0": (FILE, NOTES),
    "type 1": (header(1, 2) + track(tempo(0, 500_000) + tempo(480, 250_000) + END) + track(TUNE + END), NOTES),
    "running status": (
        header() + track(on(0, 60) + time(480) + b"\x3c\x00\x00\x40\x40" + time(480) + b"\x40\x00" + END),
        NOTES,
    ),
    "running status over a meta event": (
        header() + track(on(0, 60) + tempo(240, 250_000) + time(240) + b"\x3c\x00" + on(0, 64) + off(480, 64) + END),
        NOTES,
    ),
    "no end of track": (header() + track(TUNE), NOTES),
    "a note that never ends": (header() + track(on(0, 60) + off(480, 60) + on(0, 64) + time(480) + END[1:]), NOTES),
    "struck twice, ended twice": (
        header() + track(on(0, 60) + on(240, 60) + off(240, 60) + off(240, 60) + END),
        [[60, 0, 240], [60, 240, 720]],
    ),
    "struck twice, ended once": (
        header() + track(on(0, 60) + on(240, 60) + off(240, 60) + END),
        [[60, 0, 240], [60, 240, 480]],
    ),
    "a note of no length": (header() + track(on(0, 62) + off(0, 62) + TUNE + END), NOTES),
    "ended by velocity 0": (header() + track(on(0, 60) + on(480, 60, 0) + on(0, 64) + on(480, 64, 0) + END), NOTES),
    "one pitch on two channels": (
        header() + track(on(0, 60) + on(0, 60, channel=1) + off(480, 60) + off(480, 60, channel=1) + END),
        [[60, 0, 960]],
    ),
    "system exclusive": (header() + track(b"\x00\xf0\x05\x7e\x7f\x09\x01\xf7" + TUNE + END), NOTES),
    "text that is no UTF-8": (header() + track(b"\x00\xff\x01\x02\xe4\xf6" + TUNE + END), NOTES),
    "an empty track": (header(1, 2) + track(b"") + track(TUNE + END), NOTES),
    "a long header": (header(more=b"\0\0") + track(TUNE + END), NOTES),
    "bytes behind the tracks": (FILE + b"garbage", NOTES),
    "a chunk that nobody knows": (header() + ALIEN + track(TUNE + END) + ALIEN, NOTES),
    "more tracks than the header says": (header(1, 1) + track(END) + track(TUNE + END), NOTES),
    "RIFF": (riff(FILE), NOTES),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "type 2": (header(2, 2) + track(TUNE + END) + track(TUNE + END), "got type 2, whose tracks are separate pieces"),
    "SMPTE": (header(division=-6360) + track(TUNE + END), "got SMPTE time, 25 frames a second of 40 ticks each"),
    "division 0": (header(division=0) + track(TUNE + END), "a division in ticks per quarter note, got 0"),
    "cut short": (FILE[:-9], "it is truncated"),
    "cut in a RIFF": (riff(FILE)[:-9], "it is truncated"),
    "a track shorter than it claims": (header() + track(TUNE, more=50), "it is truncated"),
    "fewer tracks than the header says": (header(1, 2) + track(TUNE + END), "it is truncated"),
    "a data byte above 127": (header() + track(on(0, 60) + time(480) + b"\x80\x3c\xc8" + END), "data byte"),
    "a key of nine flats": (header() + track(b"\x00\xff\x59\x02\xf7\x00" + TUNE + END), "9 flats"),
    "a time of five bytes": (header() + track(on(0, 60) + b"\xff\xff\xff\xff\x7f\x80\x3c\x00" + END), "got more"),
    "drums alone": (
        header() + track(on(0, 35, channel=9) + off(480, 35, 9) + END),
        "expected notes other than drums, got none",
    ),
    "nothing": (b"", "it is truncated"),
    "text": (b"no music", "MThd not found"),
}


@pytest.mark.parametrize(("data", "notes"), READ.values(), ids=READ)
def test_a_file_is_read(data: bytes, notes: list[list[int]], tmp_path: Path) -> None:
    (tmp_path / "x.mid").write_bytes(data)
    assert midi.read(tmp_path / "x.mid", TICKS).notes.tolist() == notes


def test_a_file_of_another_name_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    for name, data, known in (("a", FILE, True), ("b.rmi", riff(FILE), True), ("c", b"RIFF", False)):
        (tmp_path / name).write_bytes(data)
        assert midi.is_midi(tmp_path / name) == known


@pytest.mark.parametrize(("data", "why"), REFUSED.values(), ids=REFUSED)
def test_a_file_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "x.mid").write_bytes(data)
    with pytest.raises(BadInput, match=why) as error:
        midi.read(tmp_path / "x.mid", TICKS)
    assert str(error.value).startswith(str(tmp_path / "x.mid"))
