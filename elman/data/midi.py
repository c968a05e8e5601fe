"""Read and write the notes of MIDI files."""

import io
from collections import defaultdict, deque
from pathlib import Path
from typing import NamedTuple

# symusic reads fewer odd files right: it drops notes that never end, takes notes of no length, refuses long headers,
# and reads type 2 and files with missing tracks without a word (tests/tasks/test_odd_midi.py).
import mido
import numpy as np
from mido.midifiles.meta import KeySignatureError
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.io.files import MAKER, opened, read_bytes, write_whole

SUFFIXES = (".mid", ".midi")
DRUMS = 9  # channel 10, counted from 1
TICKS = 480  # per quarter note, in written files
TEMPO = 100  # quarter notes per minute, in written files
VELOCITY = 80
MAX_STEPS = 1_000_000  # a day of music; damaged files claim years
INDEPENDENT = 2  # the type of files whose tracks are separate pieces

Key = tuple[int, int]  # channel and pitch


class Notes(NamedTuple):
    """A piece.

    Args:
        notes: pitch, first step and end, (N, 3), sorted by first step; a note does not sound at its end.
        steps: T, the length of the piece.
    """

    notes: NDArray[np.int64]
    steps: int


def is_midi(path: Path) -> bool:
    """Whether a file is MIDI by its suffix, or else by its first bytes.

    Raises:
        BadInput: if it cannot be read.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    if not path.is_file():
        return False
    with opened(path) as file:
        head = file.read(12)
    return head.startswith(b"MThd") or (head.startswith(b"RIFF") and head.endswith(b"RMID"))


def read(path: Path, grid: int) -> Notes:
    """Read the notes of a file: all tracks and channels together, without drums.

    Notes are rounded to the nearest step, and last at least one. Pedals and tempo are ignored.

    Args:
        path: of the file.
        grid: steps per quarter note.

    Raises:
        BadInput: if it is no MIDI file, or has no notes.
    """
    data = read_bytes(path)
    try:
        file = mido.MidiFile(file=io.BytesIO(_tracks_alone(data)))
    except (OSError, EOFError, ValueError, LookupError, KeySignatureError) as error:
        why = str(error) or "it is cut short"
        raise BadInput(f"{path}: expected a MIDI file, got what cannot be read as one: {why}") from None
    if file.type == INDEPENDENT:
        raise BadInput(f"{path}: expected MIDI of type 0 or 1, got type {file.type}, whose tracks are separate pieces")
    if file.ticks_per_beat <= 0:
        raise BadInput(f"{path}: expected a division in ticks to a quarter note, got {_division(file.ticks_per_beat)}")
    notes, end, most = list[tuple[int, int, int]](), 0, MAX_STEPS * file.ticks_per_beat // grid
    for track in file.tracks:
        of_track, last = _track(track)
        if last > most:  # of numbers of any size, which arrays could not hold
            raise BadInput(f"{path}: expected at most {MAX_STEPS:,} steps (--grid {grid}), got more")
        notes += of_track
        end = max(end, last)
    if not notes:
        raise BadInput(f"{path}: expected notes, got none that are no drums")
    ticks = np.array(notes, np.int64)
    steps = (2 * grid * ticks[:, 1:] + file.ticks_per_beat) // (2 * file.ticks_per_beat)
    steps[:, 1] = np.maximum(steps[:, 1], steps[:, 0] + 1)
    length = max(int(steps.max()), round(end * grid / file.ticks_per_beat))
    return Notes(without_overlaps(np.column_stack((ticks[:, 0], steps))), length)


def _tracks_alone(data: bytes) -> bytes:
    """The header and the tracks of a file, without other chunks, and out of the RIFF file that it may be in.

    The standard asks to skip unknown chunks. mido takes them for damaged tracks, and reads no more tracks than the
    header says.
    """
    if data[:4] == b"RIFF" and data[8:16] == b"RMIDdata":
        data = data[20:]
    if data[:4] != b"MThd":
        return data  # which mido refuses
    place, tracks = 8 + int.from_bytes(data[4:8], "big"), list[bytes]()
    head = data[:place]
    while place + 8 <= len(data):
        end = place + 8 + int.from_bytes(data[place + 4 : place + 8], "big")
        if data[place : place + 4] == b"MTrk":
            tracks.append(data[place:end])
        place = end
    count = min(max(int.from_bytes(head[10:12], "big"), len(tracks)), 0xFFFF)
    return b"".join([head[:10], count.to_bytes(2, "big"), head[12:], *tracks])


def _division(division: int) -> str:
    """Describe a division that is not in ticks per quarter note."""
    if division == 0:
        return "0"
    frames, ticks = 256 - (division >> 8 & 255), division & 255
    return f"SMPTE time, {frames} frames a second of {ticks} ticks each"


def _track(track: mido.MidiTrack) -> tuple[list[tuple[int, int, int]], int]:
    """Pitches with the ticks where they begin and end, and the last tick."""
    open_at = defaultdict[Key, deque[int]](deque)
    last_off = dict[Key, int]()
    notes, now = list[tuple[int, int, int]](), 0
    for message in track:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        key = (message.channel, message.note)
        if message.type == "note_on" and message.velocity:
            open_at[key].append(now)
        else:
            last_off[key] = now
            if open_at[key]:  # the one that has sounded longest
                notes.append((message.note, open_at[key].popleft(), now))
    for key, begins in open_at.items():  # struck twice and ended once: the one end is that of both
        notes += [(key[1], begin, last_off[key] if last_off.get(key, -1) > begin else now) for begin in begins]
    return [note for note in notes if note[2] > note[1]], now


def without_overlaps(notes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Notes without overlaps of one pitch: struck again, a note ends, and the new one lasts to the later end.

    >>> without_overlaps(np.array([[60, 0, 4], [60, 2, 3], [64, 0, 1]])).tolist()
    [[60, 0, 2], [64, 0, 1], [60, 2, 4]]
    """
    parts = list[list[int]]()
    for pitch, begin, end in notes[np.lexsort((notes[:, 2], notes[:, 1], notes[:, 0]))].tolist():
        before = parts[-1] if parts and parts[-1][0] == pitch and parts[-1][2] > begin else None
        if before is None:
            parts.append([pitch, begin, end])
        elif before[1] == begin:
            before[2] = max(before[2], end)
        else:
            parts.append([pitch, begin, max(before[2], end)])
            before[2] = begin
    return np.array(sorted(parts, key=lambda note: (note[1], note[0])), np.int64).reshape(-1, 3)


def write(path: Path, piece: Notes, grid: int) -> None:
    """Write a file that `read` reads as these notes, on one track and one channel.

    Raises:
        OSError: if it cannot be written.
    """
    ticks = grid * max(TICKS // grid, 1)  # a whole number to each step, and no more than a header holds
    file = mido.MidiFile(type=0, ticks_per_beat=ticks)
    head = mido.MetaMessage("text", text=MAKER), mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(TEMPO))
    track = mido.MidiTrack(head)
    file.tracks.append(track)
    events = [(end, 0, pitch) for pitch, _, end in piece.notes.tolist()]
    events += [(begin, 1, pitch) for pitch, begin, _ in piece.notes.tolist()]
    now = 0
    for step, on, pitch in sorted(events):
        kind, at = ("note_on" if on else "note_off"), step * ticks // grid
        track.append(mido.Message(kind, note=pitch, velocity=VELOCITY if on else 0, time=at - now))
        now = at
    track.append(mido.MetaMessage("end_of_track", time=piece.steps * ticks // grid - now))
    data = io.BytesIO()
    file.save(file=data)
    write_whole(path, data.getvalue())
