"""A piece as frames, and as events."""

import numpy as np
from numpy.typing import NDArray

from elman.data.midi import Notes

PITCHES = 128
END = 0  # the event after the last, and before the first
ON, OFF = 1, 1 + PITCHES  # of pitch 0
SHIFT = OFF + PITCHES  # by one step; those by more come behind it
SHIFTS = 16
EVENTS = SHIFT + SHIFTS


def frames(piece: Notes) -> NDArray[np.bool_]:
    """What sounds at each step, (T, 128).

    >>> frames(Notes(np.array([[60, 0, 2], [64, 1, 2]]), 3)).nonzero()
    (array([0, 1, 1]), array([60, 60, 64]))
    """
    found = np.zeros((piece.steps, PITCHES), bool)
    for pitch, begin, end in piece.notes.tolist():
        found[begin:end, pitch] = True
    return found


def notes(frames: NDArray[np.bool_]) -> Notes:
    """The notes of frames (T, 128); what sounds on in the next is held.

    >>> notes(frames(Notes(np.array([[60, 0, 2], [64, 1, 2]]), 3))).notes.tolist()
    [[60, 0, 2], [64, 1, 2]]
    """
    edges = np.diff(np.pad(frames.T.astype(np.int8), ((0, 0), (1, 1))))
    pitches, begins = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    order = np.lexsort((pitches, begins))
    return Notes(np.stack((pitches, begins, ends), 1)[order].astype(np.int64), len(frames))


def events(piece: Notes) -> NDArray[np.int64]:
    """Notes on, notes off and shifts of time, and an end, (N,): at each step first what ends, then what begins.

    >>> events(Notes(np.array([[60, 0, 2]]), 2)).tolist() == [ON + 60, SHIFT + 1, OFF + 60, END]
    True
    """
    turns = [(end, OFF + pitch) for pitch, _, end in piece.notes.tolist()]
    turns += [(begin, ON + pitch) for pitch, begin, _ in piece.notes.tolist()]
    found, now = list[int](), 0
    for step, event in [*sorted(turns, key=lambda turn: (turn[0], turn[1] < OFF, turn[1])), (piece.steps, END)]:
        while now < step:
            found.append(SHIFT + min(step - now, SHIFTS) - 1)
            now += min(step - now, SHIFTS)
        found.append(event)
    return np.array(found, np.int64)


def times(events: NDArray[np.int64]) -> NDArray[np.int64]:
    """At which step each event is; a shift is where it begins, (N,)."""
    ends = np.where(events >= SHIFT, events - SHIFT + 1, 0).cumsum()
    return np.concatenate((np.zeros(1, np.int64), ends[:-1]))


def performed(events: NDArray[np.int64]) -> Notes:
    """The notes of any events; what is not ended sounds up to the last step, what has not begun is not ended.

    >>> performed(events(Notes(np.array([[60, 0, 40]]), 41)))
    Notes(notes=array([[60,  0, 40]]), steps=41)
    """
    found, sounds, now = list[tuple[int, int, int]](), dict[int, int](), 0
    for event in events.tolist():
        if event >= SHIFT:
            now += event - SHIFT + 1
        elif event != END:
            pitch = (event - ON) % PITCHES
            if pitch in sounds:
                found.append((pitch, sounds.pop(pitch), now))
            if event < OFF:
                sounds[pitch] = now
    found += [(pitch, begin, now) for pitch, begin in sounds.items()]
    kept = sorted((note for note in found if note[2] > note[1]), key=lambda note: (note[1], note[0]))
    return Notes(np.array(kept, np.int64).reshape(-1, 3), now)
