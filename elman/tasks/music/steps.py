"""Conversion of pieces to frames and events, and back."""

import numpy as np
from numpy.typing import NDArray

from elman.data.midi import Notes

PITCHES = 128
END = 0  # the event after the last; also the input before the first
ON, OFF = 1, 1 + PITCHES  # of pitch 0
SHIFT = OFF + PITCHES  # by one step; longer shifts follow
SHIFTS = 16  # the longest shift, in steps
EVENTS = SHIFT + SHIFTS


def to_frames(piece: Notes) -> NDArray[np.bool_]:
    """Convert a piece to frames (T, 128): which pitches sound at each step.

    >>> to_frames(Notes(np.array([[60, 0, 2], [64, 1, 2]]), 3)).nonzero()
    (array([0, 1, 1]), array([60, 60, 64]))
    """
    frames = np.zeros((piece.steps, PITCHES), bool)
    for pitch, begin, end in piece.notes.tolist():
        frames[begin:end, pitch] = True
    return frames


def notes_of_frames(frames: NDArray[np.bool_]) -> Notes:
    """Convert frames (T, 128) to notes. A pitch in consecutive frames is one held note.

    >>> notes_of_frames(to_frames(Notes(np.array([[60, 0, 2], [64, 1, 2]]), 3))).notes.tolist()
    [[60, 0, 2], [64, 1, 2]]
    """
    edges = np.diff(np.pad(frames.T.astype(np.int8), ((0, 0), (1, 1))))
    pitches, begins = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    order = np.lexsort((pitches, begins))
    return Notes(np.stack((pitches, begins, ends), 1)[order].astype(np.int64), len(frames))


def to_events(piece: Notes) -> NDArray[np.int64]:
    """Convert a piece to events (N,): note-on, note-off and time-shift events, and a final `END`.

    Note-off events come before note-on events of the same step.

    >>> to_events(Notes(np.array([[60, 0, 2]]), 2)).tolist() == [ON + 60, SHIFT + 1, OFF + 60, END]
    True
    """
    changes = [(end, OFF + pitch) for pitch, _, end in piece.notes.tolist()]
    changes += [(begin, ON + pitch) for pitch, begin, _ in piece.notes.tolist()]
    events, now = list[int](), 0
    for step, event in [
        *sorted(changes, key=lambda change: (change[0], change[1] < OFF, change[1])),
        (piece.steps, END),
    ]:
        while now < step:
            events.append(SHIFT + min(step - now, SHIFTS) - 1)
            now += min(step - now, SHIFTS)
        events.append(event)
    return np.array(events, np.int64)


def event_times(events: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the step of each event, (N,); for a time shift, the step where it begins."""
    ends = np.where(events >= SHIFT, events - SHIFT + 1, 0).cumsum()
    return np.concatenate((np.zeros(1, np.int64), ends[:-1]))


def notes_of_events(events: NDArray[np.int64]) -> Notes:
    """Convert events to notes. Any sequence of events is valid.

    A note without a note-off event lasts to the last step. A note-off event without a note is ignored.

    >>> notes_of_events(to_events(Notes(np.array([[60, 0, 40]]), 41)))
    Notes(notes=array([[60,  0, 40]]), steps=41)
    """
    notes, sounds, now = list[tuple[int, int, int]](), dict[int, int](), 0
    for event in events.tolist():
        if event >= SHIFT:
            now += event - SHIFT + 1
        elif event != END:
            pitch = (event - ON) % PITCHES
            if pitch in sounds:
                notes.append((pitch, sounds.pop(pitch), now))
            if event < OFF:
                sounds[pitch] = now
    notes += [(pitch, begin, now) for pitch, begin in sounds.items()]
    sorted_notes = sorted((note for note in notes if note[2] > note[1]), key=lambda note: (note[1], note[0]))
    return Notes(np.array(sorted_notes, np.int64).reshape(-1, 3), now)
