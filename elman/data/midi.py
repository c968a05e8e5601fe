"""Read and write notes of MIDI files."""

import io
from collections import defaultdict, deque
from pathlib import Path
from typing import NamedTuple

# symusic handles fewer odd files: it drops notes that never end, keeps notes of zero length, rejects long headers,
# and silently reads type 2 files and files with missing tracks (tests/tasks/test_odd_midi.py).
import mido
import numpy as np
from mido.midifiles.meta import KeySignatureError
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.io.files import MAKER, opened, read_bytes, write_whole

SUFFIXES = (".mid", ".midi")
DRUMS = 9  # the drum channel, number 10 when counted from 1
TICKS = 480  # per quarter note, in written files
TEMPO = 100  # quarter notes per minute, in written files
VELOCITY = 80
MAX_BYTES = 1 << 22  # of a file; the longest pieces have some hundred thousand, and each byte may take 200 of memory
MAX_STEPS = 1_000_000  # about a day of music; damaged files claim years
INDEPENDENT = 2  # MIDI file type whose tracks are separate pieces

Key = tuple[int, int]  # channel and pitch


class Notes(NamedTuple):
    """The notes of a piece.

    Args:
        notes: pitch, first step and end of each note, (N, 3), sorted by first step. A note does not sound at its end.
        steps: T, length of the piece in steps.
    """

    notes: NDArray[np.int64]
    steps: int


def is_midi(path: Path) -> bool:
    """Return whether a file is MIDI, by its suffix or else by its first bytes.

    Raises:
        BadInput: if the file cannot be read.
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

    Notes are rounded to the nearest step and last at least one step. Pedals and tempo are ignored.

    Args:
        path: the file.
        grid: steps per quarter note.

    Raises:
        BadInput: if the file is not MIDI, has no notes or is too large.
    """
    data = read_bytes(path, MAX_BYTES)
    try:
        file = mido.MidiFile(file=io.BytesIO(_without_other_chunks(data)))
    except (OSError, EOFError, ValueError, LookupError, KeySignatureError) as error:
        reason = str(error) or "it is truncated"
        raise BadInput(f"{path}: expected a MIDI file, got a file that cannot be read as one: {reason:.200}") from None
    if file.type == INDEPENDENT:
        raise BadInput(f"{path}: expected MIDI of type 0 or 1, got type {file.type}, whose tracks are separate pieces")
    if file.ticks_per_beat <= 0:
        raise BadInput(f"{path}: expected a division in ticks per quarter note, got {_division(file.ticks_per_beat)}")
    notes, end, max_ticks = list[tuple[int, int, int]](), 0, MAX_STEPS * file.ticks_per_beat // grid
    for track in file.tracks:
        track_notes, last = _track(track)
        if last > max_ticks:  # MIDI numbers are unbounded; arrays would overflow
            raise BadInput(f"{path}: expected at most {MAX_STEPS:,} steps (--grid {grid}), got more")
        notes += track_notes
        end = max(end, last)
    if not notes:
        raise BadInput(f"{path}: expected notes other than drums, got none")
    ticks = np.array(notes, np.int64)
    steps = (2 * grid * ticks[:, 1:] + file.ticks_per_beat) // (2 * file.ticks_per_beat)
    steps[:, 1] = np.maximum(steps[:, 1], steps[:, 0] + 1)
    length = max(int(steps.max()), round(end * grid / file.ticks_per_beat))
    return Notes(without_overlaps(np.column_stack((ticks[:, 0], steps))), length)


def _without_other_chunks(data: bytes) -> bytes:
    """Return the header and the tracks of a MIDI file, without other chunks and without an enclosing RIFF file.

    The standard says to skip unknown chunks, but mido takes them for damaged tracks and reads no more tracks than the
    header states.
    """
    if data[:4] == b"RIFF" and data[8:16] == b"RMIDdata":
        data = data[20:]
    if data[:4] != b"MThd":
        return data  # mido rejects it
    position, tracks = 8 + int.from_bytes(data[4:8], "big"), list[bytes]()
    header = data[:position]
    while position + 8 <= len(data):
        end = position + 8 + int.from_bytes(data[position + 4 : position + 8], "big")
        if data[position : position + 4] == b"MTrk":
            tracks.append(data[position:end])
        position = end
    count = min(max(int.from_bytes(header[10:12], "big"), len(tracks)), 0xFFFF)
    return b"".join([header[:10], count.to_bytes(2, "big"), header[12:], *tracks])


def _division(division: int) -> str:
    """Describe a division that is not in ticks per quarter note."""
    if division == 0:
        return "0"
    frames, ticks = 256 - (division >> 8 & 255), division & 255
    return f"SMPTE time, {frames} frames a second of {ticks} ticks each"


def _track(track: mido.MidiTrack) -> tuple[list[tuple[int, int, int]], int]:
    """Return pitch, first and last tick of each note of a track, and the last tick of the track."""
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
            if open_at[key]:  # the note of this pitch that has sounded longest
                notes.append((message.note, open_at[key].popleft(), now))
    for key, starts in open_at.items():  # a pitch started twice and ended once: both notes end there
        notes += [(key[1], start, last_off[key] if last_off.get(key, -1) > start else now) for start in starts]
    return [note for note in notes if note[2] > note[1]], now


def without_overlaps(notes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Remove overlaps of notes of one pitch.

    A note ends where its pitch starts again, and the new note lasts until the later end of both.

    >>> without_overlaps(np.array([[60, 0, 4], [60, 2, 3], [64, 0, 1]])).tolist()
    [[60, 0, 2], [64, 0, 1], [60, 2, 4]]
    """
    separate = list[list[int]]()
    for pitch, begin, end in notes[np.lexsort((notes[:, 2], notes[:, 1], notes[:, 0]))].tolist():
        previous = separate[-1] if separate and separate[-1][0] == pitch and separate[-1][2] > begin else None
        if previous is None:
            separate.append([pitch, begin, end])
        elif previous[1] == begin:
            previous[2] = max(previous[2], end)
        else:
            separate.append([pitch, begin, max(previous[2], end)])
            previous[2] = begin
    return np.array(sorted(separate, key=lambda note: (note[1], note[0])), np.int64).reshape(-1, 3)


def write(path: Path, piece: Notes, grid: int) -> None:
    """Write a file from which `read` reads these notes, with one track and one channel.

    Args:
        path: the file.
        piece: the notes.
        grid: steps per quarter note.

    Raises:
        OSError: if the file cannot be written.
    """
    write_whole(path, to_bytes(piece, grid))


def to_bytes(piece: Notes, grid: int) -> bytes:
    """Return the content of the file that `write` writes."""
    ticks = grid * max(TICKS // grid, 1)  # a whole number of ticks per step that fits the header
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
    return data.getvalue()
