"""Notes from MIDI files, and to them."""

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
DRUMS = 9  # the channel that people call 10
TICKS = 480  # to a quarter note, in what is written
TEMPO = 100  # quarter notes to a minute, in what is written
VELOCITY = 80
LONGEST = 1_000_000  # steps: a day of music, where a damaged file may claim years
INDEPENDENT = 2  # the type of a file whose tracks are pieces of their own

Key = tuple[int, int]  # channel and pitch


class Notes(NamedTuple):
    """A piece.

    Args:
        notes: pitch, first step, and the step that it does not sound at any more, (N, 3); by their first steps.
        steps: T, how long the piece is.
    """

    notes: NDArray[np.int64]
    steps: int


def is_midi(path: Path) -> bool:
    """Whether a file is MIDI by the ending of its name, or else by its first bytes.

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
    """The notes of a file, all tracks and channels together but for the drums.

    Notes begin and end at the nearest step, and last one at least. Pedals and the tempo change nothing here.

    Args:
        path: of the file.
        grid: steps to a quarter note.

    Raises:
        BadInput: for a file that is none, or has no notes.
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
    found, end, most = list[tuple[int, int, int]](), 0, LONGEST * file.ticks_per_beat // grid
    for track in file.tracks:
        notes, last = _track(track)
        if last > most:  # of numbers of any size, which arrays could not hold
            raise BadInput(f"{path}: expected at most {LONGEST:,} steps (--grid {grid}), got more")
        found += notes
        end = max(end, last)
    if not found:
        raise BadInput(f"{path}: expected notes, got none that are no drums")
    ticks = np.array(found, np.int64)
    steps = (2 * grid * ticks[:, 1:] + file.ticks_per_beat) // (2 * file.ticks_per_beat)
    steps[:, 1] = np.maximum(steps[:, 1], steps[:, 0] + 1)
    length = max(int(steps.max()), round(end * grid / file.ticks_per_beat))
    return Notes(apart(np.column_stack((ticks[:, 0], steps))), length)


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
    """What the head of a file says that is no number of ticks to a quarter note."""
    if division == 0:
        return "0"
    frames, ticks = 256 - (division >> 8 & 255), division & 255
    return f"SMPTE time, {frames} frames a second of {ticks} ticks each"


def _track(track: mido.MidiTrack) -> tuple[list[tuple[int, int, int]], int]:
    """Pitches with the ticks where they begin and end, and the last tick."""
    open_at = defaultdict[Key, deque[int]](deque)
    last_off = dict[Key, int]()
    found, now = list[tuple[int, int, int]](), 0
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
                found.append((message.note, open_at[key].popleft(), now))
    for key, begins in open_at.items():  # struck twice and ended once: the one end is that of both
        found += [(key[1], begin, last_off[key] if last_off.get(key, -1) > begin else now) for begin in begins]
    return [note for note in found if note[2] > note[1]], now


def apart(notes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same with no two notes of a pitch at once: one that is struck again ends there, and what sounds, sounds on.

    >>> apart(np.array([[60, 0, 4], [60, 2, 3], [64, 0, 1]])).tolist()
    [[60, 0, 2], [64, 0, 1], [60, 2, 4]]
    """
    found = list[list[int]]()
    for pitch, begin, end in notes[np.lexsort((notes[:, 2], notes[:, 1], notes[:, 0]))].tolist():
        before = found[-1] if found and found[-1][0] == pitch and found[-1][2] > begin else None
        if before is None:
            found.append([pitch, begin, end])
        elif before[1] == begin:
            before[2] = max(before[2], end)
        else:
            found.append([pitch, begin, max(before[2], end)])
            before[2] = begin
    return np.array(sorted(found, key=lambda note: (note[1], note[0])), np.int64).reshape(-1, 3)


def write(path: Path, piece: Notes, grid: int) -> None:
    """A file that `read` reads as these notes, on one track of one channel.

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
