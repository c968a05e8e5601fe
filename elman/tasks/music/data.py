"""Reading of pieces of music from files and Python objects."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.data import midi
from elman.data.examples import Example, is_files, tell_left_out, usable
from elman.data.midi import Notes
from elman.data.validation import is_list
from elman.errors import BadInput
from elman.io.files import read_bytes, visible_files
from elman.io.schema import parsed
from elman.io.validate import whole
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.steps import PITCHES, notes_of_frames, to_events, to_frames

PARTS = {"train": "train", "valid": "validation", "test": "test"}  # keys in JSON, and the parts they name
SPLIT = "part"  # marks the group of a piece whose file names its part


class UnreadPiece(NamedTuple):
    """A possible piece.

    name: for messages.
    part: the part of the split that its file names; "": drawn at random.
    read: reads the piece.
    """

    name: str
    part: str
    read: Callable[[], NDArray[np.bool_] | Notes]


def part_of(example: Example) -> str:
    """Return the part of the split that the file of a piece names; "" if it is drawn at random."""
    return example.group[1] if isinstance(example.group, tuple) and example.group[0] == SPLIT else ""


def is_frames(data: Any) -> list[bool]:
    """Return for each item of the data whether it is frames, whose steps are fixed, rather than MIDI."""
    return [path.suffix.lower() == ".json" for path in data] if is_files(data) else [True]


def read(data: Any, options: MusicOptions) -> Iterator[Example]:
    """Read pieces from files or Python objects.

    Raises:
        BadInput: for data that cannot be used; for a piece that cannot be used, without `skip_bad`.
    """
    where = ", ".join(map(str, data)) if is_files(data) else "music"
    return usable((partial(to_example, piece, options) for piece in pieces_in(data, options)), options.skip_bad, where)


def pieces_in(data: Any, options: MusicOptions) -> Iterator[UnreadPiece]:
    """Yield the possible pieces in files or Python objects.

    Raises:
        BadInput: for a file without any.
    """
    return (
        (piece for path in data for piece in _pieces_in_file(path, options))
        if is_files(data)
        else _pieces_in_python("music", data)
    )


def to_example(piece: UnreadPiece, options: MusicOptions) -> Example:
    """Read a piece and convert it to an example.

    Raises:
        BadInput: if it cannot be used.
    """
    content = piece.read()
    if options.as_ == "events":
        array: Any = to_events(notes_of_frames(content) if isinstance(content, np.ndarray) else content)
    else:
        array = content if isinstance(content, np.ndarray) else to_frames(content)
    return Example(array, group=(SPLIT, piece.part) if piece.part else None, name=piece.name)


def _pieces_in_file(path: Path, options: MusicOptions) -> Iterator[UnreadPiece]:
    if path.is_dir():
        files = list(visible_files(path))
        midi_files = [file for file in files if midi.is_midi(file)]
        tell_left_out(str(path), sorted(set(files) - set(midi_files)), "that are not MIDI")
        if not midi_files:
            raise BadInput(f"{path}: expected MIDI files, {' or '.join(midi.SUFFIXES)}, got a folder without any")
        for file in midi_files:
            yield from _pieces_in_file(file, options)
    elif path.suffix.lower() == ".json":
        try:
            yield from _pieces_in_python(str(path), parsed(read_bytes(path)))
        except ValueError as error:
            raise BadInput(f"{path}: expected valid JSON: {error}") from None
    else:
        yield UnreadPiece(str(path), "", lambda: midi.read(path, options.steps))


def _pieces_in_python(name: str, data: Any) -> Iterator[UnreadPiece]:
    """Yield the pieces of JSON or of Python objects of the same form."""
    if isinstance(data, dict):
        if set(data) != set(PARTS):
            raise BadInput(f"{name}: expected {', '.join(map(repr, PARTS))}; got {list(data)!r:.80}")
        for key, part in PARTS.items():
            yield from (piece._replace(part=part) for piece in _pieces_in_python(f"{name}: {key}", data[key]))
        return
    if not is_list(data) or not len(data):
        raise BadInput(f"{name}: expected a list of pieces, got {data!r:.40}")
    for i, piece in enumerate(data, 1):
        where = f"{name}: piece {i}"
        yield UnreadPiece(where, "", lambda where=where, piece=piece: frames_of(where, piece))  # type: ignore[misc]


def frames_of(where: str, piece: Any) -> NDArray[np.bool_]:
    """Convert an array (T, 128) or lists of pitches to frames.

    Raises:
        BadInput: for anything else.
    """
    if hasattr(piece, "numpy"):
        piece = piece.numpy()
    if isinstance(piece, np.ndarray) and piece.ndim == 2:
        if piece.shape[1] != PITCHES:
            raise BadInput(f"{where}: expected an array (T, {PITCHES}), got {piece.shape}")
        frames: NDArray[np.bool_] = piece != 0
    else:
        if not is_list(piece) or not len(piece):
            raise BadInput(f"{where}: expected a list of frames, got {piece!r:.40}")
        frames = np.zeros((len(piece), PITCHES), bool)
        for t, frame in enumerate(piece):
            frames[t, _pitches(f"{where}, frame {t + 1}", frame)] = True
    if not frames.any():
        raise BadInput(f"{where}: expected notes, got none")
    return frames


def _pitches(where: str, frame: Any) -> list[int]:
    if not is_list(frame):
        raise BadInput(f"{where}: expected a list of MIDI pitches, got {frame!r:.40}")
    for pitch in frame:
        number = whole(pitch)
        if number is None or not 0 <= number < PITCHES:
            raise BadInput(f"{where}: expected MIDI pitches from 0 to {PITCHES - 1}, got {pitch!r:.40}")
    return [int(pitch) for pitch in frame]
